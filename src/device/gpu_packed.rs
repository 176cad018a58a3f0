//! Packed matrices on a GPU.

use burn::tensor::{DType, Shape, Tensor, TensorPrimitive};
use burn_wgpu::{CubeTensor, WgpuRuntime};
use cubecl::prelude::*;
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::backend::{AimBackend, PackedMatrix};
use super::gpu::Gpu;
use super::gpu_upload::{GpuRows, upload};
use super::self_check;
use crate::error::{Error, Result};
use crate::precision::{Form, Place};
use crate::quant::gpu::{TILE, UNITS, packed_matmul};
use crate::quant::{Bits, pair};

/// A matrix on a GPU.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a model has some hundred of them"
)]
pub enum GpuMatrix {
    /// `[d_input, d_output]` in f32: transposed once, which a product would do each time.
    Float(Tensor<Gpu, 2>),
    /// Codes of 4 or 8 bits, or f16.
    Packed(GpuPacked),
}

/// A packed matrix on a GPU.
#[derive(Clone, Debug)]
pub struct GpuPacked {
    /// `[d_output * ceil(d_input * bits / 32)]`
    words: CubeTensor<WgpuRuntime>,
    /// `[d_output * d_input / group_size]`, or one word if there are no groups.
    groups: CubeTensor<WgpuRuntime>,
    bits: u32,
    group_size: u32,
    d_output: usize,
}

impl AimBackend for Gpu {
    type Rows = GpuRows;
    type Matrix = GpuMatrix;

    const PLACE: Place = Place {
        halves: true,
        budget: Some(if cfg!(target_family = "wasm") {
            1 << 30
        } else {
            4 << 30
        }),
    };

    fn check_size(bytes: u64, device: &Self::Device) -> Result<()> {
        let client = WgpuRuntime::client(device);
        let most = client.properties().memory.max_page_size;
        if bytes <= most {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "takes {bytes} bytes, but this GPU has buffers of at most {most}: load the model in fewer bits"
        )))
    }

    fn pack(matrix: PackedMatrix, device: &Self::Device) -> Result<Self::Matrix> {
        let [d_output, d_input] = matrix.dims();
        let client = WgpuRuntime::client(device);
        let (most_columns, ..) = client.properties().hardware.max_cube_count;
        let columns = u32::try_from(d_output.div_ceil(TILE));
        if u32::try_from(d_input).is_err() || columns.map_or(true, |n| n > most_columns) {
            return Err(Error::unsupported(format!(
                "a matrix of {d_output} x {d_input} is too large for this GPU"
            )));
        }
        let (words, groups, bits, group_size) = match matrix {
            PackedMatrix::Quantised(matrix) => {
                let scheme = matrix.scheme();
                let (codes, scales, biases) = matrix.into_parts();
                let groups: Vec<u32> = scales
                    .into_iter()
                    .zip(biases)
                    .map(|(scale, bias)| pair(scale, bias))
                    .collect();
                let bits = match scheme.bits() {
                    Bits::Four => 4,
                    Bits::Eight => 8,
                };
                // 32, 64 or 128.
                (codes, groups, bits, scheme.group_size() as u32)
            }
            PackedMatrix::Half(matrix) => (matrix.into_words(), vec![0], 16, 1),
        };
        for buffer in [&words, &groups] {
            Self::check_size((buffer.len() as u64).saturating_mul(4), device)?;
        }
        Ok(GpuMatrix::Packed(GpuPacked {
            words: upload(&words, device)?,
            groups: upload(&groups, device)?,
            bits,
            group_size,
            d_output,
        }))
    }

    fn product(x: Tensor<Self, 2>, w: &Self::Matrix) -> Tensor<Self, 2> {
        let w = match w {
            GpuMatrix::Float(transposed) => return x.matmul(transposed.clone()),
            GpuMatrix::Packed(packed) => packed,
        };
        let [n, d_input] = x.dims();
        let x = burn_wgpu::into_contiguous(x.into_primitive().tensor());
        let client = x.client.clone();
        let shape = Shape::new([n, w.d_output]);
        let size = shape.num_elements() * size_of::<f32>();
        let y = CubeTensor::new_contiguous(
            client.clone(),
            x.device.clone(),
            shape,
            client.empty(size),
            DType::F32,
        );
        let (_, most_rows, _) = client.properties().hardware.max_cube_count;
        // `pack` has checked it.
        let columns = w.d_output.div_ceil(TILE) as u32;
        let rows = n.div_ceil(TILE) as u32;
        let mut first = 0;
        while first < rows {
            let some = (rows - first).min(most_rows);
            packed_matmul::launch(
                &client,
                CubeCount::Static(columns, some, 1),
                CubeDim::new_2d(UNITS, UNITS),
                x.clone().into_array_arg(),
                w.words.clone().into_array_arg(),
                w.groups.clone().into_array_arg(),
                y.clone().into_array_arg(),
                n as u32,
                d_input as u32,
                w.d_output as u32,
                first * TILE as u32,
                w.bits,
                w.group_size,
            );
            first += some;
        }
        Tensor::from_primitive(TensorPrimitive::Float(y))
    }

    /// A kernel that a driver does not compile is an error of nobody's call, and one that it compiles
    /// wrongly none at all; both would show as wrong labels later.
    fn self_check(form: Form, device: &Self::Device) -> LocalBoxFuture<'_, Result<()>> {
        self_check::product::<Self>(form, TILE, device).boxed_local()
    }
}
