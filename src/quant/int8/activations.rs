//! Rows of `x` as a kernel reads them.

use super::kernel::{PanelLayout, Proven};
use super::matrix::IntMatrix;
use super::rounding::Round;
use crate::error::{Error, Result};
use crate::memory;

/// Rows of `x`, rounded to whole numbers. A buffer to be used again: it allocates only to grow.
///
/// An activation is `centre + scale * q`. Rows lie in blocks of as many as a kernel multiplies together, and in a block
/// the words of all rows for the same columns are neighbours, as the kernel reads them; the last block is filled up with
/// rows that nobody reads the products of.
#[derive(Debug, Default)]
pub struct Activations {
    shape: Option<Shape>,
    n: usize,
    /// `[blocks, d_input / step, rows]`
    words: Vec<u32>,
    /// `[blocks, d_input / group_size, rows]`
    groups: Vec<Group>,
    /// `[blocks, rows]`
    rows: Vec<Row>,
}

/// What rows are prepared for.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kernel: Proven,
    layout: PanelLayout,
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
            n: 0,
            words: Vec::new(),
            groups: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The memory that it holds.
    pub const fn bytes(&self) -> u64 {
        memory::bytes(&self.words) + memory::bytes(&self.groups) + memory::bytes(&self.rows)
    }

    /// Makes room for `n` rows to multiply with `w`. What they hold is undetermined until they are written.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is no room for them.
    pub fn prepare(&mut self, n: usize, w: &IntMatrix) -> Result<()> {
        let shape = Shape {
            kernel: w.kernel(),
            layout: w.layout(),
            d_input: w.d_input(),
            group_size: w.scheme().group_size(),
            words_per_row: w.d_input() / w.layout().step,
            groups_per_row: w.d_input() / w.scheme().group_size(),
        };
        self.shape = None;
        // In range where the rest is: `rows` is small.
        let rows = n.saturating_add(shape.layout.rows - 1) / shape.layout.rows * shape.layout.rows;
        resize(&mut self.words, rows, shape.words_per_row)?;
        resize(&mut self.groups, rows, shape.groups_per_row)?;
        resize(&mut self.rows, rows, 1)?;
        (self.shape, self.n) = (Some(shape), n);
        Ok(())
    }

    /// All rows, to be written.
    pub const fn rows_mut(&mut self) -> RowsMut<'_> {
        RowsMut { of: self }
    }

    /// All rows.
    pub const fn rows(&self) -> Rows<'_> {
        Rows { of: self }
    }
}

/// `n` times `each` values.
fn resize<T: Clone + Default>(values: &mut Vec<T>, n: usize, each: usize) -> Result<()> {
    memory::resize(values, n.checked_mul(each), "activations")
}

/// Rows to multiply with.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    of: &'a Activations,
}

/// Some rows that are multiplied together, `R` of them.
#[derive(Clone, Copy)]
pub(super) struct RowBlock<'a, const R: usize> {
    /// `[d_input / step]`
    pub words: &'a [[u32; R]],
    /// `[d_input / group_size]`
    pub groups: &'a [[Group; R]],
    pub rows: &'a [Row; R],
}

impl<'a> Rows<'a> {
    /// How many.
    pub const fn len(&self) -> usize {
        self.of.n
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.of.n == 0
    }

    /// Of each row; 0 before they are prepared.
    pub fn d_input(&self) -> usize {
        self.of.shape.map_or(0, |shape| shape.d_input)
    }

    /// Whether they were prepared for such a matrix.
    pub(super) fn fits(&self, w: &IntMatrix) -> bool {
        self.of.shape.is_some_and(|shape| {
            shape.layout == w.layout()
                && shape.d_input == w.d_input()
                && shape.group_size == w.scheme().group_size()
        })
    }

    /// The blocks, of a kernel that multiplies `R` rows together.
    ///
    /// - `words`, `groups`: of a row
    #[inline(always)]
    pub(super) fn blocks<const R: usize>(
        &self,
        words: usize,
        groups: usize,
    ) -> impl Iterator<Item = RowBlock<'a, R>> + Clone {
        let all = self.of.words.as_chunks().0.chunks_exact(words);
        let groups = self.of.groups.as_chunks().0.chunks_exact(groups);
        let rows = self.of.rows.as_chunks().0;
        all.zip(groups)
            .zip(rows)
            .map(|((words, groups), rows)| RowBlock {
                words,
                groups,
                rows,
            })
    }
}

/// Rows to be written.
#[derive(Debug)]
pub struct RowsMut<'a> {
    of: &'a mut Activations,
}

impl RowsMut<'_> {
    /// How many.
    pub const fn len(&self) -> usize {
        self.of.n
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.of.n == 0
    }

    /// Rounds a row.
    ///
    /// One that holds an infinity or a NaN makes all products with it NaN; other rows are not affected.
    ///
    /// # Shapes
    /// - `x`: `[d_input]`
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if there is no such row or `x` has another length.
    pub fn quantize(&mut self, row: usize, x: &[f32]) -> Result<()> {
        let Activations {
            shape,
            n,
            words,
            groups,
            rows,
        } = &mut *self.of;
        let d_input = shape.map_or(0, |shape| shape.d_input);
        let Some(shape) = shape.filter(|_| row < *n && x.len() == d_input) else {
            return Err(Error::option(format!(
                "{} activations are no row {row} of {n} rows of {d_input}",
                x.len()
            )));
        };
        let block = row / shape.layout.rows;
        let in_block =
            |each: usize| block * each * shape.layout.rows..(block + 1) * each * shape.layout.rows;
        shape.kernel.vectorize(Round {
            x,
            group_size: shape.group_size,
            words: &mut words[in_block(shape.words_per_row)],
            groups: &mut groups[in_block(shape.groups_per_row)],
            rows: &mut rows[in_block(1)],
            row: row % shape.layout.rows,
        });
        Ok(())
    }
}
