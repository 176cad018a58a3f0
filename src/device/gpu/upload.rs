//! Bytes on their way to a GPU, piece by piece: burn's own way makes a copy of all of them here first, and in a
//! browser what memory once had it never gives back.

use std::fmt;
use std::marker::PhantomData;

use burn::tensor::{DType, Element, Shape, TensorData};
use burn_cubecl::element::BoolElement;
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::{WgpuDevice, WgpuRuntime};
use cubecl::prelude::*;

use super::block::{GpuMatrix, check_count};
use super::runtime::{GpuRuntime, Upload};
use super::{GpuBackend, queue};
use crate::device::backend::Rows;
use crate::error::{Error, ErrorKind, Result};

/// How many elements of 4 bytes are written to a buffer at once.
const PIECE: usize = 1 << 20;

/// A buffer of a wgpu device that is being filled.
pub struct WgpuUpload {
    buffer: wgpu::Buffer,
    /// Where the next bytes go.
    offset: u64,
    queue: wgpu::Queue,
    /// What burn knows the buffer as.
    tensor: CubeTensor<WgpuRuntime>,
}

impl Upload<WgpuRuntime> for WgpuUpload {
    fn new(shape: Shape, dtype: DType, device: &WgpuDevice) -> Result<Self> {
        let refused = |error: &dyn fmt::Debug| {
            Error::device_lost(format!("the GPU took no matrix: {error:?}"))
        };
        let size = size_of_words(&shape)?;
        let queue = queue(device).ok_or_else(|| Error::device_lost("the GPU was closed"))?;
        let client = WgpuRuntime::client(device);
        let handle = client.empty(size);
        // Else work that still waits here could use the buffer after it was written: it may have had
        // another owner before.
        client.flush().map_err(|error| refused(&error))?;
        let place = client
            .get_resource(handle.clone())
            .map_err(|error| refused(&error))?;
        let place = place.resource();
        let (buffer, offset) = (place.buffer.clone(), place.offset);
        Ok(Self {
            buffer,
            offset,
            queue,
            tensor: CubeTensor::new_contiguous(client, device.clone(), shape, handle, dtype),
        })
    }

    fn write<E: Element>(&mut self, piece: Vec<E>) {
        let len = piece.len();
        let bytes = TensorData::new(piece, [len]).bytes;
        self.queue.write_buffer(&self.buffer, self.offset, &bytes);
        self.offset += bytes.len() as u64;
        // Else the piece would wait here for the next product.
        self.queue.submit([]);
    }

    fn finish(self) -> CubeTensor<WgpuRuntime> {
        self.tensor
    }
}

/// Bytes of a tensor whose elements have 4 each.
pub(super) fn size_of_words(shape: &Shape) -> Result<usize> {
    shape
        .iter()
        .try_fold(4_usize, |size, side| size.checked_mul(*side))
        .ok_or_else(|| Error::new(ErrorKind::OutOfMemory, "does not fit in memory"))
}

/// Moves words to a device, into a buffer of their own.
pub(super) fn upload<R: GpuRuntime>(words: &[u32], device: &R::Device) -> Result<CubeTensor<R>> {
    let mut upload = R::Upload::new(Shape::new([words.len()]), DType::U32, device)?;
    for piece in words.chunks(PIECE) {
        upload.write(piece.to_vec());
    }
    Ok(upload.finish())
}

/// A matrix of floats on its way to a GPU.
pub struct GpuRows<R: GpuRuntime, BT> {
    upload: R::Upload,
    /// Up to [`PIECE`] values that are not written yet.
    piece: Vec<f32>,
    /// How many values are still to come.
    lacking: usize,
    d_output: usize,
    device: R::Device,
    /// Which backend of the runtime it is for.
    bools: PhantomData<BT>,
}

impl<R: GpuRuntime, BT> GpuRows<R, BT> {
    /// Writes what waits.
    fn write(&mut self) {
        self.upload.write(std::mem::take(&mut self.piece));
    }
}

impl<R: GpuRuntime, BT: BoolElement> Rows<GpuBackend<R, BT>> for GpuRows<R, BT> {
    fn new(d_output: usize, d_input: usize, device: &R::Device) -> Result<Self> {
        check_count::<R>(d_output, d_input, device)?;
        let shape = Shape::new([d_output, d_input]);
        let upload = R::Upload::new(shape, DType::F32, device)?;
        Ok(Self {
            upload,
            piece: Vec::new(),
            // Its bytes were counted just now.
            lacking: d_output * d_input,
            d_output,
            device: device.clone(),
            bools: PhantomData,
        })
    }

    fn push(&mut self, mut values: &[f32]) -> Result<()> {
        self.lacking = self
            .lacking
            .checked_sub(values.len())
            .ok_or_else(|| Error::format("holds more values than its shape"))?;
        while !values.is_empty() {
            let room = PIECE - self.piece.len();
            let (next, rest) = values.split_at(room.min(values.len()));
            if self.piece.capacity() == 0 {
                self.piece
                    .reserve_exact(PIECE.min(self.lacking + values.len()));
            }
            self.piece.extend_from_slice(next);
            if next.len() == room {
                self.write();
            }
            values = rest;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<GpuMatrix<R>> {
        if self.lacking > 0 {
            return Err(Error::format(format!(
                "lacks {} values: download the file again",
                self.lacking
            )));
        }
        self.write();
        let groups = upload::<R>(&[0], &self.device)?;
        Ok(GpuMatrix::of_floats(
            self.upload.finish(),
            groups,
            self.d_output,
        ))
    }
}
