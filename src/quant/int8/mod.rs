//! Products in integers on the CPU: activations rounded to few bits times the codes of a quantised matrix.
//!
//! A weight of MLX's affine form is `scale * code + bias`, with one scale and one bias for a group of neighbours, so
//! with activations `m + s q`
//!
//! `y = m sum(w) + sum over groups of s (scale * dot(code, q) + bias * sum(q))`
//!
//! is exact but for the rounding of the activations: the weights are those of the checkpoint. `m` belongs to a row, and
//! so does `s` where `q` has 16 bits; where it has 8, `s` belongs to a group of a row.
//!
//! - [`IntMatrix`]: a matrix in the order that a kernel reads, made once;
//! - [`Activations`]: rows of `x` as a kernel reads them, a buffer to be used again;
//! - [`Kernel`]: the instructions that multiply, chosen for the machine or by hand.
//!
//! Below them: `isa` is what a kernel asks of an instruction set, and one file each says how a processor does it;
//! `product` and `rounding` are the loops, written once for all of them.

#![allow(clippy::inline_always)] // Only what is inlined is compiled for the instructions of its caller.

mod activations;
mod isa;
mod kernel;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod product;
mod rounding;
#[cfg(target_family = "wasm")]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::{Activations, Rows, RowsMut};
pub use kernel::Kernel;
pub use matrix::{IntMatrix, Write};
