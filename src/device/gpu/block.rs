//! The parts of a block on a GPU: burn's tensors in, kernels of `crate::gpu`, burn's tensors out.

use burn::tensor::{Bool, DType, Shape, Tensor, TensorPrimitive};
use burn_cubecl::element::BoolElement;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::runtime::GpuRuntime;
use super::upload::{GpuRows, upload};
use super::{GpuBackend, dense, submit};
use crate::device::backend::{AimBackend, Epilogue, PackedMatrix};
use crate::device::self_check;
use crate::error::{Error, Result};
use crate::gpu::launch::{Plan, plan, shapes_of_plans, takes_matrices};
use crate::gpu::linear::{Epilogue as KernelEpilogue, Tile, Variant, combine, linear};
use crate::gpu::{attention, norm, rows};
use crate::model::attention::attention as by_layers;
use crate::model::norm::{EPSILON, Norm};
use crate::precision::{WeightFormat, WeightSupport};
use crate::quant::pair;
use half::f16;

/// A matrix on a GPU, row-major as in a checkpoint.
#[derive(Clone, Debug)]
pub struct GpuMatrix<R: GpuRuntime> {
    /// `[d_output * ceil(d_input * bits / 32)]`; floats of 32 bits are words too.
    pub(super) words: CubeTensor<R>,
    /// `[d_output * d_input / group_size]`; not read for floats.
    pub(super) groups: CubeTensor<R>,
    pub(super) bits: u32,
    pub(super) group_size: usize,
    pub(super) d_output: usize,
}

impl<R: GpuRuntime> GpuMatrix<R> {
    /// A matrix of floats.
    pub(super) const fn of_floats(
        words: CubeTensor<R>,
        groups: CubeTensor<R>,
        d_output: usize,
    ) -> Self {
        Self {
            words,
            groups,
            bits: 32,
            group_size: 1,
            d_output,
        }
    }
}

impl<R: GpuRuntime, BT: BoolElement> AimBackend for GpuBackend<R, BT> {
    type Rows = GpuRows<R, BT>;
    type Matrix = GpuMatrix<R>;

    const WEIGHTS: WeightSupport = WeightSupport {
        halves: true,
        budget: Some(if cfg!(target_family = "wasm") {
            1 << 30
        } else {
            4 << 30
        }),
    };

    const ATTENDS_IN_PARTS: bool = true;

    fn check_size(bytes: u64, device: &Self::Device) -> Result<()> {
        let client = R::client(device);
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
        check_count::<R>(d_output, d_input, device)?;
        let (words, groups, bits, group_size) = match matrix {
            PackedMatrix::Quantised(matrix) => {
                let scheme = matrix.scheme();
                let (codes, scales, biases) = matrix.into_parts();
                let groups: Vec<u32> = scales
                    .into_iter()
                    .zip(biases)
                    .map(|(scale, bias)| pair(scale, bias))
                    .collect();
                (
                    codes,
                    groups,
                    scheme.bits().get() as u32,
                    scheme.group_size(),
                )
            }
            PackedMatrix::Half(matrix) => (matrix.into_words(), vec![0], 16, 1),
        };
        for buffer in [&words, &groups] {
            Self::check_size((buffer.len() as u64).saturating_mul(4), device)?;
        }
        Ok(GpuMatrix {
            words: upload::<R>(&words, device)?,
            groups: upload::<R>(&groups, device)?,
            bits,
            group_size,
            d_output,
        })
    }

    fn matmul<const D: usize>(lhs: Tensor<Self, D>, rhs: Tensor<Self, D>) -> Tensor<Self, D> {
        let [a, b] = [lhs, rhs].map(|x| x.into_primitive().tensor());
        Tensor::from_primitive(TensorPrimitive::Float(dense::matmul(&a, &b)))
    }

    fn product(x: Tensor<Self, 2>, w: &Self::Matrix) -> Tensor<Self, 2> {
        let [n, d_input] = x.dims();
        let y = product(&buffer(x), n, d_input, w, KernelEpilogue::None, None);
        tensor(y, [n, w.d_output])
    }

    fn linear_then(
        x: Tensor<Self, 3>,
        w: &Self::Matrix,
        epilogue: Epilogue<Self>,
    ) -> Tensor<Self, 3> {
        let [batch, tokens, d_input] = x.dims();
        let (epilogue, addend) = match epilogue {
            Epilogue::None => (KernelEpilogue::None, None),
            Epilogue::Gelu => (KernelEpilogue::Gelu, None),
            Epilogue::Add(residual) => (KernelEpilogue::Add, Some(buffer(residual))),
            Epilogue::Bias(bias) => (KernelEpilogue::Bias, Some(buffer(bias))),
        };
        let y = product(&buffer(x), batch * tokens, d_input, w, epilogue, addend);
        tensor(y, [batch, tokens, w.d_output])
    }

    fn normalize(x: Tensor<Self, 3>, norm: &Norm<Self>) -> Tensor<Self, 3> {
        let [batch, tokens, dim] = x.dims();
        if !dim.is_multiple_of(4) {
            return norm.normalize(x);
        }
        let x = buffer(x);
        let y = empty_like(&x, batch * tokens * dim);
        norm::norm::launch(
            &x.client,
            in_plane((batch * tokens).div_ceil(norm::TOKENS as usize), &x.client),
            CubeDim::new_2d(norm::UNITS, norm::TOKENS),
            x.clone().into_array_arg(),
            buffer(norm.weight().clone()).into_array_arg(),
            buffer(norm.bias().clone()).into_array_arg(),
            y.clone().into_array_arg(),
            (batch * tokens) as u32,
            dim as u32,
            EPSILON as f32,
        );
        tensor(y, [batch, tokens, dim])
    }

    fn attend(
        qkv: Tensor<Self, 3>,
        num_heads: usize,
        mask: Option<&Tensor<Self, 2, Bool>>,
    ) -> Tensor<Self, 3> {
        let [batch, tokens, channels] = qkv.dims();
        let dim = channels / 3;
        let head_dim = dim / num_heads;
        // A mask is for pre-training alone.
        if mask.is_some() || !head_dim.is_multiple_of(4) || head_dim > attention::MOST_CHANNELS {
            return by_layers(qkv, num_heads, mask);
        }
        let qkv = buffer(qkv);
        let y = empty_like(&qkv, batch * tokens * dim);
        let (_, _, most) = qkv.client.properties().hardware.max_cube_count;
        submit::make_room(&qkv.client, operations([4, batch, tokens, tokens, dim]));
        let mut first = 0;
        while first < batch as u32 {
            let some = (batch as u32 - first).min(most);
            attention::attention::launch(
                &qkv.client,
                CubeCount::Static(
                    tokens.div_ceil(attention::SIDE) as u32,
                    num_heads as u32,
                    some,
                ),
                CubeDim::new_2d(attention::UNITS, attention::UNITS),
                qkv.clone().into_array_arg(),
                y.clone().into_array_arg(),
                tokens as u32,
                first,
                1.0 / (head_dim as f32).sqrt(),
                head_dim,
            );
            first += some;
        }
        tensor(y, [batch, tokens, dim])
    }

    fn failure(device: &Self::Device) -> Result<()> {
        submit::failure(&R::client(device))
    }

    /// A kernel that a driver does not compile is an error of nobody's call, and one that it compiles
    /// wrongly none at all; both would show as wrong labels later.
    fn self_check(
        form: WeightFormat,
        head_dim: usize,
        device: &Self::Device,
    ) -> LocalBoxFuture<'_, Result<()>> {
        async move {
            let limits = R::limits(device);
            let is_rounded = limits.halves && form != WeightFormat::Fp32;
            let tolerance = if is_rounded {
                self_check::OF_HALVES
            } else {
                self_check::EXACT
            };
            for shape in shapes_of_plans(limits) {
                self_check::product::<Self>(form, shape, tolerance, device).await?;
            }
            self_check::attention::<Self>(head_dim, device).await
        }
        .boxed_local()
    }
}

/// Refuses a matrix whose products a device can't count.
pub(super) fn check_count<R: GpuRuntime>(
    d_output: usize,
    d_input: usize,
    device: &R::Device,
) -> Result<()> {
    let client = R::client(device);
    let (most_columns, ..) = client.properties().hardware.max_cube_count;
    let columns = u32::try_from(d_output.div_ceil(rows::OUTPUTS as usize));
    if u32::try_from(d_input).is_err() || columns.map_or(true, |n| n > most_columns) {
        return Err(Error::unsupported(format!(
            "a matrix of {d_output} x {d_input} is too large for this GPU"
        )));
    }
    Ok(())
}

/// `[n, d_output]` of `x`, `[n, d_input]`.
fn product<R: GpuRuntime>(
    x: &CubeTensor<R>,
    n: usize,
    d_input: usize,
    w: &GpuMatrix<R>,
    epilogue: KernelEpilogue,
    addend: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    // What is not read has to be something.
    let addend = addend.unwrap_or_else(|| x.clone());
    let limits = R::limits(&x.device);
    let a_row = operations([2, d_input, w.d_output]);
    // Where it refuses a shape, tiles take it.
    if takes_matrices(n, w.d_output, d_input, w.bits, limits) {
        submit::make_room(&x.client, a_row.saturating_mul(n as u64));
        if let Ok(sums) = dense::product(x, n, d_input, w) {
            if epilogue == KernelEpilogue::None {
                return sums;
            }
            let y = empty_like(x, n * w.d_output);
            end(sums, n, w.d_output, 1, epilogue, addend, &y);
            return y;
        }
    }
    let y = empty_like(x, n * w.d_output);
    let (_, most_rows, _) = x.client.properties().hardware.max_cube_count;
    match plan(n, w.d_output, d_input, w.bits, limits) {
        Plan::Rows => {
            submit::make_room(&x.client, a_row.saturating_mul(n as u64));
            for first in (0..n as u32).step_by(most_rows as usize) {
                rows::rows::launch(
                    &x.client,
                    CubeCount::Static(
                        (w.d_output as u32).div_ceil(rows::OUTPUTS),
                        (n as u32 - first).min(most_rows),
                        1,
                    ),
                    CubeDim::new_2d(rows::UNITS, rows::OUTPUTS),
                    x.clone().into_array_arg(),
                    w.words.clone().into_array_arg(),
                    w.groups.clone().into_array_arg(),
                    addend.clone().into_array_arg(),
                    y.clone().into_array_arg(),
                    d_input as u32,
                    w.d_output as u32,
                    first,
                    w.bits,
                    w.group_size,
                    epilogue,
                );
            }
            y
        }
        Plan::Tiles(tile, 1) => {
            tiles(x, n, d_input, w, tile, 1, epilogue, &addend, &y);
            y
        }
        Plan::Tiles(tile, parts) => {
            let sums = empty_like(x, parts * n * w.d_output);
            tiles(
                x,
                n,
                d_input,
                w,
                tile,
                parts,
                KernelEpilogue::None,
                x,
                &sums,
            );
            end(sums, n, w.d_output, parts, epilogue, addend, &y);
            y
        }
    }
}

/// Ends the sums of a product.
fn end<R: GpuRuntime>(
    sums: CubeTensor<R>,
    n: usize,
    d_output: usize,
    parts: usize,
    epilogue: KernelEpilogue,
    addend: CubeTensor<R>,
    y: &CubeTensor<R>,
) {
    let len = n * d_output / 4;
    combine::launch(
        &y.client,
        in_plane(len.div_ceil(UNITS as usize), &y.client),
        CubeDim::new_1d(UNITS),
        sums.into_array_arg(),
        addend.into_array_arg(),
        y.clone().into_array_arg(),
        len as u32,
        (d_output / 4) as u32,
        parts as u32,
        epilogue,
    );
}

/// Units of a cube that has no tile.
pub(super) const UNITS: u32 = 64;

#[expect(clippy::too_many_arguments, reason = "those of the kernel")]
fn tiles<R: GpuRuntime>(
    x: &CubeTensor<R>,
    n: usize,
    d_input: usize,
    w: &GpuMatrix<R>,
    tile: Tile,
    parts: usize,
    epilogue: KernelEpilogue,
    addend: &CubeTensor<R>,
    y: &CubeTensor<R>,
) {
    let (_, most_rows, _) = x.client.properties().hardware.max_cube_count;
    let (units_x, units_y) = tile.units();
    let rows = n.div_ceil(tile.rows) as u32;
    let a_row = operations([2, tile.rows, d_input, w.d_output]);
    let most_rows = most_rows.min(rows_at_once(a_row));
    for first in (0..rows).step_by(most_rows as usize) {
        let some = (rows - first).min(most_rows);
        submit::make_room(&x.client, a_row.saturating_mul(some.into()));
        let launch = if tile.halves {
            linear::launch::<f16, R>
        } else {
            linear::launch::<f32, R>
        };
        launch(
            &x.client,
            CubeCount::Static(w.d_output.div_ceil(tile.columns) as u32, some, parts as u32),
            CubeDim::new_2d(units_x, units_y),
            // The words of a load.
            match w.bits {
                32 => 4,
                16 => 2,
                _ => 1,
            },
            x.clone().into_array_arg(),
            w.words.clone().into_array_arg(),
            w.groups.clone().into_array_arg(),
            addend.clone().into_array_arg(),
            y.clone().into_array_arg(),
            n as u32,
            d_input as u32,
            w.d_output as u32,
            first * tile.rows as u32,
            d_input.div_ceil(tile.step).div_ceil(parts) as u32,
            Variant {
                bits: w.bits,
                group_size: w.group_size,
                epilogue,
            },
            tile,
        );
    }
}

/// A product of counts.
fn operations<const N: usize>(counts: [usize; N]) -> u64 {
    let counts = counts.into_iter().map(|count| count as u64);
    counts.fold(1, u64::saturating_mul)
}

/// How many rows of so many operations make a submission.
fn rows_at_once(operations: u64) -> u32 {
    let rows = submit::MOST_OPERATIONS / operations.max(1);
    u32::try_from(rows).unwrap_or(u32::MAX).max(1)
}

/// As many cubes, in two dimensions if there are more than one has.
pub(super) fn in_plane<R: GpuRuntime>(cubes: usize, client: &ComputeClient<R>) -> CubeCount {
    let (most, ..) = client.properties().hardware.max_cube_count;
    let x = cubes.min(most as usize).max(1);
    CubeCount::Static(x as u32, cubes.div_ceil(x) as u32, 1)
}

/// The values of a tensor, row-major.
pub(super) fn buffer<R: GpuRuntime, BT: BoolElement, const D: usize>(
    x: Tensor<GpuBackend<R, BT>, D>,
) -> CubeTensor<R> {
    into_contiguous(x.into_primitive().tensor())
}

/// Room for `len` floats.
fn empty_like<R: GpuRuntime>(x: &CubeTensor<R>, len: usize) -> CubeTensor<R> {
    CubeTensor::new_contiguous(
        x.client.clone(),
        x.device.clone(),
        Shape::new([len]),
        x.client.empty(len * size_of::<f32>()),
        DType::F32,
    )
}

/// The tensor of a shape that has as many values.
pub(super) fn tensor<R: GpuRuntime, BT: BoolElement, const D: usize>(
    values: CubeTensor<R>,
    shape: [usize; D],
) -> Tensor<GpuBackend<R, BT>, D> {
    let values = CubeTensor::new_contiguous(
        values.client,
        values.device,
        Shape::new(shape),
        values.handle,
        DType::F32,
    );
    Tensor::from_primitive(TensorPrimitive::Float(values))
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use pollster::block_on;

    use super::super::{Adapters, Gpu, open};
    use super::*;
    use crate::device::backend::Rows as _;
    use crate::device::host::read;
    use crate::gpu::launch::LARGE;

    fn some(len: usize, step: usize) -> Vec<f32> {
        (0..len)
            .map(|i| (i * step % 101) as f32 / 50.0 - 1.0)
            .collect()
    }

    /// A driver that computes on the CPU takes neither, so nothing else here runs them.
    #[test]
    fn large_tiles_and_sums_in_parts_give_the_same_products() {
        let gpu = block_on(open(Adapters::Any)).expect("the GPU tests need an adapter");
        let (n, d_output, d_input) = (300, 264, 328);
        let (x, w) = (some(n * d_input, 53), some(d_output * d_input, 37));
        let (residual, bias) = (some(n * d_output, 11), some(d_output, 7));
        let there = |values: &[f32], shape: [usize; 2]| {
            let data = TensorData::new(values.to_vec(), shape);
            buffer(Tensor::<Gpu, 2>::from_data(data, &gpu.device))
        };
        let mut matrix = <Gpu as AimBackend>::Rows::new(d_output, d_input, &gpu.device).unwrap();
        matrix.push(&w).unwrap();
        let matrix = matrix.finish().unwrap();
        let x_there = there(&x, [n, d_input]);
        let halves = Tile {
            step: 32,
            halves: true,
            ..LARGE
        };
        let (tile_kinds, tolerance) = if gpu.has_halves() {
            (vec![LARGE, halves], [1e-3, 0.1])
        } else {
            (vec![LARGE], [1e-3, 0.1])
        };
        for (tile, tolerance) in tile_kinds.into_iter().zip(tolerance) {
            for parts in [1, 2, 3] {
                for epilogue in [
                    KernelEpilogue::None,
                    KernelEpilogue::Add,
                    KernelEpilogue::Bias,
                ] {
                    let addend = match epilogue {
                        KernelEpilogue::Bias => there(&bias, [1, d_output]),
                        _ => there(&residual, [n, d_output]),
                    };
                    let y = empty_like(&x_there, n * d_output);
                    if parts == 1 {
                        tiles(
                            &x_there, n, d_input, &matrix, tile, 1, epilogue, &addend, &y,
                        );
                    } else {
                        let sums = empty_like(&x_there, parts * n * d_output);
                        let none = KernelEpilogue::None;
                        tiles(
                            &x_there, n, d_input, &matrix, tile, parts, none, &x_there, &sums,
                        );
                        end(sums, n, d_output, parts, epilogue, addend, &y);
                    }
                    Gpu::failure(&gpu.device).unwrap();
                    let y = block_on(read(tensor::<_, u32, 2>(y, [n, d_output]))).unwrap();
                    for (i, y) in y.values.into_iter().enumerate() {
                        let (row, column) = (i / d_output, i % d_output);
                        let terms = (0..d_input).map(|k| {
                            f64::from(x[row * d_input + k]) * f64::from(w[column * d_input + k])
                        });
                        let added = match epilogue {
                            KernelEpilogue::Add => residual[i],
                            KernelEpilogue::Bias => bias[column],
                            _ => 0.0,
                        };
                        let expected = terms.sum::<f64>() + f64::from(added);
                        assert!(
                            (expected - f64::from(y)).abs() < tolerance,
                            "{tile:?} in {parts}, {epilogue:?}: {expected} {y} at {i}"
                        );
                    }
                }
            }
        }
    }
}
