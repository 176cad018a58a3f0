//! A transformer block: `trunk.blocks.{i}`.

use burn::nn::LayerNorm;
use burn::tensor::{Bool, Tensor};

use super::attention::Attention;
use super::mlp::Mlp;
use super::norm::layer_norm;
use super::params::Scope;
use crate::config::Config;
use crate::device::backend::AimBackend;
use crate::error::Result;

/// Attention, then the MLP, each on the normalised stream and added back to it.
///
/// Source: `Block` of the reference (`aim/v1/torch/layers.py`).
#[derive(Clone, Debug)]
pub struct Block<B: AimBackend> {
    norm_1: LayerNorm<B>,
    attn: Attention<B>,
    norm_2: LayerNorm<B>,
    mlp: Mlp<B>,
}

impl<B: AimBackend> Block<B> {
    /// Takes its tensors out of `params`.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn new(config: &Config, params: &mut Scope<'_, B>) -> Result<Self> {
        Ok(Self {
            norm_1: layer_norm(params, "norm_1", config.embed_dim)?,
            attn: Attention::new(config, &mut params.scope("attn"))?,
            norm_2: layer_norm(params, "norm_2", config.embed_dim)?,
            mlp: Mlp::new(config, &mut params.scope("mlp"))?,
        })
    }

    /// # Shapes
    /// - `x`, output: `[batch, tokens, embed_dim]`
    /// - `mask`: `[tokens, tokens]`, true where a row's token may not see a column's
    pub fn forward(&self, x: Tensor<B, 3>, mask: Option<&Tensor<B, 2, Bool>>) -> Tensor<B, 3> {
        let x = x.clone() + self.attn.forward(self.norm_1.forward(x), mask);
        x.clone() + self.mlp.forward(self.norm_2.forward(x))
    }
}
