//! Where a model runs: burn's backends, and how to get a device of each.
//!
//! The model is generic over the [`backend`]; this module and [`engine`](crate::engine) are the places
//! that name them.

pub mod backend;
#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod host;
pub mod peak;
#[cfg(feature = "gpu")]
mod self_check;

use futures_util::future::{Either, select};

use crate::error::{Error, Result};
#[cfg(feature = "cpu")]
use crate::quant::{Bits, int8::Kernel};

/// A device that a model can be loaded on.
#[derive(Clone, Debug)]
pub enum Device {
    /// This machine's processor.
    #[cfg(feature = "cpu")]
    Cpu,
    /// A GPU, or a driver that behaves like one.
    #[cfg(feature = "gpu")]
    Gpu(gpu::GpuDevice),
    /// A GPU of NVIDIA's through CUDA.
    #[cfg(feature = "cuda")]
    Cuda(gpu::cuda::CudaGpu),
}

impl Device {
    /// The device in words.
    pub fn name(&self) -> String {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => "CPU".to_owned(),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => format!("GPU: {}", gpu.adapter),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => format!("GPU: {}", gpu.name()),
        }
    }

    /// What its products with quantised matrices are computed by.
    pub fn kernels(&self) -> String {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => {
                let [eight, four] = [Bits::Eight, Bits::Four].map(|bits| Kernel::best(bits).name());
                format!("{eight} (8 bits), {four} (4 bits)")
            }
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.kernels(),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.kernels(),
        }
    }

    /// True for a GPU.
    pub const fn is_gpu(&self) -> bool {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => false,
            #[cfg(feature = "gpu")]
            Self::Gpu(_) => true,
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => true,
        }
    }

    /// The bytes that a GPU had free when it was opened, where something says it; a CPU's are the machine's, and change.
    pub const fn memory(&self) -> Option<u64> {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => None,
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.memory,
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.memory,
        }
    }

    /// Ends with an error once the device is of no use any more; on a CPU, never.
    pub async fn lost(&self) -> Error {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => std::future::pending().await,
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.lost().await,
            // Its errors come with the next read.
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => std::future::pending().await,
        }
    }

    /// The result of a future, or the error of a device that is lost before it ends: a read that
    /// is pending then never does.
    ///
    /// # Errors
    /// Those of the future, and of [`lost`](Self::lost).
    pub async fn unless_lost<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        let future = std::pin::pin!(future);
        let lost = std::pin::pin!(self.lost());
        // The loss first: burn panics on a read that fails because of it.
        match select(lost, future).await {
            Either::Left((error, _)) => Err(error),
            Either::Right((result, _)) => result,
        }
    }

    /// Gives a GPU up, as if it went away.
    pub fn destroy(&self) {
        match self {
            #[cfg(feature = "cpu")]
            Self::Cpu => {}
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.destroy(),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => {}
        }
    }
}
