//! The CPU: burn's operations by candle, those of a block by our own [`cpu`](crate::cpu).
#![allow(deprecated)] // burn 0.21 is the last line that has this backend; see docs/architecture.md.

mod block;
mod rows;
mod tensor;

use std::sync::Arc;

use burn::tensor::{Bool, Tensor};
use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, ready};

use self::rows::FloatRows;
use self::tensor::{from_values, or_nan, values};
use super::backend::{AimBackend, Epilogue, PackedMatrix};
use crate::cpu::matrix::{Matrix, Rows};
use crate::cpu::{block as kernel, epilogue, patches};
use crate::error::{Error, Result};
use crate::model::block::Block;
use crate::model::head::AttentionPoolingClassifier;
use crate::model::norm::Norm;
use crate::precision::{WeightFormat, WeightSupport};
use crate::quant::int8::IntMatrix;

/// The backend: f32 values, i64 indices.
pub type Cpu = burn_candle::Candle<f32, i64>;

/// Its one device.
pub const fn device() -> burn_candle::CandleDevice {
    burn_candle::CandleDevice::Cpu
}

impl AimBackend for Cpu {
    type Matrix = Arc<Matrix>;
    type Rows = FloatRows;

    const WEIGHTS: WeightSupport = WeightSupport {
        halves: false,
        // An instance of wasm has 4 GiB, and a page shares the machine.
        budget: if cfg!(target_family = "wasm") {
            Some(1 << 30)
        } else {
            None
        },
    };

    const ATTENDS_IN_PARTS: bool = true;

    fn failure(_: &Self::Device) -> Result<()> {
        tensor::failure()
    }

    fn check_size(_: u64, _: &Self::Device) -> Result<()> {
        Ok(())
    }

    fn kept_bytes(between: u64) -> u64 {
        kernel::kept_bytes(between)
    }

    fn pack(matrix: PackedMatrix, _: &Self::Device) -> Result<Self::Matrix> {
        match matrix {
            PackedMatrix::Quantised(matrix) => Ok(Arc::new(Matrix::Int(IntMatrix::new(matrix)?))),
            PackedMatrix::Half(_) => Err(Error::unsupported(
                "the CPU has no products with float16 matrices: use fp32",
            )),
        }
    }

    fn product(x: Tensor<Self, 2>, w: &Self::Matrix) -> Tensor<Self, 2> {
        let [n, _] = x.dims();
        let [d_output, _] = w.dims();
        let y = vec![0.0; n * d_output];
        from_values(
            product(&values(x), w, y, epilogue::Epilogue::None),
            [n, d_output],
        )
    }

    fn linear_then(
        x: Tensor<Self, 3>,
        w: &Self::Matrix,
        epilogue: Epilogue<Self>,
    ) -> Tensor<Self, 3> {
        use epilogue::Epilogue as KernelEpilogue;
        let [batch, tokens, _] = x.dims();
        let [d_output, _] = w.dims();
        let x = values(x);
        let zeros = || vec![0.0; batch * tokens * d_output];
        let y = match epilogue {
            Epilogue::None => product(&x, w, zeros(), KernelEpilogue::None),
            Epilogue::Gelu => product(&x, w, zeros(), KernelEpilogue::Gelu),
            Epilogue::Add(residual) => product(&x, w, values(residual), KernelEpilogue::Add),
            Epilogue::Bias(bias) => product(&x, w, zeros(), KernelEpilogue::Bias(&values(bias))),
        };
        from_values(y, [batch, tokens, d_output])
    }

    fn normalize(x: Tensor<Self, 3>, norm: &Norm<Self>) -> Tensor<Self, 3> {
        let dims = x.dims();
        let x = values(x);
        let mut y = vec![0.0; x.len()];
        let [_, _, dim] = dims;
        let (weight, bias) = (values(norm.weight().clone()), values(norm.bias().clone()));
        let norm = block::norm(&weight, &bias);
        for (x, y) in x.chunks(dim).zip(y.chunks_mut(dim)) {
            norm.row(x, y);
        }
        from_values(y, dims)
    }

    fn patches(images: Tensor<Self, 4>, patch_size: [usize; 2]) -> Tensor<Self, 3> {
        let dims = images.dims();
        let (patches, shape) = patches::patches(&values(images), dims, patch_size);
        from_values(patches, shape)
    }

    fn block(
        block: &Block<Self>,
        x: Tensor<Self, 3>,
        mask: Option<&Tensor<Self, 2, Bool>>,
    ) -> Tensor<Self, 3> {
        match mask {
            // For pre-training alone.
            Some(_) => block.layer_by_layer(x, mask),
            None => block::forward(block, x),
        }
    }

    fn probe(head: &AttentionPoolingClassifier<Self>, tokens: Tensor<Self, 3>) -> Tensor<Self, 2> {
        block::probe(head, tokens)
    }

    fn pool(head: &AttentionPoolingClassifier<Self>, tokens: Tensor<Self, 3>) -> Tensor<Self, 2> {
        block::pool(head, tokens)
    }

    /// There is no driver between these kernels and the processor: the tests hold for it.
    fn self_check(_: WeightFormat, _: usize, _: &Self::Device) -> LocalBoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed_local()
    }
}

/// `y = epilogue(x Wᵀ)`, written over `y` or added to it.
fn product(x: &[f32], w: &Matrix, mut y: Vec<f32>, epilogue: epilogue::Epilogue<'_>) -> Vec<f32> {
    let [_, d_input] = w.dims();
    let mut rows = Rows::default();
    let done = rows
        .make(x.len() / d_input, w, |row, to| {
            let from = x.get(row * d_input..).unwrap_or_default();
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        })
        .and_then(|()| w.product(&rows, &mut y, epilogue));
    or_nan(done, &mut y);
    y
}
