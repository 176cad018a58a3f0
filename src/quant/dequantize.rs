//! Quantised rows as f32: `w = scale * code + bias`, one rounding each for product and sum.
//!
//! Source: MLX's `mx.dequantize`.

use std::ops::Range;

use half::f16;
use pulp::{Simd, WithSimd};

use super::matrix::QuantMatrix;
use super::scheme::Bits;
use super::simd::{dispatch, widen};
use crate::error::{Error, Result};
use crate::memory;

/// The whole matrix: `[d_output, d_input]`.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is no room for it.
pub fn matrix(w: &QuantMatrix) -> Result<Vec<f32>> {
    // In range: `QuantMatrix` has checked the product.
    let len = w.d_output() * w.d_input();
    let mut out: Vec<f32> = memory::with_capacity(Some(len))?;
    out.resize(len, 0.0);
    tile(w, 0..w.d_output(), 0..w.d_input(), &mut out)?;
    Ok(out)
}

/// Row `row`.
///
/// # Shapes
/// - `out`: `[d_input]`, overwritten
///
/// # Errors
/// [`ErrorKind::Option`](crate::ErrorKind::Option) if there is no such row or `out` has another
/// length.
pub fn row(w: &QuantMatrix, row: usize, out: &mut [f32]) -> Result<()> {
    tile(w, row..row.saturating_add(1), 0..w.d_input(), out)
}

/// The tile of `rows` and `columns`, row after row.
///
/// # Shapes
/// - `columns`: from and to a multiple of the group size
/// - `out`: `[rows.len(), columns.len()]`, overwritten
///
/// # Errors
/// [`ErrorKind::Option`](crate::ErrorKind::Option) if the tile passes the matrix, cuts a group, or
/// `out` has another length.
pub fn tile(
    w: &QuantMatrix,
    rows: Range<usize>,
    columns: Range<usize>,
    out: &mut [f32],
) -> Result<()> {
    let group = w.scheme().group_size();
    let inside = rows.start <= rows.end
        && rows.end <= w.d_output()
        && columns.start <= columns.end
        && columns.end <= w.d_input();
    if !inside {
        return Err(Error::option(format!(
            "rows {rows:?} and columns {columns:?} are not in a matrix of {} x {}",
            w.d_output(),
            w.d_input()
        )));
    }
    if !columns.start.is_multiple_of(group) || !columns.end.is_multiple_of(group) {
        return Err(Error::option(format!(
            "columns {columns:?} cut a group of {group}"
        )));
    }
    if rows.len().checked_mul(columns.len()) != Some(out.len()) {
        return Err(Error::option(format!(
            "room for {} values, expected {} x {}",
            out.len(),
            rows.len(),
            columns.len()
        )));
    }
    if !out.is_empty() {
        dispatch(Tile {
            w,
            rows,
            groups: columns.start / group..columns.end / group,
            out,
        });
    }
    Ok(())
}

/// [`tile`] with everything checked, and not empty.
struct Tile<'a> {
    w: &'a QuantMatrix,
    rows: Range<usize>,
    groups: Range<usize>,
    out: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let scheme = self.w.scheme();
        let (group, words) = (scheme.group_size(), scheme.words_per_group());
        let columns = self.groups.len() * group;
        for (row, out) in self.rows.zip(self.out.chunks_exact_mut(columns)) {
            let codes = self.w.row_codes(row).chunks_exact(words);
            let (scales, biases) = self.w.row_groups(row);
            let parts = codes.zip(scales.iter().zip(biases)).skip(self.groups.start);
            for (out, (codes, (&scale, &bias))) in out.chunks_exact_mut(group).zip(parts) {
                match scheme.bits() {
                    Bits::Four => one_group::<8>(codes, scale, bias, out),
                    Bits::Eight => one_group::<4>(codes, scale, bias, out),
                }
            }
        }
    }
}

/// One group, `N` codes to a word.
#[inline(always)]
fn one_group<const N: usize>(codes: &[u32], scale: f16, bias: f16, out: &mut [f32]) {
    let (scale, bias) = (widen(scale), widen(bias));
    let bits = 32 / N as u32;
    let mask = u32::MAX >> (32 - bits);
    for (word, out) in codes.iter().zip(out.as_chunks_mut::<N>().0) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = scale * (word >> (i as u32 * bits) & mask) as i32 as f32 + bias;
        }
    }
}
