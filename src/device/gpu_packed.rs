//! Packed matrices on a GPU.

use burn::tensor::{DType, Shape, Tensor, TensorData, TensorPrimitive};
use burn_wgpu::{CubeTensor, WgpuDevice, WgpuRuntime};
use cubecl::prelude::*;
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use half::f16;

use super::backend::{AimBackend, PackedMatrix};
use super::gpu::Gpu;
use crate::engine;
use crate::error::{Error, Result};
use crate::precision::Place;
use crate::quant::gpu::{TILE, UNITS, packed_matmul};
use crate::quant::{Bits, Halver, Method, Quantizer, Scheme, dequantize, pair};

/// A packed matrix on a GPU.
#[derive(Clone, Debug)]
pub struct GpuMatrix {
    /// `[d_output * ceil(d_input * bits / 32)]`
    words: CubeTensor<WgpuRuntime>,
    /// `[d_output * d_input / group_size]`, or one word if there are no groups.
    groups: CubeTensor<WgpuRuntime>,
    bits: u32,
    group_size: u32,
    d_output: usize,
}

impl AimBackend for Gpu {
    type Packed = GpuMatrix;

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

    fn pack(matrix: PackedMatrix, device: &Self::Device) -> Result<Self::Packed> {
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
                let groups = scales
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
        let packed = GpuMatrix {
            words: upload(&client, words, device),
            groups: upload(&client, groups, device),
            bits,
            group_size,
            d_output,
        };
        // Else the words would wait here for the next product.
        client
            .flush()
            .map_err(|error| Error::device_lost(format!("the GPU took no matrix: {error}")))?;
        Ok(packed)
    }

    fn packed_matmul(x: Tensor<Self, 2>, w: &Self::Packed) -> Tensor<Self, 2> {
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
}

/// Moves words to a device, into a buffer of their own.
fn upload(
    client: &ComputeClient<WgpuRuntime>,
    words: Vec<u32>,
    device: &WgpuDevice,
) -> CubeTensor<WgpuRuntime> {
    let shape = Shape::new([words.len()]);
    let bytes = TensorData::new(words, shape.clone()).bytes;
    let handle = client.create(bytes);
    CubeTensor::new_contiguous(client.clone(), device.clone(), shape, handle, DType::U32)
}

/// The sizes of the products that try a device: more than a tile of outputs, and two groups.
mod trial {
    pub(super) const N: usize = 3;
    pub(super) const D_OUTPUT: usize = super::TILE + 5;
    pub(super) const D_INPUT: usize = 128;
}

/// Multiplies small matrices of every kind and compares with the same products here.
///
/// A kernel that a driver does not compile is an error of nobody's call, and one that it compiles
/// wrongly none at all; both would show as wrong labels later.
///
/// # Errors
/// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if a product is wrong or none comes.
pub(super) fn self_check(device: &WgpuDevice) -> LocalBoxFuture<'_, Result<()>> {
    // Boxed, so that burn's kernels are compiled here and not in every crate that opens a device.
    try_products(device).boxed_local()
}

async fn try_products(device: &WgpuDevice) -> Result<()> {
    use trial::{D_INPUT, D_OUTPUT, N};

    let some = |len: usize, step: usize| -> Vec<f32> {
        (0..len)
            .map(|i| (i * step % 101) as f32 / 50.0 - 1.0)
            .collect()
    };
    let w = some(D_OUTPUT * D_INPUT, 37);
    let x = some(N * D_INPUT, 53);
    let on_device = |values: Vec<f32>, [rows, columns]: [usize; 2]| {
        Tensor::<Gpu, 2>::from_data(TensorData::new(values, [rows, columns]), device)
    };
    let x_there = on_device(x.clone(), [N, D_INPUT]);

    let transposed = on_device(w.clone(), [D_OUTPUT, D_INPUT]).transpose();
    let y = x_there.clone().matmul(transposed);
    compare("fp32", &x, &w, &engine::read(y).await?.values)?;

    let mut halver = Halver::new(D_OUTPUT, D_INPUT)?;
    halver.push(&w)?;
    let half = PackedMatrix::Half(halver.finish()?);
    let y = Gpu::packed_matmul(x_there.clone(), &Gpu::pack(half, device)?);
    let rounded: Vec<f32> = w.iter().map(|&w| f16::from_f32(w).to_f32()).collect();
    compare("fp16", &x, &rounded, &engine::read(y).await?.values)?;

    for (name, scheme) in [("q8", Scheme::Q8), ("q4", Scheme::Q4)] {
        let mut quantizer = Quantizer::new(D_OUTPUT, D_INPUT, scheme, Method::Nearest)?;
        quantizer.push(&w)?;
        let matrix = quantizer.finish()?;
        let w = dequantize::matrix(&matrix)?;
        let packed = Gpu::pack(PackedMatrix::Quantised(matrix), device)?;
        let y = Gpu::packed_matmul(x_there.clone(), &packed);
        compare(name, &x, &w, &engine::read(y).await?.values)?;
    }
    Ok(())
}

/// Compares `y` with `x Wᵀ`.
fn compare(name: &str, x: &[f32], w: &[f32], y: &[f32]) -> Result<()> {
    let expected = x.chunks_exact(trial::D_INPUT).flat_map(|x| {
        w.chunks_exact(trial::D_INPUT)
            .map(move |w| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>())
    });
    // The sums are of the order of 10. A NaN is not near anything.
    let is_right =
        y.len() == trial::N * trial::D_OUTPUT && expected.zip(y).all(|(e, y)| (e - y).abs() < 1e-3);
    if is_right {
        return Ok(());
    }
    Err(Error::device_lost(format!(
        "the GPU computes {name} products wrongly, perhaps by a fault of its driver: use the CPU"
    )))
}
