//! A quantised matrix as the kernels read it, and the product with it.

use std::ops::Range;

use super::activations::Rows;
use crate::error::{Error, Result};
use crate::quant::QuantMatrix;
use crate::quant::packing::unpack;

/// What becomes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It replaces what was there.
    Over,
    /// It is added to what was there.
    Add,
}

/// A matrix `[d_output, d_input]` in the order that a kernel reads.
#[derive(Debug)]
pub struct IntMatrix {
    matrix: QuantMatrix,
}

impl IntMatrix {
    /// Outputs that a kernel computes together. A range of outputs starts at a multiple of it.
    pub const STEP: usize = 32;

    /// Takes a matrix over. Needs room for it twice while it does.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is no room for it.
    pub fn new(matrix: QuantMatrix) -> Result<Self> {
        Ok(Self { matrix })
    }

    /// Rows: the length of the product with a vector.
    pub const fn d_output(&self) -> usize {
        self.matrix.d_output()
    }

    /// Columns: the length of a vector to multiply with.
    pub const fn d_input(&self) -> usize {
        self.matrix.d_input()
    }

    /// Weights that share a scale.
    pub const fn group_size(&self) -> usize {
        self.matrix.scheme().group_size()
    }

    /// Bytes in memory.
    pub const fn bytes(&self) -> usize {
        self.matrix.bytes()
    }

    /// Computes some columns of `y = x Wᵀ`. Allocates nothing.
    ///
    /// # Shapes
    /// - `x`: `[n, d_input]`, prepared for this matrix or one of the same scheme and `d_input`
    /// - `outputs`: which rows of `W`, from a multiple of [`STEP`](Self::STEP)
    /// - `y`: `n` rows of `outputs.len()` values, each `stride` after the one before
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the shapes don't fit.
    pub fn product(
        &self,
        x: Rows<'_>,
        outputs: Range<usize>,
        y: &mut [f32],
        stride: usize,
        write: Write,
    ) -> Result<()> {
        let inside = outputs.start <= outputs.end && outputs.end <= self.d_output();
        let room = match x.len() {
            0 => Some(0),
            n => (n - 1)
                .checked_mul(stride)
                .and_then(|len| len.checked_add(outputs.len())),
        };
        if !inside
            || !outputs.start.is_multiple_of(Self::STEP)
            || outputs.len() > stride
            || room.is_none_or(|room| room > y.len())
            || x.d_input() != self.d_input()
            || x.group_size() != self.group_size()
        {
            return Err(Error::option(format!(
                "{} activations of {} do not fit outputs {outputs:?} of a matrix of {} x {}, or the room for them",
                x.len(),
                x.d_input(),
                self.d_output(),
                self.d_input()
            )));
        }
        let group = self.group_size();
        let bits = self.matrix.scheme().bits();
        let mut codes = [0; 128];
        let codes = codes.get_mut(..group).unwrap_or_default();
        for row in 0..x.len() {
            for (at, output) in outputs.clone().enumerate() {
                let words = self
                    .matrix
                    .row_codes(output)
                    .chunks_exact(self.matrix.scheme().words_per_group());
                let (scales, biases) = self.matrix.row_groups(output);
                let mut sum = 0.0;
                for ((words, (scale, bias)), g) in words.zip(scales.iter().zip(biases)).zip(0..) {
                    unpack(bits, words, codes)?;
                    let (q, s, total) = x.group(row, g);
                    let dot: i32 = codes
                        .iter()
                        .zip(q)
                        .map(|(c, q)| i32::from(*c) * i32::from(*q))
                        .sum();
                    sum += s * (scale.to_f32() * dot as f32 + bias.to_f32() * total as f32);
                }
                if let Some(y) = y.get_mut(row * stride + at) {
                    *y = if write == Write::Add { *y + sum } else { sum };
                }
            }
        }
        Ok(())
    }
}
