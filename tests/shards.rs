//! Shards as they are written, byte for byte.
#![cfg(not(target_family = "wasm"))]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "common/numbers.rs"]
mod numbers;

use aim_web::config::Family;
use aim_web::quant::{QuantMatrix, Scheme, dequantize};
use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::weights::checkpoint::safetensors::{Header, write_header};
use aim_web::weights::checkpoint::tensor_info::TensorInfo;
use aim_web::weights::shards::manifest::{FileHashes, Manifest};
use aim_web::weights::shards::{MAX_SHARD, StoredAs, plan};
use numbers::{halves, words};

const DOCS: &str = include_str!("../docs/shards.md");

/// The bytes of the worked example in `docs/shards.md`.
fn example() -> Vec<u8> {
    let (_, dump) = DOCS.split_once("```hexdump\n").unwrap();
    let (dump, _) = dump.split_once("```").unwrap();
    dump.lines()
        .flat_map(|line| line[6..53].split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn the_worked_example_is_read_as_the_documentation_says() {
    let bytes = example();
    let header = Header::parse(&bytes, bytes.len() as u64).unwrap();
    let part = |name: &str| {
        let index = header.tensors().iter().position(|info| info.name == name);
        let range = header.range(index.unwrap()).unwrap();
        &bytes[range.start as usize..range.end as usize]
    };
    let scheme = Scheme::new(4, 32).unwrap();
    let [codes, scales, biases] = ["head.k.weight", "head.k.scales", "head.k.biases"].map(part);
    let matrix =
        QuantMatrix::new(2, 32, scheme, words(codes), halves(scales), halves(biases)).unwrap();
    let values = dequantize::matrix(&matrix).unwrap();
    for column in 0..32 {
        let step = (column % 16) as f32;
        assert_eq!(values[column], -4.0 + 0.5 * step);
        assert_eq!(values[32 + column], 2.75 - 0.25 * step);
    }
    let hashes = FileHashes::of(&bytes[..]).unwrap();
    let mut manifest = Manifest::default();
    manifest.insert("example", hashes);
    let listed: serde_json::Value = serde_json::from_str(&manifest.to_json()).unwrap();
    let hash = listed["files"]["example"]["sha256"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(DOCS.contains(&hash), "the documentation lacks {hash}");
}

#[test]
fn the_worked_example_is_what_is_written() {
    let entry = |name: &str, dtype, shape: &[usize]| TensorInfo {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
    };
    let entries = [
        entry("head.k.weight", Dtype::U32, &[2, 4]),
        entry("head.k.scales", Dtype::F16, &[2, 1]),
        entry("head.k.biases", Dtype::F16, &[2, 1]),
    ];
    let (front, starts) = write_header(&entries, &[("format", "mlx")]).unwrap();
    let bytes = example();
    assert_eq!(front, bytes[..front.len()]);
    assert_eq!(starts, [0xf8, 0x118, 0x11c]);
}

#[test]
fn shards_of_the_released_models_are_small_and_in_running_order() {
    for family in Family::ALL {
        for stored in [
            StoredAs::Quantised(Scheme::Q4),
            StoredAs::Quantised(Scheme::Q8),
            StoredAs::F16,
            StoredAs::F32,
        ] {
            let shards = plan(&family.config(), stored).unwrap();
            let mut names = Vec::new();
            for entries in &shards {
                let (front, _) = write_header(entries, &[("format", "mlx")]).unwrap();
                let data: u64 = entries.iter().map(|entry| entry.bytes()).sum();
                let len = front.len() as u64 + data;
                assert!(
                    len <= MAX_SHARD || entries.len() == 1,
                    "{family} {stored:?}: {len} bytes in {} tensors",
                    entries.len()
                );
                names.extend(entries.iter().map(|entry| entry.name.clone()));
            }
            let place = |name: &str| names.iter().position(|own| own == name).unwrap();
            let last = family.config().num_blocks - 1;
            assert_eq!(place("preprocessor.patchifier.proj.weight"), 0);
            assert!(place("head.linear.weight") < place("trunk.blocks.0.norm_1.weight"));
            for block in 0..last {
                let end = place(&format!("trunk.blocks.{block}.mlp.fc2.weight"));
                let next = place(&format!("trunk.blocks.{}.norm_1.weight", block + 1));
                assert!(end < next);
            }
            assert_eq!(place("trunk.post_trunk_norm.bias"), names.len() - 1);
        }
    }
}
