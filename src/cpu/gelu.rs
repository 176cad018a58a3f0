//! The exact GELU, and the exponential of the softmax, on many values at once.

use std::f32::consts::FRAC_1_SQRT_2;

use pulp::{Simd, WithSimd};

use super::lanes::dispatch;

/// The GELU of some values, in their places.
pub fn gelu_of(values: &mut [f32]) {
    struct Gelu<'a>(&'a mut [f32]);
    impl WithSimd for Gelu<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            gelu(self.0);
        }
    }
    dispatch(Gelu(values));
}

/// `e^x` of some values up to 0, in their places.
pub fn exp_of(values: &mut [f32]) {
    struct Exp<'a>(&'a mut [f32]);
    impl WithSimd for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for value in self.0 {
                *value = exp(*value);
            }
        }
    }
    dispatch(Exp(values));
}

/// The GELU `x Φ(x)` of some values, within 3e-7 of the larger of 1 and the exact one.
#[inline(always)]
pub fn gelu(values: &mut [f32]) {
    for value in values {
        *value *= 0.5 + 0.5 * erf(*value * FRAC_1_SQRT_2);
    }
}

/// The error function, within 3e-7. NaN of NaN.
///
/// Source: the rational minimax approximation of Eigen (`generic_fast_erf_float`).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    // It lacks 2e-7 to 1 there, and a GELU multiplies what is lacking. Comparisons that are false for NaN keep it.
    let is_one = x > 3.7;
    let is_minus_one = x < -3.7;
    let square = x * x;
    let mut p = -2.726_142_3e-10;
    for coefficient in [
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ] {
        p = p * square + coefficient;
    }
    let mut q = -1.456_607_2e-5;
    for coefficient in [
        -2.133_740_6e-4,
        -1.682_827e-3,
        -7.373_329_2e-3,
        -1.426_473_9e-2,
    ] {
        q = q * square + coefficient;
    }
    let inside = x * p / q;
    let positive = if is_one { 1.0 } else { inside };
    if is_minus_one { -1.0 } else { positive }
}

/// `e^x` for `x` up to 0, to 2e-7 of itself; 0 below the smallest normal number. NaN of NaN.
///
/// Source: the reduction to `2^n e^r` and the minimax polynomial of Cephes (`expf`).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// `x + ROUND` has the nearest whole number in its last bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let is_tiny = x < -87.0;
    let bounded = if is_tiny { -87.0 } else { x };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = bounded - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_2e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        0.166_666_65,
        0.5,
    ] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let exponential = (p * r * r + r + 1.0) * power;
    if is_tiny { 0.0 } else { exponential }
}
