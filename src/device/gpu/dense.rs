//! Products by cubek's kernels: of many rows on devices that multiply small matrices of f16 as a whole, and of activations.
//! They are named here, not chosen by cubek, which would compile all that it has.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::matmul::init_matmul_output;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::{ElemType, FloatKind, StorageType};
use cubecl::prelude::*;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::{launch_naive, launch_tiling};
use cubek::matmul::routines::BlueprintStrategy;
use cubek::matmul::routines::simple::SimpleAlgorithm;
use cubek::matmul::routines::simple_unit::SimpleUnitAlgorithm;
use cubek::std::InputBinding;

use super::block::{GpuMatrix, UNITS, in_plane};
use super::runtime::GpuRuntime;
use super::submit;
use crate::error::{Error, Result};
use crate::gpu::dense::{narrow, unpacked};

/// Whether a device has what [`product`] takes.
pub(super) fn has_matrices<R: GpuRuntime>(client: &ComputeClient<R>) -> bool {
    let half = StorageType::Scalar(ElemType::Float(FloatKind::F16));
    let float = StorageType::Scalar(ElemType::Float(FloatKind::F32));
    let mut kinds = client.properties().features.matmul.cmma.iter();
    kinds.any(|kind| kind.a_type == half && kind.b_type == half && kind.cd_type == float)
}

/// A kernel of cubek's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// By the device's products of small matrices.
    Matrices,
    /// Each unit has a tile of its own: of any device.
    Units,
    /// Each unit has one sum: slow, but of any shape.
    Plain,
}

/// `x Wᵀ`, `[n, d_output]`, in f32, by the device's products of small matrices: both are rounded to f16 for it.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for shapes that the kernel does not take.
pub(super) fn product<R: GpuRuntime>(
    x: &CubeTensor<R>,
    n: usize,
    d_input: usize,
    w: &GpuMatrix<R>,
) -> Result<CubeTensor<R>> {
    product_by(Kernel::Matrices, x, n, d_input, w)
}

/// `lhs rhs`, of the last two dimensions, in the type of both. That of f32 is in all its bits: what burn takes by itself
/// rounds them to fewer where a device has products of small matrices.
///
/// What no kernel takes is kept for [`failure`](submit::failure), with no numbers in its place.
pub(super) fn matmul<R: GpuRuntime>(lhs: &CubeTensor<R>, rhs: &CubeTensor<R>) -> CubeTensor<R> {
    let fastest = if lhs.dtype == DType::F16 && has_matrices(&lhs.client) {
        Kernel::Matrices
    } else {
        Kernel::Units
    };
    let y = init_matmul_output(lhs, rhs, lhs.dtype);
    // Where it refuses a shape.
    let launched =
        matmul_by(fastest, lhs, rhs, &y).or_else(|_| matmul_by(Kernel::Plain, lhs, rhs, &y));
    if let Err(error) = launched {
        submit::keep(error);
    }
    y
}

fn matmul_by<R: GpuRuntime>(
    kernel: Kernel,
    lhs: &CubeTensor<R>,
    rhs: &CubeTensor<R>,
    y: &CubeTensor<R>,
) -> Result<()> {
    let [a, b] = [lhs, rhs].map(|x| InputBinding::new(x.clone().binding(), x.dtype.into()));
    launch(kernel, a, b, lhs.dtype, y)
}

fn product_by<R: GpuRuntime>(
    kernel: Kernel,
    x: &CubeTensor<R>,
    n: usize,
    d_input: usize,
    w: &GpuMatrix<R>,
) -> Result<CubeTensor<R>> {
    let x = halves_of(x, n, d_input);
    let w = halves_of_matrix(w, d_input);
    let [d_output, _] = w.meta.shape().dims();
    let y = empty(&x, [n, d_output], DType::F32);
    let mut w = InputBinding::new(w.binding(), DType::F16.into());
    w.swap_dims(0, 1);
    let x = InputBinding::new(x.binding(), DType::F16.into());
    launch(kernel, x, w, DType::F16, &y)?;
    Ok(y)
}

/// Writes the product of two inputs of a type to `y`.
fn launch<R: GpuRuntime>(
    kernel: Kernel,
    lhs: InputBinding<R>,
    rhs: InputBinding<R>,
    dtype: DType,
    y: &CubeTensor<R>,
) -> Result<()> {
    let mut dtypes = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: dtype.into(),
        rhs: dtype.into(),
        out: y.dtype.into(),
    });
    let (client, out) = (&y.client, y.clone().binding());
    let launched: std::result::Result<(), MatmulSetupError> = match kernel {
        // With `SimpleArgs::default()`, whose kind of tiles is that of small matrices.
        Kernel::Matrices => {
            let routine: BlueprintStrategy<(), SimpleAlgorithm> = BlueprintStrategy::default();
            launch_tiling::launch_ref(client, lhs, rhs, out, &routine, &mut dtypes)
        }
        Kernel::Units => {
            let routine: BlueprintStrategy<(), SimpleUnitAlgorithm> = BlueprintStrategy::default();
            launch_tiling::launch_ref(client, lhs, rhs, out, &routine, &mut dtypes)
        }
        Kernel::Plain => launch_naive::launch_ref(client, lhs, rhs, out, &dtypes),
    };
    launched.map_err(|error| Error::unsupported(format!("this GPU has no such product: {error:?}")))
}

fn halves_of<R: GpuRuntime>(x: &CubeTensor<R>, n: usize, d_input: usize) -> CubeTensor<R> {
    let y = empty(x, [n, d_input], DType::F16);
    let len = n * d_input / 4;
    narrow::launch(
        &x.client,
        in_plane(len.div_ceil(UNITS as usize), &x.client),
        CubeDim::new_1d(UNITS),
        x.clone().into_array_arg(),
        y.clone().into_array_arg(),
        len as u32,
    );
    y
}

/// `[d_output, d_input]`; a matrix of f16 is one already.
fn halves_of_matrix<R: GpuRuntime>(w: &GpuMatrix<R>, d_input: usize) -> CubeTensor<R> {
    let shape = [w.d_output, d_input];
    if w.bits == 16 {
        let words = w.words.clone();
        return CubeTensor::new_contiguous(
            words.client,
            words.device,
            Shape::new(shape),
            words.handle,
            DType::F16,
        );
    }
    let y = empty(&w.words, shape, DType::F16);
    let len = w.d_output * d_input * w.bits as usize / 32;
    unpacked::launch(
        &y.client,
        in_plane(len.div_ceil(UNITS as usize), &y.client),
        CubeDim::new_1d(UNITS),
        w.words.clone().into_array_arg(),
        w.groups.clone().into_array_arg(),
        y.clone().into_array_arg(),
        len as u32,
        (w.group_size * w.bits as usize / 32) as u32,
        w.bits,
    );
    y
}

fn empty<R: GpuRuntime>(like: &CubeTensor<R>, shape: [usize; 2], dtype: DType) -> CubeTensor<R> {
    let [rows, columns] = shape;
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        Shape::new(shape),
        like.client.empty(rows * columns * dtype.size()),
        dtype,
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData, TensorPrimitive};
    use pollster::block_on;

    use super::super::block::{buffer, tensor};
    use super::super::{Adapters, Gpu, open};
    use super::*;
    use crate::device::backend::{AimBackend as _, PackedMatrix};
    use crate::device::host::read;
    use crate::quant::{HalfMatrixBuilder, Method, Quantizer, Scheme, dequantize};

    /// No software driver multiplies small matrices as a whole, so all but that runs here.
    #[test]
    fn unpacked_matrices_give_the_same_products() {
        let Ok(gpu) = block_on(open(Adapters::Any)) else {
            // Where there is no driver, other tests say so.
            return;
        };
        if !gpu.has_halves() {
            return;
        }
        let (n, d_output, d_input) = (70, 136, 256);
        let some = |len: usize, step: usize| -> Vec<f32> {
            (0..len)
                .map(|i| (i * step % 101) as f32 / 50.0 - 1.0)
                .collect()
        };
        let (x, w) = (some(n * d_input, 53), some(d_output * d_input, 37));
        let mut builder = HalfMatrixBuilder::new(d_output, d_input).unwrap();
        builder.push(&w).unwrap();
        let mut matrices = vec![(PackedMatrix::Half(builder.finish().unwrap()), w.clone())];
        for scheme in [Scheme::Q8, Scheme::Q4] {
            let mut quantizer = Quantizer::new(d_output, d_input, scheme, Method::Nearest).unwrap();
            quantizer.push(&w).unwrap();
            let matrix = quantizer.finish().unwrap();
            let floats = dequantize::matrix(&matrix).unwrap();
            matrices.push((PackedMatrix::Quantised(matrix), floats));
        }
        for (packed, w) in matrices {
            let matrix = Gpu::pack(packed, &gpu.device).unwrap();
            let there = TensorData::new(x.clone(), [n, d_input]);
            let there = buffer(Tensor::<Gpu, 2>::from_data(there, &gpu.device));
            let y = product_by(Kernel::Units, &there, n, d_input, &matrix).unwrap();
            let y = block_on(read(tensor::<_, u32, 2>(y, [n, d_output])))
                .unwrap()
                .values;
            for (i, y) in y.iter().enumerate() {
                let (row, column) = (i / d_output, i % d_output);
                let terms = (0..d_input)
                    .map(|k| f64::from(x[row * d_input + k]) * f64::from(w[column * d_input + k]));
                let expected: f64 = terms.sum();
                // Each term has two roundings of 2^-11.
                assert!(
                    (expected - f64::from(*y)).abs() < 0.06,
                    "{expected} {y} at {i}"
                );
            }
        }
    }

    /// Of odd shapes, of batches, and of a view that is another's columns.
    #[test]
    fn products_of_activations_are_sums_of_all_bits() {
        let Ok(gpu) = block_on(open(Adapters::Any)) else {
            return;
        };
        for [batch, rows, terms, columns] in [
            [1, 1, 1, 1],
            [6, 3, 7, 5],
            [1, 70, 256, 136],
            [2, 65, 33, 64],
        ] {
            let some = |len: usize, step: usize| -> Vec<f32> {
                let numbers = 0..len;
                numbers
                    .map(|i| (i * step % 101) as f32 / 49.0 - 1.0)
                    .collect()
            };
            let (a, b) = (
                some(batch * rows * terms, 53),
                some(batch * columns * terms, 37),
            );
            let there = |values: &[f32], shape| {
                Tensor::<Gpu, 3>::from_data(TensorData::new(values.to_vec(), shape), &gpu.device)
            };
            let lhs = there(&a, [batch, rows, terms]);
            let rhs = there(&b, [batch, columns, terms]).transpose();
            let mut results = vec![Gpu::matmul(lhs.clone(), rhs.clone())];
            let [lhs, rhs] = [lhs, rhs].map(|x| x.into_primitive().tensor());
            for kernel in [Kernel::Units, Kernel::Plain] {
                let y = init_matmul_output(&lhs, &rhs, DType::F32);
                // What the faster one refuses goes to the other.
                if matmul_by(kernel, &lhs, &rhs, &y).is_ok() {
                    results.push(Tensor::from_primitive(TensorPrimitive::Float(y)));
                } else {
                    assert_eq!(kernel, Kernel::Units);
                }
            }
            Gpu::failure(&gpu.device).unwrap();
            assert!(results.len() >= 2);
            for y in results {
                assert_eq!(y.dims(), [batch, rows, columns]);
                for (i, y) in block_on(read(y)).unwrap().values.into_iter().enumerate() {
                    let (row, column) = (i / columns, i / (rows * columns) * columns + i % columns);
                    let products = (0..terms)
                        .map(|k| f64::from(a[row * terms + k]) * f64::from(b[column * terms + k]));
                    let expected: f64 = products.sum();
                    assert!(
                        (expected - f64::from(y)).abs() < 1e-4,
                        "{expected} {y} at {i}"
                    );
                }
            }
        }
    }
}
