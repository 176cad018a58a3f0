//! Standard output that nobody reads, or that has no room.
#![cfg(unix)]

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use aim_web::config::{Config, Family};
use aim_web::weights::shards::synth::{self, Format};
use tempfile::tempdir;

use super::test_file;

/// Every command, and help.
fn commands(work: &Path) -> Vec<Vec<String>> {
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let photo = text(&test_file("photos/5/signer017-1296.jpg"));
    let input = text(&work.join("input.safetensors"));
    let output = text(&work.join("output.safetensors"));
    let data = work.join("data/val/5");
    std::fs::create_dir_all(&data).expect("created");
    std::fs::copy(&photo, data.join("photo.jpg")).expect("copied");
    let made = Command::new(env!("CARGO_BIN_EXE_aim-bench"))
        .args([
            "preprocess",
            &photo,
            "--img-size",
            "112",
            "--output",
            &input,
        ])
        .output()
        .expect("it starts");
    assert!(made.status.success());
    let made = Command::new(env!("CARGO_BIN_EXE_aim-bench"))
        .args([
            "run", "--device", "cpu", "--input", &input, "--output", &output,
        ])
        .output()
        .expect("it starts");
    assert!(made.status.success());
    let data = text(&work.join("data"));
    let shards = text(&work.join("shards"));
    let floats = work.join("floats");
    if !floats.exists() {
        let config = Config {
            embed_dim: 64,
            num_blocks: 1,
            num_heads: 2,
            num_classes: 3,
            probe_layers: vec![0],
            ..Family::Aim600M.config()
        };
        synth::write(&config, 1, Format::Safetensors, &floats, false).expect("written");
    }
    let floats = text(&floats);
    [
        &["classify", "--device", "cpu", &photo, &photo][..],
        &["classify", "--device", "cpu", &photo, "--json"],
        &["eval", "--device", "cpu", "--data-path", &data],
        &[
            "run",
            "--device",
            "cpu",
            "--input",
            &input,
            "--output",
            &input.replace("input", "o"),
        ],
        &[
            "preprocess",
            &photo,
            "--output",
            &input.replace("input", "p"),
        ],
        &["inspect"],
        &["inspect", "--json"],
        &[
            "parity",
            "--device",
            "cpu",
            "--reference",
            &output,
            "--input",
            &input,
        ],
        &[
            "convert",
            "--model",
            &floats,
            "--output",
            &shards,
            "--overwrite",
        ],
        &["cache", "list", "--json"],
        &["--help"],
        &["--version"],
        &["classify", "--help"],
    ]
    .iter()
    .map(|args| args.iter().map(|&arg| arg.to_owned()).collect())
    .collect()
}

fn run(args: &[String], home: &Path, stdout: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aim-bench"))
        .args(args)
        .env("HF_HOME", home)
        .stdout(stdout)
        .output()
        .expect("it starts")
}

/// The end of a pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_closed_pipe_ends_every_command_quietly() {
    let work = tempdir().expect("a temporary folder");
    for args in commands(work.path()) {
        let Output { status, stderr, .. } = run(&args, work.path(), closed_pipe());
        assert_eq!(String::from_utf8_lossy(&stderr), "", "{args:?}");
        assert_eq!(status.code(), Some(141), "{args:?}");
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let work = tempdir().expect("a temporary folder");
    for args in commands(work.path()) {
        let full = OpenOptions::new().write(true).open("/dev/full");
        let full = Stdio::from(full.expect("Linux has it"));
        let Output { status, stderr, .. } = run(&args, work.path(), full);
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert!(
            stderr.starts_with("error: standard output: "),
            "{args:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        assert_eq!(status.code(), Some(1), "{args:?}");
    }
}

#[test]
fn reports_that_can_not_be_written_are_refused_before_the_sweep() {
    let work = tempdir().expect("a temporary folder");
    let long = "n".repeat(300);
    for name in ["charts/", "no/chart.svg", &long] {
        let svg = work.path().join(name);
        let args = ["bench", "--synthetic", "64x2", "--device", "cpu", "--svg"];
        let mut args = args.map(str::to_owned).to_vec();
        args.push(svg.display().to_string());
        let Output { status, stdout, .. } = run(&args, work.path(), Stdio::piped());
        assert_eq!(status.code(), Some(1), "{name}");
        assert!(stdout.is_empty(), "{name}");
    }
    let there = std::fs::read_dir(work.path()).expect("listed");
    assert_eq!(there.count(), 0);
}

#[test]
fn files_of_an_earlier_sweep_stay_if_this_one_does_not_end() {
    let work = tempdir().expect("a temporary folder");
    let files = ["bench.svg", "bench.md"].map(|name| work.path().join(name));
    for file in &files {
        std::fs::write(file, "earlier").expect("written");
    }
    let [svg, page] = files.each_ref().map(|file| file.to_str().expect("UTF-8"));
    let args = [
        "bench",
        "--synthetic",
        "64x2",
        "--device",
        "cpu",
        "--batch",
        "1",
        "--warmup",
        "0",
        "--runs",
        "1",
        "--svg",
        svg,
        "--markdown",
        page,
    ]
    .map(str::to_owned);
    let Output { status, .. } = run(&args, work.path(), closed_pipe());
    assert_eq!(status.code(), Some(141));
    for file in &files {
        let text = std::fs::read_to_string(file).expect("it is there");
        assert_eq!(text, "earlier");
    }
    let there = std::fs::read_dir(work.path()).expect("listed");
    assert_eq!(there.count(), files.len());
}

#[test]
fn errors_that_nobody_reads_are_no_panic() {
    for args in [&["classify", "missing.png"][..], &["classify"]] {
        let status = Command::new(env!("CARGO_BIN_EXE_aim-bench"))
            .args(args)
            .stdout(File::create("/dev/null").expect("it is there"))
            .stderr(closed_pipe())
            .status()
            .expect("it starts");
        assert!(matches!(status.code(), Some(1 | 2)), "{status}");
    }
}

#[test]
fn data_on_standard_output_are_alone_there() {
    let work = tempdir().expect("a temporary folder");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let photo = text(&test_file("photos/5/signer017-1296.jpg"));
    let run = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let output = run(&args, work.path(), Stdio::piped());
        let told = String::from_utf8(output.stderr).expect("UTF-8");
        (output.status.code(), output.stdout, told)
    };
    let of_picture = ["preprocess", &photo, "--img-size", "112", "--output"];
    let to_stdout = [&of_picture[..], &["/dev/stdout"]].concat();
    let (code, input, told) = run(&to_stdout);
    assert_eq!(code, Some(0), "{told}");
    safetensors::SafeTensors::deserialize(&input).expect("nothing else is there");
    assert!(run(&[&of_picture[..], &["-"]].concat()).1 == input);
    assert!(!Path::new("-").exists());
    assert!(told.contains("input [1, 3, 112, 112]"), "{told}");
    let (code, out, told) = run(&[&to_stdout[..], &["--json"]].concat());
    assert_eq!((code, out.len()), (Some(1), 0));
    assert!(told.contains("--output and --json would both"), "{told}");

    let file = text(&work.path().join("input.safetensors"));
    std::fs::write(&file, input).expect("written");
    let cpu = ["run", "--device", "cpu", "--input", &file, "--output"];
    let (code, out, told) = run(&[&cpu[..], &["/dev/stdout"]].concat());
    assert_eq!(code, Some(0), "{told}");
    safetensors::SafeTensors::deserialize(&out).expect("nothing else is there");
    assert!(told.contains("logits [1, 21]"), "{told}");

    let bench = [
        "bench",
        "--synthetic",
        "64x1",
        "--device",
        "cpu",
        "--batch",
        "1",
        "--runs",
        "1",
    ];
    let (code, out, told) = run(&[&bench[..], &["--svg", "/dev/stdout"]].concat());
    assert_eq!(code, Some(0), "{told}");
    let svg = String::from_utf8(out).expect("UTF-8");
    roxmltree::Document::parse(&svg).expect("nothing else is there");
    assert!(told.contains("64x1 on cpu"), "{told}");
    let both = ["--svg", "/dev/stdout", "--markdown", "/dev/stdout"];
    let (code, _, told) = run(&[&bench[..], &both].concat());
    assert_eq!(code, Some(1));
    assert!(told.contains("--svg and --markdown would both"), "{told}");

    // Who stops reading ends it as quietly as elsewhere.
    let args: Vec<String> = to_stdout.iter().map(|&arg| arg.to_owned()).collect();
    let Output { status, stderr, .. } = self::run(&args, work.path(), closed_pipe());
    assert_eq!((status.code(), stderr.len()), (Some(141), 0));
}
