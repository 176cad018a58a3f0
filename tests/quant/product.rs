//! The product with a packed matrix on every backend, against the matrix in floats.

use aim_web::ErrorKind;
use aim_web::device::backend::{AimBackend, PackedMatrix};
use aim_web::device::cpu::{self, Cpu};
use aim_web::device::gpu::{Adapters, Extent, Gpu, Language, open_as};
use aim_web::device::host::read;
use aim_web::quant::{HalfMatrixBuilder, Method, Quantizer, Scheme, dequantize};
use burn::tensor::{Tensor, TensorData};
use burn_wgpu::WgpuDevice;
use half::f16;
use pollster::block_on;
use proptest::prelude::*;
use std::sync::LazyLock;

/// A device with all that its adapter has, and one with the least that WebGPU promises; with what a product may be off.
static GPUS: LazyLock<[(WgpuDevice, f64); 2]> = LazyLock::new(|| {
    [Extent::All, Extent::Least].map(|extent| {
        let opening = open_as(Adapters::Any, Language::Best, extent);
        let gpu = block_on(opening).unwrap_or_else(|error| {
            panic!("the GPU tests need an adapter: {error}");
        });
        // Both sides of a term rounded to f16, by 2^-11 each.
        let limit = if gpu.has_halves() { 1e-3 } else { 1e-6 };
        (gpu.device, limit)
    })
});

fn values(len: usize, mut seed: u64) -> Vec<f32> {
    (0..len)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// A packed matrix, and the same in floats.
fn quantised(d_output: usize, d_input: usize, scheme: Scheme) -> (PackedMatrix, Vec<f32>) {
    let mut quantizer = Quantizer::new(d_output, d_input, scheme, Method::default()).unwrap();
    quantizer.push(&values(d_output * d_input, 1)).unwrap();
    let matrix = quantizer.finish().unwrap();
    let floats = dequantize::matrix(&matrix).unwrap();
    (PackedMatrix::Quantised(matrix), floats)
}

fn half(d_output: usize, d_input: usize, scale: f32) -> (PackedMatrix, Vec<f32>) {
    let weights: Vec<f32> = values(d_output * d_input, 1)
        .into_iter()
        .map(|w| w * scale)
        .collect();
    let mut builder = HalfMatrixBuilder::new(d_output, d_input).unwrap();
    builder.push(&weights).unwrap();
    let floats = weights.iter().map(|&w| f16::from_f32(w).to_f32()).collect();
    (PackedMatrix::Half(builder.finish().unwrap()), floats)
}

/// `max |y - x Wᵀ| / (|x| |Wᵀ|)`, the sums in f64.
fn error<B: AimBackend>(
    n: usize,
    (packed, floats): (PackedMatrix, Vec<f32>),
    device: &B::Device,
) -> f64 {
    let [d_output, d_input] = packed.dims();
    let x = values(n * d_input, 2);
    let packed = B::pack(packed, device).unwrap();
    let there = Tensor::<B, 2>::from_data(TensorData::new(x.clone(), [n, d_input]), device);
    // A view that is not contiguous, as a model may pass one.
    let there = there.transpose().transpose();
    let y = block_on(read(B::product(there, &packed))).unwrap();
    assert_eq!(y.shape, [n, d_output]);
    let mut worst = 0.0_f64;
    for (x, y) in x.chunks(d_input).zip(y.values.chunks(d_output)) {
        for (w, y) in floats.chunks(d_input).zip(y) {
            let terms = || x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
            let (want, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
            let off = (f64::from(*y) - want).abs() / size.max(f64::MIN_POSITIVE);
            worst = if off.is_nan() {
                f64::INFINITY
            } else {
                worst.max(off)
            };
        }
    }
    worst
}

#[test]
fn gpu_products_of_tiles_and_their_rests() {
    for (n, d_output, d_input) in [
        (1, 1, 128),
        (1, 1000, 384),
        (63, 65, 128),
        (64, 64, 256),
        (65, 129, 640),
        (257, 100, 1536),
    ] {
        for bits in [4, 8] {
            for group in [32, 64, 128] {
                let scheme = Scheme::new(bits, group).unwrap();
                for (gpu, limit) in &*GPUS {
                    let off = error::<Gpu>(n, quantised(d_output, d_input, scheme), gpu);
                    assert!(
                        off < *limit,
                        "{n} {d_output} {d_input} q{bits}/{group}: {off:e}"
                    );
                }
            }
        }
        for (gpu, limit) in &*GPUS {
            let off = error::<Gpu>(n, half(d_output, d_input, 1.0), gpu);
            assert!(off < *limit, "{n} {d_output} {d_input} f16: {off:e}");
        }
    }
}

#[test]
fn gpu_halves_may_be_subnormal_and_rows_short() {
    for d_input in [2, 4, 30, 34, 100] {
        // Around the smallest normal f16, 6.1e-5.
        for scale in [1e-4, 1e-6] {
            for (gpu, _) in &*GPUS {
                let off = error::<Gpu>(5, half(7, d_input, scale), gpu);
                assert!(off < 1e-6, "{d_input} {scale:e}: {off:e}");
            }
        }
    }
}

#[test]
fn a_matrix_over_the_limits_of_a_gpu_is_refused() {
    for (gpu, _) in &*GPUS {
        let error = Gpu::check_size(u64::MAX, gpu).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        Gpu::check_size(1 << 20, gpu).unwrap();
    }
}

#[test]
fn the_cpu_takes_no_halves() {
    let error = Cpu::pack(half(2, 4, 1.0).0, &cpu::device()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn products_are_those_of_the_floats(
        n in 1_usize..140,
        d_output in 1_usize..200,
        groups in 1_usize..8,
        bits in prop::sample::select(vec![4_usize, 8]),
        group_size in prop::sample::select(vec![32_usize, 64, 128]),
    ) {
        let scheme = Scheme::new(bits, group_size).unwrap();
        let d_input = groups * group_size;
        let matrix = quantised(d_output, d_input, scheme);
        let off = error::<Cpu>(n, matrix.clone(), &cpu::device());
        // Activations are rounded to 8 bits on most machines: by at most 1/254 of the largest of a group.
        prop_assert!(off < 1e-2, "CPU {:e}", off);
        for (gpu, limit) in &*GPUS {
            let off = error::<Gpu>(n, matrix.clone(), gpu);
            prop_assert!(off < *limit, "GPU {:e}", off);
        }
    }
}
