//! The one device of this build.

use crate::device::Device;
use crate::error::Result;

/// Opens a GPU.
///
/// # Errors
/// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if there is no adapter, or only a
/// software one and that was not asked for, or if the browser or the
/// device does not answer.
#[cfg(feature = "gpu")]
pub(super) async fn open(allow_software: bool) -> Result<Device> {
    use std::time::Duration;

    use super::timer;
    use crate::device::gpu::{self, Adapters};
    use crate::error::Error;
    use futures_util::future::{Either, select};
    // Some browsers never answer. Who asked for the GPU has more patience.
    let (adapters, seconds) = if allow_software {
        (Adapters::Any, 30)
    } else {
        (Adapters::Hardware, 5)
    };
    let opening = std::pin::pin!(async {
        let device = gpu::open(adapters).await?;
        device.answers().await?;
        Ok(device)
    });
    let patience = std::pin::pin!(timer::sleep(Duration::from_secs(seconds)));
    match select(opening, patience).await {
        Either::Left((device, _)) => device.map(Device::Gpu),
        Either::Right(_) => Err(Error::device_lost(format!(
            "the browser gave no GPU device that answers within {seconds} seconds"
        ))),
    }
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

/// The bytes that it takes of a GPU's memory.
pub(super) fn bytes_taken(device: &Device) -> Option<f64> {
    match device {
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => gpu.bytes_taken().map(|bytes| bytes as f64),
        #[cfg(feature = "cpu")]
        Device::Cpu => None,
    }
}
