//! The parts of a block on a GPU, as kernels in `CubeCL`'s language: one source for all devices that it
//! writes for, WebGPU among them.
#![allow(missing_docs, reason = "what the macro makes of a kernel has none")]
#![allow(
    clippy::manual_div_ceil,
    clippy::missing_const_for_fn,
    reason = "CubeCL's language has neither"
)]

pub(crate) mod attention;
pub(crate) mod dense;
mod half;
pub(crate) mod launch;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod rows;
