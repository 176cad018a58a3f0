//! `train`: a head of one's own, and what becomes of its folder.

use std::path::{Path, PathBuf};

use aim_web::probe::HeadFile;
use tempfile::{TempDir, tempdir};

use super::hub::Hub;
use super::{aim_bench, float_model, json, refused, test_file, use_hub};

/// Hands and garments of the test photographs.
const CLASSES: [(&str, [&str; 6]); 2] = [
    ("hand", ["0", "2", "4", "5", "7", "8"]),
    (
        "garment",
        ["dress", "shoes", "pants", "shirt", "skirt", "t-shirt"],
    ),
];

/// The photograph of a label of the embedded model.
fn photo(label: &str) -> PathBuf {
    let folder = test_file("photos").join(label);
    let mut files = std::fs::read_dir(&folder).expect("there are photographs");
    files
        .next()
        .expect("one at least")
        .expect("it is readable")
        .path()
}

fn copy(label: &str, folder: &Path) {
    std::fs::create_dir_all(folder).expect("the folder is writable");
    std::fs::copy(photo(label), folder.join(format!("{label}.jpg"))).expect("it can be copied");
}

/// A data set, and where its model goes.
fn lesson() -> (TempDir, PathBuf, PathBuf) {
    let work = tempdir().expect("a temporary folder");
    let data = work.path().join("data");
    for (class, labels) in CLASSES {
        for label in labels {
            copy(label, &data.join(class));
        }
    }
    let output = work.path().join("mine");
    (work, data, output)
}

fn train(data: &Path, output: &Path) -> assert_cmd::Command {
    let mut program = aim_bench("train");
    program.args(["--progress", "off", "--data-path"]).arg(data);
    program.arg("--output").arg(output);
    program
}

fn label(model: &Path, picture: &str) -> String {
    let results = json(
        aim_bench("classify")
            .arg("--model")
            .arg(model)
            .arg(photo(picture)),
    );
    results[0]["predictions"][0]["label"]
        .as_str()
        .expect("a label")
        .to_owned()
}

#[test]
fn a_head_is_trained_and_taken_by_the_other_commands() {
    let (work, data, output) = lesson();
    let report =
        json(train(&data, &output).args(["--head", "attention", "--epochs", "8", "--augment"]));
    assert_eq!(
        (report["pictures"].as_u64(), report["held_out"].as_u64()),
        (Some(12), Some(2))
    );
    assert_eq!(report["head"], "attention");
    assert_eq!(report["epochs"].as_array().map(Vec::len), Some(8));
    assert!(report["classes"]["hand"]["pictures"] == 6 && report["broken"] == 0);
    let bytes = report["bytes"].as_u64().expect("a number");
    assert!(bytes < 200_000, "{bytes}");

    for file in [
        "head.safetensors",
        "config.json",
        "labels.json",
        "preprocessor_config.json",
        "curve.svg",
    ] {
        assert!(output.join(file).is_file(), "{file}");
    }
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(output.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["trunk"]["name"], "aim-tiny");
    assert_eq!(
        (config["num_classes"].as_u64(), config["head"].as_str()),
        (Some(2), Some("attention"))
    );

    // Pictures that it never saw, by the folder and by the file alone.
    for model in [output.clone(), output.join("head.safetensors")] {
        assert_eq!(label(&model, "9"), "hand");
        assert_eq!(label(&model, "longsleeve"), "garment");
    }
    let eval = json(
        aim_bench("eval")
            .arg("--model")
            .arg(&output)
            .arg("--data-path")
            .arg(&data),
    );
    assert!(
        eval["top_1_percent"].as_f64().expect("a number") > 90.0,
        "{eval}"
    );

    // The same seed gives the same head, on one thread or two.
    let again = work.path().join("again");
    train(&data, &again)
        .args([
            "--head",
            "attention",
            "--epochs",
            "8",
            "--augment",
            "--threads",
            "1",
        ])
        .assert()
        .success();
    let read = |dir: &Path| std::fs::read(dir.join("head.safetensors")).unwrap();
    assert!(read(&output) == read(&again));

    // It is not replaced unasked, and by another training when it is.
    let line = refused(&mut train(&data, &output));
    assert!(line.contains("--overwrite"), "{line}");
    train(&data, &output)
        .args(["--overwrite", "--head", "mean"])
        .assert()
        .success();
    assert!(read(&output) != read(&again));

    // A head can be trained on the trunk of another.
    let third = work.path().join("third");
    train(&data, &third)
        .arg("--model")
        .arg(&output)
        .assert()
        .success();
    assert_eq!(label(&third, "9"), "hand");
}

#[test]
fn a_whole_model_needs_no_trunk_and_another_trunk_is_refused() {
    let (work, data, output) = lesson();
    let floats = work.path().join("floats");
    float_model::write(&floats);
    for (model, name) in [(None, "of the embedded"), (Some(&floats), "of floats")] {
        let output = work.path().join(name);
        let mut program = train(&data, &output);
        program.args(["--full", "--head", "linear"]);
        if let Some(model) = model {
            program.arg("--model").arg(model);
        }
        program.assert().success();
        assert!(!output.join("head.safetensors").exists());
        assert_eq!(label(&output, "9"), "hand", "{name}");
        // As any other model.
        let report = json(aim_bench("inspect").arg(&output));
        assert_eq!(report["config"]["num_classes"], 2, "{name}: {report}");
    }

    train(&data, &output)
        .args(["--head", "linear", "--model"])
        .arg(&floats)
        .assert()
        .success();
    assert_eq!(label(&output, "9"), "hand");
    // The same tensors elsewhere are the same trunk; others are not.
    let moved = work.path().join("moved");
    std::fs::rename(&floats, &moved).unwrap();
    let classify = |trunk: Option<&Path>| {
        let mut program = aim_bench("classify");
        program.arg(photo("9")).arg("--model").arg(&output);
        if let Some(trunk) = trunk {
            program.arg("--trunk").arg(trunk);
        }
        program
    };
    let line = refused(&mut classify(None));
    assert!(
        line.contains("the trunk below the head") && line.contains("floats"),
        "{line}"
    );
    classify(Some(&moved)).assert().success();
    let line = refused(&mut classify(Some(Path::new("aim-tiny"))));
    assert!(line.contains("another trunk"), "{line}");

    // A trunk without a configuration beside it, below a head here and one on a server.
    let bare = work.path().join("bare.safetensors");
    std::fs::copy(moved.join("model.safetensors"), &bare).unwrap();
    let there = work.path().join("hub/me/head");
    std::fs::create_dir_all(&there).unwrap();
    for entry in std::fs::read_dir(&output).unwrap().flatten() {
        std::fs::copy(entry.path(), there.join(entry.file_name())).unwrap();
    }
    let hub = Hub::start(&work.path().join("hub"), 0);
    for head in [output.as_path(), Path::new("me/head")] {
        let mut program = aim_bench("classify");
        use_hub(&mut program, &hub, &work.path().join("home"));
        program.arg(photo("9")).arg("--model").arg(head);
        program.arg("--trunk").arg(&bare);
        program.arg("--config").arg(moved.join("config.json"));
        program.assert().success();
    }
    let weights = moved.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let line = refused(&mut classify(Some(&moved)));
    assert!(line.contains("another trunk"), "{line}");
    let line = refused(
        aim_bench("convert")
            .arg("--model")
            .arg(&output)
            .arg("--trunk")
            .arg(&moved)
            .arg("--output")
            .arg(work.path().join("x")),
    );
    assert!(line.contains("head alone"), "{line}");
}

#[test]
fn a_part_that_is_held_out_by_its_folder_is_never_trained_on() {
    let (work, _, output) = lesson();
    let data = work.path().join("split");
    for (class, labels) in CLASSES {
        for (at, label) in labels.into_iter().enumerate() {
            copy(
                label,
                &data.join(if at < 4 { "train" } else { "val" }).join(class),
            );
        }
    }
    let report = json(train(&data, &output).args(["--head", "mean"]));
    assert_eq!(
        (report["pictures"].as_u64(), report["held_out"].as_u64()),
        (Some(12), Some(4))
    );
    let mut program = train(&data, &output);
    let assert = program.args(["--overwrite", "--val-split", "0.3"]).assert();
    let text = String::from_utf8_lossy(&assert.success().get_output().stderr).into_owned();
    assert!(text.contains("--val-split changes nothing"), "{text}");
    copy("hat", &data.join("val").join("headgear"));
    let line = refused(train(&data, &output).arg("--overwrite"));
    assert!(line.contains("headgear"), "{line}");
}

#[test]
fn lessons_that_are_none_are_refused_and_leave_nothing() {
    let (work, data, output) = lesson();
    let one = work.path().join("one");
    copy("5", &one.join("hand"));
    copy("2", &one.join("hand"));
    let poor = work.path().join("poor");
    copy("5", &poor.join("hand"));
    copy("2", &poor.join("hand"));
    copy("dress", &poor.join("garment"));
    let alike = work.path().join("alike");
    for class in ["Hand", "hand"] {
        copy("5", &alike.join(class));
    }
    let empty = work.path().join("empty");
    copy("5", &empty.join("hand"));
    std::fs::create_dir_all(empty.join("nothing")).unwrap();
    for (data, says) in [
        (&one, "one class"),
        (
            &poor,
            "\"garment\" has one picture, and one more would have to be held out",
        ),
        (&alike, "alike"),
        (&empty, "\"nothing\" has no picture"),
        (&work.path().join("missing"), "missing"),
    ] {
        let line = refused(&mut train(data, &output));
        assert!(line.contains(says), "{line}");
        assert!(!output.exists());
    }
    train(&data, &output)
        .args(["--head", "tree"])
        .assert()
        .code(2);

    // A picture that can't be read is reported and left out.
    std::fs::write(data.join("hand/broken.jpg"), "no picture").unwrap();
    let assert = train(&data, &output).assert().code(1);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(text(&assert.get_output().stderr).contains("broken.jpg"));
    assert!(text(&assert.get_output().stdout).contains("1 broken pictures are left out"));
    assert_eq!(label(&output, "9"), "hand");

    // What was meddled with.
    let head = output.join("head.safetensors");
    let whole = std::fs::read(&head).unwrap();
    HeadFile::from_bytes(&whole).unwrap();
    for broken in [&b"rubbish"[..], &whole[..whole.len() - 1], b""] {
        std::fs::write(&head, broken).unwrap();
        let line = refused(
            aim_bench("classify")
                .arg(photo("5"))
                .arg("--model")
                .arg(&output),
        );
        assert!(line.contains("head.safetensors"), "{line}");
    }
}

#[test]
fn a_head_does_not_replace_its_own_trunk() {
    let (work, data, output) = lesson();
    let whole = work.path().join("whole");
    train(&data, &whole).arg("--full").assert().success();
    let link = work.path().join("link");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&whole, &link).expect("a link");
    let file = whole.join("model.safetensors");
    for model in [&whole, &file, &link] {
        if !model.exists() {
            continue;
        }
        let mut program = train(&data, &whole);
        program.arg("--overwrite").arg("--model").arg(model);
        let error = refused(&mut program);
        assert!(error.contains("holds the trunk"), "{error}");
    }
    assert_eq!(label(&whole, "dress"), "garment");
    // A whole model may take its own place.
    let mut program = train(&data, &whole);
    program
        .args(["--overwrite", "--full", "--model"])
        .arg(&whole);
    program.assert().success();
    train(&data, &output)
        .arg("--model")
        .arg(&whole)
        .assert()
        .success();
    assert_eq!(label(&output, "dress"), "garment");
}

#[test]
fn the_trunk_that_an_option_names_is_named_and_stays() {
    let (work, data, head) = lesson();
    let [whole, moved] = ["whole", "moved"].map(|name| work.path().join(name));
    train(&data, &whole).arg("--full").assert().success();
    train(&data, &head)
        .arg("--model")
        .arg(&whole)
        .assert()
        .success();
    std::fs::rename(&whole, &moved).unwrap();
    let on_moved = |output: &Path| {
        let mut program = train(&data, output);
        program.arg("--model").arg(&head).arg("--trunk").arg(&moved);
        program
    };
    let error = refused(on_moved(&moved).arg("--overwrite"));
    assert!(error.contains("holds the trunk"), "{error}");
    let second = work.path().join("second");
    on_moved(&second).assert().success();
    assert_eq!(label(&second, "dress"), "garment");
}

#[test]
fn the_embedded_trunk_takes_no_options_of_files() {
    let (_work, data, head) = lesson();
    train(&data, &head).assert().success();
    for option in [["--arch", "aim-7B"], ["--config", "none.json"]] {
        let mut program = aim_bench("classify");
        program.arg(photo("9")).arg("--model").arg(&head);
        let line = refused(program.args(option));
        assert!(
            line.contains(option[0]) && line.contains("leave it out"),
            "{line}"
        );
    }
}

#[test]
fn a_folder_called_as_the_embedded_model_is_no_trunk() {
    let (work, data, _) = lesson();
    for overwrite in [&[][..], &["--overwrite"]] {
        let mut program = train(&data, Path::new("aim-tiny"));
        program.current_dir(work.path()).args(overwrite);
        program.assert().success();
    }
    assert_eq!(label(&work.path().join("aim-tiny"), "dress"), "garment");
}

#[test]
fn heads_that_name_each_other_are_errors() {
    let (work, data, first) = lesson();
    let second = work.path().join("second");
    for output in [&first, &second] {
        train(&data, output).assert().success();
    }
    let names = |head: &Path, trunk: &Path| {
        let path = head.join("head.safetensors");
        let mut file = HeadFile::from_bytes(&std::fs::read(&path).unwrap()).unwrap();
        file.trunk.name = trunk.display().to_string();
        std::fs::write(&path, file.to_bytes().unwrap()).unwrap();
        std::fs::write(head.join("config.json"), file.config_json()).unwrap();
    };
    names(&first, &second);
    names(&second, &first);
    let refused_with = |model: &Path| {
        let mut program = aim_bench("classify");
        program.arg(photo("dress")).arg("--model").arg(model);
        refused(&mut program)
    };
    for model in [&first, &second, &first.join("head.safetensors")] {
        let error = refused_with(model);
        assert!(error.contains("is a head alone, and no trunk"), "{error}");
    }
    names(&first, &first);
    assert!(refused_with(&first).contains("is a head alone"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_head_is_written_before_anything_is_said() {
    let (_work, data, output) = lesson();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_aim-bench"));
    program.args([
        "train",
        "--device",
        "cpu",
        "--progress",
        "off",
        "--data-path",
    ]);
    program.arg(&data).arg("--output").arg(&output).stdout(full);
    assert_eq!(program.status().unwrap().code(), Some(1));
    assert_eq!(label(&output, "dress"), "garment");
}

#[test]
#[cfg(unix)]
fn a_folder_of_any_name_has_a_name_in_json() {
    use std::os::unix::ffi::OsStrExt as _;

    let (work, data, _) = lesson();
    let output = work.path().join(std::ffi::OsStr::from_bytes(b"a\xff"));
    let results = json(&mut train(&data, &output));
    let name = results["output"].as_str().unwrap_or_default();
    assert!(name.ends_with("a\\xff"), "{name}");
}

#[test]
fn inspect_says_what_a_head_is() {
    let (work, data, _) = lesson();
    let floats = work.path().join("floats");
    float_model::write(&floats);
    let head = work.path().join("me/head");
    std::fs::create_dir(work.path().join("me")).expect("created");
    train(&data, &head)
        .args(["--head", "linear", "--model"])
        .arg(&floats)
        .assert()
        .success();
    // Nothing of the trunk is asked for.
    std::fs::rename(&floats, work.path().join("elsewhere")).expect("moved");
    let compact = work.path().join("compact.safetensors");
    let file = head.join("head.safetensors");
    let whole = HeadFile::from_bytes(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::write(&compact, whole.to_compact_bytes().unwrap()).unwrap();
    let hub = Hub::start(work.path(), 0);
    let inspect = |model: &Path| {
        let mut program = aim_bench("inspect");
        use_hub(&mut program, &hub, &work.path().join("home"));
        program.arg(model);
        program
    };
    for model in [head.as_path(), &file, &compact, Path::new("me/head")] {
        let report = json(&mut inspect(model));
        let told = &report["head"];
        assert_eq!(told["kind"], "linear", "{report}");
        assert_eq!(told["classes"], serde_json::json!(["garment", "hand"]));
        assert_eq!(told["trunk"]["name"].as_str(), floats.to_str());
        assert_eq!(told["trunk"]["sha256"].as_str().map(str::len), Some(64));
        assert_eq!(told["embed_dim"], 192);
        assert_eq!(told["img_size"], serde_json::json!([112, 112]));
        assert_eq!(report["config"]["num_classes"], 2);
        assert!(report["bytes"].as_u64().expect("a number") > 1000);
        let assert = inspect(model).assert().success();
        let text = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
        for line in [
            "head        linear, of 2 classes\n",
            "classes     garment, hand\n",
            "of 192 channels, from pictures of 112x112\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("none of the released"), "{text}");
    }
    let mut with_trunk = inspect(&head);
    let report = json(with_trunk.arg("--trunk").arg(work.path().join("elsewhere")));
    assert_eq!(report["head"]["kind"], "linear");
    let tensors = report["tensors"].as_array().expect("a list");
    let is_of_trunk = |tensor: &serde_json::Value| {
        let name = tensor["name"].as_str().unwrap_or_default();
        name.starts_with("trunk.")
    };
    assert!(tensors.iter().any(is_of_trunk));
}

#[test]
fn one_picture_of_a_class_is_enough_if_none_is_held_out() {
    let (work, _, output) = lesson();
    let data = work.path().join("one");
    copy("5", &data.join("hand"));
    copy("dress", &data.join("garment"));
    let report = json(train(&data, &output).args(["--val-split", "0"]));
    assert_eq!(
        (&report["pictures"], &report["held_out"]),
        (&2.into(), &0.into())
    );
    assert_eq!(report["head"], "mean");
    assert!(report["accuracy"].is_null() && report["loss"].is_null());
    assert_eq!(label(&output, "5"), "hand");
    assert_eq!(label(&output, "dress"), "garment");
}

#[test]
fn epochs_that_the_mean_has_not_are_told_of() {
    let (work, _, output) = lesson();
    let data = work.path().join("few");
    for (class, labels) in CLASSES {
        for label in &labels[..3] {
            copy(label, &data.join(class));
        }
    }
    let assert = train(&data, &output).args(["--epochs", "9"]).assert();
    let text = String::from_utf8_lossy(&assert.success().get_output().stderr).into_owned();
    assert!(text.contains("--epochs changes nothing"), "{text}");
}

#[test]
fn an_empty_part_is_named() {
    let (work, data, output) = lesson();
    let whole = work.path().join("whole");
    std::fs::create_dir_all(whole.join("val")).expect("created");
    std::fs::rename(&data, whole.join("train")).expect("moved");
    let line = refused(&mut train(&whole, &output));
    let val = whole.join("val");
    let part = format!("{}: holds no picture", val.display());
    assert!(line.contains(&part), "{line}");
    assert!(!output.exists());
}
