//! A linear layer without bias: every matrix of AIM but the patch embedding is one.

use burn::tensor::Tensor;

use crate::device::backend::{AimBackend, PackedMatrix};
use crate::error::Result;

/// `y = x Wᵀ`, with `W` the checkpoint's `weight`, in floats or packed.
#[derive(Clone, Debug)]
pub struct Linear<B: AimBackend> {
    weight: Weight<B>,
    d_input: usize,
    d_output: usize,
}

#[derive(Clone, Debug)]
enum Weight<B: AimBackend> {
    /// `[d_input, d_output]`: transposed once, which a product would do each time.
    Float(Tensor<B, 2>),
    /// `[d_output, d_input]`
    Packed(B::Packed),
}

impl<B: AimBackend> Linear<B> {
    /// A layer from its transposed matrix of shape `[d_input, d_output]`.
    pub fn new(weight: Tensor<B, 2>) -> Self {
        let [d_input, d_output] = weight.dims();
        Self {
            weight: Weight::Float(weight),
            d_input,
            d_output,
        }
    }

    /// A layer from its packed matrix of shape `[d_output, d_input]`.
    ///
    /// # Errors
    /// As [`AimBackend::pack`].
    pub fn packed(matrix: PackedMatrix, device: &B::Device) -> Result<Self> {
        let [d_output, d_input] = matrix.dims();
        Ok(Self {
            weight: Weight::Packed(B::pack(matrix, device)?),
            d_input,
            d_output,
        })
    }

    /// `[d_input, d_output]`
    pub const fn dims(&self) -> [usize; 2] {
        [self.d_input, self.d_output]
    }

    /// Applies the layer to every token.
    ///
    /// # Shapes
    /// - `x`: `[batch, tokens, d_input]`
    /// - output: `[batch, tokens, d_output]`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, tokens, _] = x.dims();
        // One product of two matrices: a batched one would copy the weight for each picture.
        let x = x.reshape([batch * tokens, self.d_input]);
        let y = match &self.weight {
            Weight::Float(weight) => x.matmul(weight.clone()),
            Weight::Packed(weight) => B::packed_matmul(x, weight),
        };
        y.reshape([batch, tokens, self.d_output])
    }
}
