//! Multi-head self-attention: `attn`.

use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};

use super::linear::Linear;
use super::params::Scope;
use crate::config::Config;
use crate::device::backend::{AimBackend, Epilogue};
use crate::error::Result;

/// Attention of every token to every token, with one matrix for queries, keys and values.
///
/// Source: `Attention` of the reference (`aim/v1/torch/layers.py`).
#[derive(Clone, Debug)]
pub struct Attention<B: AimBackend> {
    qkv: Linear<B>,
    proj: Linear<B>,
    num_heads: usize,
}

impl<B: AimBackend> Attention<B> {
    /// Takes its tensors out of `params`.
    ///
    /// # Errors
    /// As [`Scope::tensor`](super::params::Scope::tensor).
    pub fn new(config: &Config, params: &mut Scope<'_, B>) -> Result<Self> {
        let dim = config.embed_dim;
        Ok(Self {
            qkv: params.linear("qkv", dim, 3 * dim)?,
            proj: params.linear("proj", dim, dim)?,
            num_heads: config.num_heads,
        })
    }

    /// Adds to the residual stream.
    ///
    /// # Shapes
    /// - `x`, `residual`, output: `[batch, tokens, embed_dim]`
    /// - `mask`: `[tokens, tokens]`, true where a row's token may not see a column's
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        residual: Tensor<B, 3>,
        mask: Option<&Tensor<B, 2, Bool>>,
    ) -> Tensor<B, 3> {
        let attended = B::attend(self.qkv.forward(x), self.num_heads, mask);
        self.proj.forward_then(attended, Epilogue::Add(residual))
    }

    /// The layer to queries, keys and values.
    pub const fn qkv(&self) -> &Linear<B> {
        &self.qkv
    }

    /// The layer that joins the heads.
    pub const fn proj(&self) -> &Linear<B> {
        &self.proj
    }

    /// How many heads there are.
    pub const fn num_heads(&self) -> usize {
        self.num_heads
    }
}

/// Attention of all heads.
///
/// # Shapes
/// - `qkv`: `[batch, tokens, 3 * dim]`
/// - `mask`: `[tokens, tokens]`, true where a row's token may not see a column's
/// - output: `[batch, tokens, dim]`
pub fn attention<B: AimBackend>(
    qkv: Tensor<B, 3>,
    num_heads: usize,
    mask: Option<&Tensor<B, 2, Bool>>,
) -> Tensor<B, 3> {
    let [_, _, channels] = qkv.dims();
    let dim = channels / 3;
    let [q, k, v] = [0, 1, 2].map(|part| {
        let part = qkv.clone().narrow(2, part * dim, dim);
        split_heads(part, num_heads)
    });
    join_heads(attend(q, k, v, mask))
}

/// Scaled dot-product attention: `softmax(q kᵀ / sqrt(head_dim)) v`.
///
/// # Shapes
/// - `q`: `[batch, heads, queries, head_dim]`
/// - `k`, `v`: `[batch, heads, keys, head_dim]`
/// - `mask`: `[queries, keys]`, true where a query may not see a key
/// - output: `[batch, heads, queries, head_dim]`
pub fn attend<B: AimBackend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    mask: Option<&Tensor<B, 2, Bool>>,
) -> Tensor<B, 4> {
    let [_, _, _, head_dim] = q.dims();
    let mut scores = B::matmul(q, k.transpose()) / (head_dim as f64).sqrt();
    if let Some(mask) = mask {
        let mask = mask.clone().unsqueeze::<4>().expand(scores.dims());
        scores = scores.mask_fill(mask, f32::NEG_INFINITY);
    }
    B::matmul(softmax(scores, 3), v)
}

/// `[batch, tokens, heads * head_dim]` to `[batch, heads, tokens, head_dim]`.
pub fn split_heads<B: Backend>(x: Tensor<B, 3>, num_heads: usize) -> Tensor<B, 4> {
    let [batch, tokens, dim] = x.dims();
    x.reshape([batch, tokens, num_heads, dim / num_heads])
        .swap_dims(1, 2)
}

/// `[batch, heads, tokens, head_dim]` to `[batch, tokens, heads * head_dim]`.
pub fn join_heads<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, heads, tokens, head_dim] = x.dims();
    x.swap_dims(1, 2).reshape([batch, tokens, heads * head_dim])
}
