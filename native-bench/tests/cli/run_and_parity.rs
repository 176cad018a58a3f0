//! `run` and `parity`: tensors in, tensors out, and how far they are from a reference.

use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};

use super::{aim_bench, float_model, json, read_tensor, refused, write_tensor};

/// A command with the model in `work`.
fn with_model(command: &str, work: &TempDir) -> assert_cmd::Command {
    let mut program = aim_bench(command);
    program.arg("--model").arg(work.path().join("model"));
    program
}

/// A folder with a model in f32, an input for it, and the outputs of a run on it.
fn run() -> (TempDir, PathBuf, PathBuf) {
    let work = tempdir().expect("a temporary folder");
    float_model::write(&work.path().join("model"));
    let (input, output) = (
        work.path().join("input.safetensors"),
        work.path().join("output.safetensors"),
    );
    let values: Vec<f32> = (0..2 * 3 * 112 * 112)
        .map(|i| (i as f32 * 0.37).sin())
        .collect();
    write_tensor(&input, "input", &[2, 3, 112, 112], &values);
    with_model("run", &work)
        .arg("--features")
        .arg("--input")
        .arg(&input)
        .arg("--output")
        .arg(&output)
        .assert()
        .success();
    (work, input, output)
}

fn parity(work: &TempDir, reference: &Path, input: &Path) -> assert_cmd::Command {
    let mut program = with_model("parity", work);
    program
        .arg("--reference")
        .arg(reference)
        .arg("--input")
        .arg(input);
    program
}

#[test]
fn run_writes_logits_and_the_features_of_every_block() {
    let (_work, _, output) = run();
    assert_eq!(read_tensor(&output, "logits").0, [2, 21]);
    for block in 0..6 {
        let (shape, _) = read_tensor(&output, &format!("features.{block}"));
        assert_eq!(shape, [2, 64, 192]);
    }
}

#[test]
fn parity_accepts_the_models_own_outputs_and_refuses_others() {
    let (work, input, output) = run();
    // On as many threads as there are cores, and on others: nothing is summed in another order.
    for threads in [&[][..], &["--threads", "1"], &["--threads", "3"]] {
        let comparisons = json(parity(&work, &output, &input).args(threads));
        let comparisons = comparisons.as_array().expect("a list");
        assert_eq!(comparisons.len(), 7);
        assert!(comparisons.iter().all(|c| c["error"].as_f64() == Some(0.0)));
    }

    let (shape, mut logits) = read_tensor(&output, "logits");
    logits[0] += 0.01 * logits.iter().fold(0.0_f32, |l, v| l.max(v.abs()));
    let off = work.path().join("off.safetensors");
    write_tensor(&off, "logits", &shape, &logits);
    parity(&work, &off, &input)
        .assert()
        .code(1)
        .stderr(predicates::str::contains("over the tolerance"));
    parity(&work, &off, &input)
        .args(["--tolerance", "0.02"])
        .assert()
        .success();
}

#[test]
fn references_that_do_not_fit_are_refused() {
    let (work, input, _) = run();
    let empty = work.path().join("empty.safetensors");
    write_tensor(&empty, "something", &[1], &[0.0]);
    let line = refused(&mut parity(&work, &empty, &input));
    assert!(line.contains("nothing to compare"), "{line}");

    let deep = work.path().join("deep.safetensors");
    write_tensor(&deep, "features.99", &[1], &[0.0]);
    let line = refused(&mut parity(&work, &deep, &input));
    assert!(line.contains("block 99"), "{line}");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let work = tempdir().expect("a temporary folder");
    let input = work.path().join("input.safetensors");
    let output = work.path().join("output.safetensors");
    for (shape, part) in [
        (&[1, 3, 112][..], "[batch, channels, height, width]"),
        (&[1, 4, 112, 112], "4 colour channels"),
        (&[1, 3, 13, 112], "smaller than one patch"),
        (&[0, 3, 112, 112], "no pictures"),
    ] {
        write_tensor(&input, "input", shape, &vec![0.5; shape.iter().product()]);
        let line = refused(
            aim_bench("run")
                .arg("--input")
                .arg(&input)
                .arg("--output")
                .arg(&output),
        );
        assert!(line.contains(part), "{line}");
        assert!(!output.exists());
    }
    write_tensor(&input, "picture", &[1], &[0.0]);
    let line = refused(
        aim_bench("run")
            .arg("--input")
            .arg(&input)
            .arg("--output")
            .arg(&output),
    );
    assert!(line.contains("no tensor `input`"), "{line}");
}

#[test]
fn few_bits_are_near_and_say_what_they_are() {
    let (work, input, reference) = run();
    let error = |dtype: &str| {
        let output = work.path().join(format!("{dtype}.safetensors"));
        let mut program = with_model("run", &work);
        program
            .args(["--dtype", dtype, "--input"])
            .arg(&input)
            .arg("--output")
            .arg(&output);
        let report = json(&mut program);
        let used = report["dtype"].as_str().expect("a name").to_owned();
        let ours = read_tensor(&output, "logits").1;
        let logits = read_tensor(&reference, "logits").1;
        (used, super::relative_error(&ours, &logits))
    };
    let (used, exact) = error("fp16");
    assert_eq!(
        (used.as_str(), exact),
        ("fp32", 0.0),
        "a CPU has no products of fp16"
    );
    let ((q8, small), (q4, larger)) = (error("q8"), error("q4"));
    assert_eq!((q8.as_str(), q4.as_str()), ("q8", "q4"));
    assert!(0.0 < small && small < 0.05, "q8 {small}");
    assert!(small < larger && larger < 0.5, "q4 {larger}");

    let mut program = parity(&work, &reference, &input);
    program.args(["--dtype", "q8"]).assert().success();
}

#[test]
fn a_reference_of_no_values_or_of_no_largest_one_is_refused() {
    let (work, input, _) = run();
    let reference = work.path().join("samples.safetensors");
    for (count, largest, part) in [
        (1, -4.0, "logits: the reference's values"),
        (1, f32::INFINITY, "logits.stats"),
        (1, f32::NAN, "logits.stats"),
        (0, 4.0, "logits: the reference holds no value"),
    ] {
        let [index, value] = [7_i32.to_le_bytes(), 0.5_f32.to_le_bytes()];
        let stats: Vec<u8> = [0.0, 1.0, largest]
            .iter()
            .flat_map(|v: &f32| v.to_le_bytes())
            .collect();
        let view = |dtype, shape: usize, bytes| {
            safetensors::tensor::TensorView::new(dtype, vec![shape], bytes).expect("it fits")
        };
        let (int, float) = (safetensors::Dtype::I32, safetensors::Dtype::F32);
        let tensors = [
            ("logits.idx", view(int, count, &index[..4 * count])),
            ("logits.val", view(float, count, &value[..4 * count])),
            ("logits.stats", view(float, 3, &stats[..])),
        ];
        let file = safetensors::serialize(tensors, None).expect("it has a form");
        std::fs::write(&reference, file).expect("written");
        let line = refused(&mut parity(&work, &reference, &input));
        assert!(line.contains(part), "{line}");
    }
}
