//! `inspect`: what a checkpoint holds.

use super::{aim_bench, json, refused, test_file, write_tensor};

#[test]
fn the_embedded_model_is_shown() {
    let report = json(&mut aim_bench("inspect"));
    assert_eq!(report["config"]["embed_dim"].as_u64(), Some(192));
    // As its card says.
    assert_eq!(report["parameters"].as_u64(), Some(2_850_624));
    let tensors = report["tensors"].as_array().expect("a list");
    assert!(
        tensors
            .iter()
            .any(|t| t["name"] == "head.cls_token" && t["shape"] == serde_json::json!([1, 1, 192]))
    );
}

#[test]
fn a_lone_file_is_shown_without_a_config() {
    let report = json(aim_bench("inspect").arg(test_file("bad/ok_plain.pth")));
    assert!(report["model"].is_null());
    let report_safetensors = json(aim_bench("inspect").arg(test_file("bad/ok_plain.safetensors")));
    assert_eq!(report["parameters"], report_safetensors["parameters"]);
    assert_ne!(report["parameters"].as_u64().unwrap_or(0), 0);
}

#[test]
fn a_released_backbone_is_recognised_from_its_header() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let path = work.path().join("model.safetensors");
    write_sparse_checkpoint(&path, aim_web::config::Family::Aim600M);
    let report = json(aim_bench("inspect").arg(&path));
    assert_eq!(report["model"], "aim-600M");
    assert_eq!(report["best"]["blocks"].as_u64(), Some(20));
    let share = report["best"]["bytes"].as_f64().expect("a number")
        / report["bytes"].as_f64().expect("a number");
    assert!(share < 0.86, "best needs {share} of the bytes");
}

#[test]
fn a_file_whose_matrix_is_a_number_is_no_released_model() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let path = work.path().join("scalar.safetensors");
    for name in ["head.k.weight", "trunk.blocks.0.attn.proj.weight"] {
        write_tensor(&path, name, &[], &[0.5]);
        let report = json(aim_bench("inspect").arg(&path));
        assert!(report["model"].is_null(), "{report}");
        assert_eq!(report["tensors"][0]["shape"], serde_json::json!([]));
    }
}

#[test]
fn names_of_tensors_can_neither_overflow_nor_command_a_terminal() {
    let work = tempfile::tempdir().expect("a temporary folder");
    for name in ["a".repeat(70_000), "x\u{1b}[31m\ny".to_owned()] {
        let path = work.path().join("names.safetensors");
        write_tensor(&path, &name, &[1], &[0.5]);
        let assert = aim_bench("inspect").arg(&path).assert().success();
        let text = String::from_utf8(assert.get_output().stdout.clone()).expect("UTF-8");
        let line = text.lines().next().unwrap_or_default();
        assert!(line.ends_with("F32  [1]") && line.len() < 1000, "{line}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let report = json(aim_bench("inspect").arg(&path));
        assert_eq!(report["tensors"][0]["name"], name);
    }
}

#[test]
fn options_of_files_are_for_files() {
    for option in [
        ["--arch", "aim-600M"],
        ["--config", "x.json"],
        ["--trunk", "x"],
    ] {
        let line = refused(aim_bench("inspect").args(option));
        assert!(
            line.contains(option[0]) && line.contains("--model"),
            "{line}"
        );
    }
    let file = test_file("../models/aim-tiny/model-00001-of-00001.safetensors");
    let line = refused(aim_bench("inspect").arg(file).args(["--trunk", "x"]));
    assert!(line.contains("--trunk"), "{line}");
}

#[test]
fn broken_files_are_refused() {
    let line = refused(aim_bench("inspect").arg(test_file("bad/overlap.safetensors")));
    assert!(line.contains("overlap.safetensors"), "{line}");
    refused(aim_bench("inspect").arg("missing.safetensors"));
}

/// A checkpoint of the right size whose data are a hole: only its header is real.
pub fn write_sparse_checkpoint(path: &std::path::Path, family: aim_web::config::Family) {
    use std::io::Write as _;

    let mut header = serde_json::Map::new();
    let mut end = 0_u64;
    for spec in aim_web::weights::layout::tensors(&family.config()) {
        let (dtype, size) = match spec.role {
            aim_web::weights::layout::Role::Counter => ("I64", 8),
            _ => ("F32", 4),
        };
        let start = end;
        end += size * spec.shape.iter().map(|&side| side as u64).product::<u64>();
        header.insert(
            spec.name,
            serde_json::json!({ "dtype": dtype, "shape": spec.shape, "data_offsets": [start, end] }),
        );
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', (8 - header.len() % 8) % 8));
    let mut file = std::fs::File::create(path).expect("the folder is writable");
    file.write_all(&(header.len() as u64).to_le_bytes())
        .expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.set_len(8 + header.len() as u64 + end)
        .expect("a sparse file");
}
