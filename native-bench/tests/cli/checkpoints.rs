//! Every good and every hostile checkpoint of `tests/bad`, through the whole program.

use std::path::{Path, PathBuf};

use aim_web::config::{Config, Family};
use aim_web::weights::shards::synth::{self, Format};
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

/// The tensors of a file under other names, some in one file and some in another.
fn rename(from: &Path, to: &[PathBuf], name: impl Fn(&str) -> (String, usize)) {
    let bytes = std::fs::read(from).expect("it is there");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    for (number, path) in to.iter().enumerate() {
        let tensors: Vec<_> = file
            .tensors()
            .into_iter()
            .filter_map(|(own, view)| {
                let (name, place) = name(&own);
                (place == number).then_some((name, view))
            })
            .collect();
        safetensors::serialize_to_file(tensors, None, path).expect("written");
    }
}

#[test]
fn names_of_a_wrapped_model_are_read() {
    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    let (input, output) = (path("input.safetensors"), path("output.safetensors"));
    write_input(&input);
    let config = test_file("bad/config_ok.json");
    let plain = test_file("bad/ok_plain.safetensors");
    let text = std::fs::read_to_string(test_file("bad/manifest.json")).expect("it is there");
    let manifest: Manifest = serde_json::from_str(&text).expect("JSON");
    let run = |model: &Path| {
        let mut program = aim_bench("run");
        program.arg("--model").arg(model).arg("--input").arg(&input);
        program.arg("--output").arg(&output);
        program
    };
    let checkpoint = path("model.safetensors");
    for wrapper in [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
    ] {
        let file = [checkpoint.clone()];
        rename(&plain, &file, |name| (format!("{wrapper}{name}"), 0));
        run(&checkpoint)
            .arg("--config")
            .arg(&config)
            .assert()
            .success();
        let (_, logits) = read_tensor(&output, "logits");
        assert!(
            relative_error(&logits, &manifest.logits) < 1e-5,
            "{wrapper}"
        );
        aim_bench("inspect").arg(&checkpoint).assert().success();
    }
    // A mixed one is no state dict of any model.
    rename(&plain, std::slice::from_ref(&checkpoint), |name| {
        let wrapper = if name.contains("mlp") { "module." } else { "" };
        (format!("{wrapper}{name}"), 0)
    });
    let line = refused(run(&checkpoint).arg("--config").arg(&config));
    assert!(
        line.contains("module.") && line.contains("begin otherwise"),
        "{line}"
    );
    std::fs::remove_file(&checkpoint).expect("it was there");

    // As shards with an index.
    let shards = [path("a.safetensors"), path("b.safetensors")];
    let place = |name: &str| usize::from(name.contains("blocks"));
    rename(&plain, &shards, |name| {
        (format!("module.{name}"), place(name))
    });
    let bytes = std::fs::read(&plain).expect("it is there");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let map: serde_json::Map<_, _> = file
        .names()
        .into_iter()
        .map(|name| {
            let shard = ["a.safetensors", "b.safetensors"][place(name)];
            (format!("module.{name}"), shard.into())
        })
        .collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(path("model.safetensors.index.json"), index).expect("written");
    std::fs::copy(config, path("config.json")).expect("copied");
    run(work.path()).assert().success();
    let (_, logits) = read_tensor(&output, "logits");
    assert!(relative_error(&logits, &manifest.logits) < 1e-5);
}

#[test]
fn a_patch_of_unequal_sides_runs() {
    let work = tempdir().expect("a temporary folder");
    let path = |name: &str| work.path().join(name);
    let config = Config {
        img_size: [4, 6],
        patch_size: [2, 3],
        embed_dim: 8,
        num_blocks: 1,
        num_heads: 2,
        num_classes: 3,
        probe_layers: vec![0],
        ..Family::Aim600M.config()
    };
    let model = path("model");
    synth::write(&config, 1, Format::Safetensors, &model, false).expect("written");
    let (input, output) = (path("input.safetensors"), path("output.safetensors"));
    write_tensor(&input, "input", &[2, 3, 4, 6], &vec![0.5; 2 * 3 * 4 * 6]);
    let mut program = aim_bench("run");
    program
        .arg("--model")
        .arg(&model)
        .arg("--input")
        .arg(&input);
    program.arg("--output").arg(&output).assert().success();
    let (shape, logits) = read_tensor(&output, "logits");
    assert_eq!(shape, [2, 3]);
    assert!(logits.iter().all(|logit| logit.is_finite()));
    // Pictures are cut to squares.
    let line = refused(
        aim_bench("classify")
            .arg("a.png")
            .arg("--model")
            .arg(&model),
    );
    assert!(line.contains("4x6"), "{line}");
}

#[test]
fn a_model_that_does_not_fit_in_memory_is_refused_at_once() {
    let work = tempdir().expect("a temporary folder");
    let model = work.path().join("model");
    let config = Config {
        img_size: [4096, 4096],
        patch_size: [1, 1],
        embed_dim: 512,
        num_blocks: 1,
        num_heads: 4,
        num_classes: 3,
        probe_layers: vec![0],
        ..Family::Aim600M.config()
    };
    synth::write(&config, 1, Format::Safetensors, &model, false).expect("written");
    let picture = test_file("pictures/tiny_50x37.png");
    let line = refused(
        aim_bench("classify")
            .arg(picture)
            .arg("--model")
            .arg(&model),
    );
    assert!(
        line.contains("out of memory") && line.contains("4096x4096"),
        "{line}"
    );
    // So is an input that is too large for a model that fits.
    let tiny = test_file("../models/aim-tiny");
    let input = work.path().join("input.safetensors");
    write_sparse_input(&input, &[1, 3, 1 << 18, 1 << 18]);
    let mut program = aim_bench("run");
    program.arg("--model").arg(tiny).arg("--input").arg(&input);
    let line = refused(
        program
            .arg("--output")
            .arg(work.path().join("output.safetensors")),
    );
    assert!(line.contains("memory"), "{line}");
}

/// A safetensors file of zeros that takes no room on a disk.
fn write_sparse_input(path: &Path, shape: &[u64]) {
    use std::io::Write as _;

    let bytes = 4 * shape.iter().product::<u64>();
    let header = serde_json::json!({
        "input": { "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] },
    })
    .to_string();
    let mut file = std::fs::File::create(path).expect("the folder is writable");
    file.write_all(&(header.len() as u64).to_le_bytes())
        .expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.set_len(8 + header.len() as u64 + bytes)
        .expect("a sparse file");
}
