//! The fixed two-dimensional sine-cosine position, computed and never stored.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::error::{Error, ErrorKind, Result};

/// The position of every patch of a grid.
///
/// The first half of the channels encodes the column, the second half the row, each half as the
/// sines and then the cosines of `dim / 4` frequencies from 1 down to nearly 1/10000.
///
/// Source: `SinCosPosEmbed` of the reference (`aim/v1/torch/layers.py`).
///
/// # Shapes
/// - output: `[1, rows * columns, dim]`, row by row; `dim` is a multiple of 4
///
/// # Errors
/// [`ErrorKind::OutOfMemory`] if it does not fit in memory.
pub fn sin_cos<B: Backend>(
    [rows, columns]: [usize; 2],
    dim: usize,
    device: &B::Device,
) -> Result<Tensor<B, 3>> {
    let mut values = Vec::new();
    rows.checked_mul(columns)
        .and_then(|tokens| tokens.checked_mul(dim))
        .and_then(|len| values.try_reserve_exact(len).ok())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::OutOfMemory,
                format!("no memory for the positions of {rows} x {columns} patches: give smaller pictures"),
            )
        })?;
    for row in 0..rows {
        for column in 0..columns {
            values.extend(encode(column, dim / 4));
            values.extend(encode(row, dim / 4));
        }
    }
    Ok(Tensor::from_data(
        TensorData::new(values, [1, rows * columns, dim]),
        device,
    ))
}

/// The sines, then the cosines, of one coordinate.
fn encode(coordinate: usize, frequencies: usize) -> impl Iterator<Item = f32> {
    let angles = (0..frequencies).map(move |i| {
        let omega = 10_000_f64.powf(-(i as f64) / frequencies as f64);
        coordinate as f64 * omega
    });
    angles
        .clone()
        .map(|angle| angle.sin() as f32)
        .chain(angles.map(|angle| angle.cos() as f32))
}
