//! The parts of a block on a GPU, each against its definition in f64.

use std::sync::LazyLock;

use aim_web::device::backend::{AimBackend, Epilogue, Rows as _};
use aim_web::device::gpu::{Adapters, Extent, Gpu, Language, open_as};
use aim_web::device::host::read;
use aim_web::model::norm::Norm;
use aim_web::model::params::Params;
use burn::tensor::{Tensor, TensorData};
use burn_wgpu::WgpuDevice;
use pollster::block_on;
use proptest::prelude::*;

use crate::common::generator;

/// A device with all that its adapter has, and one with the least that WebGPU promises.
static GPUS: LazyLock<[WgpuDevice; 2]> = LazyLock::new(|| {
    [Extent::All, Extent::Least].map(|extent| {
        let opening = open_as(Adapters::Any, Language::Best, extent);
        let gpu = block_on(opening).unwrap_or_else(|error| {
            panic!("the GPU tests need an adapter: {error}");
        });
        assert!(extent == Extent::All || !gpu.has_halves());
        gpu.device
    })
});

fn all() -> &'static WgpuDevice {
    &GPUS[0]
}

fn values<const D: usize>(name: &str, shape: [usize; D]) -> Vec<f32> {
    generator::tensor("gpu_parts", name, &shape)
}

fn there<const D: usize>(values: &[f32], shape: [usize; D], gpu: &WgpuDevice) -> Tensor<Gpu, D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), gpu)
}

fn back<const D: usize>(tensor: Tensor<Gpu, D>) -> Vec<f32> {
    block_on(read(tensor)).expect("it comes").values
}

/// The largest difference; infinite for a NaN.
fn off(expected: &[f64], found: &[f32]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let differences = expected
        .iter()
        .zip(found)
        .map(|(e, f)| (e - f64::from(*f)).abs());
    differences.fold(0.0, |worst, off| {
        if off.is_nan() {
            f64::INFINITY
        } else {
            worst.max(off)
        }
    })
}

/// `softmax(q kᵀ / sqrt(head_dim)) v` of `[batch, tokens, 3, heads, head_dim]`.
fn attention(qkv: &[f32], [batch, tokens, heads, head_dim]: [usize; 4]) -> Vec<f64> {
    let at = |picture, token, part, head, channel| {
        let row = (picture * tokens + token) * 3 + part;
        f64::from(qkv[(row * heads + head) * head_dim + channel])
    };
    let mut y = Vec::new();
    for picture in 0..batch {
        for query in 0..tokens {
            for head in 0..heads {
                let score = |key: usize| -> f64 {
                    let dots = (0..head_dim)
                        .map(|c| at(picture, query, 0, head, c) * at(picture, key, 1, head, c));
                    dots.sum::<f64>() / (head_dim as f64).sqrt()
                };
                let scores: Vec<f64> = (0..tokens).map(score).collect();
                let highest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                y.extend((0..head_dim).map(|c| {
                    let values = weights.iter().enumerate();
                    values
                        .map(|(key, w)| w * at(picture, key, 2, head, c))
                        .sum::<f64>()
                        / sum
                }));
            }
        }
    }
    y
}

/// By its series, whose terms are small enough for |x| below 5; beyond it is 1 to all digits of f32.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn gpu_attention_is_its_definition(
        gpu in prop::sample::select(&GPUS[..]),
        batch in 1_usize..3,
        tokens in 1_usize..80,
        heads in 1_usize..4,
        // Also those that burn's operations have to do.
        head_dim in prop::sample::select(vec![1_usize, 4, 6, 32, 36, 64, 128, 256, 260]),
        scale in prop::sample::select(vec![0.0_f32, 1.0, 30.0]),
    ) {
        let dim = heads * head_dim;
        let mut qkv = values("qkv", [batch, tokens, 3 * dim]);
        for value in &mut qkv {
            *value *= scale;
        }
        let y = back(Gpu::attend(there(&qkv, [batch, tokens, 3 * dim], &gpu), heads, None));
        let off = off(&attention(&qkv, [batch, tokens, heads, head_dim]), &y);
        // Scores of some thousand have f32's 1e-7 of that.
        prop_assert!(off <= f64::from(scale.max(1.0)).powi(3) * 2e-5, "{off:e}");
    }

    #[test]
    fn gpu_layer_norm_is_its_definition(
        gpu in prop::sample::select(&GPUS[..]),
        batch in 1_usize..3,
        tokens in 1_usize..40,
        // Also those that burn's operations have to do.
        dim in 1_usize..300,
        shift in prop::sample::select(vec![0.0_f32, 100.0]),
    ) {
        let x: Vec<f32> = values("x", [batch, tokens, dim]).iter().map(|v| v + shift).collect();
        let (weight, bias) = (values("weight", [dim]), values("bias", [dim]));
        let mut params = Params::default();
        params.insert("a.norm.weight", there(&weight, [dim], &gpu), &[dim]);
        params.insert("a.norm.bias", there(&bias, [dim], &gpu), &[dim]);
        let norm = Norm::new(&mut params.scope("a"), "norm", dim).expect("it is there");
        let y = back(Gpu::normalize(there(&x, [batch, tokens, dim], &gpu), &norm));
        let mut expected = Vec::new();
        for token in x.chunks(dim) {
            let token: Vec<f64> = token.iter().map(|&v| f64::from(v)).collect();
            let mean = token.iter().sum::<f64>() / dim as f64;
            let variance = token.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / dim as f64;
            let scale = 1.0 / (variance + 1e-6).sqrt();
            expected.extend(token.iter().zip(weight.iter().zip(&bias)).map(|(v, (w, b))| (v - mean) * scale * f64::from(*w) + f64::from(*b)));
        }
        let off = off(&expected, &y);
        // A value of 100 has f32's 8e-6, and what is left of it after the mean may be small.
        prop_assert!(off < if shift == 0.0 { 1e-4 } else { 2e-2 }, "{off:e}");
    }

    #[test]
    fn gpu_products_end_as_asked(
        gpu in prop::sample::select(&GPUS[..]),
        n in 1_usize..150,
        d_output in 1_usize..150,
        d_input in 1_usize..150,
    ) {
        let w = values("w", [d_output, d_input]);
        let x = values("x", [1, n, d_input]);
        let residual = values("residual", [1, n, d_output]);
        let bias = values("bias", [d_output]);
        let mut rows = <Gpu as AimBackend>::Rows::new(d_output, d_input, &gpu).expect("there is room");
        rows.push(&w).expect("they are of it");
        let matrix = rows.finish().expect("it is whole");
        let sums: Vec<f64> = x
            .chunks(d_input)
            .flat_map(|x| w.chunks(d_input).map(move |w| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>()))
            .collect();
        let gelu = |x: f64| 0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt()));
        let ends: [(&str, Epilogue<Gpu>, Vec<f64>); 4] = [
            ("none", Epilogue::None, sums.clone()),
            ("gelu", Epilogue::Gelu, sums.iter().map(|&sum| gelu(sum)).collect()),
            ("add", Epilogue::Add(there(&residual, [1, n, d_output], &gpu)), sums.iter().zip(&residual).map(|(sum, r)| sum + f64::from(*r)).collect()),
            ("bias", Epilogue::Bias(there(&bias, [d_output], &gpu)), sums.iter().zip(bias.iter().cycle()).map(|(sum, b)| sum + f64::from(*b)).collect()),
        ];
        for (name, epilogue, expected) in ends {
            let y = back(Gpu::linear_then(there(&x, [1, n, d_input], &gpu), &matrix, epilogue));
            let off = off(&expected, &y);
            prop_assert!(off < 2e-5, "{name}: {off:e}");
        }
    }
}

#[test]
fn gpu_attention_of_a_large_picture() {
    // 4096 tokens: the scores of a head would take 64 MiB.
    let [tokens, head_dim] = [4096, 32];
    let qkv = values("large", [1, tokens, 3 * head_dim]);
    let y = back(Gpu::attend(
        there(&qkv, [1, tokens, 3 * head_dim], all()),
        1,
        None,
    ));
    let off = off(&attention(&qkv, [1, tokens, 1, head_dim]), &y);
    assert!(off < 1e-5, "{off:e}");
}

#[test]
fn what_is_no_number_stays_none() {
    let mut qkv = values("nan", [1, 40, 3 * 64]);
    // A value of the last token, which all see.
    *qkv.last_mut().expect("it is not empty") = f32::NAN;
    let y = back(Gpu::attend(there(&qkv, [1, 40, 3 * 64], all()), 1, None));
    assert!(
        y.chunks(64)
            .all(|token| token[63].is_nan() && token[..63].iter().all(|v| v.is_finite()))
    );
}
