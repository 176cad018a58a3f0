//! `bench` and `devices`: every option, and what comes out. Nothing here is about how long something takes.

use assert_cmd::Command;
use predicates::str::contains;
use serde_json::Value;
use tempfile::tempdir;

/// What every entry of `--json` holds.
const FIELDS: [&str; 12] = [
    "device",
    "adapter",
    "dtype",
    "batch",
    "threads",
    "ms_per_image",
    "images_per_second",
    "tflops",
    "peak_share",
    "load_s",
    "peak_host_bytes",
    "peak_device_bytes",
];

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_aim-bench"))
}

/// A small model, measured no longer than it must be.
fn bench(args: &[&str]) -> Command {
    let mut program = program();
    program
        .args([
            "bench",
            "--synthetic",
            "64x2",
            "--warmup",
            "1",
            "--runs",
            "2",
        ])
        .args(args);
    program
}

fn rows(args: &[&str]) -> Vec<Value> {
    let rows = super::json(&mut bench(args));
    rows.as_array().expect("a list").clone()
}

fn number(row: &Value, field: &str) -> f64 {
    let number = row[field].as_f64();
    number.unwrap_or_else(|| panic!("{field} of {row} is no number"))
}

#[test]
fn every_combination_on_the_cpu_has_all_figures() {
    let rows = rows(&[
        "--device",
        "cpu",
        "--dtype",
        "fp32,q8,q4",
        "--batch",
        "3,1",
        "--threads",
        "1,2",
    ]);
    let settings: Vec<(String, u64, u64)> = rows
        .iter()
        .map(|row| {
            let dtype = row["dtype"].as_str().expect("a name").to_owned();
            let count = |field: &str| row[field].as_u64().expect("a count");
            (dtype, count("threads"), count("batch"))
        })
        .collect();
    let mut expected = Vec::new();
    for dtype in ["fp32", "q8", "q4"] {
        for threads in [1, 2] {
            for batch in [1, 3] {
                expected.push((dtype.to_owned(), threads, batch));
            }
        }
    }
    assert_eq!(settings, expected);
    for row in &rows {
        for field in FIELDS {
            assert!(row.get(field).is_some(), "{field} of {row}");
        }
        assert_eq!(
            (&row["device"], &row["peak_device_bytes"]),
            (&"cpu".into(), &Value::Null)
        );
        assert_eq!(row["probe_layers"], serde_json::json!([1]));
        let (ms, speed) = (
            number(row, "ms_per_image"),
            number(row, "images_per_second"),
        );
        assert!((ms * speed / 1e3 - 1.0).abs() < 1e-9, "{row}");
        // 256 patches of 588 values, two blocks of 64 channels, the probe and 1000 classes.
        let products = 256.0 * 64.0 * 588.0
            + 2.0 * (12.0 * 256.0 * 64.0 * 64.0 + 2.0 * 256.0 * 256.0 * 64.0)
            + 2.0 * 256.0 * 64.0 * 64.0
            + 2.0 * 256.0 * 64.0
            + 1000.0 * 64.0;
        let tflops = 2.0 * products / (ms / 1e3) / 1e12;
        assert!((number(row, "tflops") / tflops - 1.0).abs() < 1e-9, "{row}");
        let share = number(row, "tflops") / number(row, "peak_tflops");
        assert!(
            (number(row, "peak_share") / share - 1.0).abs() < 1e-9,
            "{row}"
        );
        assert!(number(row, "ms_lowest") <= ms && ms <= number(row, "ms_highest"));
        assert_eq!(row["runs"].as_u64(), Some(2));
        assert!(number(row, "load_s") > 0.0);
        assert!(number(row, "peak_host_bytes") > 1e6);
        assert!(row.get("joules_per_image").is_some());
    }
}

#[test]
fn a_gpu_is_measured_too_and_threads_are_not_its_own() {
    let rows = rows(&[
        "--device",
        "gpu,webgpu",
        "--dtype",
        "fp16,q4",
        "--batch",
        "2",
        "--threads",
        "2",
    ]);
    let measured: Vec<_> = rows
        .iter()
        .map(|row| (row["device"].as_str(), row["dtype"].as_str()))
        .collect();
    let expected = ["gpu", "webgpu"]
        .iter()
        .flat_map(|device| ["fp16", "q4"].map(|dtype| (Some(*device), Some(dtype))));
    assert_eq!(measured, expected.collect::<Vec<_>>());
    for row in &rows {
        assert_eq!(row["threads"], Value::Null);
        assert!(row["adapter"].as_str().is_some_and(|name| !name.is_empty()));
        // At least what the two pictures take.
        assert!(number(row, "peak_device_bytes") > 1e6, "{row}");
        assert!(number(row, "peak_share") > 0.0, "{row}");
    }
}

#[test]
fn several_numbers_of_threads_are_for_the_cpu() {
    let mut program = bench(&["--device", "gpu,cpu", "--dtype", "q4", "--batch", "1"]);
    let assert = program.args(["--threads", "1,2", "--json"]).assert();
    let output = assert.success().get_output().clone();
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
    let threads: Vec<Option<u64>> = rows.iter().map(|row| row["threads"].as_u64()).collect();
    assert_eq!(threads, [None, Some(1), Some(2)]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("the first of several --threads"), "{told}");
}

#[test]
fn a_model_in_files_is_measured_with_each_probe() {
    let rows = super::json(program().args([
        "bench",
        "--device",
        "cpu",
        "--batch",
        "1",
        "--runs",
        "1",
        "--warmup",
        "0",
        "--probe-layers",
        "last",
        "--probe-layers",
        "0,1",
    ]));
    let layers: Vec<Value> = rows
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["probe_layers"].clone())
        .collect();
    assert_eq!(
        layers,
        [
            serde_json::json!([0, 1, 2, 3, 4, 5]),
            serde_json::json!([0, 1])
        ]
    );
    assert_eq!(rows[0]["model"], "aim-tiny");
    assert_eq!(rows[0]["dtype"], "q8");
}

#[test]
fn a_table_a_picture_and_a_page() {
    let folder = tempdir().expect("a temporary folder");
    let (svg, page) = (
        folder.path().join("bench.svg"),
        folder.path().join("bench.md"),
    );
    let assert = bench(&["--device", "cpu", "--dtype", "fp16", "--batch", "1,2"])
        .arg("--svg")
        .arg(&svg)
        .arg("--markdown")
        .arg(&page)
        .assert()
        .success()
        .stderr(contains("fp32 is measured in its place"));
    let table = String::from_utf8(assert.get_output().stdout.clone()).expect("UTF-8");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("64x2 on cpu: "), "{table}");
    assert!(
        lines[1].contains("images/s") && lines[1].contains("of peak"),
        "{table}"
    );
    assert!(
        lines[2].trim_start().starts_with("cpu") && lines[2].contains("fp32"),
        "{table}"
    );
    assert_eq!(lines.len(), 4, "{table}");
    let svg = std::fs::read_to_string(svg).expect("it was written");
    let picture = roxmltree::Document::parse(&svg).expect("it is well formed");
    let bars = picture
        .descendants()
        .filter(|node| node.has_tag_name("rect"));
    assert_eq!(bars.count(), 3, "the ground and two bars");
    let page = std::fs::read_to_string(page).expect("it was written");
    assert_eq!(page.lines().count(), 4, "{page}");
    assert!(page.starts_with("| model | adapter | device |"), "{page}");
}

#[test]
fn what_cannot_be_measured_is_a_row_and_the_next_follows() {
    let output = bench(&[
        "--device",
        "cpu",
        "--dtype",
        "fp32",
        "--batch",
        "1",
        "--probe-layers",
        "7",
        "--probe-layers",
        "0",
        "--json",
    ])
    .assert()
    .code(1)
    .stderr(contains("block 7"))
    .get_output()
    .stdout
    .clone();
    let rows: Value = serde_json::from_slice(&output).expect("JSON");
    assert_eq!(rows[0]["error"]["code"], "option");
    assert_eq!(rows[0]["ms_per_image"], Value::Null);
    assert!(number(&rows[1], "ms_per_image") > 0.0);
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_it_is_made() {
    let args = [
        "--synthetic",
        "16384x512",
        "--device",
        "cpu",
        "--dtype",
        "fp32",
        "--batch",
        "8",
        "--json",
    ];
    let assert = program().arg("bench").args(args).assert().code(1);
    let rows: Value = serde_json::from_slice(&assert.get_output().stdout).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    assert_eq!(rows[0]["error"]["code"], "out_of_memory");
    assert_eq!(rows[0]["load_s"], Value::Null);
    let message = rows[0]["error"]["message"].as_str().expect("a text");
    assert!(message.contains("not even q4 fits"), "{message}");
}

#[test]
fn wrong_options_are_errors() {
    for (args, part) in [
        (&["--synthetic", "aim-2B"][..], "aim-600M"),
        (&["--synthetic", "6x2"], "multiple of 4"),
        (
            &["--synthetic", "tiny", "--model", "x"],
            "cannot be used with",
        ),
        (&["--batch", "0"], "--batch"),
        (&["--batch", "1,many"], "--batch"),
        (&["--runs", "0"], "--runs"),
        (&["--seconds=-1"], "--seconds"),
        (&["--device", "cpu,tpu"], "auto, gpu, cpu"),
        (&["--dtype", "fp32,int3"], "fp32"),
        (&["--threads", "1,0"], "--threads"),
        (&["--probe-layers", "first"], "best"),
    ] {
        let assert = program().arg("bench").args(args).assert();
        assert.code(2).stderr(contains(part));
    }
    let line = super::refused(bench(&[]).args(["--device", "cpu", "--adapter", "0"]));
    assert!(line.contains("--adapter"), "{line}");
    for command in ["bench", "classify"] {
        let mut program = program();
        program
            .arg(command)
            .args(["--device", "gpu", "--adapter", "99"]);
        if command == "classify" {
            program.arg(super::test_file("pictures/tiny_50x37.png"));
        }
        program.assert().code(1).stderr(contains("adapter 99"));
    }
    // Before anything is measured.
    let folder = tempdir().expect("a temporary folder");
    let folder = folder.path().to_str().expect("UTF-8");
    for option in ["--svg", "--markdown"] {
        for place in ["/no/such/folder/bench.svg", folder] {
            let line = super::refused(bench(&["--device", "cpu"]).args([option, place]));
            assert!(line.contains(place), "{line}");
            assert!(line.contains("can't be written"), "{line}");
        }
    }
}

#[test]
fn parts_are_not_in_the_help() {
    let assert = program().arg("--help").assert().success();
    let help = String::from_utf8(assert.get_output().stdout.clone()).expect("UTF-8");
    assert!(
        help.contains("bench ") && help.contains("devices "),
        "{help}"
    );
    assert!(
        !help.contains("bench-model") && !help.contains("bench-peak"),
        "{help}"
    );
}

#[test]
fn devices_are_listed_with_their_numbers() {
    let devices = super::json(program().arg("devices"));
    let devices = devices.as_array().expect("a list");
    let gpus: Vec<&Value> = devices
        .iter()
        .filter(|device| device["device"] == "gpu")
        .collect();
    assert!(!gpus.is_empty(), "the GPU tests need an adapter");
    for (number, gpu) in gpus.iter().enumerate() {
        assert_eq!(gpu["number"].as_u64(), Some(number as u64));
        assert!(number_of(gpu, "largest_buffer_bytes") >= 128 << 20);
    }
    let defaults = gpus.iter().filter(|gpu| gpu["default"] == true);
    assert!(defaults.count() >= 1);
    let cpu = devices.last().expect("a CPU");
    assert_eq!(cpu["device"], "cpu");
    assert!(number_of(cpu, "memory_bytes") > 1 << 26);

    let text = program().arg("devices").assert().success();
    let text = String::from_utf8(text.get_output().stdout.clone()).expect("UTF-8");
    assert!(text.contains("gpu 0") && text.contains("\ncpu "), "{text}");

    // A number is taken by every command.
    let logits = program()
        .args([
            "bench",
            "--synthetic",
            "64x1",
            "--adapter",
            "0",
            "--batch",
            "1",
            "--runs",
            "1",
            "--json",
        ])
        .assert()
        .success();
    let rows: Value = serde_json::from_slice(&logits.get_output().stdout).expect("JSON");
    assert_eq!(rows[0]["adapter"], gpus[0]["adapter"]);
}

fn number_of(device: &Value, field: &str) -> u64 {
    device[field].as_u64().expect("a number")
}

#[test]
fn a_gpu_with_the_kernels_of_a_browser_is_one_too() {
    let rows = rows(&["--device", "webgpu,gpu", "--dtype", "q8", "--batch", "1"]);
    let devices: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["device"].as_str())
        .collect();
    assert_eq!(devices, ["webgpu", "gpu"]);
    assert_eq!(rows[0]["adapter"], rows[1]["adapter"]);
    assert!(rows.iter().all(|row| number(row, "ms_per_image") > 0.0));
}

#[test]
fn a_way_that_is_not_built_in_says_how_to_get_it() {
    let ways = [
        ("vulkan", cfg!(feature = "vulkan")),
        ("metal", cfg!(feature = "metal")),
        ("cuda", cfg!(feature = "cuda")),
    ];
    for (way, is_built_in) in ways {
        if is_built_in {
            continue;
        }
        program()
            .args(["classify", "--device", way])
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../tests/pictures/cmyk.jpg.crop.png"
            ))
            .assert()
            .failure()
            .stderr(contains(format!("--features {way}")));
    }
}

#[cfg(unix)]
#[test]
fn a_report_through_a_pipe_reaches_who_reads_it_and_no_other_report_is_lost() {
    let work = tempdir().expect("a temporary folder");
    let [pipe, page] = ["bench.svg", "bench.md"].map(|name| work.path().join(name));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo is there").success());
    let read = {
        let pipe = pipe.clone();
        std::thread::spawn(move || std::fs::read_to_string(pipe))
    };
    let mut program = bench(&["--device", "cpu", "--json", "--svg"]);
    program.arg(&pipe).arg("--markdown").arg(&page);
    program.assert().success();
    let svg = read.join().expect("no panic").expect("UTF-8");
    roxmltree::Document::parse(&svg).expect("it is well formed");
    assert!(page.is_file());
    let is_pipe = |path: &std::path::Path| {
        use std::os::unix::fs::FileTypeExt as _;
        std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo())
    };
    assert!(is_pipe(&pipe));
}

#[test]
fn parts_end_with_the_sweep() {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::Stdio;

    // The second batch would take minutes.
    let mut sweep = std::process::Command::new(env!("CARGO_BIN_EXE_aim-bench"))
        .args(["bench", "--synthetic", "64x2", "--device", "cpu"])
        .args(["--threads", "1", "--batch", "1,256", "--warmup", "0"])
        .args(["--runs", "2000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(sweep.stdout.take().expect("a pipe")).lines();
    let first = lines.by_ref().map(|line| line.expect("UTF-8"));
    let row = first.take(3).last().expect("a row");
    assert!(row.trim_start().starts_with("cpu"), "{row}");
    sweep.kill().expect("it is ours");
    sweep.wait().expect("it is ours");
    // A part has the other end of this pipe for as long as it is there.
    let mut errors = sweep.stderr.take().expect("a pipe");
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(errors.read_to_end(&mut Vec::new())));
    let long = std::time::Duration::from_secs(60);
    assert!(ended.recv_timeout(long).is_ok(), "a part is still there");
}

#[test]
fn one_file_does_not_take_two_reports() {
    let work = tempdir().expect("a temporary folder");
    let file = work.path().join("report");
    std::fs::create_dir(work.path().join("inner")).expect("created");
    for other in [file.clone(), work.path().join("inner/../report")] {
        let mut program = bench(&["--device", "cpu", "--svg"]);
        let line = super::refused(program.arg(&file).arg("--markdown").arg(other));
        assert!(line.contains("--svg and --markdown are one file"), "{line}");
    }
    assert_eq!(std::fs::read_dir(work.path()).expect("readable").count(), 1);
}
