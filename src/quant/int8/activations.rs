//! Rows of `x` as a kernel reads them.

use std::ops::Range;

use super::kernel::{Form, Proven};
use super::matrix::IntMatrix;
use super::rounding::Round;
use crate::error::{Error, ErrorKind, Result};

/// Rows of `x`, rounded to whole numbers. A buffer to be used again: it allocates only to grow.
///
/// An activation is `centre + scale * q`.
#[derive(Debug, Default)]
pub struct Activations {
    shape: Option<Shape>,
    /// `[n, d_input / step]`
    words: Vec<u32>,
    /// `[n, d_input / group_size]`, see [`Group`].
    groups: Vec<Group>,
    /// `[n]`
    rows: Vec<Row>,
}

/// What rows are prepared for.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kernel: Proven,
    form: Form,
    d_input: usize,
    group_size: usize,
    words_per_row: usize,
    groups_per_row: usize,
}

/// What belongs to a group of a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    /// With which sums of products are multiplied, where whole numbers have 8 bits. With 16 a row has but one.
    pub scale: f32,
    /// The sum of the group's whole numbers, times `scale` where that is used.
    pub sum: f32,
}

/// What belongs to a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    /// With which all its products are multiplied: 1 where groups have scales, NaN where an activation is infinite or NaN.
    pub scale: f32,
    /// What all its activations are less.
    pub centre: f32,
}

impl Activations {
    /// Without rows.
    pub const fn new() -> Self {
        Self {
            shape: None,
            words: Vec::new(),
            groups: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Makes room for `n` rows to multiply with `w`. What they hold is undetermined until they are written.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`] if there is no room for them.
    pub fn prepare(&mut self, n: usize, w: &IntMatrix) -> Result<()> {
        let shape = Shape {
            kernel: w.kernel(),
            form: w.form(),
            d_input: w.d_input(),
            group_size: w.scheme().group_size(),
            words_per_row: w.d_input() / w.form().step,
            groups_per_row: w.d_input() / w.scheme().group_size(),
        };
        self.shape = None;
        resize(&mut self.words, n, shape.words_per_row)?;
        resize(&mut self.groups, n, shape.groups_per_row)?;
        resize(&mut self.rows, n, 1)?;
        self.shape = Some(shape);
        Ok(())
    }

    /// All rows, to be written.
    pub fn rows_mut(&mut self) -> RowsMut<'_> {
        RowsMut {
            shape: self.shape,
            words: &mut self.words,
            groups: &mut self.groups,
            rows: &mut self.rows,
        }
    }

    /// All rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows {
            shape: self.shape,
            words: &self.words,
            groups: &self.groups,
            rows: &self.rows,
        }
    }
}

/// Words and groups of a row; none before rows are prepared.
#[inline(always)]
const fn per_row(shape: Option<Shape>) -> (usize, usize) {
    match shape {
        Some(shape) => (shape.words_per_row, shape.groups_per_row),
        None => (0, 0),
    }
}

/// `n` times `each` values.
fn resize<T: Clone + Default>(values: &mut Vec<T>, n: usize, each: usize) -> Result<()> {
    let error = || Error::new(ErrorKind::OutOfMemory, "no memory for activations");
    let len = n.checked_mul(each).ok_or_else(error)?;
    values
        .try_reserve(len.saturating_sub(values.len()))
        .map_err(|source| error().with_source(source))?;
    values.resize(len, T::default());
    Ok(())
}

/// Some rows to multiply with.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    shape: Option<Shape>,
    words: &'a [u32],
    groups: &'a [Group],
    rows: &'a [Row],
}

impl<'a> Rows<'a> {
    /// How many.
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Of each row; 0 before they are prepared.
    pub fn d_input(&self) -> usize {
        self.shape.map_or(0, |shape| shape.d_input)
    }

    /// Some of them; those past the last are left out.
    pub fn part(&self, rows: Range<usize>) -> Self {
        let end = rows.end.min(self.len());
        let start = rows.start.min(end);
        let (words, groups) = per_row(self.shape);
        Self {
            shape: self.shape,
            words: &self.words[start * words..end * words],
            groups: &self.groups[start * groups..end * groups],
            rows: &self.rows[start..end],
        }
    }

    /// Whether they were prepared for such a matrix.
    pub(super) fn fits(&self, w: &IntMatrix) -> bool {
        self.shape.is_some_and(|shape| {
            shape.form == w.form()
                && shape.d_input == w.d_input()
                && shape.group_size == w.scheme().group_size()
        })
    }

    /// The words, groups and rest of a row.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> (&'a [u32], &'a [Group], Row) {
        let (words, groups) = per_row(self.shape);
        (
            &self.words[row * words..][..words],
            &self.groups[row * groups..][..groups],
            self.rows[row],
        )
    }
}

/// Rows to be written, by one thread.
#[derive(Debug)]
pub struct RowsMut<'a> {
    shape: Option<Shape>,
    words: &'a mut [u32],
    groups: &'a mut [Group],
    rows: &'a mut [Row],
}

impl RowsMut<'_> {
    /// How many.
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The first `rows` of them and the rest, for two threads.
    pub fn split_at(self, rows: usize) -> (Self, Self) {
        let at = rows.min(self.len());
        let (words, groups) = per_row(self.shape);
        let (words, words_2) = self.words.split_at_mut(at * words);
        let (groups, groups_2) = self.groups.split_at_mut(at * groups);
        let (rows, rows_2) = self.rows.split_at_mut(at);
        let part = |words, groups, rows| Self {
            shape: self.shape,
            words,
            groups,
            rows,
        };
        (part(words, groups, rows), part(words_2, groups_2, rows_2))
    }

    /// Rounds a row.
    ///
    /// One that holds an infinity or a NaN makes all products with it NaN; other rows are not affected.
    ///
    /// # Shapes
    /// - `x`: `[d_input]`
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if there is no such row or `x` has another length.
    pub fn quantize(&mut self, row: usize, x: &[f32]) -> Result<()> {
        let n = self.len();
        let shape = self
            .shape
            .filter(|shape| row < n && x.len() == shape.d_input);
        let Some(shape) = shape else {
            return Err(Error::option(format!(
                "{} activations are no row {row} of {n} rows of {}",
                x.len(),
                self.shape.map_or(0, |shape| shape.d_input)
            )));
        };
        let (words, groups) = (shape.words_per_row, shape.groups_per_row);
        shape.kernel.vectorize(Round {
            x,
            group_size: shape.group_size,
            words: &mut self.words[row * words..][..words],
            groups: &mut self.groups[row * groups..][..groups],
            row: &mut self.rows[row],
        });
        Ok(())
    }
}
