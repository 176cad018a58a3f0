//! Tries a device with one small product before a model is trusted to it.

use burn::tensor::{Tensor, TensorData};
use half::f16;

use super::backend::{AimBackend, PackedMatrix, Rows as _};
use super::host;
use crate::error::{Error, Result};
use crate::precision::Form;
use crate::quant::{Halver, Method, Quantizer, dequantize};

/// Rows of the input.
const N: usize = 3;

/// Two groups of the largest size.
const D_INPUT: usize = 256;

/// Multiplies small matrices as a model of this form would, and compares with the same product made
/// here. The matrix has a few rows more than one `tile` of the device's kernel.
///
/// # Errors
/// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if the product is wrong or none comes.
pub(super) async fn product<B: AimBackend>(
    form: Form,
    tile: usize,
    device: &B::Device,
) -> Result<()> {
    let d_output = tile + 5;
    let some = |len: usize, step: usize| -> Vec<f32> {
        (0..len)
            .map(|i| (i * step % 101) as f32 / 50.0 - 1.0)
            .collect()
    };
    let w = some(d_output * D_INPUT, 37);
    let x = some(N * D_INPUT, 53);
    let on_device = |values: Vec<f32>, rows: usize| {
        Tensor::<B, 2>::from_data(TensorData::new(values, [rows, D_INPUT]), device)
    };
    let x_there = on_device(x.clone(), N);

    let (y, w) = match form {
        Form::Fp32 => {
            let mut rows = B::Rows::new(d_output, D_INPUT, device)?;
            rows.push(&w)?;
            (B::product(x_there, &rows.finish()?), w)
        }
        Form::Fp16 => {
            let mut halver = Halver::new(d_output, D_INPUT)?;
            halver.push(&w)?;
            let packed = B::pack(PackedMatrix::Half(halver.finish()?), device)?;
            let rounded = w.iter().map(|&w| f16::from_f32(w).to_f32()).collect();
            (B::product(x_there, &packed), rounded)
        }
        Form::Quantised(scheme) => {
            let mut quantizer = Quantizer::new(d_output, D_INPUT, scheme, Method::Nearest)?;
            quantizer.push(&w)?;
            let matrix = quantizer.finish()?;
            let w = dequantize::matrix(&matrix)?;
            let packed = B::pack(PackedMatrix::Quantised(matrix), device)?;
            (B::product(x_there, &packed), w)
        }
    };
    let y = host::read(y).await?.values;
    if y.len() == N * d_output && is_near(&product_here(&x, &w), &y) {
        return Ok(());
    }
    Err(Error::device_lost(format!(
        "the GPU computes {} products wrongly, perhaps by a fault of its driver: use the CPU",
        form.precision()
    )))
}

/// `x Wᵀ`
fn product_here(x: &[f32], w: &[f32]) -> Vec<f32> {
    let row = |x: &[f32]| -> Vec<f32> {
        let dots = w
            .chunks_exact(D_INPUT)
            .map(|w| x.iter().zip(w).map(|(x, w)| x * w).sum());
        dots.collect()
    };
    x.chunks_exact(D_INPUT).flat_map(row).collect()
}

/// The sums are of the order of 10. A NaN is not near anything.
fn is_near(expected: &[f32], y: &[f32]) -> bool {
    expected.iter().zip(y).all(|(e, y)| (e - y).abs() < 1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_not_near() {
        let x = vec![0.5; N * D_INPUT];
        let w = vec![0.25; 2 * D_INPUT];
        let y = product_here(&x, &w);
        assert_eq!(y, [32.0; 2 * N]);
        assert!(is_near(&y, &y));
        for wrong in [0.0, 31.99, f32::NAN] {
            let mut broken = y.clone();
            broken[3] = wrong;
            assert!(!is_near(&y, &broken), "{wrong}");
        }
    }
}
