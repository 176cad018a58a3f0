//! The feed-forward part of a block: `mlp`.

use std::f64::consts::SQRT_2;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::linear::Linear;
use super::params::Scope;
use crate::config::Config;
use crate::device::backend::{AimBackend, Epilogue};
use crate::error::Result;

/// Two linear layers around a GELU; the hidden layer is four times as wide.
///
/// Source: `MLP` of the reference (`aim/v1/torch/layers.py`).
#[derive(Clone, Debug)]
pub struct Mlp<B: AimBackend> {
    fc1: Linear<B>,
    fc2: Linear<B>,
}

impl<B: AimBackend> Mlp<B> {
    /// Takes its tensors out of `params`.
    ///
    /// # Errors
    /// As [`Scope::tensor`](super::params::Scope::tensor).
    pub fn new(config: &Config, params: &mut Scope<'_, B>) -> Result<Self> {
        let (dim, hidden) = (config.embed_dim, config.mlp_hidden_dim());
        Ok(Self {
            fc1: params.linear("fc1", dim, hidden)?,
            fc2: params.linear("fc2", hidden, dim)?,
        })
    }

    /// Adds to the residual stream.
    ///
    /// # Shapes
    /// - `x`, `residual`, output: `[batch, tokens, embed_dim]`
    pub fn forward(&self, x: Tensor<B, 3>, residual: Tensor<B, 3>) -> Tensor<B, 3> {
        let hidden = self.fc1.forward_then(x, Epilogue::Gelu);
        self.fc2.forward_then(hidden, Epilogue::Add(residual))
    }

    /// The layer into the hidden channels.
    pub const fn fc1(&self) -> &Linear<B> {
        &self.fc1
    }

    /// The layer out of them.
    pub const fn fc2(&self) -> &Linear<B> {
        &self.fc2
    }
}

/// The exact GELU, `x Φ(x)`.
///
/// Not burn's: on some backends that is the tanh approximation, which moves the logits.
pub fn gelu<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let cdf = ((x.clone() / SQRT_2).erf() + 1.0) * 0.5;
    x * cdf
}
