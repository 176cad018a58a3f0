//! `aim-bench` as a user sees it: files in, standard output, standard error and exit code out.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bench;
mod checkpoints;
mod classify;
mod convert;
mod datasets;
mod eval;
mod features;
mod float_model;
mod inspect;
mod parts;
mod pictures;
mod preprocess;
mod remote;
mod run_and_parity;
mod streams;
mod torch;
mod train;
mod usage;

/// The library tests' generator, so that there is one.
#[path = "../../../tests/common/generator.rs"]
#[allow(dead_code)]
mod generator;

/// The library tests' server.
#[path = "../../../tests/hub/mod.rs"]
mod hub;

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// The program, on the CPU: the GPU has its tests in the library.
fn aim_bench(command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_aim-bench"));
    program.arg(command);
    if !["preprocess", "inspect", "convert"].contains(&command) {
        program.args(["--device", "cpu"]);
    }
    program
}

/// A file of the library's tests.
fn test_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests")
        .join(name)
}

/// What the program wrote to standard output, as JSON.
fn json(program: &mut Command) -> serde_json::Value {
    let output = program
        .arg("--json")
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    serde_json::from_slice(&output).expect("standard output is JSON")
}

/// Runs the program, which has to fail with exit code 1 and one line on standard error.
fn refused(program: &mut Command) -> String {
    let assert = program.assert().code(1);
    let output = assert.get_output();
    let line = String::from_utf8(output.stderr.clone()).expect("errors are UTF-8");
    assert!(
        output.stdout.is_empty(),
        "an error goes to standard error alone"
    );
    assert!(line.starts_with("error: "), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    line
}

/// Writes a safetensors file of one f32 tensor.
fn write_tensor(path: &Path, name: &str, shape: &[usize], values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &bytes)
            .expect("the shape fits");
    let file = safetensors::serialize([(name, view)], None).expect("it has a form");
    std::fs::write(path, file).expect("the folder is writable");
}

/// The values of an f32 tensor in a safetensors file, and its shape.
fn read_tensor(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).expect("the file is there");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("it is a safetensors file");
    let tensor = file.tensor(name).expect("it holds the tensor");
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32);
    let values = tensor
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")))
        .collect();
    (tensor.shape().to_vec(), values)
}

/// `max |ours - reference| / max |reference|`
fn relative_error(ours: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(ours.len(), reference.len());
    let largest = reference.iter().fold(0.0_f32, |l, v| l.max(v.abs()));
    let off = ours.iter().zip(reference).map(|(a, b)| (a - b).abs());
    off.fold(0.0_f32, |worst, off| {
        if off.is_nan() {
            f32::INFINITY
        } else {
            worst.max(off)
        }
    }) / largest
}

/// Lets a command keep to this hub and this home, whatever the variables of whoever runs the tests say.
fn use_hub(program: &mut Command, hub: &hub::Hub, home: &Path) {
    program
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", &hub.endpoint)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HUGGINGFACE_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("TRANSFORMERS_OFFLINE")
        .env_remove("HF_HUB_DISABLE_IMPLICIT_TOKEN")
        .env_remove("HUGGING_FACE_HUB_TOKEN")
        .env_remove("HF_TOKEN_PATH")
        .env_remove("HF_TOKEN")
        .env("NO_PROXY", "127.0.0.1");
}
