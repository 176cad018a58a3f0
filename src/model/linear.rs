//! A linear layer: every matrix of AIM is the weight of one.

use burn::tensor::Tensor;

use crate::device::backend::{AimBackend, Epilogue};

/// `y = x Wᵀ`, with `W` the checkpoint's `weight`, in floats or packed.
#[derive(Clone, Debug)]
pub struct Linear<B: AimBackend> {
    weight: B::Matrix,
    d_input: usize,
    d_output: usize,
}

impl<B: AimBackend> Linear<B> {
    /// A layer from its matrix of shape `[d_output, d_input]`.
    pub const fn new(weight: B::Matrix, [d_output, d_input]: [usize; 2]) -> Self {
        Self {
            weight,
            d_input,
            d_output,
        }
    }

    /// `[d_input, d_output]`
    pub const fn dims(&self) -> [usize; 2] {
        [self.d_input, self.d_output]
    }

    /// The matrix, `[d_output, d_input]`.
    pub const fn weight(&self) -> &B::Matrix {
        &self.weight
    }

    /// Applies the layer to every token.
    ///
    /// # Shapes
    /// - `x`: `[batch, tokens, d_input]`
    /// - output: `[batch, tokens, d_output]`
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.forward_then(x, Epilogue::None)
    }

    /// Applies the layer to every token, and something to what comes out.
    ///
    /// # Shapes
    /// As [`forward`](Self::forward).
    pub fn forward_then(&self, x: Tensor<B, 3>, epilogue: Epilogue<B>) -> Tensor<B, 3> {
        B::linear_then(x, &self.weight, epilogue)
    }
}
