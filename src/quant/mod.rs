//! Quantised matrices: 4 or 8 bits a weight, in the layout of MLX.
//!
//! A matrix is `[d_output, d_input]`, as in a checkpoint. Each row falls into groups of 32, 64 or
//! 128 neighbours that share a scale and a bias, and a weight is `scale * code + bias`: the
//! "affine" mode of MLX's `mx.quantize`, so that MLX reads what is written here, and the reverse.
//!
//! - [`Scheme`]: how many bits, how large a group, and the sizes that follow;
//! - [`QuantMatrix`]: a checked matrix in memory, and its bytes in a file;
//! - [`Quantizer`]: rows of f32 go in, in pieces of any length, a matrix comes out;
//! - [`dequantize`]: rows and tiles as f32;
//! - [`HalfMatrix`]: 16-bit floats, packed for a GPU;
//! - `int8`: the product with a quantised matrix on the CPU, in integers (feature `cpu`).
//!
//! Nothing here depends on a tensor library: [`device`](crate::device) joins it to burn. The results of quantisation are the
//! same bit for bit on every platform: no fused multiply-add, sums in a fixed order.

pub mod dequantize;
mod half_matrix;
#[cfg(feature = "cpu")]
pub mod int8;
mod matrix;
mod packing;
mod quantize;
mod scheme;
pub(crate) mod simd;

#[cfg(feature = "gpu")]
pub(crate) use half_matrix::pair;
pub use half_matrix::{HalfMatrix, HalfMatrixBuilder};
pub use matrix::QuantMatrix;
pub use quantize::{Method, Quantizer};
pub use scheme::{Bits, Scheme, Sizes};
