//! The one device of this build.

use crate::device::Device;
use crate::error::Result;

/// Opens a GPU.
///
/// # Errors
/// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if there is no adapter, or only a
/// software one and that was not asked for.
#[cfg(feature = "gpu")]
pub(super) async fn open(allow_software: bool) -> Result<Device> {
    use crate::device::gpu::{self, Adapters};
    let adapters = if allow_software {
        Adapters::Any
    } else {
        Adapters::Hardware
    };
    gpu::open(adapters).await.map(Device::Gpu)
}

/// The CPU, which is always there.
#[cfg(not(feature = "gpu"))]
pub(super) async fn open(_: bool) -> Result<Device> {
    Ok(Device::Cpu)
}

/// `webgpu` or `wasm`, and what is behind it.
pub(super) fn describe(device: &Device) -> (&'static str, String) {
    match device {
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => ("webgpu", gpu.adapter.clone()),
        #[cfg(feature = "cpu")]
        Device::Cpu if cfg!(feature = "relaxed-simd") => ("wasm", "relaxed SIMD".to_owned()),
        #[cfg(feature = "cpu")]
        Device::Cpu => ("wasm", "SIMD".to_owned()),
    }
}
