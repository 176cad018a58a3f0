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
fn options_that_would_do_nothing_are_refused() {
    let eval = ["eval", "--data-path", "d"];
    for (command, options, part) in [
        (&eval[..], "--save-every 5", "--parts"),
        (
            &eval,
            "--device gpu --adapter 0 --local-rank 0",
            "--local-rank",
        ),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_aim-bench"));
        let assert = program.args(command).args(options.split(' ')).assert();
        assert.code(2).stderr(contains(part));
    }
    let tiny = super::test_file("../models/aim-tiny");
    let tiny = tiny.to_str().expect("UTF-8");
    for (command, options, part) in [
        (
            &["bench"][..],
            "--device gpu,webgpu --threads 1,2",
            "--threads",
        ),
        (&["inspect", tiny], "--arch aim-7B", "--arch"),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_aim-bench"));
        let line = refused(program.args(command).args(options.split(' ')));
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn fp16_on_a_cpu_is_told_of() {
    let picture = super::test_file("pictures/tiny_50x37.png");
    let mut program = aim_bench("classify");
    program.arg(picture).args(["--dtype", "fp16"]);
    let assert = program.assert().success();
    assert.stderr(contains("fp32 runs in its place"));
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
fn values_out_of_range_exit_with_2() {
    let train = ["train", "--data-path", "d", "--output", "o"];
    let preprocess = ["preprocess", "a.png", "--output", "o"];
    let eval = ["eval", "--data-path", "d"];
    let features = ["features", "--data-path", "d", "--output", "o"];
    for (command, option, part) in [
        (&train[..], "--val-split=2", "from 0 to below 1"),
        (&train, "--val-split=1", "from 0 to below 1"),
        (&train, "--val-split=-1", "from 0 to below 1"),
        (&train, "--val-split=NaN", "from 0 to below 1"),
        (&train, "--val-split=half", "--val-split"),
        (&train, "--lr=5", "above 0 and at most 1"),
        (&train, "--lr=0", "above 0 and at most 1"),
        (&train, "--lr=fast", "--lr"),
        (&train, "--epochs=0", "--epochs"),
        (&preprocess, "--img-size=0", "1 to 4096"),
        (&preprocess, "--img-size=4097", "1 to 4096"),
        (&preprocess, "--img-size=-1", "--img-size"),
        (&eval, "--batch-size=0", "--batch-size"),
        (&eval, "--save-every=-1", "--save-every"),
        (
            &eval,
            "--rank=2 --world-size=2",
            "--rank 2 of --world-size 2",
        ),
        (&eval, "--rank=0 --world-size=0", "--world-size"),
        (
            &features,
            "--rank=9 --world-size=2",
            "--rank 9 of --world-size 2",
        ),
        (&features, "--partitions=0", "--partitions"),
        (&features, "--layers=", "--layers"),
        (&["bench"], "--warmup=4294967295", "--warmup"),
        (&["bench"], "--batch=0", "--batch"),
        (&["bench"], "--time-limit=-1", "--time-limit"),
    ] {
        let mut program = aim_bench(command[0]);
        let options = option.split(' ');
        let assert = program.args(&command[1..]).args(options).assert().code(2);
        assert.stderr(contains(part));
    }
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
