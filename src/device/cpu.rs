//! The CPU: candle's SIMD kernels for floats, our own for packed matrices.
#![allow(deprecated)] // burn 0.21 is the last line that has this backend; see docs/architecture.md.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, ready};

use super::backend::{AimBackend, PackedMatrix};
use super::cpu_rows::Transposed;
use crate::error::{Error, Result};
use crate::precision::{Form, Place};
use crate::quant::{QuantMatrix, cpu};

/// The backend: f32 values, i64 indices.
pub type Cpu = burn_candle::Candle<f32, i64>;

/// Its one device.
pub const fn device() -> burn_candle::CandleDevice {
    burn_candle::CandleDevice::Cpu
}

impl AimBackend for Cpu {
    type Rows = Transposed<Self>;
    type Packed = Arc<QuantMatrix>;

    const PLACE: Place = Place {
        halves: false,
        // An instance of wasm has 4 GiB, and a page shares the machine.
        budget: if cfg!(target_family = "wasm") {
            Some(1 << 30)
        } else {
            None
        },
    };

    fn check_size(_: u64, _: &Self::Device) -> Result<()> {
        Ok(())
    }

    fn pack(matrix: PackedMatrix, _: &Self::Device) -> Result<Self::Packed> {
        match matrix {
            PackedMatrix::Quantised(matrix) => Ok(Arc::new(matrix)),
            PackedMatrix::Half(_) => Err(Error::unsupported(
                "the CPU has no products with float16 matrices: use fp32",
            )),
        }
    }

    fn packed_matmul(x: Tensor<Self, 2>, w: &Self::Packed) -> Tensor<Self, 2> {
        let [n, _] = x.dims();
        let device = x.device();
        // A copy of the activations, about 1% of the product: candle's buffers are its own.
        let x = x.into_data();
        let mut y = vec![0.0; n * w.d_output()];
        let done = x
            .as_slice::<f32>()
            .is_ok_and(|x| cpu::matmul(x, w, &mut y).is_ok());
        // Never, as the layer has checked the shapes; but then not in silence.
        if !done {
            y.fill(f32::NAN);
        }
        Tensor::from_data(TensorData::new(y, [n, w.d_output()]), &device)
    }

    /// There is no driver between these kernels and the processor: the tests hold for it.
    fn self_check(_: Form, _: &Self::Device) -> LocalBoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed_local()
    }
}
