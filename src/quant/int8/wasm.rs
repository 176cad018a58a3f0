//! WebAssembly: simd128, and relaxed SIMD where the build has it.
#![allow(unsafe_code)] // Loads and stores of vectors.

use core::arch::wasm32::*;
#[cfg(feature = "relaxed-simd")]
use std::{hint::black_box, sync::LazyLock};

use super::isa::{Isa, MAGIC, Task};
#[cfg(feature = "relaxed-simd")]
use crate::quant::Bits;

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
/// With codes of 7 bits or less it is the same everywhere. What it makes of those of 8 is the machine's affair:
/// AVX-VNNI takes them as unsigned, AVX-VNNI-INT8 and ARM as signed, and where it is SSSE3's `pmaddubsw` sums of two
/// products saturate, which makes it useless.
#[cfg(feature = "relaxed-simd")]
#[derive(Clone, Copy, Debug)]
pub(super) struct RelaxedDot<const SIGNED: bool>(());

#[cfg(feature = "relaxed-simd")]
impl<const SIGNED: bool> RelaxedDot<SIGNED> {
    /// `None` where it is not right for all codes of so many bits.
    pub(super) fn new(bits: Bits) -> Option<Self> {
        static PROBED: LazyLock<Probed> = LazyLock::new(Probed::new);
        let right = match bits {
            Bits::Four => PROBED.narrow,
            Bits::Eight if SIGNED => PROBED.signed,
            Bits::Eight => PROBED.unsigned,
        };
        right.then_some(Self(()))
    }

    pub(super) fn vectorize(self, task: impl Task) {
        task.run::<Self, 4, 2, 4>(self);
    }
}

/// What this machine's relaxed dot is right for.
#[cfg(feature = "relaxed-simd")]
struct Probed {
    /// Codes of 4 bits. Always, but for an engine from before the standard.
    narrow: bool,
    /// Unsigned codes of 8 bits.
    unsigned: bool,
    /// Signed codes of 8 bits.
    signed: bool,
}

#[cfg(feature = "relaxed-simd")]
impl Probed {
    /// Tries some products.
    fn new() -> Self {
        // The extremes, for which sums of two saturate; and another value in each place.
        let inputs: [[i8; 16]; 3] = [
            [127; 16],
            [-127; 16],
            core::array::from_fn(|i| (17 * i as i32 - 127) as i8),
        ];
        let wide: [[u8; 16]; 4] = [
            [255; 16],
            [128; 16],
            [127; 16],
            core::array::from_fn(|i| (255 - 15 * i) as u8),
        ];
        let narrow: [[u8; 16]; 2] = [[15; 16], core::array::from_fn(|i| i as u8)];
        let right = |codes: &[[u8; 16]], value: fn(u8) -> i32| {
            inputs
                .iter()
                .all(|input| codes.iter().all(|code| is_right(*input, *code, value)))
        };
        Self {
            narrow: right(&narrow, i32::from),
            unsigned: right(&wide, i32::from),
            signed: right(&wide, |code| i32::from(code as i8)),
        }
    }
}

/// Whether the product is that of codes of such values.
#[cfg(feature = "relaxed-simd")]
fn is_right(input: [i8; 16], code: [u8; 16], value: fn(u8) -> i32) -> bool {
    let starts = [1, -2, 1 << 20, 0];
    let [a, b] = [input.map(|q| q as u8), code].map(|bytes| {
        // SAFETY: 16 bytes are read, as many as there are.
        unsafe { v128_load(bytes.as_ptr().cast()) }
    });
    let [start_0, start_1, start_2, start_3] = starts;
    let start = i32x4(start_0, start_1, start_2, start_3);
    // At run time, on this machine.
    let sums = i32x4_relaxed_dot_i8x16_i7x16_add(black_box(a), black_box(b), black_box(start));
    let mut out = [0i32; 4];
    // SAFETY: 16 bytes are written, as many as there are.
    unsafe { v128_store(out.as_mut_ptr().cast(), sums) };
    let terms = input.as_chunks::<4>().0.iter().zip(code.as_chunks::<4>().0);
    out.iter()
        .zip(starts)
        .zip(terms)
        .all(|((sum, start), (q, c))| {
            let terms = q.iter().zip(c).map(|(q, c)| i32::from(*q) * value(*c));
            *sum == start + terms.sum::<i32>()
        })
}

/// What both have.
macro_rules! common {
    () => {
        const SPAN: usize = 128;

        type Weights = v128;
        type Input = v128;
        type Dots = v128;
        type Ints = v128;
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
        fn ints(self, dots: v128) -> v128 {
            dots
        }

        #[inline(always)]
        fn add_ints(self, a: v128, b: v128) -> v128 {
            i32x4_add(a, b)
        }

        #[inline(always)]
        fn floats(self, sums: v128) -> v128 {
            f32x4_convert_i32x4(sums)
        }

        #[inline(always)]
        fn wholes(self, raised: v128) -> v128 {
            i32x4_sub(raised, u32x4_splat(MAGIC.to_bits()))
        }

        #[inline(always)]
        fn pack(self, wholes: [v128; 2], words: &mut [u32]) {
            let shorts = i16x8_narrow_i32x4(wholes[0], wholes[1]);
            // SAFETY: as many bytes are written as `words` has, whose length is checked.
            unsafe {
                if Self::STEP == 2 {
                    v128_store(words[..4].as_mut_ptr().cast(), shorts);
                } else {
                    let bytes = i8x16_narrow_i16x8(shorts, shorts);
                    v128_store64_lane::<0>(bytes, words[..2].as_mut_ptr().cast());
                }
            }
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
        fn add(self, a: v128, b: v128) -> v128 {
            f32x4_add(a, b)
        }

        #[inline(always)]
        fn mul(self, a: v128, b: v128) -> v128 {
            f32x4_mul(a, b)
        }

        #[inline(always)]
        fn min(self, a: v128, b: v128) -> v128 {
            f32x4_pmin(a, b)
        }

        #[inline(always)]
        fn max(self, a: v128, b: v128) -> v128 {
            f32x4_pmax(a, b)
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
