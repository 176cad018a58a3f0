//! NVIDIA's GPUs through CUDA: the same kernels, compiled by NVIDIA's own compiler when they are first used.
//!
//! It needs NVIDIA's driver and the libraries `libnvrtc` and `libcuda`, which are looked for when a device is opened.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{DType, Element, Shape, TensorData};
use burn_cubecl::tensor::CubeTensor;
use burn_cuda::CudaDevice;
use cubecl::cuda::CudaRuntime;
use cubecl::prelude::*;

use super::GpuBackend;
use super::dense;
use super::runtime::{GpuRuntime, Upload};
use super::upload::size_of_words;
use crate::error::{Error, Result};
use crate::gpu::launch::{Limits, words};
use crate::memory;

/// The backend.
pub type Cuda = GpuBackend<CudaRuntime, u8>;

/// A GPU that was opened.
#[derive(Clone, Debug)]
pub struct CudaGpu {
    /// What burn takes.
    pub device: CudaDevice,
    /// As [`GpuDevice::pci_bus`](super::GpuDevice::pci_bus); CUDA does not report it: whoever can ask the driver
    /// sets it.
    pub pci_bus: String,
    /// As [`GpuDevice::memory`](super::GpuDevice::memory).
    pub memory: Option<u64>,
}

impl CudaGpu {
    /// In words: CUDA's number.
    pub fn name(&self) -> String {
        format!("CUDA {}", self.device.index)
    }

    /// As [`GpuDevice::kernels`](super::GpuDevice::kernels).
    pub fn kernels(&self) -> String {
        words(CudaRuntime::limits(&self.device))
    }

    /// As [`GpuDevice::bytes_taken`](super::GpuDevice::bytes_taken).
    pub fn bytes_taken(&self) -> Option<u64> {
        let usage = CudaRuntime::client(&self.device).memory_usage().ok()?;
        Some(usage.bytes_reserved)
    }
}

/// Opens the GPU of a number.
///
/// # Errors
/// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if there is none, or a library of CUDA is missing.
pub fn open(number: usize) -> Result<CudaGpu> {
    const LACKING: &str = "CUDA can't be started: it takes a GPU of NVIDIA's with its driver, and libnvrtc of CUDA 12 or newer on the \
                           library path. --device gpu needs neither";
    if !has_driver() {
        return Err(Error::device_lost(LACKING));
    }
    let device = CudaDevice::new(number);
    // A library or a GPU that is not there is a panic of CubeCL's.
    let start = || {
        let client = CudaRuntime::client(&device);
        client.properties().hardware.max_units_per_cube
    };
    match catch_unwind(AssertUnwindSafe(start)) {
        Ok(1..) => Ok(CudaGpu {
            device,
            pci_bus: String::new(),
            memory: None,
        }),
        _ => Err(Error::device_lost(LACKING)),
    }
}

/// How many there are.
pub fn count() -> usize {
    let count = || CudaRuntime::enumerate_devices(0, &()).len();
    // A library that is not there is a panic of CubeCL's.
    if !has_driver() {
        return 0;
    }
    catch_unwind(count).unwrap_or(0)
}

/// Whether the system knows of NVIDIA's driver.
fn has_driver() -> bool {
    !cfg!(target_os = "linux")
        || ["/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-ctrl"]
            .iter()
            .any(|node| std::path::Path::new(node).exists())
}

impl GpuRuntime for CudaRuntime {
    type Upload = CudaUpload;

    fn limits(device: &CudaDevice) -> Limits {
        let client = Self::client(device);
        let hardware = &client.properties().hardware;
        Limits {
            units: hardware.max_units_per_cube,
            shared: hardware.max_shared_memory_size,
            is_software: false,
            halves: true,
            matrices: dense::has_matrices(&client),
        }
    }
}

/// A tensor on its way: it is collected here, and goes as a whole.
pub struct CudaUpload {
    bytes: Vec<u8>,
    shape: Shape,
    dtype: DType,
    device: CudaDevice,
}

impl Upload<CudaRuntime> for CudaUpload {
    fn new(shape: Shape, dtype: DType, device: &CudaDevice) -> Result<Self> {
        Ok(Self {
            bytes: memory::with_capacity(Some(size_of_words(&shape)?))?,
            shape,
            dtype,
            device: device.clone(),
        })
    }

    fn write<E: Element>(&mut self, piece: Vec<E>) {
        let len = piece.len();
        self.bytes
            .extend_from_slice(&TensorData::new(piece, [len]).bytes);
    }

    fn finish(self) -> CubeTensor<CudaRuntime> {
        let client = CudaRuntime::client(&self.device);
        let handle = client.create_from_slice(&self.bytes);
        CubeTensor::new_contiguous(client, self.device, self.shape, handle, self.dtype)
    }
}
