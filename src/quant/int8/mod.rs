//! Products in integers on the CPU: activations rounded to 8 bits times the codes of a quantised matrix.
//!
//! A weight of MLX's affine form is `scale * code + bias`, with one scale and one bias for a group of neighbours, so
//! with activations `s q` over that group
//!
//! `y = sum over groups of s (scale * dot(code, q) + bias * sum(q))`
//!
//! is exact but for the rounding of the activations: the weights are those of the checkpoint.
//!
//! - [`IntMatrix`]: a matrix in the order that a kernel reads, made once;
//! - [`Activations`]: rows of `x` as a kernel reads them, a buffer to be used again.

mod activations;
mod matrix;

pub use activations::{Activations, Rows, RowsMut};
pub use matrix::{IntMatrix, Write};
