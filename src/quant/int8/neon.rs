//! AArch64 with the dot products of ARMv8.2 (`sdot`).
#![allow(unsafe_code)] // Intrinsics. A value of a type here exists only where the processor has the instructions.

use core::arch::aarch64::*;
use core::arch::asm;

use super::isa::{Isa, MAGIC, Task};

/// `sdot`, signed by signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct NeonDot(());

impl NeonDot {
    /// `None` where the processor does not have it.
    pub(super) fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(()))
    }

    pub(super) fn vectorize<T: Task>(self, task: T) {
        #[target_feature(enable = "neon,dotprod")]
        fn inner<T: Task>(isa: NeonDot, task: T) {
            // 24 of 32 registers are sums.
            task.run::<NeonDot, 4, 4, 6>(isa);
        }
        // SAFETY: `self` is there only if the processor has the features (see `new`).
        unsafe { inner(self, task) }
    }
}

impl Isa<4> for NeonDot {
    const STEP: usize = 4;
    const SIGNED: bool = true;
    const SPAN: usize = 128;

    type Weights = int8x16_t;
    type Input = int8x16_t;
    type Dots = int32x4_t;
    type Ints = int32x4_t;
    type Floats = float32x4_t;

    #[inline(always)]
    fn weights(self, words: &[u32; 4]) -> int8x16_t {
        // SAFETY: every AArch64 has NEON; 16 bytes are read, as many as `words` has.
        unsafe { vld1q_s8(words.as_ptr().cast()) }
    }

    #[inline(always)]
    fn input(self, word: u32) -> int8x16_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vreinterpretq_s8_u32(vdupq_n_u32(word)) }
    }

    #[inline(always)]
    fn zero(self) -> int32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    fn dot(self, mut sums: int32x4_t, weights: int8x16_t, input: int8x16_t) -> int32x4_t {
        // `vdotq_s32` is not stable.
        // SAFETY: the processor has `sdot`, which touches nothing but its registers.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {weights:v}.16b, {input:v}.16b",
                sums = inout(vreg) sums,
                weights = in(vreg) weights,
                input = in(vreg) input,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    #[inline(always)]
    fn ints(self, dots: int32x4_t) -> int32x4_t {
        dots
    }

    #[inline(always)]
    fn add_ints(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vaddq_s32(a, b) }
    }

    #[inline(always)]
    fn floats(self, sums: int32x4_t) -> float32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vcvtq_f32_s32(sums) }
    }

    #[inline(always)]
    fn wholes(self, raised: float32x4_t) -> int32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe {
            let magic = vdupq_n_s32(MAGIC.to_bits().cast_signed());
            vsubq_s32(vreinterpretq_s32_f32(raised), magic)
        }
    }

    #[inline(always)]
    fn pack(self, wholes: [int32x4_t; 2], words: &mut [u32]) {
        let words = &mut words[..2];
        // SAFETY: every AArch64 has NEON; 8 bytes are written, as many as `words` has.
        unsafe {
            let shorts = vcombine_s16(vmovn_s32(wholes[0]), vmovn_s32(wholes[1]));
            vst1_s8(words.as_mut_ptr().cast(), vmovn_s16(shorts));
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    fn load(self, values: &[f32; 4]) -> float32x4_t {
        // SAFETY: every AArch64 has NEON; 4 floats are read, as many as `values` has.
        unsafe { vld1q_f32(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, values: float32x4_t, to: &mut [f32; 4]) {
        // SAFETY: every AArch64 has NEON; 4 floats are written, as many as `to` has.
        unsafe { vst1q_f32(to.as_mut_ptr(), values) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vminq_f32(a, b) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vmaxq_f32(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: every AArch64 has NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }
}
