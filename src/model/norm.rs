//! Layer normalisation.

use burn::tensor::Tensor;

use super::params::Scope;
use crate::device::backend::AimBackend;
use crate::error::Result;

/// The epsilon of every normalisation in AIM v1.
pub const EPSILON: f64 = 1e-6;

/// A layer norm over the channels.
#[derive(Clone, Debug)]
pub struct Norm<B: AimBackend> {
    /// `[dim]`
    weight: Tensor<B, 1>,
    /// `[dim]`
    bias: Tensor<B, 1>,
}

impl<B: AimBackend> Norm<B> {
    /// The layer norm `name` over `dim` channels, with its `weight` and `bias`.
    ///
    /// # Errors
    /// As [`Scope::tensor`](super::params::Scope::tensor).
    pub fn new(params: &mut Scope<'_, B>, name: &str, dim: usize) -> Result<Self> {
        let mut params = params.scope(name);
        Ok(Self {
            weight: params.tensor("weight", [dim])?,
            bias: params.tensor("bias", [dim])?,
        })
    }

    /// What the normalised values are multiplied by, `[dim]`.
    pub const fn weight(&self) -> &Tensor<B, 1> {
        &self.weight
    }

    /// What is then added, `[dim]`.
    pub const fn bias(&self) -> &Tensor<B, 1> {
        &self.bias
    }

    /// # Shapes
    /// - `x`, output: `[batch, tokens, dim]`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        B::normalize(x, self)
    }

    /// The same in burn's operations: to mean 0 and variance 1, then scaled and shifted.
    pub fn normalize(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let (variance, mean) = x.clone().var_mean_bias(2);
        let normal = (x - mean) / (variance + EPSILON).sqrt();
        normal * self.weight.clone().unsqueeze() + self.bias.clone().unsqueeze()
    }
}
