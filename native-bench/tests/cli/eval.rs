//! `eval`, by one process: what it counts, of what, and how it tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aim_web::config::{Config, Family};
use aim_web::weights::shards::synth::{self, Format};
use assert_cmd::Command;
use serde_json::Value;
use tempfile::tempdir;

use super::pictures::{parsed, run};
use super::{aim_bench, json, refused, test_file};

pub fn eval(root: &Path) -> Command {
    let mut program = aim_bench("eval");
    program.arg("--data-path").arg(root);
    program
}

/// A folder of links to the photographs of the tests, a class a folder, `times` of each.
pub fn photos(root: &Path, times: usize) {
    for class in fs::read_dir(test_file("photos")).expect("the photographs are there") {
        let class = class.expect("readable").path();
        if !class.is_dir() {
            continue;
        }
        let folder = root.join(class.file_name().expect("a name"));
        fs::create_dir_all(&folder).expect("created");
        for photo in fs::read_dir(&class).expect("readable") {
            let photo = photo.expect("readable").path();
            for n in 0..times {
                let name = format!("{n}-{}", photo.file_name().unwrap().to_string_lossy());
                fs::copy(&photo, folder.join(name)).expect("copied");
            }
        }
    }
}

/// A small random model of so many classes.
pub fn random_model(folder: &Path, num_classes: usize) -> PathBuf {
    let config = Config {
        embed_dim: 64,
        num_blocks: 2,
        num_heads: 2,
        num_classes,
        img_size: [56, 56],
        probe_layers: vec![0, 1],
        ..Family::Aim600M.config()
    };
    let path = folder.join(format!("model of {num_classes}"));
    synth::write(&config, 1, Format::Safetensors, &path, false).expect("written");
    path
}

#[test]
fn a_report_has_intervals_classes_and_confusion_in_every_form() {
    let work = tempdir().expect("a temporary folder");
    let (root, out) = (work.path().join("data"), work.path().join("report"));
    photos(&root, 1);
    let report = json(eval(&root).arg("--report").arg(&out));
    let pictures = report["pictures"].as_u64().unwrap();
    assert_eq!(pictures, 24);
    assert_eq!(report["top_1"], 24);
    assert_eq!(report["broken"], 0);
    let [low, high] = [0, 1].map(|i| report["top_1_interval"][i].as_f64().unwrap());
    assert!((86.0..87.0).contains(&low) && high > 99.99, "{low} {high}");
    let mean = report["mean_loss"].as_f64().unwrap();
    let [low, high] = [0, 1].map(|i| report["loss_interval"][i].as_f64().unwrap());
    assert!(low < mean && mean < high);
    assert!((report["loss"].as_f64().unwrap() / 24.0 - mean).abs() < 1e-9);
    let of_classes: u64 = report["classes"]
        .as_object()
        .unwrap()
        .values()
        .map(|class| class["pictures"].as_u64().unwrap())
        .sum();
    assert_eq!(of_classes, pictures);
    assert_eq!(report["confusion"]["dress"]["10"], 1);
    assert_eq!(report["classes_by"], "label");
    assert_eq!(report["model"]["name"], "aim-tiny");

    let text = |name: &str| fs::read_to_string(out.join(name)).expect("written");
    assert_eq!(parsed(&text("report.json")), report);
    let classes = text("classes.csv");
    assert!(
        classes.contains("\ndress,10,dress,1,1,1,100.0000,100.0000,"),
        "{classes}"
    );
    let confusion = text("confusion.csv");
    let rows: Vec<&str> = confusion.lines().collect();
    assert_eq!(rows.len(), 22);
    assert!(rows.iter().all(|row| row.split(',').count() == 22));
    let svg = text("confusion.svg");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("<title>dress as dress: 1 of 1</title>"));
    assert_eq!(parsed(&text("confusion.json"))["rows"][0]["class"], "0");

    let (code, shown, err) = run(eval(&root).args(["--progress", "lines"]));
    assert_eq!(code, 0);
    assert!(shown.contains("95% intervals: top-1 86."), "{shown}");
    assert!(err.starts_with("0 of 24 pictures\n"), "{err}");
    assert!(
        err.contains("24 of 24 pictures, ") && err.contains("/s") && err.contains("top-1 100.0%")
    );
}

#[test]
fn what_was_not_measured_has_no_figure() {
    let work = tempdir().expect("a temporary folder");
    let (root, out) = (work.path().join("data"), work.path().join("report"));
    fs::create_dir_all(root.join("5")).expect("created");
    fs::create_dir_all(root.join("dress")).expect("created");
    let broken = root.join("5/a.jpg");
    fs::write(&broken, b"no picture").expect("written");
    let (code, shown, err) = run(eval(&root).args(["--progress", "lines"]));
    assert_eq!(code, 1);
    assert!(
        shown.contains("95% intervals: top-1 -  top-5 -  loss -\n")
            && shown.contains("\ntop-1 -  top-5 -  loss -  (0 pictures, "),
        "{shown}"
    );
    assert!(!err.contains("top-1"), "{err}");
    let figures = [
        "top_1_percent",
        "top_5_percent",
        "mean_loss",
        "top_1_interval",
        "top_5_interval",
        "loss_interval",
    ];
    let (_, text, _) = run(eval(&root).arg("--report").arg(&out).arg("--json"));
    for figure in figures {
        assert_eq!(parsed(&text)[figure], Value::Null, "{figure}");
    }
    let classes = fs::read_to_string(out.join("classes.csv")).expect("written");
    assert!(classes.contains("\n5,5,5,0,0,0,,,\n"), "{classes}");

    // Of one picture it is not known how far others are from it.
    fs::copy(test_file("photos/5/signer017-1296.jpg"), &broken).expect("copied");
    let report = json(&mut eval(&root));
    for figure in &figures[..5] {
        assert!(!report[figure].is_null(), "{figure}");
    }
    assert_eq!(report["loss_interval"], Value::Null);
    let (_, shown, _) = run(&mut eval(&root));
    assert!(shown.contains("%  loss -\ntop-1 100.00%"), "{shown}");
}

#[test]
fn results_are_a_line_a_picture() {
    let work = tempdir().expect("a temporary folder");
    let (root, file) = (work.path().join("data"), work.path().join("results.jsonl"));
    photos(&root, 1);
    fs::write(root.join("5/broken.png"), b"").expect("written");
    let (code, _, _) = run(eval(&root).arg("--results-file").arg(&file));
    assert_eq!(code, 1);
    let text = fs::read_to_string(&file).expect("written");
    let lines: Vec<Value> = text.lines().map(parsed).collect();
    assert_eq!(lines.len(), 25);
    let paths = lines.iter().map(|line| line["path"].as_str().unwrap());
    assert_eq!(paths.collect::<BTreeSet<_>>().len(), 25);
    for line in &lines {
        if line["path"].as_str().unwrap().ends_with("broken.png") {
            assert!(line["error"].as_str().unwrap().contains("empty"));
            continue;
        }
        let own = json(aim_bench("classify").arg(line["path"].as_str().unwrap()));
        assert_eq!(line["top_5"], own[0]["predictions"]);
        assert_eq!(line["label"], line["top_5"][0]["label"]);
    }
    #[cfg(target_os = "linux")]
    {
        let (code, out, err) = run(eval(&root).args(["--results-file", "/dev/full"]));
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("/dev/full: can't be written"), "{err}");
    }
}

#[test]
fn classes_are_found_by_label_wnid_or_order() {
    let work = tempdir().expect("a temporary folder");
    let photo = test_file("photos/5/signer017-1296.jpg");
    let data = |name: &str, classes: &[&str]| {
        let root = work.path().join(name);
        for class in classes {
            let folder = root.join("val").join(class);
            fs::create_dir_all(&folder).expect("created");
            fs::copy(&photo, folder.join("a.JPEG")).expect("copied");
        }
        root
    };
    let thousand = random_model(work.path(), 1000);
    let report = json(
        eval(&data("wnids", &["n15075141", "n01440764"]))
            .arg("--model")
            .arg(&thousand),
    );
    assert_eq!(report["classes_by"], "wnid");
    assert_eq!(report["classes"]["n01440764"]["label"], "tench");
    assert_eq!(report["classes"]["n01440764"]["index"], 0);
    assert_eq!(report["classes"]["n15075141"]["index"], 999);
    let report = json(&mut eval(&data("one", &["dress"])));
    assert_eq!(report["classes_by"], "label");
    assert_eq!(report["pictures"], 1);

    let three = random_model(work.path(), 3);
    let (code, out, err) = run(eval(&data("order", &["b", "a", "c"]))
        .arg("--model")
        .arg(&three)
        .arg("--json"));
    assert_eq!(code, 0, "{err}");
    assert!(
        err.starts_with("note: ") && err.contains("in their order"),
        "{err}"
    );
    let report = parsed(&out);
    assert_eq!(report["classes_by"], "order");
    assert_eq!(report["classes"]["b"]["index"], 1);

    let line = refused(&mut eval(&data("strangers", &["5", "gown"])));
    assert!(line.contains("\"gown\""), "{line}");
}

#[test]
fn what_is_not_meant_to_be_there_is_reported() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    let photo = test_file("photos/5/signer017-1296.jpg");
    for folder in ["5", "dress", ".ipynb_checkpoints"] {
        fs::create_dir_all(root.join(folder)).expect("created");
    }
    fs::write(root.join("labels.txt"), b"not a class").expect("written");
    fs::write(root.join("5/notes.txt"), b"not a picture").expect("written");
    let line = refused(&mut eval(&root));
    assert!(line.contains("holds no picture"), "{line}");
    // Other scripts, line ends, no text at all.
    for name in [".hidden.jpg", "один два.jpg", "two\nlines.png", "五.webp"] {
        fs::copy(&photo, root.join("5").join(name)).expect("copied");
    }
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt as _;
        let name = std::ffi::OsStr::from_bytes(b"\xff\xfe.jpg");
        fs::write(root.join("5").join(name), b"GIF").expect("written");
    }
    let results = work.path().join("results.jsonl");
    let (code, out, err) = run(eval(&root)
        .arg("--results-file")
        .arg(&results)
        .arg("--json"));
    let is_linux = cfg!(target_os = "linux");
    assert_eq!(code, i32::from(is_linux), "{err}");
    let report = parsed(&out);
    assert_eq!(report["pictures"], 4);
    assert_eq!(report["data"]["hidden"], 1);
    assert_eq!(
        report["data"]["empty_classes"],
        serde_json::json!(["dress"])
    );
    if is_linux {
        assert_eq!(report["broken"], 1);
        let image = report["errors"][0]["image"].as_str().unwrap();
        assert!(image.ends_with("\\xff\\xfe.jpg"), "{image}");
    }
    let text = fs::read_to_string(&results).expect("written");
    assert_eq!(text.lines().count(), 4 + usize::from(is_linux));
    assert!(text.contains("two\\nlines.png") && text.contains("один два.jpg"));
    let (_, out, _) = run(&mut eval(&root));
    assert!(out.contains("1 classes have no picture: dress"), "{out}");
    assert!(out.contains("1 of the pictures are hidden files"), "{out}");

    // --strict stops.
    if is_linux {
        let line = refused(eval(&root).arg("--strict"));
        assert!(line.contains(".jpg"), "{line}");
    }
    let line = refused(&mut eval(&root.join("nowhere")));
    assert!(line.contains("no such file or folder"), "{line}");
    let line = refused(&mut eval(&photo));
    assert!(
        line.contains("neither a folder nor .tar nor .parquet"),
        "{line}"
    );
}

#[test]
fn a_gpu_takes_batches() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    photos(&root, 1);
    // The first, the last, and more in a row than a batch holds.
    for n in 0..9 {
        fs::write(root.join(format!("0/{n}.jpg")), b"no picture").expect("written");
    }
    fs::write(root.join("t-shirt/zz.jpg"), b"no picture").expect("written");
    let model = random_model(work.path(), 21);
    let report = |device: &str, batch: &str| {
        let results = work.path().join(format!("{device} {batch}"));
        let mut program = Command::new(env!("CARGO_BIN_EXE_aim-bench"));
        program.args([
            "eval",
            "--device",
            device,
            "--batch-size",
            batch,
            "--dtype",
            "fp32",
        ]);
        program
            .arg("--model")
            .arg(&model)
            .arg("--data-path")
            .arg(&root);
        let (code, out, err) = run(program.arg("--results-file").arg(&results).arg("--json"));
        assert_eq!(code, 1, "{err}");
        let lines = fs::read_to_string(results).expect("written");
        let paths: Vec<String> = lines
            .lines()
            .map(|line| parsed(line)["path"].as_str().unwrap().to_owned())
            .collect();
        (parsed(&out), paths)
    };
    let (cpu, paths) = report("cpu", "1");
    assert_eq!(cpu["errors"].as_array().map(Vec::len), Some(10));
    for batch in ["1", "3", "100"] {
        let (gpu, own_paths) = report("gpu", batch);
        assert!(gpu["device"].as_str().unwrap().starts_with("GPU"));
        assert_eq!((&gpu["pictures"], &gpu["broken"]), (&24.into(), &10.into()));
        assert_eq!(gpu["errors"], cpu["errors"]);
        assert_eq!(own_paths, paths);
        let loss = |report: &Value| report["mean_loss"].as_f64().unwrap();
        assert!((loss(&gpu) - loss(&cpu)).abs() < 1e-4, "{gpu}");
    }
}

#[test]
fn batches_and_threads_change_nothing() {
    let work = tempdir().expect("a temporary folder");
    photos(work.path(), 1);
    let one = json(eval(work.path()).args(["--threads", "1"]));
    for options in [["--threads", "3"], ["--batch-size", "7"]] {
        assert_eq!(json(eval(work.path()).args(options)), one);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn results_go_to_devices_and_pipes() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    photos(&root, 1);
    let parts = work.path().join("parts");
    for _ in 0..2 {
        let (code, out, err) = run(eval(&root)
            .args(["--results-file", "/dev/null", "--json", "--parts"])
            .arg(&parts));
        assert_eq!(code, 0, "{err}");
        assert_eq!(parsed(&out)["pictures"], 24);
        assert!(parsed(&out)["results"].is_null());
    }
    let (code, out, err) = run(eval(&root).args(["--results-file", "/dev/stdout"]));
    assert_eq!(code, 0, "{err}");
    // What people are told is not among them.
    let lines: Vec<Value> = out.lines().map(parsed).collect();
    assert_eq!(lines.len(), 24, "{out}");
    assert!(err.contains("top-1 100.00%"), "{err}");
    let line = refused(eval(&root).args(["--results-file", "/dev/stdout", "--json"]));
    assert!(line.contains("--results-file and --json"), "{line}");
    // A file that a shell put there keeps what it had.
    let file = work.path().join("all.jsonl");
    fs::write(&file, "earlier\n").expect("written");
    for path in [Path::new("/dev/stdout"), &file] {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_aim-bench"));
        program.args([
            "eval",
            "--device",
            "cpu",
            "--progress",
            "off",
            "--data-path",
        ]);
        program.arg(&root).arg("--results-file").arg(path);
        let appended = fs::OpenOptions::new().append(true).open(&file);
        let output = program.stdout(appended.expect("it is there")).output();
        assert!(output.expect("it starts").status.success());
    }
    let text = fs::read_to_string(&file).expect("written");
    let (first, lines) = text.split_once('\n').expect("lines");
    assert_eq!(first, "earlier");
    assert_eq!(lines.lines().map(parsed).count(), 48);
    // Each process would have a name of its own beside it.
    let (code, _, err) = run(eval(&root).args([
        "--results-file",
        "/dev/null",
        "--rank",
        "0",
        "--world-size",
        "2",
    ]));
    assert_eq!(code, 0, "{err}");
    assert!(!Path::new("/dev/null-00000-of-00002").exists());
}
