//! Sums and exponentials that are the same on every machine, bit for bit.
//!
//! Training repeats thousands of steps, each on the result of the one before, and `AdamW` divides by how large gradients
//! are: a rounding that differs grows. So nothing here is a fused multiply-add or a function of the system's library,
//! and sums have one order, whatever the width of the machine's vectors: that of 16 lanes.

use half::f16;
#[cfg(not(target_family = "wasm"))]
use half::slice::HalfFloatSliceExt as _;

#[cfg(target_family = "wasm")]
use crate::quant::simd;

// Natively these are compiled for the machine's widest vectors, as a part of whoever calls them. In wasm there is one width,
// and a page need not download them ten times.

/// Numbers that are summed side by side.
const LANES: usize = 16;

/// `Σ a_i b_i`
#[cfg_attr(not(target_family = "wasm"), inline(always))]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += a * b;
    }
    total(sums)
}

/// The sum of the lanes, half to half.
#[inline(always)]
fn total(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high;
        }
        half /= 2;
    }
    sums[0]
}

/// `y += a x`
#[cfg_attr(not(target_family = "wasm"), inline(always))]
pub(super) fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// `e^x` to 2e-7 of itself, for `x` up to 88; 0 below -87. NaN of NaN.
///
/// `x = n ln 2 + r` with `|r|` at most half of `ln 2`, and `e^r` by its series.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // In two parts, the first with few digits, so that `n` times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    if x < -87.0 {
        return 0.0;
    }
    // A comparison that is false for NaN keeps it, which `min` does not.
    let x = if x > 88.0 { 88.0 } else { x };
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut y = 1.0 / 5040.0;
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        y = y * r + coefficient;
    }
    // Of a normal number: n is from -126 to 127.
    y * f32::from_bits((((n as i32) + 127) as u32) << 23)
}

/// Turns scores into weights that sum to 1, in place.
#[cfg_attr(not(target_family = "wasm"), inline(always))]
pub(super) fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = exp(*score - most);
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

/// `cos(π x)` for `x` from 0 to 1, to 1e-7.
pub(super) fn cos_pi(x: f64) -> f64 {
    // Odd around the middle, where the series of the sine converges.
    let y = std::f64::consts::PI * (0.5 - x);
    let square = y * y;
    let series = [1.0 / 362_880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0];
    let start = -1.0 / 39_916_800.0;
    y * series
        .iter()
        .fold(start, |sum, coefficient| sum * square + coefficient)
}

/// 16-bit floats to 32 bits, which is exact.
pub(super) fn widen(halves: &[f16], floats: &mut [f32]) {
    // Without the instructions for it, as in wasm, the crate goes number by number.
    #[cfg(not(target_family = "wasm"))]
    halves.convert_to_f32_slice(floats);
    #[cfg(target_family = "wasm")]
    for (float, half) in floats.iter_mut().zip(halves) {
        *float = simd::widen(*half);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_f64() {
        for step in -8700..8800_i16 {
            let x = f32::from(step) / 100.0;
            let exact = f64::from(x).exp();
            let off = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(off < 2e-7, "e^{x} is off by {off:e}");
        }
        assert_eq!((exp(-88.0), exp(f32::NEG_INFINITY)), (0.0, 0.0));
        assert!(exp(1000.0).is_finite());
        for nan in [f32::NAN, -f32::NAN] {
            assert!(exp(nan).is_nan());
        }
    }

    #[test]
    fn the_cosine_is_that_of_f64() {
        for step in 0..=1000 {
            let x = f64::from(step) / 1000.0;
            let off = (cos_pi(x) - (std::f64::consts::PI * x).cos()).abs();
            assert!(off < 1e-7, "cos(pi {x}) is off by {off:e}");
        }
    }

    #[test]
    fn sums_have_one_order() {
        // In which large numbers of a lane meet before those of others.
        let a: Vec<f32> = (0..35).map(|i| [1e8, 1.0, -1e8][i % 3]).collect();
        let ones = [1.0; 35];
        let mut lanes = [0.0_f32; LANES];
        for (i, a) in a.iter().enumerate() {
            lanes[i % LANES] += a;
        }
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
        }
        assert_eq!(dot(&a, &ones), lanes[0]);
    }

    #[test]
    fn weights_sum_to_one() {
        let mut scores = [3.0, -1.0, 1e4, 1e4];
        softmax(&mut scores);
        assert_eq!(scores, [0.0, 0.0, 0.5, 0.5]);
    }

    #[test]
    fn weights_of_broken_scores_are_no_numbers() {
        for broken in [f32::NAN, f32::INFINITY] {
            for at in 0..3 {
                let mut scores = [0.5, -1.0, 2.0];
                scores[at] = broken;
                softmax(&mut scores);
                assert!(scores[at].is_nan(), "{scores:?}");
            }
            let mut scores = [broken; 3];
            softmax(&mut scores);
            assert!(scores.iter().all(|weight| weight.is_nan()), "{scores:?}");
        }
    }

    #[test]
    fn halves_widen_exactly() {
        let halves: Vec<f16> = (0..=u16::MAX)
            .map(f16::from_bits)
            .filter(|half| half.is_finite())
            .collect();
        let mut floats = vec![0.0; halves.len()];
        widen(&halves, &mut floats);
        assert!(
            halves
                .iter()
                .zip(&floats)
                .all(|(half, float)| half.to_f32().to_bits() == float.to_bits())
        );
    }
}
