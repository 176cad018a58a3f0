//! Quantised checkpoints in a folder: the ways they may be stored, and the ways they may be broken.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::generator;
use aim_web::config::Config;
use aim_web::device::Device;
use aim_web::engine::HostTensor;
use aim_web::precision::Precision;
use aim_web::quant::{Method, Quantizer, Scheme};
use aim_web::weights::LocalModel;
use aim_web::weights::inventory::group_names;
use aim_web::weights::layout::{self, Role};
use aim_web::{ErrorKind, Result};
use half::{bf16, f16};
use pollster::block_on;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

/// One tensor of a file.
#[derive(Clone)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn f32(shape: &[usize], values: &[f32]) -> Self {
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// The same halves as another float type.
    fn halves_as(&self, dtype: Dtype) -> Self {
        let halves = self
            .bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f16::from_le_bytes(b));
        let bytes = match dtype {
            Dtype::F32 => halves.flat_map(|h| h.to_f32().to_le_bytes()).collect(),
            Dtype::F64 => halves.flat_map(|h| h.to_f64().to_le_bytes()).collect(),
            Dtype::BF16 => halves
                .flat_map(|h| bf16::from_f32(h.to_f32()).to_le_bytes())
                .collect(),
            _ => panic!("{dtype:?}"),
        };
        Self {
            dtype,
            shape: self.shape.clone(),
            bytes,
        }
    }
}

type Tensors = BTreeMap<String, Stored>;

/// A model small enough for a hundred of it.
fn config() -> Config {
    Config {
        img_size: [16, 16],
        patch_size: [8, 8],
        num_channels: 3,
        embed_dim: 64,
        num_blocks: 2,
        num_heads: 2,
        num_classes: 10,
        probe_layers: vec![1],
        quantization: None,
    }
}

fn floats() -> Tensors {
    layout::tensors(&config())
        .into_iter()
        .filter(|spec| spec.role != Role::Counter)
        .map(|spec| {
            let values = generator::tensor("q", &spec.name, &spec.shape);
            (spec.name, Stored::f32(&spec.shape, &values))
        })
        .collect()
}

fn quantised(scheme: Scheme) -> Tensors {
    let mut tensors = floats();
    for spec in layout::tensors(&config()) {
        if spec.role != Role::Linear {
            continue;
        }
        let (d_output, d_input) = (spec.shape[0], spec.shape[1]);
        let mut quantizer = Quantizer::new(d_output, d_input, scheme, Method::default()).unwrap();
        quantizer
            .push(&generator::tensor("q", &spec.name, &spec.shape))
            .unwrap();
        let matrix = quantizer.finish().unwrap();
        let sizes = matrix.sizes();
        let stored = |dtype, columns, bytes| Stored {
            dtype,
            shape: vec![d_output, columns],
            bytes,
        };
        let [scales, biases] = group_names(&spec.name);
        let groups = sizes.groups_per_row;
        tensors.insert(scales, stored(Dtype::F16, groups, matrix.scale_bytes()));
        tensors.insert(biases, stored(Dtype::F16, groups, matrix.bias_bytes()));
        let words = stored(Dtype::U32, sizes.words_per_row, matrix.code_bytes());
        tensors.insert(spec.name, words);
    }
    tensors
}

fn write_file(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, stored)| {
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes).unwrap();
        (name.clone(), view)
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(path, bytes).unwrap();
}

fn write_config(dir: &Path, quantization: Option<Value>) {
    let mut json: Value = serde_json::from_str(&config().to_json()).unwrap();
    if let Some(quantization) = quantization {
        json["quantization"] = quantization;
    }
    fs::write(dir.join("config.json"), json.to_string()).unwrap();
}

/// A folder with the tensors in one file.
fn folder(tensors: &Tensors, quantization: Option<Value>) -> TempDir {
    let dir = TempDir::new().unwrap();
    write_config(dir.path(), quantization);
    write_file(&dir.path().join("model.safetensors"), tensors);
    dir
}

const SHARDS: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];

/// A folder with the tensors in two files, a matrix's parts in either, and their index.
fn shards(tensors: &Tensors, quantization: Option<Value>) -> TempDir {
    let dir = TempDir::new().unwrap();
    write_config(dir.path(), quantization);
    let mut files = [Tensors::new(), Tensors::new()];
    let mut weight_map = BTreeMap::new();
    for (i, (name, stored)) in tensors.iter().enumerate() {
        files[i % 2].insert(name.clone(), stored.clone());
        weight_map.insert(name.clone(), SHARDS[i % 2]);
    }
    for (name, tensors) in SHARDS.iter().zip(&files) {
        write_file(&dir.path().join(name), tensors);
    }
    write_index(
        dir.path(),
        &json!({ "metadata": {}, "weight_map": weight_map }),
    );
    dir
}

fn write_index(dir: &Path, index: &Value) {
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

fn read_index(dir: &Path) -> Value {
    let text = fs::read_to_string(dir.join("model.safetensors.index.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn run(dir: &Path, asked: Precision) -> Result<(Vec<f32>, Precision)> {
    let model = block_on(LocalModel::from_dir(dir)?.load(&Device::Cpu, asked))?;
    let images = HostTensor {
        shape: vec![1, 3, 16, 16],
        values: generator::tensor("q.in", "input", &[1, 3, 16, 16]),
    };
    let output = block_on(model.logits_and_features(images, &[]))?;
    assert!(output.logits.values.iter().all(|v| v.is_finite()));
    Ok((output.logits.values, model.precision()))
}

fn off(ours: &[f32], reference: &[f32]) -> f32 {
    let largest = reference.iter().fold(0.0_f32, |l, v| l.max(v.abs()));
    crate::common::goldens::relative_error(ours, reference, largest)
}

#[test]
fn stored_and_on_the_way_are_the_same() {
    let original = folder(&floats(), None);
    for (scheme, asked) in [(Scheme::Q4, Precision::Q4), (Scheme::Q8, Precision::Q8)] {
        let on_the_way = run(original.path(), asked).unwrap();
        assert_eq!(on_the_way.1, asked);
        let tensors = quantised(scheme);
        for stored in [
            folder(&tensors, Some(scheme.to_json())),
            shards(&tensors, Some(scheme.to_json())),
        ] {
            for asked in [Precision::Auto, asked] {
                assert_eq!(run(stored.path(), asked).unwrap(), on_the_way);
            }
        }
    }
}

#[test]
fn stored_matrices_become_what_is_asked_for() {
    let original = folder(&floats(), None);
    let (exact, precision) = run(original.path(), Precision::Auto).unwrap();
    assert_eq!(precision, Precision::Fp32);

    let q8 = folder(&quantised(Scheme::Q8), Some(Scheme::Q8.to_json()));
    let (stored, _) = run(q8.path(), Precision::Auto).unwrap();
    for (asked, wanted) in [
        (Precision::Fp32, Precision::Fp32),
        (Precision::Fp16, Precision::Fp32),
    ] {
        let (logits, precision) = run(q8.path(), asked).unwrap();
        assert_eq!(precision, wanted);
        // Products with few bits round their activations to 8 bits, those in floats do not.
        assert!(off(&logits, &stored) < 2e-2);
    }
    // From 8 bits to 4 is nearly as good as from floats.
    let (logits, precision) = run(q8.path(), Precision::Q4).unwrap();
    assert_eq!(precision, Precision::Q4);
    let (direct, _) = run(original.path(), Precision::Q4).unwrap();
    assert!(off(&logits, &exact) < 2.0 * off(&direct, &exact) + 0.01);

    let q4 = folder(&quantised(Scheme::Q4), Some(Scheme::Q4.to_json()));
    let (stored, _) = run(q4.path(), Precision::Auto).unwrap();
    assert_eq!(
        run(q4.path(), Precision::Q8).unwrap(),
        (stored, Precision::Q4)
    );
}

#[test]
fn scales_come_in_any_float_and_some_matrices_in_floats() {
    let scheme = Scheme::Q8;
    let tensors = quantised(scheme);
    let (stored, _) = run(
        folder(&tensors, Some(scheme.to_json())).path(),
        Precision::Auto,
    )
    .unwrap();
    for (dtype, limit) in [(Dtype::F32, 0.0), (Dtype::BF16, 0.1)] {
        let mut tensors = tensors.clone();
        for (name, tensor) in &mut tensors {
            if name.ends_with(".scales") || name.ends_with(".biases") {
                *tensor = tensor.halves_as(dtype);
            }
        }
        let dir = folder(&tensors, Some(scheme.to_json()));
        let (logits, _) = run(dir.path(), Precision::Auto).unwrap();
        assert!(off(&logits, &stored) <= limit, "{dtype:?}");
    }

    let mut tensors = tensors;
    let head = "head.linear.weight";
    tensors.insert(head.to_owned(), floats()[head].clone());
    for name in group_names(head) {
        tensors.remove(&name);
    }
    let dir = folder(&tensors, Some(scheme.to_json()));
    let (logits, precision) = run(dir.path(), Precision::Auto).unwrap();
    assert_eq!(precision, Precision::Q8);
    assert!(off(&logits, &stored) < 0.1);
    assert_ne!(logits, stored);
}

/// A weight whose parts are broken below.
const WEIGHT: &str = "trunk.blocks.0.attn.qkv.weight";
const SCALES: &str = "trunk.blocks.0.attn.qkv.scales";
const BIASES: &str = "trunk.blocks.0.attn.qkv.biases";

fn refused(dir: &Path, kind: ErrorKind, parts: &[&str]) {
    for asked in [Precision::Auto, Precision::Fp32, Precision::Q4] {
        let error = run(dir, asked).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.kind(), kind, "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn broken_tensors_are_told() {
    use ErrorKind::{Format, NotFound, Unsupported};
    type Break = fn(&mut Tensors);
    let cases: &[(&str, Break, ErrorKind, &[&str])] = &[
        (
            "scales of another shape",
            |t| {
                let scales = t.get_mut(SCALES).unwrap();
                scales.shape = vec![scales.shape[0] / 2, 2];
            },
            Format,
            &[SCALES, "shape"],
        ),
        (
            "scales of one dimension",
            |t| {
                let scales = t.get_mut(SCALES).unwrap();
                scales.shape = vec![scales.shape[0]];
            },
            Format,
            &[SCALES, "shape"],
        ),
        (
            "a scale that is not a number",
            |t| t.get_mut(SCALES).unwrap().bytes[..2].copy_from_slice(&f16::NAN.to_le_bytes()),
            Format,
            &[SCALES, "element 0 is not a number"],
        ),
        (
            "an infinite bias",
            |t| {
                t.get_mut(BIASES).unwrap().bytes[2..4]
                    .copy_from_slice(&f16::INFINITY.to_le_bytes());
            },
            Format,
            &[BIASES, "element 1 is infinite"],
        ),
        (
            "a scale over the range of float16",
            |t| {
                let scales = t.get_mut(SCALES).unwrap();
                *scales = scales.halves_as(Dtype::F32);
                scales.bytes[..4].copy_from_slice(&1e6_f32.to_le_bytes());
            },
            Unsupported,
            &[SCALES, "over the range"],
        ),
        (
            "scales as f64",
            |t| {
                let scales = t.get_mut(SCALES).unwrap();
                *scales = scales.halves_as(Dtype::F64);
            },
            Format,
            &[SCALES, "F64"],
        ),
        (
            "scales as integers",
            |t| t.get_mut(SCALES).unwrap().dtype = Dtype::I16,
            Format,
            &[SCALES, "I16"],
        ),
        (
            "codes as signed integers",
            |t| t.get_mut(WEIGHT).unwrap().dtype = Dtype::I32,
            Format,
            &[WEIGHT],
        ),
        (
            "codes of another shape",
            |t| {
                let codes = t.get_mut(WEIGHT).unwrap();
                codes.shape = vec![codes.shape[0] / 2, codes.shape[1] * 2];
            },
            Format,
            &[WEIGHT, "shape"],
        ),
        (
            "no biases",
            |t| drop(t.remove(BIASES)),
            NotFound,
            &[BIASES, "missing"],
        ),
        (
            "no scales",
            |t| drop(t.remove(SCALES)),
            NotFound,
            &[SCALES, "missing"],
        ),
        (
            "no codes",
            |t| drop(t.remove(WEIGHT)),
            NotFound,
            &[WEIGHT, "missing"],
        ),
        (
            "scales of a float weight",
            |t| drop(t.insert(WEIGHT.to_owned(), floats()[WEIGHT].clone())),
            Format,
            &[SCALES, "quantised"],
        ),
        (
            "a quantised norm",
            |t| {
                let stored = t["trunk.blocks.0.norm_1.weight"].clone();
                t.insert("trunk.blocks.0.norm_1.scales".to_owned(), stored);
            },
            Format,
            &["trunk.blocks.0.norm_1.scales"],
        ),
    ];
    for scheme in [Scheme::Q4, Scheme::Q8] {
        let good = quantised(scheme);
        for (what, break_it, kind, parts) in cases {
            let mut tensors = good.clone();
            break_it(&mut tensors);
            println!("{what}");
            let quantization = Some(scheme.to_json());
            refused(folder(&tensors, quantization.clone()).path(), *kind, parts);
            refused(shards(&tensors, quantization).path(), *kind, parts);
        }
    }
}

#[test]
fn broken_configurations_are_told() {
    use ErrorKind::{Format, Unsupported};
    let tensors = quantised(Scheme::Q4);
    for (quantization, kind, part) in [
        (json!({"bits": 3, "group_size": 64}), Unsupported, "3 bits"),
        (json!({"bits": 4, "group_size": 48}), Unsupported, "48"),
        (
            json!({"bits": 4, "group_size": 0}),
            Unsupported,
            "groups of 0",
        ),
        (
            json!({"bits": 4, "group_size": 64, "mode": "mxfp4"}),
            Unsupported,
            "mode",
        ),
        (json!({"bits": 4}), Format, "group_size"),
        (json!([4, 64]), Format, "quantization"),
        // Well formed, but not what the file holds.
        (json!({"bits": 8, "group_size": 64}), Format, "shape"),
        (json!({"bits": 4, "group_size": 32}), Format, "shape"),
        // 64 columns are no whole group.
        (
            json!({"bits": 4, "group_size": 128}),
            Unsupported,
            "groups of 128",
        ),
    ] {
        let dir = folder(&tensors, Some(quantization));
        refused(dir.path(), kind, &[part]);
    }
    refused(folder(&tensors, None).path(), Format, &["quantization"]);
}

#[test]
fn broken_indices_are_told() {
    use ErrorKind::{Format, NotFound};
    let scheme = Scheme::Q4;
    let tensors = quantised(scheme);
    let with = |change: &dyn Fn(&mut Value)| {
        let dir = shards(&tensors, Some(scheme.to_json()));
        let mut index = read_index(dir.path());
        change(&mut index);
        write_index(dir.path(), &index);
        dir
    };
    for outside in [
        "../model.safetensors",
        "/etc/passwd",
        "a/model.safetensors",
        "a\\model.safetensors",
        "..",
        ".safetensors",
        "model.gguf",
        "model\u{202e}.safetensors",
        "",
    ] {
        let dir = with(&|index| index["weight_map"][WEIGHT] = json!(outside));
        refused(dir.path(), Format, &["no checkpoint beside it"]);
    }
    let dir = with(&|index| index["weight_map"][WEIGHT] = json!("gone.safetensors"));
    refused(dir.path(), NotFound, &["gone.safetensors"]);

    let other = |file: &Value| {
        json!(if *file == SHARDS[0] {
            SHARDS[1]
        } else {
            SHARDS[0]
        })
    };
    let dir = with(&|index| {
        let file = &mut index["weight_map"][WEIGHT];
        *file = other(file);
    });
    refused(dir.path(), NotFound, &[WEIGHT, "missing"]);

    let dir = with(&|index| {
        index["weight_map"].as_object_mut().unwrap().remove(WEIGHT);
    });
    refused(dir.path(), Format, &[WEIGHT, "does not list"]);

    let dir = with(&|index| index["weight_map"]["head.q.weight"] = json!(SHARDS[0]));
    refused(dir.path(), NotFound, &["head.q.weight"]);

    for index in [
        json!({}),
        json!({ "weight_map": {} }),
        json!([1]),
        json!({ "weight_map": { "a": 1 } }),
    ] {
        let dir = with(&|old| *old = index.clone());
        refused(dir.path(), Format, &["index"]);
    }

    let dir = shards(&tensors, Some(scheme.to_json()));
    fs::remove_file(dir.path().join(SHARDS[1])).unwrap();
    refused(dir.path(), NotFound, &[SHARDS[1]]);
}

#[test]
fn rows_that_fall_into_no_groups_are_not_quantised() {
    let dir = TempDir::new().unwrap();
    let config = Config {
        embed_dim: 24,
        ..config()
    };
    fs::write(dir.path().join("config.json"), config.to_json()).unwrap();
    let tensors = layout::tensors(&config)
        .into_iter()
        .filter(|spec| spec.role != Role::Counter)
        .map(|spec| {
            let values = generator::tensor("q", &spec.name, &spec.shape);
            (spec.name, Stored::f32(&spec.shape, &values))
        })
        .collect();
    write_file(&dir.path().join("model.safetensors"), &tensors);
    let (_, precision) = run(dir.path(), Precision::Auto).unwrap();
    assert_eq!(precision, Precision::Fp32);
    let error = run(dir.path(), Precision::Q4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("fp32"), "{error}");
}

#[test]
fn weights_that_no_few_bits_can_hold_are_told() {
    let mut tensors = floats();
    let weight = tensors.get_mut(WEIGHT).unwrap();
    weight.bytes[..4].copy_from_slice(&1e6_f32.to_le_bytes());
    let dir = folder(&tensors, None);
    run(dir.path(), Precision::Fp32).unwrap();
    let error = run(dir.path(), Precision::Q8).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(WEIGHT), "{error}");

    let mut tensors = floats();
    let weight = tensors.get_mut(WEIGHT).unwrap();
    weight.bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    let dir = folder(&tensors, None);
    refused(dir.path(), ErrorKind::Format, &[WEIGHT, "not a number"]);
}
