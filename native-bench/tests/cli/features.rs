//! `features`: files that others read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use half::f16;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use tempfile::tempdir;

use super::eval::{photos, random_model};
use super::pictures::{parsed, run};
use super::{aim_bench, json, read_tensor, refused, relative_error};

fn features(root: &Path, output: &Path) -> Command {
    let mut program = aim_bench("features");
    program
        .arg("--data-path")
        .arg(root)
        .arg("--output")
        .arg(output);
    program
}

/// The shape and the values of a file of numpy's.
fn npy(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).expect("written");
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(start.is_multiple_of(64));
    let header = String::from_utf8(bytes[10..start].to_vec()).expect("text");
    let inside = header
        .split_once("'shape': (")
        .unwrap()
        .1
        .split_once(')')
        .unwrap()
        .0;
    let shape: Vec<usize> = inside
        .split(',')
        .filter_map(|side| side.trim().parse().ok())
        .collect();
    let values = if header.contains("'<f2'") {
        let halves = bytes[start..].chunks_exact(2);
        halves
            .map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f32())
            .collect()
    } else {
        let floats = bytes[start..].chunks_exact(4);
        floats
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    (shape, values)
}

/// Paths, classes and their numbers.
fn metadata(path: &Path) -> Vec<(String, String, i32)> {
    let reader = SerializedFileReader::new(File::open(path).expect("written")).expect("a table");
    let row = |row: parquet::record::Row| {
        (
            row.get_string(0).expect("a path").clone(),
            row.get_string(1).expect("a label").clone(),
            row.get_int(2).expect("a class"),
        )
    };
    reader
        .get_row_iter(None)
        .expect("rows")
        .map(|r| row(r.expect("a row")))
        .collect()
}

#[test]
fn rows_are_the_features_of_their_pictures() {
    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    photos(&path("data"), 1);
    let report = json(features(&path("data"), &path("mean")).args(["--layers", "1,3"]));
    assert_eq!(report["pictures"], 24);
    assert_eq!(report["shape"], serde_json::json!([192]));
    let (shape, mean) = npy(&path("mean/img_emb/img_emb_0.npy"));
    assert_eq!(shape, [24, 192]);
    let rows = metadata(&path("mean/metadata/metadata_0.parquet"));
    assert_eq!(rows.len(), 24);
    let photo = PathBuf::from(&rows[20].0);
    assert_eq!(
        photo.parent().unwrap().file_name().unwrap().to_str(),
        Some(rows[20].1.as_str())
    );
    // The only partition is found under plain names too.
    assert_eq!(
        fs::read(path("mean/features.npy")).unwrap(),
        fs::read(path("mean/img_emb/img_emb_0.npy")).unwrap()
    );
    assert_eq!(metadata(&path("mean/metadata.parquet")), rows);

    // The same by hand: two blocks' outputs, averaged over both and over the tokens.
    let mut program = aim_bench("preprocess");
    program
        .arg(&photo)
        .arg("--output")
        .arg(path("in"))
        .args(["--img-size", "112"]);
    assert_eq!(run(&mut program).0, 0);
    let mut program = aim_bench("run");
    program
        .arg("--input")
        .arg(path("in"))
        .arg("--output")
        .arg(path("out"))
        .arg("--features");
    assert_eq!(run(&mut program).0, 0);
    let (_, first) = read_tensor(&path("out"), "features.1");
    let (_, second) = read_tensor(&path("out"), "features.3");
    let tokens: Vec<f32> = first
        .iter()
        .zip(&second)
        .map(|(a, b)| (a + b) / 2.0)
        .collect();
    let expected: Vec<f32> = (0..192)
        .map(|channel| tokens.iter().skip(channel).step_by(192).sum::<f32>() / 64.0)
        .collect();
    assert!(relative_error(&mean[20 * 192..21 * 192], &expected) < 1e-5);

    let options = [
        "--layers",
        "1,3",
        "--pool",
        "none",
        "--format",
        "safetensors",
    ];
    json(features(&path("data"), &path("tokens")).args(options));
    let (shape, all) = read_tensor(&path("tokens/features.safetensors"), "features");
    assert_eq!(shape, [24, 64, 192]);
    assert!(relative_error(&all[20 * tokens.len()..21 * tokens.len()], &tokens) < 1e-5);

    // What the probe classifies: its last matrix makes the logits of it.
    let model = random_model(work.path(), 21);
    let of_model = |mut program: Command| {
        program.arg("--model").arg(&model);
        program
    };
    json(of_model(features(&path("data"), &path("probe"))).args(["--pool", "probe"]));
    let (shape, probe) = npy(&path("probe/features.npy"));
    assert_eq!(shape, [24, 64]);
    let mut program = of_model(aim_bench("preprocess"));
    program.arg(&photo).arg("--output").arg(path("in"));
    assert_eq!(run(&mut program).0, 0);
    let mut program = of_model(aim_bench("run"));
    program.arg("--input").arg(path("in"));
    assert_eq!(run(program.arg("--output").arg(path("out"))).0, 0);
    let (_, logits) = read_tensor(&path("out"), "logits");
    let (_, linear) = read_tensor(&model.join("model.safetensors"), "head.linear.weight");
    let own = &probe[20 * 64..21 * 64];
    let by_hand: Vec<f32> = linear
        .chunks_exact(64)
        .map(|row| row.iter().zip(own).map(|(w, x)| w * x).sum())
        .collect();
    assert!(relative_error(&by_hand, &logits) < 1e-5);

    json(features(&path("data"), &path("half")).args([
        "--layers",
        "1,3",
        "--output-dtype",
        "fp16",
    ]));
    let (_, half) = npy(&path("half/features.npy"));
    assert!(relative_error(&half, &mean) < 1e-3);
}

#[test]
fn partitions_are_made_once_and_by_several_processes() {
    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    photos(&path("data"), 1);
    fs::write(path("data/5/broken.jpg"), b"no picture").expect("written");
    let (code, out, err) = run(features(&path("data"), &path("one")).arg("--json"));
    assert_eq!(code, 1);
    assert!(err.contains("broken.jpg"), "{err}");
    assert_eq!(
        (&parsed(&out)["pictures"], &parsed(&out)["broken"]),
        (&24.into(), &1.into())
    );
    let (_, whole) = npy(&path("one/features.npy"));

    let all = path("many");
    let part = |rank: &str| {
        let options = [
            "--partitions",
            "12",
            "--rank",
            rank,
            "--world-size",
            "3",
            "--json",
        ];
        let (code, out, err) = run(features(&path("data"), &all).args(options));
        assert!(matches!(code, 0 | 1), "{err}");
        parsed(&out)
    };
    assert_eq!(part("1")["partitions"], 4);
    let again = part("1");
    assert_eq!(
        (&again["partitions"], &again["skipped"]),
        (&4.into(), &4.into())
    );
    // Half of a pair is no partition, nor is what a killed process left.
    fs::remove_file(all.join("metadata/metadata_04.parquet")).expect("it was there");
    fs::write(all.join("img_emb/.img_emb_00.npy.tmp"), b"half").expect("written");
    assert_eq!(part("1")["skipped"], 3);
    part("0");
    part("2");
    let mut rows = Vec::new();
    let mut paths = Vec::new();
    for n in 0..12 {
        let (shape, mut values) = npy(&all.join(format!("img_emb/img_emb_{n:02}.npy")));
        let names = metadata(&all.join(format!("metadata/metadata_{n:02}.parquet")));
        assert_eq!(shape, [names.len(), 192]);
        rows.append(&mut values);
        paths.extend(names);
    }
    assert_eq!(rows, whole);
    assert_eq!(paths, metadata(&path("one/metadata.parquet")));
    assert!(!all.join("features.npy").exists());

    // Others have no place in the folder.
    for options in [
        &["--partitions", "11"][..],
        &["--partitions", "12", "--pool", "probe"],
    ] {
        let line = refused(features(&path("data"), &all).args(options));
        assert!(line.contains("take another folder"), "{line}");
    }
}

#[test]
fn a_users_own_files_stay() {
    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    photos(&path("data"), 1);
    for (n, own) in ["features.npy", "metadata.parquet", "img_emb/img_emb_0.npy"]
        .into_iter()
        .enumerate()
    {
        let out = path(&n.to_string());
        let own = out.join(own);
        fs::create_dir_all(own.parent().unwrap()).expect("created");
        fs::write(&own, b"mine").expect("written");
        let line = refused(&mut features(&path("data"), &out));
        assert!(
            line.contains(own.to_str().unwrap()) && line.contains("take another folder"),
            "{line}"
        );
        assert_eq!(fs::read(&own).expect("there"), b"mine");
        assert!(!out.join("features.json").exists());
    }
    // Nor is a file of another kind with that name.
    let out = path("other");
    fs::create_dir_all(&out).expect("created");
    fs::write(out.join("features.json"), b"[1, 2]").expect("written");
    let line = refused(&mut features(&path("data"), &out));
    assert!(line.contains("take another folder"), "{line}");
    assert_eq!(
        fs::read(out.join("features.json")).expect("there"),
        b"[1, 2]"
    );
}

#[test]
fn a_folder_without_features_is_no_ones() {
    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    photos(&path("data"), 1);
    fs::write(path("data/5/broken.jpg"), b"no picture").expect("written");
    let out = path("out");
    refused(features(&path("data"), &out).arg("--strict"));
    // Half of a pair is no features, and goes with them.
    let half = out.join("img_emb/img_emb_0.npy");
    fs::write(&half, b"half").expect("written");
    let left = out.join("img_emb/.aim-bench-1-0.tmp");
    fs::write(&left, b"half").expect("written");
    let options = ["--exif", "respect", "--format", "safetensors"];

    // A count of partitions that none has is not gone through.
    let own = out.join("features.json");
    let text = fs::read_to_string(&own).expect("it is there");
    assert!(text.contains("\"partitions\": 1"), "{text}");
    for count in [0, u64::MAX] {
        let other = format!("\"partitions\": {count}");
        fs::write(&own, text.replace("\"partitions\": 1", &other)).expect("written");
        let line = refused(features(&path("data"), &out).args(options));
        assert!(line.contains("take another folder"), "{line}");
    }
    fs::write(&own, text).expect("written");

    // Not while another process writes to it.
    let lock = File::open(out.join(".in-use.lock")).expect("it is there");
    lock.lock_shared().expect("locked");
    let line = refused(features(&path("data"), &out).args(options));
    assert!(line.contains("take another folder"), "{line}");
    drop(lock);

    let (code, _, err) = run(features(&path("data"), &out).args(options));
    assert_eq!(code, 1, "{err}");
    assert!(out.join("features.safetensors").is_file());
    assert!(!half.exists() && !left.exists());
    // Now it has some.
    let line = refused(&mut features(&path("data"), &out));
    assert!(line.contains("take another folder"), "{line}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_whose_name_is_no_text_is_named() {
    use std::os::unix::ffi::OsStrExt as _;

    let work = tempdir().expect("a temporary folder");
    photos(&work.path().join("data"), 1);
    let out = work.path().join(std::ffi::OsStr::from_bytes(b"f\xff"));
    let report = json(&mut features(&work.path().join("data"), &out));
    assert!(report["output"].as_str().unwrap().ends_with("f\\xff"));
}
