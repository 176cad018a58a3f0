//! Products of many rows, on devices that multiply small matrices of f16 as a whole: cubek's kernel, between ours.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::matmul::init_matmul_output;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::{ElemType, FloatKind, StorageType};
use cubecl::prelude::*;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::{Strategy, launch_ref};
use cubek::std::InputBinding;

use super::block::{GpuMatrix, UNITS, in_plane};
use super::runtime::GpuRuntime;
use crate::error::{Error, Result};
use crate::gpu::dense::{narrow, unpacked};

/// Whether a device has what [`product`] takes.
pub(super) fn has_matrices<R: GpuRuntime>(client: &ComputeClient<R>) -> bool {
    let half = StorageType::Scalar(ElemType::Float(FloatKind::F16));
    let float = StorageType::Scalar(ElemType::Float(FloatKind::F32));
    let mut kinds = client.properties().features.matmul.cmma.iter();
    kinds.any(|kind| kind.a_type == half && kind.b_type == half && kind.cd_type == float)
}

/// `x Wᵀ` by the device's products of small matrices.
pub(super) fn product<R: GpuRuntime>(
    x: &CubeTensor<R>,
    n: usize,
    d_input: usize,
    w: &GpuMatrix<R>,
) -> Result<CubeTensor<R>> {
    // Named: what the library would choose by itself depends on its version.
    product_by(
        &Strategy::SimpleCyclicCmma(Default::default()),
        x,
        n,
        d_input,
        w,
    )
}

/// Products of floats of 32 bits in all their bits: what burn takes by itself rounds them to fewer where a device has such
/// products of small matrices.
pub(super) fn exact<R: GpuRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
) -> Result<CubeTensor<R>> {
    let y = init_matmul_output(&lhs, &rhs, DType::F32);
    let [lhs, rhs] = [lhs, rhs].map(|x| InputBinding::new(x.binding(), DType::F32.into()));
    let strategy = Strategy::SimpleUnit(Default::default());
    multiply(&strategy, lhs, rhs, DType::F32, y)
}

/// `[n, d_output]`, in f32, of `x`, `[n, d_input]`, both rounded to f16 for it.
fn product_by<R: GpuRuntime>(
    strategy: &Strategy,
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
    multiply(strategy, x, w, DType::F16, y)
}

/// Writes the product of two inputs of a type to `y`, which comes back.
fn multiply<R: GpuRuntime>(
    strategy: &Strategy,
    lhs: InputBinding<R>,
    rhs: InputBinding<R>,
    dtype: DType,
    y: CubeTensor<R>,
) -> Result<CubeTensor<R>> {
    let mut dtypes = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: dtype.into(),
        rhs: dtype.into(),
        out: y.dtype.into(),
    });
    let client = y.client.clone();
    launch_ref(
        strategy,
        &client,
        lhs,
        rhs,
        y.clone().binding(),
        &mut dtypes,
    )
    .map_err(|error| Error::unsupported(format!("this GPU has no such product: {error:?}")))?;
    Ok(y)
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
    use burn::tensor::{Tensor, TensorData};
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
            let strategy = Strategy::SimpleUnit(Default::default());
            let y = product_by(&strategy, &there, n, d_input, &matrix).unwrap();
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
}
