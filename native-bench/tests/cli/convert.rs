//! `convert` and `synth`: models that are written.

use std::path::Path;

use aim_web::weights::shards::manifest::Manifest;
use assert_cmd::Command;

use super::{aim_bench, float_model, json, refused};

fn synth(args: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_aim-bench"));
    program.arg("synth").args(args);
    program
}

#[test]
fn the_shards_of_a_model_are_whole() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let floats = work.path().join("floats");
    float_model::write(&floats);
    for (dtype, bits, most) in [
        ("q4", Some(4), 3_000_000),
        ("q8", Some(8), 4_000_000),
        ("fp16", None, 6_500_000),
        ("fp32", None, 12_500_000),
    ] {
        let dir = work.path().join(dtype);
        let mut convert = aim_bench("convert");
        convert.arg("--model").arg(&floats).args(["--dtype", dtype]);
        if bits.is_some() {
            convert.args(["--group-size", "32"]);
        }
        let report = json(convert.arg("--output").arg(&dir));
        let bytes = report["bytes"].as_u64().expect("a number");
        assert!(bytes < most, "{dtype}: {bytes}");
        let text = |name: &str| std::fs::read_to_string(dir.join(name)).expect("it is there");
        let config: serde_json::Value = serde_json::from_str(&text("config.json")).expect("JSON");
        assert_eq!(config["quantization"]["bits"].as_u64(), bits, "{dtype}");
        let manifest = Manifest::from_json(&text("aim.manifest.json")).expect("it is one");
        let names: Vec<&str> = manifest.files().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "config.json",
                "labels.json",
                "model-00001-of-00001.safetensors",
                "model.safetensors.index.json",
                "preprocessor_config.json"
            ]
        );
        for (name, hashes) in manifest.files() {
            let file = std::fs::File::open(dir.join(name)).expect("it is there");
            let own =
                aim_web::weights::shards::manifest::FileHashes::of(file).expect("it can be read");
            assert_eq!(&own, hashes, "{name}");
        }
        // The safetensors library reads it.
        let shard = std::fs::read(dir.join("model-00001-of-00001.safetensors")).expect("there");
        safetensors::SafeTensors::deserialize(&shard).expect("it is a safetensors file");
    }
}

#[test]
fn a_quantised_model_is_not_quantised_again() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let dir = work.path().join("model");
    let error = refused(aim_bench("convert").arg("--output").arg(&dir));
    assert!(error.contains("quantised already"), "{error}");
    assert!(!dir.exists());
}

#[test]
fn what_is_there_is_not_overwritten_unasked() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let (floats, dir) = (work.path().join("floats"), work.path().join("model"));
    float_model::write(&floats);
    let convert = |more: &[&str]| {
        let mut program = aim_bench("convert");
        program.arg("--model").arg(&floats).args(more);
        program.arg("--output").arg(&dir);
        program
    };
    convert(&[]).assert().success();
    let error = refused(&mut convert(&[]));
    assert!(error.contains("--overwrite"), "{error}");
    convert(&["--overwrite", "--dtype", "q8"])
        .assert()
        .success();
    std::fs::write(dir.join("notes.txt"), "mine").expect("written");
    let error = refused(&mut convert(&["--overwrite"]));
    assert!(error.contains("notes.txt"), "{error}");
}

#[test]
fn options_of_convert_and_synth_are_checked() {
    aim_bench("convert")
        .args(["--output", "x", "--group-size", "16"])
        .assert()
        .code(2);
    aim_bench("convert").assert().code(2);
    synth(&["--output", "x"]).assert().code(2);
    synth(&["--arch", "aim-2B", "--output", "x"])
        .assert()
        .code(2);
    let error = refused(&mut synth(&["--arch", "aim-600M", "--output", "/"]));
    assert!(error.contains("/: is there already"), "{error}");
    assert!(!Path::new("x").exists());
}
