//! MLX reads our matrices, and we read MLX's.
//!
//! `tests/quant/mlx.safetensors` was written by MLX (`pkg-scripts/mlx-fixtures/make.py`). The other
//! way round, a test here writes a file that `pkg-scripts/mlx-fixtures/check.py` hands to MLX.

use std::collections::BTreeMap;

use aim_web::quant::{Method, QuantMatrix, Quantizer, Scheme, dequantize};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::common::numbers::words;

const FILE: &[u8] = include_bytes!("mlx.safetensors");

fn floats(tensor: &TensorView<'_>) -> Vec<f32> {
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => data
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect(),
        Dtype::F16 => data
            .as_chunks()
            .0
            .iter()
            .map(|&b| f16::from_le_bytes(b).to_f32())
            .collect(),
        Dtype::BF16 => data
            .as_chunks()
            .0
            .iter()
            .map(|&b| bf16::from_le_bytes(b).to_f32())
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// A matrix of the fixture.
struct Case<'a> {
    name: String,
    kind: &'a str,
    scheme: Scheme,
    matrix: QuantMatrix,
    /// What MLX quantised, rounded to the type of the case.
    input: Vec<f32>,
    /// What MLX makes of its codes.
    dequantized: Vec<f32>,
}

fn cases(file: &SafeTensors<'_>) -> Vec<Case<'static>> {
    let mut cases = Vec::new();
    for name in ["gaussian", "odd"] {
        let input = floats(&file.tensor(&format!("in.{name}")).unwrap());
        for kind in ["f16", "bf16", "f32"] {
            for bits in [4, 8] {
                for group in [32, 64, 128] {
                    let at = format!("{kind}.b{bits}.g{group}.{name}");
                    let tensor = |part: &str| file.tensor(&format!("{at}.{part}"));
                    let Ok(codes) = tensor("weight") else {
                        continue;
                    };
                    let scheme = Scheme::new(bits, group).unwrap();
                    let words = words(codes.data());
                    // What is no f16 is rounded, as a loader does.
                    let halves = |part: &str| {
                        let values = floats(&tensor(part).unwrap());
                        values.into_iter().map(f16::from_f32).collect()
                    };
                    let matrix =
                        QuantMatrix::new(8, 128, scheme, words, halves("scales"), halves("biases"));
                    cases.push(Case {
                        kind,
                        scheme,
                        matrix: matrix.unwrap(),
                        input: match kind {
                            "f16" => input.iter().map(|&w| f16::from_f32(w).to_f32()).collect(),
                            "bf16" => input.iter().map(|&w| bf16::from_f32(w).to_f32()).collect(),
                            _ => input.clone(),
                        },
                        dequantized: floats(&tensor("dequantized").unwrap()),
                        name: at,
                    });
                }
            }
        }
    }
    assert_eq!(cases.len(), 20);
    cases
}

#[test]
fn mlx_matrices_dequantise_as_in_mlx() {
    let file = SafeTensors::deserialize(FILE).unwrap();
    for case in cases(&file) {
        let group = case.scheme.group_size();
        // MLX rounds product and sum to the type of the scales; of f32 we round the scales to f16.
        let unit = match case.kind {
            "bf16" => 1.0 / 256.0,
            _ => 1.0 / 2048.0,
        };
        let ours = dequantize::matrix(&case.matrix).unwrap();
        for (i, (ours, mlx)) in ours.iter().zip(&case.dequantized).enumerate() {
            let bias = case.matrix.biases()[i / group].to_f32();
            // The product is the difference of sum and bias. 2^-24 is the distance of subnormals,
            // of which a scale may be wrong by half for each step of the code.
            let subnormal = f32::from(u8::MAX) * 3e-8;
            let bound = unit * ((mlx - bias).abs() + bias.abs() + mlx.abs()) + subnormal;
            assert!(
                (ours - mlx).abs() <= bound,
                "{}, weight {i}: {ours}, MLX {mlx}",
                case.name
            );
        }
    }
}

#[test]
fn nearest_is_mlx_bit_for_bit() {
    let file = SafeTensors::deserialize(FILE).unwrap();
    for case in cases(&file) {
        // Other types store scales that we round.
        if case.kind != "f16" {
            continue;
        }
        let mut quantizer = Quantizer::new(8, 128, case.scheme, Method::Nearest).unwrap();
        quantizer.push(&case.input).unwrap();
        let ours = quantizer.finish().unwrap();
        assert_eq!(ours.scales(), case.matrix.scales(), "{}", case.name);
        assert_eq!(ours.biases(), case.matrix.biases(), "{}", case.name);
        assert_eq!(ours.codes(), case.matrix.codes(), "{}", case.name);
    }
}

#[test]
fn search_is_closer_than_mlx() {
    let file = SafeTensors::deserialize(FILE).unwrap();
    for case in cases(&file) {
        let mut quantizer = Quantizer::new(8, 128, case.scheme, Method::Search).unwrap();
        quantizer.push(&case.input).unwrap();
        let ours = dequantize::matrix(&quantizer.finish().unwrap()).unwrap();
        // Row by row, which are of very different sizes.
        for row in 0..8 {
            let error = |back: &[f32]| -> f64 {
                let row = row * 128..(row + 1) * 128;
                case.input[row.clone()]
                    .iter()
                    .zip(&back[row])
                    .map(|(a, b)| f64::from(a - b).powi(2))
                    .sum()
            };
            // MLX's matrix as we read it: its own rounding to f16 costs it more.
            let mlx = dequantize::matrix(&case.matrix).unwrap();
            assert!(
                error(&ours) <= error(&mlx) * 1.0001,
                "{}, row {row}",
                case.name
            );
        }
    }
}

/// Writes `target/tmp/quant_for_mlx.safetensors` for `check.py`.
#[test]
fn a_file_for_mlx_is_written() {
    let file = SafeTensors::deserialize(FILE).unwrap();
    let mut tensors = BTreeMap::new();
    for name in ["gaussian", "odd"] {
        let input = floats(&file.tensor(&format!("in.{name}")).unwrap());
        for bits in [4, 8] {
            for group in [32, 64, 128] {
                let scheme = Scheme::new(bits, group).unwrap();
                let mut quantizer = Quantizer::new(8, 128, scheme, Method::Search).unwrap();
                quantizer.push(&input).unwrap();
                let matrix = quantizer.finish().unwrap();
                let back: Vec<u8> = dequantize::matrix(&matrix)
                    .unwrap()
                    .into_iter()
                    .flat_map(f32::to_le_bytes)
                    .collect();
                let sizes = matrix.sizes();
                let at = format!("b{bits}.g{group}.{name}");
                for (part, dtype, columns, bytes) in [
                    (
                        "weight",
                        Dtype::U32,
                        sizes.words_per_row,
                        matrix.code_bytes(),
                    ),
                    (
                        "scales",
                        Dtype::F16,
                        sizes.groups_per_row,
                        matrix.scale_bytes(),
                    ),
                    (
                        "biases",
                        Dtype::F16,
                        sizes.groups_per_row,
                        matrix.bias_bytes(),
                    ),
                    ("dequantized", Dtype::F32, 128, back),
                ] {
                    tensors.insert(format!("{at}.{part}"), (dtype, vec![8, columns], bytes));
                }
            }
        }
    }
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("quant_for_mlx.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
}
