//! A transformer block: `trunk.blocks.{i}`.

use burn::tensor::{Bool, Tensor};

use super::attention::Attention;
use super::mlp::Mlp;
use super::norm::Norm;
use super::params::Scope;
use crate::config::Config;
use crate::device::backend::AimBackend;
use crate::error::Result;

/// Attention, then the MLP, each on the normalised stream and added back to it.
///
/// Source: `Block` of the reference (`aim/v1/torch/layers.py`).
#[derive(Clone, Debug)]
pub struct Block<B: AimBackend> {
    /// Before the attention.
    pub(crate) norm_1: Norm<B>,
    /// The attention.
    pub(crate) attn: Attention<B>,
    /// Before the MLP.
    pub(crate) norm_2: Norm<B>,
    /// The MLP.
    pub(crate) mlp: Mlp<B>,
}

impl<B: AimBackend> Block<B> {
    /// Takes its tensors out of `params`.
    ///
    /// # Errors
    /// As [`Scope::tensor`](super::params::Scope::tensor).
    pub fn new(config: &Config, params: &mut Scope<'_, B>) -> Result<Self> {
        Ok(Self {
            norm_1: Norm::new(params, "norm_1", config.embed_dim)?,
            attn: Attention::new(config, &mut params.scope("attn"))?,
            norm_2: Norm::new(params, "norm_2", config.embed_dim)?,
            mlp: Mlp::new(config, &mut params.scope("mlp"))?,
        })
    }

    /// # Shapes
    /// - `x`, output: `[batch, tokens, embed_dim]`
    /// - `mask`: `[tokens, tokens]`, true where a row's token may not see a column's
    pub fn forward(&self, x: Tensor<B, 3>, mask: Option<&Tensor<B, 2, Bool>>) -> Tensor<B, 3> {
        B::block(self, x, mask)
    }

    /// The same layer by layer.
    pub fn layer_by_layer(
        &self,
        x: Tensor<B, 3>,
        mask: Option<&Tensor<B, 2, Bool>>,
    ) -> Tensor<B, 3> {
        let x = self.attn.forward(self.norm_1.forward(x.clone()), x, mask);
        self.mlp.forward(self.norm_2.forward(x.clone()), x)
    }
}
