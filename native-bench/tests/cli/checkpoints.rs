//! Every good and every hostile checkpoint of `tests/bad`, through the whole program.

use std::path::Path;

use serde::Deserialize;
use tempfile::tempdir;

use super::{aim_bench, generator, read_tensor, refused, relative_error, test_file, write_tensor};

#[derive(Deserialize)]
struct Manifest {
    /// What the model of every good file gives for the input below.
    logits: Vec<f32>,
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    file: String,
    expect: Expect,
    /// Where a file's own precision moves the logits.
    logits_file: Option<Vec<f32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Load,
    Error,
    LoadOrError,
}

/// The input `mini.in` of the generator, [1, 3, 4, 4].
fn write_input(path: &Path) {
    let values = generator::tensor("mini.in", "input", &[1, 3, 4, 4]);
    write_tensor(path, "input", &[1, 3, 4, 4], &values);
}

#[test]
fn good_files_load_and_hostile_ones_are_refused() {
    let folder = test_file("bad");
    let text =
        std::fs::read_to_string(folder.join("manifest.json")).expect("the manifest is there");
    let manifest: Manifest = serde_json::from_str(&text).expect("the manifest is JSON");
    let work = tempdir().expect("a temporary folder");
    let input = work.path().join("input.safetensors");
    write_input(&input);
    let marker = std::env::temp_dir().join("aim_pickle_was_executed");

    let mut wrong = Vec::new();
    for entry in &manifest.files {
        let is_config = Path::new(&entry.file)
            .extension()
            .is_some_and(|e| e == "json");
        let (checkpoint, config) = if is_config {
            ("ok_plain.safetensors", entry.file.as_str())
        } else {
            (entry.file.as_str(), "config_ok.json")
        };
        let output = work.path().join("output.safetensors");
        let mut program = aim_bench("run");
        program
            .args(["--model".as_ref(), folder.join(checkpoint).as_os_str()])
            .args(["--config".as_ref(), folder.join(config).as_os_str()])
            .args(["--input".as_ref(), input.as_os_str()])
            .args(["--output".as_ref(), output.as_os_str()]);
        let loads = program
            .output()
            .expect("the program starts")
            .status
            .success();
        if loads {
            let (shape, logits) = read_tensor(&output, "logits");
            assert_eq!(shape, [1, 10]);
            let expected = entry.logits_file.as_ref().unwrap_or(&manifest.logits);
            let error = relative_error(&logits, expected);
            if entry.expect == Expect::Error || error > 1e-5 {
                wrong.push(format!("{}: loaded, logits off by {error:e}", entry.file));
            }
            std::fs::remove_file(&output).expect("it was written");
        } else {
            let line = refused(&mut program);
            println!("{line}");
            let names_file = line.contains(&entry.file);
            if entry.expect == Expect::Load || !names_file {
                wrong.push(format!("{}: {line}", entry.file));
            }
            assert!(!output.exists(), "{}: an error writes nothing", entry.file);
        }
        assert!(!marker.exists(), "{}: the pickle was executed", entry.file);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        manifest.files.len() > 50,
        "the manifest lists {}",
        manifest.files.len()
    );
}

#[test]
fn errors_say_what_to_do() {
    for (file, parts) in [
        ("html.safetensors", &["HTML"][..]),
        ("lfs_pointer.safetensors", &["git-lfs", "git lfs pull"]),
        ("reduce_os_system.pth", &["posix.system"]),
        ("reduce_eval.pth", &["builtins.eval"]),
        (
            "missing_tensor.safetensors",
            &["trunk.blocks.0.attn.proj.weight", "missing"],
        ),
        ("extra_tensor.pth", &["trunk.blocks.0.attn.qkv.bias"]),
        (
            "transposed_shape.pth",
            &["[4, 16]", "[16, 4]", "transposed"],
        ),
        (
            "mlx_layout.safetensors",
            &["[4, 2, 2, 3]", "[4, 3, 2, 2]", "MLX"],
        ),
        ("two_queries.safetensors", &["[1, 2, 4]", "[1, 1, 4]"]),
        ("nan_weight.safetensors", &["trunk.blocks.0.mlp.fc1.weight"]),
        ("int_weight.safetensors", &["weight"]),
    ] {
        let folder = test_file("bad");
        let line = refused(
            aim_bench("classify")
                .arg("picture.png")
                .args(["--model".as_ref(), folder.join(file).as_os_str()])
                .args([
                    "--config".as_ref(),
                    folder.join("config_ok.json").as_os_str(),
                ]),
        );
        assert!(line.contains(file), "{line}");
        for part in parts {
            assert!(line.contains(part), "{file}: {part:?} is not in {line}");
        }
    }
}

#[test]
fn a_checkpoint_without_a_config_says_how_to_name_one() {
    let work = tempdir().expect("a temporary folder");
    let alone = work.path().join("model.safetensors");
    std::fs::copy(test_file("bad/ok_plain.safetensors"), &alone).expect("it is there");
    let line = refused(aim_bench("classify").args(["a.png", "--model"]).arg(&alone));
    assert!(
        line.contains("--config") && line.contains("--arch"),
        "{line}"
    );
}
