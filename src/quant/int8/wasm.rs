//! WebAssembly: simd128, and relaxed SIMD where the build has it.
#![allow(unsafe_code)] // Loads and stores of vectors.

use core::arch::wasm32::*;
#[cfg(feature = "relaxed-simd")]
use std::sync::LazyLock;

use super::isa::{Isa, Task};

/// `i32x4.dot_i16x8_s`: activations may have 16 bits, which costs nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simd128;

impl Simd128 {
    pub(super) fn vectorize(self, task: impl Task) {
        task.run::<Self, 4, 2, 4>(self);
    }
}

/// `i32x4.relaxed_dot_i8x16_i7x16_add_s` with codes as its second operand.
///
/// With codes of 7 bits or less it is the same everywhere. With those of 8 it is what [`Relaxed8`] says.
#[cfg(feature = "relaxed-simd")]
#[derive(Clone, Copy, Debug)]
pub(super) struct RelaxedDot<const SIGNED: bool>(());

#[cfg(feature = "relaxed-simd")]
impl<const SIGNED: bool> RelaxedDot<SIGNED> {
    /// For codes of 4 bits alone.
    pub(super) const FOR_4_BITS: Self = Self(());

    pub(super) fn vectorize(self, task: impl Task) {
        task.run::<Self, 4, 2, 4>(self);
    }
}

/// What this machine makes of a second operand of 8 bits.
#[cfg(feature = "relaxed-simd")]
#[derive(Clone, Copy, Debug)]
pub(super) enum Relaxed8 {
    /// It is unsigned: AVX-VNNI.
    Unsigned(RelaxedDot<false>),
    /// It is signed: AVX-VNNI-INT8, ARM.
    Signed(RelaxedDot<true>),
    /// Sums of two products saturate (SSSE3's `pmaddubsw`), or something else: of no use.
    Neither,
}

#[cfg(feature = "relaxed-simd")]
impl Relaxed8 {
    /// Found out once.
    pub(super) fn probed() -> Self {
        static PROBED: LazyLock<Relaxed8> = LazyLock::new(Relaxed8::probe);
        *PROBED
    }

    /// Tries it out.
    fn probe() -> Self {
        use core::hint::black_box;
        // The extremes, for which sums of two saturate; and each lane another.
        let inputs = [
            [127i8; 16],
            [-127; 16],
            core::array::from_fn(|i| (17 * i as i32 - 127) as i8),
        ];
        let codes = [
            [255u8; 16],
            [128; 16],
            core::array::from_fn(|i| (255 - 15 * i) as u8),
            [1; 16],
        ];
        let [mut unsigned, mut signed] = [true; 2];
        for input in inputs {
            for code in codes {
                let [a, b] = [input.map(|q| q as u8), code].map(|bytes| {
                    // SAFETY: 16 bytes are read, as many as there are.
                    unsafe { v128_load(bytes.as_ptr().cast()) }
                });
                let c = i32x4(1, -2, 1 << 20, 0);
                let sums =
                    i32x4_relaxed_dot_i8x16_i7x16_add(black_box(a), black_box(b), black_box(c));
                let mut out = [0i32; 4];
                // SAFETY: 16 bytes are written, as many as there are.
                unsafe { v128_store(out.as_mut_ptr().cast(), sums) };
                for (lane, (sum, start)) in out.into_iter().zip([1, -2, 1 << 20, 0]).enumerate() {
                    let of = |value: fn(u8) -> i32| {
                        let terms = input.iter().zip(code).skip(4 * lane).take(4);
                        start + terms.map(|(q, c)| i32::from(*q) * value(c)).sum::<i32>()
                    };
                    unsigned &= sum == of(i32::from);
                    signed &= sum == of(|code| i32::from(code as i8));
                }
            }
        }
        match (unsigned, signed) {
            (true, _) => Self::Unsigned(RelaxedDot(())),
            (_, true) => Self::Signed(RelaxedDot(())),
            _ => Self::Neither,
        }
    }
}

/// What both have.
macro_rules! common {
    () => {
        const SPAN: usize = 128;

        type Weights = v128;
        type Input = v128;
        type Dots = v128;
        type Floats = v128;

        #[inline(always)]
        fn weights(self, words: &[u32; 4]) -> v128 {
            // SAFETY: 16 bytes are read, as many as `words` has.
            unsafe { v128_load(words.as_ptr().cast()) }
        }

        #[inline(always)]
        fn input(self, word: u32) -> v128 {
            u32x4_splat(word)
        }

        #[inline(always)]
        fn zero(self) -> v128 {
            i32x4_splat(0)
        }

        #[inline(always)]
        fn floats(self, sums: v128) -> v128 {
            f32x4_convert_i32x4(sums)
        }

        #[inline(always)]
        fn splat(self, value: f32) -> v128 {
            f32x4_splat(value)
        }

        #[inline(always)]
        fn load(self, values: &[f32; 4]) -> v128 {
            // SAFETY: 16 bytes are read, as many as `values` has.
            unsafe { v128_load(values.as_ptr().cast()) }
        }

        #[inline(always)]
        fn store(self, values: v128, to: &mut [f32; 4]) {
            // SAFETY: 16 bytes are written, as many as `to` has.
            unsafe { v128_store(to.as_mut_ptr().cast(), values) }
        }

        #[inline(always)]
        fn mul(self, a: v128, b: v128) -> v128 {
            f32x4_mul(a, b)
        }

        #[inline(always)]
        fn mul_add(self, a: v128, b: v128, c: v128) -> v128 {
            #[cfg(feature = "relaxed-simd")]
            return f32x4_relaxed_madd(a, b, c);
            #[cfg(not(feature = "relaxed-simd"))]
            f32x4_add(f32x4_mul(a, b), c)
        }
    };
}

impl Isa<4> for Simd128 {
    const STEP: usize = 2;
    const SIGNED: bool = false;

    common!();

    #[inline(always)]
    fn dot(self, sums: v128, weights: v128, input: v128) -> v128 {
        i32x4_add(sums, i32x4_dot_i16x8(weights, input))
    }
}

#[cfg(feature = "relaxed-simd")]
impl<const SIGNED: bool> Isa<4> for RelaxedDot<SIGNED> {
    const STEP: usize = 4;
    const SIGNED: bool = SIGNED;

    common!();

    #[inline(always)]
    fn dot(self, sums: v128, weights: v128, input: v128) -> v128 {
        i32x4_relaxed_dot_i8x16_i7x16_add(input, weights, sums)
    }
}
