//! Layer normalisation.

use burn::module::Param;
use burn::nn::{LayerNorm, LayerNormConfig};

use super::params::Scope;
use crate::device::backend::AimBackend;
use crate::error::Result;

/// The epsilon of every normalisation in AIM v1.
pub const EPSILON: f64 = 1e-6;

/// The layer norm `name` over `dim` channels, with its `weight` and `bias`.
///
/// # Errors
/// If a tensor is missing or of another shape.
pub fn layer_norm<B: AimBackend>(
    params: &mut Scope<'_, B>,
    name: &str,
    dim: usize,
) -> Result<LayerNorm<B>> {
    let mut params = params.scope(name);
    let weight = params.tensor("weight", [dim])?;
    let bias = params.tensor("bias", [dim])?;
    let mut norm = LayerNormConfig::new(dim)
        .with_epsilon(EPSILON)
        .init(&weight.device());
    norm.gamma = Param::from_tensor(weight);
    norm.beta = Some(Param::from_tensor(bias));
    Ok(norm)
}
