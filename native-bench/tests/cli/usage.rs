//! What is wrong with a command line is said, with exit code 2.

use assert_cmd::Command;
use predicates::str::contains;

use super::{aim_bench, refused};

#[test]
fn wrong_options_exit_with_2() {
    for (args, part) in [
        (&["classify"][..], "IMAGE"),
        (&["classify", "a.png", "--device", "tpu"], "auto, gpu, cpu"),
        (&["classify", "a.png", "--dtype", "int3"], "fp32"),
        (&["classify", "a.png", "--top-k", "0"], "--top-k"),
        (&["classify", "a.png", "--threads", "0"], "--threads"),
        (&["classify", "a.png", "--probe-layers", "first"], "best"),
        (&["classify", "a.png", "--arch", "aim-2B"], "aim-600M"),
        (&["classify", "a.png", "--backbone", "b.pth"], "--head"),
        (&["walk"], "walk"),
    ] {
        Command::new(env!("CARGO_BIN_EXE_aim-bench"))
            .args(args)
            .assert()
            .code(2)
            .stderr(contains(part));
    }
}

#[test]
fn a_model_that_is_not_there_is_named() {
    for model in ["no/such/folder", "missing"] {
        let line = refused(aim_bench("classify").args(["a.png", "--model", model]));
        assert!(
            line.contains(model) && line.contains("no such file or directory"),
            "{line}"
        );
    }
}

#[test]
fn probe_layers_out_of_range_are_refused() {
    let line = refused(aim_bench("classify").args(["a.png", "--probe-layers", "0,99"]));
    assert!(line.contains("block 99"), "{line}");
}

#[test]
fn tolerances_that_are_none_exit_with_2() {
    for tolerance in ["NaN", "-1", "inf"] {
        aim_bench("parity")
            .args(["--reference", "r.safetensors"])
            .arg(format!("--tolerance={tolerance}"))
            .assert()
            .code(2)
            .stderr(contains("--tolerance"));
    }
}
