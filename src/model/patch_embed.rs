//! `preprocessor.patchifier`: a picture becomes a sequence of tokens.

use burn::nn::LayerNorm;
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::norm::layer_norm;
use super::params::Scope;
use crate::config::Config;
use crate::device::backend::AimBackend;
use crate::error::Result;

/// A convolution whose stride is its kernel, then a layer norm.
///
/// Source: `PatchEmbed` of the reference (`aim/v1/torch/layers.py`).
#[derive(Clone, Debug)]
pub struct PatchEmbed<B: AimBackend> {
    /// `[embed_dim, num_channels, patch height, patch width]`
    weight: Tensor<B, 4>,
    /// `[embed_dim]`
    bias: Tensor<B, 1>,
    norm: LayerNorm<B>,
    patch_size: [usize; 2],
}

impl<B: AimBackend> PatchEmbed<B> {
    /// Takes its tensors out of `params`.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn new(config: &Config, params: &mut Scope<'_, B>) -> Result<Self> {
        let dim = config.embed_dim;
        let [height, width] = config.patch_size;
        let mut proj = params.scope("proj");
        Ok(Self {
            weight: proj.tensor("weight", [dim, config.num_channels, height, width])?,
            bias: proj.tensor("bias", [dim])?,
            norm: layer_norm(params, "norm", dim)?,
            patch_size: config.patch_size,
        })
    }

    /// # Shapes
    /// - `images`: `[batch, num_channels, height, width]`, normalised
    /// - output: `[batch, rows * columns, embed_dim]`, row by row; what is left over at the right
    ///   and at the bottom is dropped
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 3> {
        let options = ConvOptions::new(self.patch_size, [0, 0], [1, 1], 1);
        let patches = conv2d(
            images,
            self.weight.clone(),
            Some(self.bias.clone()),
            options,
        );
        let tokens = patches.flatten::<3>(2, 3).swap_dims(1, 2);
        self.norm.forward(tokens)
    }
}
