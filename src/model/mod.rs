//! AIM v1 as in the paper, generic over burn's backend.
//!
//! One idea a file, each named as in the checkpoint where the checkpoint names it:
//!
//! | file | what |
//! |---|---|
//! | [`aim`] | the whole model: picture to logits and features |
//! | [`patch_embed`] | `preprocessor.patchifier`: patches to tokens |
//! | [`position`] | the fixed sine-cosine position |
//! | [`trunk`] | `trunk`: the blocks, stopped after the last one that is needed |
//! | [`block`] | `trunk.blocks.{i}`: attention and MLP around a residual stream |
//! | [`attention`] | `attn`, and the probe's attention pooling shares its core |
//! | [`mask`] | the prefix-causal mask of pre-training |
//! | [`mlp`] | `mlp`, with the exact GELU |
//! | [`head`] | `head`: the attention probe |
//! | [`linear`], [`norm`] | the layers they are built from |
//! | [`params`] | tensors by checkpoint name, handed to the constructors |
//!
//! Source: *Scalable Pre-training of Large Autoregressive Image Models*, El-Nouby et al., ICML
//! 2024, and the reference implementation `aim/v1/torch`.

pub mod aim;
pub mod attention;
pub mod block;
pub mod head;
pub mod linear;
pub mod mask;
pub mod mlp;
pub mod norm;
pub mod params;
pub mod patch_embed;
pub mod position;
pub mod trunk;

pub use aim::{Aim, Output};
pub use mask::prefix_causal_mask;
pub use params::Params;
