//! Activations in 8 bits.

use std::ops::Range;

use super::matrix::IntMatrix;
use crate::error::{Error, Result};

/// Rows of `x`, rounded to 8 bits. A buffer to be used again: it allocates only to grow.
#[derive(Debug, Default)]
pub struct Activations {
    n: usize,
    d_input: usize,
    group_size: usize,
    /// `[n, d_input]`
    codes: Vec<i8>,
    /// `[n, d_input / group_size]`: an activation is `scale * code`.
    scales: Vec<f32>,
    /// `[n, d_input / group_size]`: of the codes of a group.
    sums: Vec<i32>,
}

impl Activations {
    /// Without rows.
    pub const fn new() -> Self {
        Self {
            n: 0,
            d_input: 0,
            group_size: 0,
            codes: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Makes room for `n` rows to multiply with `w`. What they hold is undetermined until they are written.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is no room for them.
    pub fn prepare(&mut self, n: usize, w: &IntMatrix) -> Result<()> {
        self.n = n;
        self.d_input = w.d_input();
        self.group_size = w.group_size();
        let groups = n * (self.d_input / self.group_size);
        self.codes.resize(n * self.d_input, 0);
        self.scales.resize(groups, 0.0);
        self.sums.resize(groups, 0);
        Ok(())
    }

    /// All rows, to be written.
    pub fn rows_mut(&mut self) -> RowsMut<'_> {
        RowsMut {
            d_input: self.d_input,
            group_size: self.group_size,
            codes: &mut self.codes,
            scales: &mut self.scales,
            sums: &mut self.sums,
        }
    }

    /// All rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows {
            activations: self,
            first: 0,
            len: self.n,
        }
    }
}

/// Some rows to multiply with.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    activations: &'a Activations,
    first: usize,
    len: usize,
}

impl Rows<'_> {
    /// How many.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Of each row.
    pub const fn d_input(&self) -> usize {
        self.activations.d_input
    }

    /// Activations that share a scale, as they do in the matrix.
    pub const fn group_size(&self) -> usize {
        self.activations.group_size
    }

    /// Some of them; those past the last are left out.
    pub fn part(&self, rows: Range<usize>) -> Self {
        let end = rows.end.min(self.len);
        let start = rows.start.min(end);
        Self {
            activations: self.activations,
            first: self.first + start,
            len: end - start,
        }
    }

    /// Codes, scale and sum of codes of a group.
    pub(super) fn group(&self, row: usize, group: usize) -> (&[i8], f32, i32) {
        let Activations {
            d_input,
            group_size,
            codes,
            scales,
            sums,
            ..
        } = self.activations;
        let at = (self.first + row) * (d_input / group_size) + group;
        let codes = codes
            .get(at * group_size..(at + 1) * group_size)
            .unwrap_or_default();
        (
            codes,
            scales.get(at).copied().unwrap_or(f32::NAN),
            sums.get(at).copied().unwrap_or_default(),
        )
    }
}

/// Rows to be written, by one thread.
#[derive(Debug)]
pub struct RowsMut<'a> {
    d_input: usize,
    group_size: usize,
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
}

impl<'a> RowsMut<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.codes.len().checked_div(self.d_input).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The first `rows` of them and the rest, for two threads.
    pub fn split_at(self, rows: usize) -> (Self, Self) {
        let rows = rows.min(self.len());
        let groups = rows * self.d_input.checked_div(self.group_size).unwrap_or(0);
        let (codes, codes_2) = self.codes.split_at_mut(rows * self.d_input);
        let (scales, scales_2) = self.scales.split_at_mut(groups);
        let (sums, sums_2) = self.sums.split_at_mut(groups);
        let part = |codes, scales, sums| Self {
            d_input: self.d_input,
            group_size: self.group_size,
            codes,
            scales,
            sums,
        };
        (part(codes, scales, sums), part(codes_2, scales_2, sums_2))
    }

    /// Rounds columns from `column` of a row. Columns in pieces of whole groups give the same as the row at once.
    ///
    /// A group that holds an infinity or a NaN makes all products with its row NaN; other rows are not affected.
    ///
    /// # Shapes
    /// - `column`, `x.len()`: multiples of the group size
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if there is no such row or columns, or they cut a group.
    pub fn quantize(&mut self, row: usize, column: usize, x: &[f32]) -> Result<()> {
        let group = self.group_size;
        let fits = row < self.len()
            && column.is_multiple_of(group)
            && x.len().is_multiple_of(group)
            && column
                .checked_add(x.len())
                .is_some_and(|end| end <= self.d_input);
        if !fits {
            return Err(Error::option(format!(
                "{} activations from column {column} of row {row} do not fit {} rows of {} in groups of {group}",
                x.len(),
                self.len(),
                self.d_input
            )));
        }
        let first = (row * self.d_input + column) / group;
        let codes = self.codes.chunks_exact_mut(group).skip(first);
        let scales = self.scales.iter_mut().zip(self.sums.iter_mut()).skip(first);
        for ((x, codes), (scale, sum)) in x.chunks_exact(group).zip(codes).zip(scales) {
            let largest = x.iter().fold(0.0, |a: f32, x| {
                if x.is_nan() {
                    f32::NAN
                } else if a.is_nan() {
                    a
                } else {
                    a.max(x.abs())
                }
            });
            *scale = if largest.is_finite() {
                largest / 127.0
            } else {
                f32::NAN
            };
            *sum = 0;
            for (code, x) in codes.iter_mut().zip(x) {
                *code = if largest > 1e-30 {
                    (x / largest * 127.0).round_ties_even() as i8
                } else {
                    0
                };
                *sum += i32::from(*code);
            }
        }
        Ok(())
    }
}
