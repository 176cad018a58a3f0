//! `preprocessor.patchifier`: a picture becomes a sequence of tokens.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::linear::Linear;
use super::norm::Norm;
use super::params::Scope;
use crate::config::Config;
use crate::device::backend::{AimBackend, Epilogue};
use crate::error::Result;

/// A convolution whose stride is its kernel, which is a linear layer on patches, then a layer norm.
///
/// Source: `PatchEmbed` of the reference (`aim/v1/torch/layers.py`).
#[derive(Clone, Debug)]
pub struct PatchEmbed<B: AimBackend> {
    proj: Linear<B>,
    /// `[embed_dim]`
    bias: Tensor<B, 1>,
    norm: Norm<B>,
    patch_size: [usize; 2],
}

impl<B: AimBackend> PatchEmbed<B> {
    /// Takes its tensors out of `params`.
    ///
    /// # Errors
    /// As [`Scope::tensor`](super::params::Scope::tensor).
    pub fn new(config: &Config, params: &mut Scope<'_, B>) -> Result<Self> {
        let dim = config.embed_dim;
        let [height, width] = config.patch_size;
        Ok(Self {
            proj: params.linear("proj", config.num_channels * height * width, dim)?,
            bias: params.scope("proj").tensor("bias", [dim])?,
            norm: Norm::new(params, "norm", dim)?,
            patch_size: config.patch_size,
        })
    }

    /// # Shapes
    /// - `images`: `[batch, num_channels, height, width]`, normalised
    /// - output: `[batch, rows * columns, embed_dim]`, row by row; what is left over at the right
    ///   and at the bottom is dropped
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 3> {
        let patches = B::patches(images, self.patch_size);
        let bias = Epilogue::Bias(self.bias.clone());
        self.norm.forward(self.proj.forward_then(patches, bias))
    }
}

/// Cuts pictures into patches, row by row.
///
/// # Shapes
/// - `images`: `[batch, channels, height, width]`
/// - output: `[batch, rows * columns, channels * patch height * patch width]`
pub fn patches<B: Backend>(images: Tensor<B, 4>, patch_size: [usize; 2]) -> Tensor<B, 3> {
    let [batch, channels, height, width] = images.dims();
    let [patch_height, patch_width] = patch_size;
    let (rows, columns) = (height / patch_height, width / patch_width);
    images
        .narrow(2, 0, rows * patch_height)
        .narrow(3, 0, columns * patch_width)
        .reshape([batch, channels, rows, patch_height, columns, patch_width])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([batch, rows * columns, channels * patch_height * patch_width])
}
