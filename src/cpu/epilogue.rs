//! What happens to a product's values while they are in registers.

use pulp::Simd;

use super::float::Column;
use super::gelu::{gelu, gelu_of};

/// What is done to `x Wᵀ` when it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// The exact GELU.
    Gelu,
    /// It is added to what is there: the residual stream.
    Add,
    /// A bias for each column is added.
    Bias(&'a [f32]),
}

impl Epilogue<'_> {
    /// Applies it to values of one row from `column` on; for [`Add`](Self::Add) there is nothing left to do.
    #[inline(always)]
    pub fn apply<S: Simd>(self, simd: S, values: &mut Column, column: usize) {
        match self {
            Self::None | Self::Add => {}
            Self::Gelu => gelu(simd, values),
            Self::Bias(bias) => {
                let bias = bias.get(column..).unwrap_or_default();
                for (value, bias) in values.iter_mut().zip(bias) {
                    *value += bias;
                }
            }
        }
    }

    /// Applies it to whole rows of `columns` values.
    pub fn apply_to_rows(self, y: &mut [f32], columns: usize) {
        match self {
            Self::None | Self::Add => {}
            Self::Gelu => gelu_of(y),
            Self::Bias(bias) => {
                for (value, bias) in y
                    .chunks_mut(columns.max(1))
                    .flat_map(|y| y.iter_mut().zip(bias))
                {
                    *value += bias;
                }
            }
        }
    }
}
