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
    grid: [usize; 2],
    dim: usize,
    device: &B::Device,
) -> Result<Tensor<B, 3>> {
    let frequencies = frequencies(dim / 4);
    let values = positions(grid, dim, |coordinate| encode(coordinate, &frequencies))?;
    let [rows, columns] = grid;
    Ok(Tensor::from_data(
        TensorData::new(values, [1, rows * columns, dim]),
        device,
    ))
}

/// The code of its column, then that of its row, for every patch. Patches share them, so each is computed once.
fn positions<Code: Iterator<Item = f32>>(
    [rows, columns]: [usize; 2],
    dim: usize,
    encode: impl Fn(usize) -> Code,
) -> Result<Vec<f32>> {
    let tokens = rows.checked_mul(columns);
    let values = room(tokens.and_then(|tokens| tokens.checked_mul(dim)));
    let codes = room(rows.max(columns).checked_mul(dim / 2));
    let (Some(mut values), Some(mut codes)) = (values, codes) else {
        return Err(Error::new(
            ErrorKind::OutOfMemory,
            format!(
                "no memory for the positions of {rows} x {columns} patches: give smaller pictures"
            ),
        ));
    };
    codes.extend((0..rows.max(columns)).flat_map(encode));
    let code = |coordinate: usize| &codes[coordinate * dim / 2..][..dim / 2];
    for row in 0..rows {
        for column in 0..columns {
            values.extend_from_slice(code(column));
            values.extend_from_slice(code(row));
        }
    }
    Ok(values)
}

/// An empty list with room for so many values, if there is any.
fn room(len: Option<usize>) -> Option<Vec<f32>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len?).ok()?;
    Some(values)
}

/// From 1 down, each the same part of the one before.
fn frequencies(count: usize) -> Vec<f64> {
    let omega = |i| 10_000_f64.powf(-(i as f64) / count as f64);
    (0..count).map(omega).collect()
}

/// The sines, then the cosines, of one coordinate.
fn encode(coordinate: usize, frequencies: &[f64]) -> impl Iterator<Item = f32> {
    let angles = frequencies
        .iter()
        .map(move |omega| coordinate as f64 * omega);
    angles
        .clone()
        .map(|angle| angle.sin() as f32)
        .chain(angles.map(|angle| angle.cos() as f32))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn each_coordinate_is_encoded_once() {
        let frequencies = frequencies(48);
        let calls = Cell::new(0);
        let values = positions([5, 9], 192, |coordinate| {
            calls.set(calls.get() + 1);
            encode(coordinate, &frequencies)
        })
        .unwrap();
        assert_eq!(calls.get(), 9);

        // To the last bit what the formula gives for each patch by itself.
        let mut expected = Vec::new();
        for patch in 0..45 {
            for coordinate in [patch % 9, patch / 9] {
                let angle = |i: usize| coordinate as f64 * 10_000_f64.powf(-(i as f64) / 48.0);
                expected.extend((0..48).map(|i| angle(i).sin() as f32));
                expected.extend((0..48).map(|i| angle(i).cos() as f32));
            }
        }
        assert_eq!(values, expected);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        for grid in [[usize::MAX, 2], [1 << 40, 1 << 40]] {
            let error = positions(grid, 4, |_| std::iter::empty()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        }
    }
}
