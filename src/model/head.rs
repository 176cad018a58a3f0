//! The attention probe: `head`.

use burn::tensor::Tensor;

use super::attention::{attend, join_heads, split_heads};
use super::linear::Linear;
use super::norm::EPSILON;
use super::params::Scope;
use crate::config::Config;
use crate::device::backend::AimBackend;
use crate::error::Result;

/// Pools the tokens by the attention of one learned query, then classifies.
///
/// The batch norm uses the running statistics, as in evaluation.
///
/// Source: `AttentionPoolingClassifier` of the reference (`aim/v1/torch/layers.py`).
#[derive(Clone, Debug)]
pub struct AttentionPoolingClassifier<B: AimBackend> {
    /// `[1, 1, embed_dim]`
    pub(crate) running_mean: Tensor<B, 3>,
    /// `[1, 1, embed_dim]`
    pub(crate) running_std: Tensor<B, 3>,
    /// `[1, 1, embed_dim]`
    pub(crate) cls_token: Tensor<B, 3>,
    /// The keys.
    pub(crate) k: Linear<B>,
    /// The values.
    pub(crate) v: Linear<B>,
    /// The classes.
    pub(crate) linear: Linear<B>,
    pub(crate) num_heads: usize,
}

impl<B: AimBackend> AttentionPoolingClassifier<B> {
    /// Takes its tensors out of `params`.
    ///
    /// # Errors
    /// As [`Scope::tensor`](super::params::Scope::tensor).
    pub fn new(config: &Config, params: &mut Scope<'_, B>) -> Result<Self> {
        let dim = config.embed_dim;
        let mut bn = params.scope("bn");
        let running_mean = bn.tensor("running_mean", [dim])?;
        let running_var = bn.tensor("running_var", [dim])?;
        Ok(Self {
            running_mean: running_mean.reshape([1, 1, dim]),
            running_std: (running_var + EPSILON).sqrt().reshape([1, 1, dim]),
            cls_token: params.tensor("cls_token", [1, 1, dim])?,
            k: params.linear("k", dim, dim)?,
            v: params.linear("v", dim, dim)?,
            linear: params.linear("linear", dim, config.num_classes)?,
            num_heads: config.num_heads,
        })
    }

    /// # Shapes
    /// - `tokens`: `[batch, tokens, embed_dim]`, the mean of the probed layers
    /// - output: `[batch, num_classes]`, logits
    pub fn forward(&self, tokens: Tensor<B, 3>) -> Tensor<B, 2> {
        B::probe(self, tokens)
    }

    /// The tokens as the query's attention pools them, before they are classified.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, tokens, embed_dim]`, the mean of the probed layers
    /// - output: `[batch, embed_dim]`
    pub fn pool(&self, tokens: Tensor<B, 3>) -> Tensor<B, 2> {
        B::pool(self, tokens)
    }

    /// The same as [`forward`](Self::forward) layer by layer.
    pub fn layer_by_layer(&self, tokens: Tensor<B, 3>) -> Tensor<B, 2> {
        let pooled = self.pool_layer_by_layer(tokens);
        self.linear.forward(pooled.unsqueeze_dim(1)).squeeze_dim(1)
    }

    /// The same as [`pool`](Self::pool) layer by layer.
    pub fn pool_layer_by_layer(&self, tokens: Tensor<B, 3>) -> Tensor<B, 2> {
        let [batch, _, dim] = tokens.dims();
        let tokens = (tokens - self.running_mean.clone()) / self.running_std.clone();

        let q = self.cls_token.clone().expand([batch, 1, dim]);
        let k = self.k.forward(tokens.clone());
        let v = self.v.forward(tokens);
        let [q, k, v] = [q, k, v].map(|x| split_heads(x, self.num_heads));
        join_heads(attend(q, k, v, None)).squeeze_dim(1)
    }
}
