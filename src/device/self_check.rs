//! Tries a device with the parts of one small block before a model is trusted to it.

use burn::tensor::{Tensor, TensorData};
use half::f16;

use super::backend::{AimBackend, PackedMatrix, Rows as _};
use super::host;
use crate::error::{Error, Result};
use crate::precision::WeightFormat;
use crate::quant::{HalfMatrixBuilder, Method, Quantizer, dequantize};

/// The terms that are added up here to compare with: a few milliseconds of work.
const MOST_TERMS: usize = 20_000_000;

/// Multiplies matrices of a shape, `[n, d_output, d_input]`, as a model of this form would, and compares with the same
/// products made here: of a large shape with those of some rows.
///
/// # Errors
/// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if the product is wrong or none comes.
pub(super) async fn product<B: AimBackend>(
    form: WeightFormat,
    [n, d_output, d_input]: [usize; 3],
    tolerance: f32,
    device: &B::Device,
) -> Result<()> {
    let w = some(d_output * d_input, 37);
    let (matrix, w) = match form {
        WeightFormat::Fp32 => {
            let mut rows = B::Rows::new(d_output, d_input, device)?;
            rows.push(&w)?;
            (rows.finish()?, w)
        }
        WeightFormat::Fp16 => {
            let mut builder = HalfMatrixBuilder::new(d_output, d_input)?;
            builder.push(&w)?;
            let packed = B::pack(PackedMatrix::Half(builder.finish()?), device)?;
            let rounded = w.iter().map(|&w| f16::from_f32(w).to_f32()).collect();
            (packed, rounded)
        }
        WeightFormat::Quantised(scheme) => {
            let mut quantizer = Quantizer::new(d_output, d_input, scheme, Method::Nearest)?;
            quantizer.push(&w)?;
            let matrix = quantizer.finish()?;
            let w = dequantize::matrix(&matrix)?;
            (B::pack(PackedMatrix::Quantised(matrix), device)?, w)
        }
    };
    let x = some(n * d_input, 53);
    let x_there = Tensor::from_data(TensorData::new(x.clone(), [n, d_input]), device);
    let y = B::product(x_there, &matrix);
    B::failure(device)?;
    let y = host::read(y).await?.values;
    let step = (n * d_output * d_input).div_ceil(MOST_TERMS);
    let rows = x.chunks_exact(d_input).zip(y.chunks_exact(d_output));
    let is_right = |(x, y): (&[f32], &[f32])| is_near(&product_here(x, &w), y, tolerance);
    if y.len() != n * d_output || !rows.step_by(step).all(is_right) {
        return Err(wrong(&format!("{} products", form.precision())));
    }
    Ok(())
}

/// Attends with some tokens and heads of a size, and compares with the same made here.
///
/// # Errors
/// As [`product`].
pub(super) async fn attention<B: AimBackend>(head_dim: usize, device: &B::Device) -> Result<()> {
    let (tokens, heads) = (37, 2);
    let dim = heads * head_dim;
    let qkv = some(tokens * 3 * dim, 29);
    let there = TensorData::new(qkv.clone(), [1, tokens, 3 * dim]);
    let y = B::attend(Tensor::from_data(there, device), heads, None);
    B::failure(device)?;
    let y = host::read(y).await?.values;
    let expected = attention_here(&qkv, tokens, heads, head_dim);
    if y.len() != expected.len() || !is_near(&expected, &y, EXACT) {
        return Err(wrong("attention"));
    }
    Ok(())
}

fn some(len: usize, step: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (i * step % 101) as f32 / 50.0 - 1.0)
        .collect()
}

fn wrong(what: &str) -> Error {
    Error::device_lost(format!(
        "the GPU computes {what} wrongly, perhaps by a fault of its driver: use the CPU"
    ))
}

/// `softmax(q kᵀ / sqrt(head_dim)) v` of every head of `[tokens, 3, heads, head_dim]`.
fn attention_here(qkv: &[f32], tokens: usize, heads: usize, head_dim: usize) -> Vec<f32> {
    let row = |token: usize, part: usize, head: usize| {
        let start = ((token * 3 + part) * heads + head) * head_dim;
        qkv.get(start..start + head_dim).unwrap_or_default()
    };
    let mut y = Vec::with_capacity(tokens * heads * head_dim);
    for query in 0..tokens {
        for head in 0..heads {
            let q = row(query, 0, head);
            let weight = |key: usize| {
                let dot: f32 = q.iter().zip(row(key, 1, head)).map(|(q, k)| q * k).sum();
                (dot / (head_dim as f32).sqrt()).exp()
            };
            let weights: Vec<f32> = (0..tokens).map(weight).collect();
            let sum: f32 = weights.iter().sum();
            y.extend((0..head_dim).map(|c| {
                let values = weights.iter().enumerate();
                let value = |key: usize| row(key, 2, head).get(c).copied().unwrap_or_default();
                values.map(|(key, weight)| weight * value(key)).sum::<f32>() / sum
            }));
        }
    }
    y
}

/// `x Wᵀ` of one row.
fn product_here(x: &[f32], w: &[f32]) -> Vec<f32> {
    let dot = |w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum();
    w.chunks_exact(x.len()).map(dot).collect()
}

/// What sums in f32 may be off. They are of the order of 10.
pub(super) const EXACT: f32 = 1e-3;

/// What they may be off if what is multiplied is rounded to f16 before.
pub(super) const OF_HALVES: f32 = 0.05;

/// A NaN is not near anything.
fn is_near(expected: &[f32], y: &[f32], tolerance: f32) -> bool {
    expected
        .iter()
        .zip(y)
        .all(|(e, y)| (e - y).abs() < tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_not_near() {
        let y = product_here(&[0.5; 256], &[0.25; 6 * 256]);
        assert_eq!(y, [32.0; 6]);
        assert!(is_near(&y, &y, EXACT));
        for wrong in [0.0, 31.99, f32::NAN] {
            let mut broken = y.clone();
            broken[3] = wrong;
            assert!(!is_near(&y, &broken, EXACT), "{wrong}");
        }
    }

    #[test]
    fn attention_of_alike_keys_is_the_mean_of_the_values() {
        // Two tokens, one head of one channel: queries, keys, values.
        assert_eq!(
            attention_here(&[1.0, 2.0, 3.0, -1.0, 2.0, 5.0], 2, 1, 1),
            [4.0, 4.0]
        );
    }
}
