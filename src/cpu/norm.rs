//! Layer normalisation of one row.

use pulp::{Simd, WithSimd};

use super::float::PANEL;
use super::lanes::dispatch;

/// The scale and shift of a layer norm, and what is added to the variance.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// `[dim]`
    pub weight: &'a [f32],
    /// `[dim]`
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

impl Norm<'_> {
    /// Normalises a row.
    ///
    /// # Shapes
    /// - `x`, `y`: `[dim]`
    pub fn row(self, x: &[f32], y: &mut [f32]) {
        struct Row<'a>(Norm<'a>, &'a [f32], &'a mut [f32]);
        impl WithSimd for Row<'_> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                let Self(norm, x, y) = self;
                layer_norm(x, norm.weight, norm.bias, norm.epsilon, y);
            }
        }
        dispatch(Row(self, x, y));
    }
}

/// Normalises a row to mean 0 and variance 1, then scales and shifts it.
///
/// # Shapes
/// - `x`, `weight`, `bias`, `y`: `[dim]`
#[inline(always)]
fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32]) {
    let n = x.len() as f32;
    let mean = sum_of(x, |x| x) / n;
    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / n;
    let scale = 1.0 / (variance + epsilon).sqrt();
    let affine = weight.iter().zip(bias);
    for ((y, x), (weight, bias)) in y.iter_mut().zip(x).zip(affine) {
        *y = (x - mean) * scale * weight + bias;
    }
}

/// The sum of a function's values, in as many parts as vectors have lanes.
#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<PANEL>();
    let mut sums = [0.0; PANEL];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += f(*x);
        }
    }
    let rest: f32 = rest.iter().map(|x| f(*x)).sum();
    sums.iter().sum::<f32>() + rest
}
