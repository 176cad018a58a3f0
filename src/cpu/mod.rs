//! What the CPU computes with: the operations of a block on slices, with SIMD and threads.
//!
//! Nothing here knows of a tensor library; [`device`](crate::device) joins it to burn.
//!
//! | file | idea |
//! |---|---|
//! | [`block`] | a transformer block on the residual stream, in place |
//! | [`matrix`] | rows times a matrix, whatever it is kept in |
//! | [`float`] | the product in f32, its panels and its tile in registers |
//! | [`epilogue`] | what is done to a product when it is written |
//! | [`attention`] | attention, head by head in the cache |
//! | [`norm`], [`gelu`] | layer norm; the exact GELU and the exponential |
//! | [`patches`] | pictures to patches |
//! | [`pool`] | the attention probe |
//! | [`threads`] | tasks over threads |

pub mod attention;
pub mod block;
pub mod epilogue;
pub mod float;
pub mod gelu;
mod lanes;
pub mod matrix;
pub mod norm;
pub mod patches;
pub mod pool;
pub mod threads;
