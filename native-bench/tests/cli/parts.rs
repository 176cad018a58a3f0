//! `eval` by several processes, and `merge`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::tempdir;

use super::eval::{eval, photos, random_model};
use super::pictures::{parsed, run};
use super::{json, refused, test_file};

/// The variables that launchers set: of a test's own launcher there must be none.
const VARIABLES: &[&str] = &[
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "PMI_RANK",
    "PMI_SIZE",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "SLURM_ARRAY_TASK_ID",
];

fn alone(mut program: Command) -> Command {
    for name in VARIABLES {
        program.env_remove(name);
    }
    program
}

fn merge(parts: &[PathBuf]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_aim-bench"));
    program.arg("merge").args(parts);
    program
}

fn parts(folder: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = fs::read_dir(folder)
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    parts.sort();
    parts
}

fn data(root: &Path) {
    photos(root, 1);
    fs::write(root.join("hat/0.jpg"), b"no picture").expect("written");
    fs::write(root.join("skirt/zz.png"), b"").expect("written");
}

/// What one process found, with a broken picture or two.
fn whole(root: &Path) -> Value {
    let (code, out, _) = run(alone(eval(root)).arg("--json"));
    assert_eq!(code, 1);
    let report = parsed(&out);
    assert_eq!(report["broken"], 2);
    report
}

fn merged(folder: &Path) -> Value {
    let (code, out, err) = run(merge(&parts(folder)).arg("--json"));
    // As of one process: some pictures are broken.
    assert_eq!(code, 1, "{err}");
    parsed(&out)
}

#[test]
fn every_launcher_gives_the_counts_of_one_process() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    data(&root);
    let whole = whole(&root);
    let text = |n: usize| n.to_string();
    type Variables = Box<dyn Fn(usize, usize) -> Vec<(&'static str, String)>>;
    let launchers: [(&str, usize, Variables); 5] = [
        (
            "torchrun",
            2,
            Box::new(move |rank, size| {
                let values = [text(rank), text(size), text(rank), text(size)];
                let names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"];
                names.into_iter().zip(values).collect()
            }),
        ),
        (
            "mpirun",
            3,
            Box::new(move |rank, size| {
                vec![
                    ("OMPI_COMM_WORLD_RANK", text(rank)),
                    ("OMPI_COMM_WORLD_SIZE", text(size)),
                    ("OMPI_COMM_WORLD_LOCAL_RANK", text(rank)),
                ]
            }),
        ),
        (
            "srun",
            2,
            Box::new(move |rank, size| {
                vec![
                    ("SLURM_PROCID", text(rank)),
                    ("SLURM_NTASKS", text(size)),
                    ("SLURM_STEP_ID", text(0)),
                ]
            }),
        ),
        (
            "array",
            4,
            Box::new(move |rank, size| {
                vec![
                    ("SLURM_ARRAY_TASK_ID", text(5 + 2 * rank)),
                    ("SLURM_ARRAY_TASK_MIN", text(5)),
                    ("SLURM_ARRAY_TASK_MAX", text(5 + 2 * (size - 1))),
                    ("SLURM_ARRAY_TASK_STEP", text(2)),
                    ("SLURM_ARRAY_TASK_COUNT", text(size)),
                ]
            }),
        ),
        // More processes than there are pictures.
        ("options", 30, Box::new(|_, _| Vec::new())),
    ];
    for (name, size, variables) in launchers {
        let folder = work.path().join(name);
        for rank in 0..size {
            let mut program = alone(eval(&root));
            program
                .arg("--parts")
                .arg(&folder)
                .envs(variables(rank, size));
            if name == "options" {
                program.args(["--rank", &text(rank), "--world-size", &text(size)]);
            }
            let (code, _, err) = run(&mut program);
            assert!(matches!(code, 0 | 1), "{err}");
            assert!(err.contains(&format!("rank {rank} of {size}")), "{err}");
        }
        let parts = parts(&folder);
        assert_eq!(parts.len(), size);
        let first = format!("part-00000-of-{size:05}.json");
        assert!(parts[0].ends_with(first));
        assert_eq!(merged(&folder), whole, "{name}");
    }
    // One process writes one part, and what it prints can be merged too.
    let folder = work.path().join("one");
    let (_, out, _) = run(alone(eval(&root)).arg("--parts").arg(&folder).arg("--json"));
    assert!(folder.join("part-00000-of-00001.json").is_file());
    assert_eq!(merged(&folder), whole);
    let printed = work.path().join("printed.json");
    fs::write(&printed, out).expect("written");
    let (_, out, _) = run(merge(&[printed]).arg("--json"));
    assert_eq!(parsed(&out), whole);
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_counted_twice() {
    let work = tempdir().expect("a temporary folder");
    let (root, folder) = (work.path().join("data"), work.path().join("parts"));
    photos(&root, 12);
    let results = work.path().join("results.jsonl");
    let args = |folder: &Path, results: &Path| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_aim-bench"));
        program.args(["eval", "--device", "cpu", "--save-every", "0"]);
        program.arg("--data-path").arg(&root);
        program.arg("--parts").arg(folder);
        program.arg("--results-file").arg(results);
        program.args(["--progress", "off", "--json"]);
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    };
    let whole_results = work.path().join("whole.jsonl");
    let output = args(&work.path().join("whole"), &whole_results)
        .output()
        .expect("it starts");
    let whole = parsed(&String::from_utf8(output.stdout).expect("UTF-8"));
    assert_eq!(whole["pictures"], 24 * 12);

    let part = folder.join("part-00000-of-00001.json");
    let counted = || {
        let text = fs::read_to_string(&part).ok()?;
        parsed(&text)["ranges"][0][1].as_u64()
    };
    let mut partly = 0;
    for millis in (0..10).map(|n| 60 + 37 * n) {
        let mut child = args(&folder, &results).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(millis));
        // The first is killed once there is something to go on from, however slow the machine is.
        while counted().is_none() && child.try_wait().expect("it is ours").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
        partly += usize::from(counted().is_some_and(|counted| counted < 288));
    }
    let output = args(&folder, &results).output().expect("it starts");
    assert!(output.status.success());
    assert_eq!(
        parsed(&String::from_utf8(output.stdout).expect("UTF-8")),
        whole
    );
    let text = |path: &Path| fs::read_to_string(path).expect("written");
    assert_eq!(text(&results), text(&whole_results));
    assert!(
        partly > 0,
        "none was killed between the first picture and the last"
    );
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    photos(&root, 1);
    let part = |root: &Path, folder: &str, rank: &str, size: &str, options: &[&str]| -> PathBuf {
        let folder = work.path().join(folder);
        let mut program = alone(eval(root));
        program
            .args(["--rank", rank, "--world-size", size])
            .args(options);
        let (code, _, err) = run(program.arg("--parts").arg(&folder));
        assert_eq!(code, 0, "{err}");
        folder.join(format!("part-{rank:0>5}-of-{size:0>5}.json"))
    };
    let first = part(&root, "a", "0", "2", &[]);
    let second = part(&root, "a", "1", "2", &[]);
    let third = part(&root, "a", "2", "3", &[]);
    let refuses = |parts: &[&PathBuf], text: &str| {
        let parts: Vec<PathBuf> = parts.iter().map(|&part| part.clone()).collect();
        let line = refused(&mut merge(&parts));
        assert!(line.contains(text), "{line}");
    };
    refuses(&[&first], "pictures 12 to 24 of 24 are in no part");
    refuses(&[&second], "pictures 0 to 12 of 24 are in no part");
    refuses(&[&first, &second, &third], "are in both");
    refuses(&[&first, &first, &second], "are in both");
    let model = random_model(work.path(), 21);
    let of_model = ["--model", model.to_str().expect("UTF-8")];
    let line = |other: &PathBuf| refused(&mut merge(&[first.clone(), other.clone()]));
    // A model without labels takes the classes in their order.
    assert!(line(&part(&root, "b", "1", "2", &of_model)).contains("different models"));
    assert!(
        line(&part(&root, "c", "1", "2", &["--dtype", "fp32"])).contains("different precisions")
    );
    assert!(
        line(&part(&root, "d", "1", "2", &["--exif", "respect"])).contains("different options")
    );
    let others = work.path().join("others");
    photos(&others, 1);
    fs::rename(
        others.join("5/0-signer017-1296.jpg"),
        others.join("5/b.jpg"),
    )
    .expect("renamed");
    assert!(line(&part(&others, "e", "1", "2", &[])).contains("different data"));
    // The same pictures elsewhere are the same.
    let copy = work.path().join("elsewhere");
    photos(&copy, 1);
    let elsewhere = part(&copy, "f", "1", "2", &[]);
    assert_eq!(
        json(&mut merge(&[elsewhere, first.clone()]))["pictures"],
        24
    );
    // One that is not complete, or no part.
    let text = fs::read_to_string(&first).expect("readable");
    let cut = work.path().join("cut.json");
    fs::write(&cut, &text[..text.len() / 2]).expect("written");
    refuses(&[&cut, &second], "is no part of an evaluation");
    let mut half = parsed(&text);
    half["assigned"][1] = 13.into();
    fs::write(&cut, half.to_string()).expect("written");
    refuses(&[&cut], "stops at picture 12 of 0 to 13");
    refuses(&[&work.path().join("missing.json")], "missing.json");

    // Counts of other data are not gone on with.
    let mut program = alone(eval(&others));
    program.args(["--rank", "0", "--world-size", "2", "--parts"]);
    let (code, _, err) = run(program.arg(work.path().join("a")));
    assert_eq!(code, 1);
    assert!(err.contains("is of another evaluation"), "{err}");
}

#[test]
fn ranks_that_make_no_sense_are_refused() {
    let root = test_file("photos");
    let refuses = |variables: &[(&str, &str)], text: &str| {
        let mut program = alone(eval(&root));
        let line = refused(program.envs(variables.iter().copied()));
        assert!(line.contains(text), "{line}");
    };
    refuses(&[("RANK", "0"), ("WORLD_SIZE", "0")], "0 processes");
    refuses(&[("RANK", "3"), ("WORLD_SIZE", "3")], "count from 0");
    refuses(&[("RANK", "3")], "WORLD_SIZE is not");
    refuses(
        &[
            ("SLURM_ARRAY_TASK_ID", "3"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_MAX", "7"),
            ("SLURM_ARRAY_TASK_COUNT", "3"),
        ],
        "sparse",
    );
    for options in [
        &["--rank", "0", "--world-size", "0"][..],
        &["--rank", "0"],
        &["--rank", "-1", "--world-size", "2"],
        &["--rank", "2", "--world-size", "2"],
    ] {
        alone(eval(&root)).args(options).assert().code(2);
    }
}

#[test]
fn two_processes_do_not_write_one_part() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    photos(&root, 1);
    let folder = work.path().join("parts");
    fs::create_dir(&folder).expect("created");
    let lock = fs::File::create(folder.join(".part-00000-of-00001.lock")).expect("created");
    lock.lock().expect("locked");
    let line = refused(alone(eval(&root)).arg("--parts").arg(&folder));
    assert!(line.contains("another process is writing it"), "{line}");
    drop(lock);
    assert_eq!(
        json(alone(eval(&root)).arg("--parts").arg(&folder))["pictures"],
        24
    );
}

/// Makes the first picture of a class unreadable without a change of its length, which would be other data; its bytes.
fn spoil(class: &Path) -> (PathBuf, Vec<u8>) {
    let mut photos: Vec<PathBuf> = fs::read_dir(class)
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .collect();
    photos.sort();
    let photo = photos.swap_remove(0);
    let bytes = fs::read(&photo).expect("readable");
    fs::write(&photo, vec![0; bytes.len()]).expect("written");
    (photo, bytes)
}

#[test]
fn results_have_no_hole_after_a_run_without_them() {
    let work = tempdir().expect("a temporary folder");
    let (root, folder) = (work.path().join("data"), work.path().join("parts"));
    photos(&root, 1);
    let results = work.path().join("results.jsonl");
    let program = |folder: &Path, has_results: bool| {
        let mut program = alone(eval(&root));
        program.arg("--strict").arg("--parts").arg(folder);
        if has_results {
            program.arg("--results-file").arg(&results);
        }
        program
    };
    // Each stops at a picture that can't be read.
    let stopped = |class: &str, has_results: bool| {
        let (photo, bytes) = spoil(&root.join(class));
        refused(&mut program(&folder, has_results));
        fs::write(photo, bytes).expect("written");
        let part = fs::read_to_string(folder.join("part-00000-of-00001.json")).expect("written");
        parsed(&part)
    };
    let first = stopped("dress", true);
    assert!(first["results"]["bytes"].as_u64().unwrap() > 0);
    let second = stopped("skirt", false);
    assert!(second["ranges"][0][1].as_u64() > first["ranges"][0][1].as_u64());
    assert!(second["results"].is_null(), "{second}");
    let line = refused(&mut program(&folder, true));
    assert!(line.contains("made without results"), "{line}");
    assert_eq!(json(&mut program(&folder, false))["pictures"], 24);

    // One that counts nothing takes nothing from them.
    let whole = work.path().join("whole");
    for has_results in [true, false, true] {
        assert_eq!(json(&mut program(&whole, has_results))["pictures"], 24);
    }
    let text = fs::read_to_string(&results).expect("written");
    assert_eq!(text.lines().count(), 24);
}

#[test]
fn a_file_of_results_that_is_not_its_own_stays() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    photos(&root, 1);
    let file = work.path().join("results.jsonl");
    let program = |file: &Path, options: &[&str]| {
        let mut program = alone(eval(&root));
        program.arg("--results-file").arg(file).args(options);
        program
    };
    let text = |file: &Path| fs::read_to_string(file).expect("it is there");
    let stays = |mut program: Command, part: &str| {
        let before = text(&file);
        let (code, out, err) = run(&mut program);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains(part), "{err}");
        assert_eq!(text(&file), before);
    };
    let others = "holds no results of this model, these data and options";
    fs::write(&file, "what I have to remember\n").expect("written");
    stays(program(&file, &[]), others);
    fs::remove_file(&file).expect("it was there");
    json(&mut program(&file, &[]));
    let own = text(&file);
    assert_eq!(own.lines().count(), 24);
    // Its own is made anew, also where it was left in its first line.
    for end in [own.len(), own.len() / 2, 40, 1, 0] {
        fs::write(&file, &own[..end]).expect("written");
        json(&mut program(&file, &[]));
        assert_eq!(text(&file), own, "{end}");
    }
    let model = random_model(work.path(), 21);
    let of_model = ["--model", model.to_str().expect("UTF-8")];
    for options in [&of_model[..], &["--dtype", "fp32"], &["--exif", "respect"]] {
        stays(program(&file, options), others);
    }
    let [photo, renamed] = ["0-signer017-1296.jpg", "b.jpg"].map(|name| root.join("5").join(name));
    fs::rename(&photo, &renamed).expect("renamed");
    stays(program(&file, &[]), others);
    fs::rename(&renamed, &photo).expect("renamed");

    // One that is gone on with begins as it was left.
    let folder = work.path().join("parts");
    let (photo, bytes) = spoil(&root.join("dress"));
    let parts = ["--strict", "--parts", folder.to_str().expect("UTF-8")];
    let begun = work.path().join("begun.jsonl");
    refused(&mut program(&begun, &parts));
    fs::write(photo, bytes).expect("written");
    assert!(begun.metadata().expect("it is there").len() > 0);
    fs::write(&file, own.replace("0.9", "0.8")).expect("written");
    stays(program(&file, &parts), "does not begin with the results");
    fs::remove_file(&file).expect("it was there");
    let line = refused(&mut program(&file, &parts));
    assert!(line.contains("has 0 bytes, but"), "{line}");
    assert!(!file.exists());
    assert_eq!(json(&mut program(&begun, &parts))["pictures"], 24);
    assert_eq!(text(&begun), own);
}

#[test]
fn a_report_that_can_not_be_written_takes_no_result_along() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    photos(&root, 1);
    let file = work.path().join("file");
    fs::write(&file, b"no folder").expect("written");
    let folder = work.path().join("parts");
    let nowhere = file.join("report");
    let line = refused(alone(eval(&root)).arg("--report").arg(&nowhere));
    assert!(line.contains("report: can't be written"), "{line}");
    assert_eq!(
        json(alone(eval(&root)).arg("--parts").arg(&folder))["pictures"],
        24
    );
    let line = refused(merge(&parts(&folder)).arg("--report").arg(&nowhere));
    assert!(line.contains("report: can't be written"), "{line}");

    let report = work.path().join("report");
    fs::create_dir_all(report.join("classes.csv")).expect("created");
    for mut program in [alone(eval(&root)), merge(&parts(&folder))] {
        let (code, out, err) = run(program.arg("--report").arg(&report));
        assert_eq!(code, 1);
        assert!(out.contains("top-1 100.00%"), "{out}");
        assert!(err.contains("classes.csv: can't be written"), "{err}");
    }
    // Only what was written is there.
    assert_eq!(fs::read_dir(&report).expect("readable").count(), 2);

    // Nor the other way round.
    #[cfg(target_os = "linux")]
    {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let report = work.path().join("second");
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_aim-bench"));
        program.arg("merge").args(parts(&folder));
        program.arg("--report").arg(&report);
        let status = program.stdout(full.expect("Linux has it")).status();
        assert_eq!(status.expect("it starts").code(), Some(1));
        assert!(report.join("confusion.svg").is_file());
    }
}

#[test]
fn each_process_has_a_report_of_its_own() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    photos(&root, 1);
    let report = work.path().join("report");
    let mut own = Vec::new();
    for rank in ["0", "1"] {
        let mut program = alone(eval(&root));
        program.args(["--rank", rank, "--world-size", "2", "--report"]);
        let (code, out, err) = run(program.arg(&report).arg("--json"));
        assert_eq!(code, 0, "{err}");
        let folder = report.join(format!("part-0000{rank}-of-00002"));
        assert!(
            err.contains(&format!("{}: is of this process", folder.display())),
            "{err}"
        );
        own.push((folder.join("report.json"), parsed(&out)));
    }
    assert_eq!(fs::read_dir(&report).expect("readable").count(), 2);
    for (file, said) in &own {
        let text = fs::read_to_string(file).expect("written");
        assert_eq!(parsed(&text), *said);
    }
    let files: Vec<PathBuf> = own.into_iter().map(|(file, _)| file).collect();
    let whole = json(merge(&files).arg("--report").arg(&report));
    assert_eq!(whole["pictures"], 24);
    let text = fs::read_to_string(report.join("report.json")).expect("written");
    assert_eq!(parsed(&text), whole);
}

#[test]
fn counts_that_can_not_be_are_not_added() {
    let work = tempdir().expect("a temporary folder");
    let root = work.path().join("data");
    photos(&root, 1);
    let (_, out, _) = run(alone(eval(&root)).arg("--json"));
    let path = work.path().join("part.json");
    let whole = parsed(&out);
    let refuses = |change: fn(&mut Value)| {
        let mut part = whole.clone();
        change(&mut part);
        fs::write(&path, part.to_string()).expect("written");
        let line = refused(&mut merge(std::slice::from_ref(&path)));
        assert!(
            line.contains("part.json: its counts do not agree"),
            "{line}"
        );
    };
    refuses(|part| {
        part["top_1"] = 1_000_023.into();
        part["classes"]["dress"]["top_1"] = 1_000_000.into();
    });
    refuses(|part| part["rank"] = 1.into());
    refuses(|part| part["not_turned"] = 1_000_000_000_000_000_000_u64.into());
    refuses(|part| part["errors"] = serde_json::json!([{ "image": "a", "error": "b" }]));
}
