//! What the model asks of a backend beyond burn's own operations.

use std::fmt::Debug;

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};
use futures_util::future::LocalBoxFuture;

use crate::error::Result;
use crate::model::attention::attention;
use crate::model::block::Block;
use crate::model::head::AttentionPoolingClassifier;
use crate::model::mlp::gelu;
use crate::model::norm::Norm;
use crate::model::patch_embed::patches;
use crate::precision::{WeightFormat, WeightSupport};
use crate::quant::{HalfMatrix, QuantMatrix};

/// A backend of burn that takes matrices as they arrive, keeps them as its products read them, and runs the
/// parts of a block.
///
/// Each part has a body in burn's own operations, as in the paper. A backend replaces those that it does
/// better: one by one, or with [`block`](Self::block) all of them and what is between.
pub trait AimBackend: Backend {
    /// A matrix on its device, in floats or packed.
    type Matrix: Clone + Debug + Send + Sync;

    /// A matrix of floats that is arriving.
    type Rows: Rows<Self>;

    /// What the backend means for the choice of a precision.
    const WEIGHTS: WeightSupport;

    /// Whether attention without a mask keeps the weights of some queries at a time, not of all.
    const ATTENDS_IN_PARTS: bool = false;

    /// Whether a device can hold a tensor of so many bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it can't.
    fn check_size(bytes: u64, device: &Self::Device) -> Result<()>;

    /// Of the memory that is taken, the bytes that a pass takes up again which needs `between` bytes for what is between the
    /// layers of a block: what earlier passes left for it.
    fn kept_bytes(_between: u64) -> u64 {
        0
    }

    /// Moves a matrix to a device.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the device can't hold a matrix
    /// of its size or kind.
    fn pack(matrix: PackedMatrix, device: &Self::Device) -> Result<Self::Matrix>;

    /// `y = x Wᵀ`
    ///
    /// # Shapes
    /// - `x`: `[n, d_input]`
    /// - `w`: `[d_output, d_input]`
    /// - output: `[n, d_output]`
    fn product(x: Tensor<Self, 2>, w: &Self::Matrix) -> Tensor<Self, 2>;

    /// Products of activations, of the last two dimensions: those of f32 in all its bits.
    fn matmul<const D: usize>(lhs: Tensor<Self, D>, rhs: Tensor<Self, D>) -> Tensor<Self, D> {
        lhs.matmul(rhs)
    }

    /// `y = epilogue(x Wᵀ)`
    ///
    /// # Shapes
    /// - `x`: `[batch, tokens, d_input]`
    /// - `w`: `[d_output, d_input]`
    /// - output: `[batch, tokens, d_output]`
    fn linear_then(
        x: Tensor<Self, 3>,
        w: &Self::Matrix,
        epilogue: Epilogue<Self>,
    ) -> Tensor<Self, 3> {
        let [batch, tokens, d_input] = x.dims();
        // One product of two matrices: a batched one would copy the weight for each picture.
        let y = Self::product(x.reshape([batch * tokens, d_input]), w);
        let [_, d_output] = y.dims();
        epilogue.apply(y.reshape([batch, tokens, d_output]))
    }

    /// Normalises every token over its channels, then scales and shifts it.
    ///
    /// # Shapes
    /// - `x`, output: `[batch, tokens, dim]`
    fn normalize(x: Tensor<Self, 3>, norm: &Norm<Self>) -> Tensor<Self, 3> {
        norm.normalize(x)
    }

    /// Attention of every token to every token that it may see.
    ///
    /// # Shapes
    /// - `qkv`: `[batch, tokens, 3 * dim]`, queries, keys and values of all heads
    /// - `mask`: `[tokens, tokens]`, true where a row's token may not see a column's
    /// - output: `[batch, tokens, dim]`
    fn attend(
        qkv: Tensor<Self, 3>,
        num_heads: usize,
        mask: Option<&Tensor<Self, 2, Bool>>,
    ) -> Tensor<Self, 3> {
        attention(qkv, num_heads, mask)
    }

    /// Cuts pictures into patches.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`
    /// - output: `[batch, rows * columns, channels * patch height * patch width]`; what is left over at the
    ///   right and at the bottom is dropped
    fn patches(images: Tensor<Self, 4>, patch_size: [usize; 2]) -> Tensor<Self, 3> {
        patches(images, patch_size)
    }

    /// Runs a block.
    ///
    /// # Shapes
    /// As [`Block::forward`].
    fn block(
        block: &Block<Self>,
        x: Tensor<Self, 3>,
        mask: Option<&Tensor<Self, 2, Bool>>,
    ) -> Tensor<Self, 3> {
        block.layer_by_layer(x, mask)
    }

    /// Runs the attention probe.
    ///
    /// # Shapes
    /// As [`AttentionPoolingClassifier::forward`].
    fn probe(head: &AttentionPoolingClassifier<Self>, tokens: Tensor<Self, 3>) -> Tensor<Self, 2> {
        head.layer_by_layer(tokens)
    }

    /// Runs the attention probe up to its classes.
    ///
    /// # Shapes
    /// As [`AttentionPoolingClassifier::pool`].
    fn pool(head: &AttentionPoolingClassifier<Self>, tokens: Tensor<Self, 3>) -> Tensor<Self, 2> {
        head.pool_layer_by_layer(tokens)
    }

    /// What went wrong in the parts that ran on a device since the last call on this thread. Their outputs are tensors, with
    /// no place for an error.
    ///
    /// # Errors
    /// The first one.
    fn failure(device: &Self::Device) -> Result<()>;

    /// Whether a device computes products with matrices of this form, and attention of heads of this size, rightly.
    ///
    /// # Errors
    /// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if it does not.
    fn self_check(
        form: WeightFormat,
        head_dim: usize,
        device: &Self::Device,
    ) -> LocalBoxFuture<'_, Result<()>>;
}

/// What is done to a product before it is written.
#[derive(Clone, Debug)]
pub enum Epilogue<B: Backend> {
    /// Nothing.
    None,
    /// The exact GELU.
    Gelu,
    /// The residual stream is added: `[batch, tokens, d_output]`.
    Add(Tensor<B, 3>),
    /// A bias is added: `[d_output]`.
    Bias(Tensor<B, 1>),
}

impl<B: Backend> Epilogue<B> {
    /// Applies it to a product.
    pub fn apply(self, y: Tensor<B, 3>) -> Tensor<B, 3> {
        match self {
            Self::None => y,
            Self::Gelu => gelu(y),
            Self::Add(residual) => residual + y,
            Self::Bias(bias) => y + bias.unsqueeze(),
        }
    }
}

/// A matrix of floats that arrives in row-major order and never stands on the host whole if it is for
/// another device.
pub trait Rows<B: AimBackend>: Sized {
    /// Makes room for a matrix of `[d_output, d_input]`.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if it does not fit.
    fn new(d_output: usize, d_input: usize, device: &B::Device) -> Result<Self>;

    /// Takes the next values, of any number of rows and parts of rows.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if there are more than the matrix has.
    fn push(&mut self, values: &[f32]) -> Result<()>;

    /// The matrix on its device.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if values are missing.
    fn finish(self) -> Result<B::Matrix>;
}

/// A matrix on the host that a backend keeps packed.
#[derive(Clone, Debug)]
pub enum PackedMatrix {
    /// Codes of 4 or 8 bits.
    Quantised(QuantMatrix),
    /// 16-bit floats: only where [`WeightSupport::halves`].
    Half(HalfMatrix),
}

impl PackedMatrix {
    /// `[d_output, d_input]`
    pub const fn dims(&self) -> [usize; 2] {
        match self {
            Self::Quantised(matrix) => [matrix.d_output(), matrix.d_input()],
            Self::Half(matrix) => [matrix.d_output(), matrix.d_input()],
        }
    }
}
