//! Plain Rust: for a processor that has no kernel of its own, and to hold the two forms of 8-bit products on any.

use super::isa::{Isa, MAGIC, Task};

const LANES: usize = 8;

/// Codes unsigned, or `SIGNED`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable<const SIGNED: bool>;

impl<const SIGNED: bool> Portable<SIGNED> {
    pub(super) fn vectorize(self, task: impl Task) {
        task.run::<Self, LANES, 1, 2>(self);
    }
}

impl<const SIGNED: bool> Isa<LANES> for Portable<SIGNED> {
    const STEP: usize = 4;
    const SIGNED: bool = SIGNED;
    const SPAN: usize = 128;

    type Weights = [[i16; LANES]; 4];
    type Input = [i16; 4];
    type Dots = [i32; LANES];
    type Ints = [i32; LANES];
    type Floats = [f32; LANES];

    #[inline(always)]
    fn weights(self, words: &[u32; LANES]) -> Self::Weights {
        let mut weights = [[0; LANES]; 4];
        for (i, weights) in weights.iter_mut().enumerate() {
            for (weight, word) in weights.iter_mut().zip(words) {
                let code = (word >> (8 * i)) as u8;
                *weight = if SIGNED {
                    i16::from(code as i8)
                } else {
                    i16::from(code)
                };
            }
        }
        weights
    }

    #[inline(always)]
    fn input(self, word: u32) -> Self::Input {
        let [a, b, c, d] = word.to_le_bytes();
        [
            i16::from(a as i8),
            i16::from(b as i8),
            i16::from(c as i8),
            i16::from(d as i8),
        ]
    }

    #[inline(always)]
    fn zero(self) -> Self::Dots {
        [0; LANES]
    }

    #[inline(always)]
    fn dot(self, mut sums: Self::Dots, weights: Self::Weights, input: Self::Input) -> Self::Dots {
        for (weights, q) in weights.iter().zip(input) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += i32::from(*weight) * i32::from(q);
            }
        }
        sums
    }

    #[inline(always)]
    fn ints(self, dots: Self::Dots) -> Self::Ints {
        dots
    }

    #[inline(always)]
    fn add_ints(self, mut a: Self::Ints, b: Self::Ints) -> Self::Ints {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
        a
    }

    #[inline(always)]
    fn floats(self, sums: Self::Ints) -> Self::Floats {
        let mut floats = [0.0; LANES];
        for (float, sum) in floats.iter_mut().zip(sums) {
            *float = sum as f32;
        }
        floats
    }

    #[inline(always)]
    fn wholes(self, raised: Self::Floats) -> Self::Ints {
        let mut wholes = [0; LANES];
        for (whole, raised) in wholes.iter_mut().zip(raised) {
            *whole = raised.to_bits().wrapping_sub(MAGIC.to_bits()).cast_signed();
        }
        wholes
    }

    #[inline(always)]
    fn pack(self, wholes: [Self::Ints; 2], words: &mut [u32]) {
        for (word, q) in words.iter_mut().zip(wholes.as_flattened().as_chunks().0) {
            let [a, b, c, d] = *q;
            *word = u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]);
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Floats {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::Floats {
        *values
    }

    #[inline(always)]
    fn store(self, values: Self::Floats, to: &mut [f32; LANES]) {
        *to = values;
    }

    #[inline(always)]
    fn add(self, mut a: Self::Floats, b: Self::Floats) -> Self::Floats {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
        a
    }

    #[inline(always)]
    fn mul(self, mut a: Self::Floats, b: Self::Floats) -> Self::Floats {
        for (a, b) in a.iter_mut().zip(b) {
            *a *= b;
        }
        a
    }

    #[inline(always)]
    fn min(self, mut a: Self::Floats, b: Self::Floats) -> Self::Floats {
        for (a, b) in a.iter_mut().zip(b) {
            *a = if b < *a { b } else { *a };
        }
        a
    }

    #[inline(always)]
    fn max(self, mut a: Self::Floats, b: Self::Floats) -> Self::Floats {
        for (a, b) in a.iter_mut().zip(b) {
            *a = if b > *a { b } else { *a };
        }
        a
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Floats, b: Self::Floats, mut c: Self::Floats) -> Self::Floats {
        for (c, (a, b)) in c.iter_mut().zip(a.iter().zip(b)) {
            *c += a * b;
        }
        c
    }
}
