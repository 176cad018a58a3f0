//! A linear layer without bias: every matrix of AIM but the patch embedding is one.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// `y = x W`, with `W` the transpose of the checkpoint's `weight`.
#[derive(Clone, Debug)]
pub struct Linear<B: Backend> {
    /// `[d_input, d_output]`
    weight: Tensor<B, 2>,
}

impl<B: Backend> Linear<B> {
    /// A layer from its matrix of shape `[d_input, d_output]`.
    pub const fn new(weight: Tensor<B, 2>) -> Self {
        Self { weight }
    }

    /// `[d_input, d_output]`
    pub fn dims(&self) -> [usize; 2] {
        self.weight.dims()
    }

    /// Applies the layer to every token.
    ///
    /// # Shapes
    /// - `x`: `[batch, tokens, d_input]`
    /// - output: `[batch, tokens, d_output]`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, tokens, d_input] = x.dims();
        let [_, d_output] = self.dims();
        // One product of two matrices: a batched one would copy the weight for each picture.
        x.reshape([batch * tokens, d_input])
            .matmul(self.weight.clone())
            .reshape([batch, tokens, d_output])
    }
}
