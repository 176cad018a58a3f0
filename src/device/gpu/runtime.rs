//! What the runtimes of a GPU differ in: wgpu and CUDA run the same kernels.

use burn::tensor::{DType, Element, Shape};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use crate::error::Result;
pub use crate::gpu::launch::Limits;

/// A runtime whose devices run the kernels of `crate::gpu`.
pub trait GpuRuntime: CubeRuntime {
    /// How bytes come to its devices.
    type Upload: Upload<Self>;

    /// What a device has, and what it is allowed to use of that.
    fn limits(device: &Self::Device) -> Limits;
}

/// A tensor on its way to a device, piece by piece.
pub trait Upload<R: GpuRuntime>: Sized {
    /// Makes room for a tensor whose elements have 4 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if there is none, and
    /// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if the device is gone.
    fn new(shape: Shape, dtype: DType, device: &R::Device) -> Result<Self>;

    /// Writes the next elements: all together no more than there is room for.
    fn write<E: Element>(&mut self, piece: Vec<E>);

    /// The tensor, once all of it is written.
    fn finish(self) -> CubeTensor<R>;
}
