//! What `torch.save` wrote, wherever it lies.

use aim_web::config::{Config, Family};
use aim_web::weights::shards::synth::{self, Format};
use assert_cmd::Command;
use tempfile::TempDir;

use super::hub::Hub;
use super::{aim_bench, json, read_tensor, refused, use_hub, write_tensor};

/// One model in both forms, `me/safetensors` and `me/torch`, of 30 MB.
struct World {
    hub: Hub,
    root: TempDir,
    home: TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let config = Config {
            embed_dim: 256,
            num_blocks: 8,
            num_heads: 2,
            num_classes: 10,
            probe_layers: vec![0, 1],
            ..Family::Aim600M.config()
        };
        for (name, format) in [
            ("safetensors", Format::Safetensors),
            ("torch", Format::Torch),
        ] {
            let dir = root.path().join("me").join(name);
            std::fs::create_dir_all(root.path().join("me")).expect("the folder is writable");
            synth::write(&config, 1, format, &dir, false).expect("written");
        }
        let input = root.path().join("input.safetensors");
        write_tensor(&input, "input", &[1, 3, 28, 28], &vec![0.5; 3 * 28 * 28]);
        Self {
            hub: Hub::start(root.path(), 0),
            root,
            home: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn command(&self, command: &str) -> Command {
        let mut program = aim_bench(command);
        use_hub(&mut program, &self.hub, self.home.path());
        program
    }

    /// The logits of a model.
    fn logits(&self, args: &[&str]) -> Vec<f32> {
        let output = self.root.path().join("output.safetensors");
        let mut program = self.command("run");
        program
            .arg("--input")
            .arg(self.root.path().join("input.safetensors"));
        program.arg("--output").arg(&output).args(args);
        program.assert().success();
        read_tensor(&output, "logits").1
    }

    fn path(&self, file: &str) -> String {
        self.root.path().join("me").join(file).display().to_string()
    }
}

#[test]
fn it_is_the_model_of_the_safetensors_file() {
    let world = World::new();
    let torch = world.path("torch");
    let file = world.path("torch/pytorch_model.bin");
    let config = world.path("torch/config.json");
    let elsewhere = world.root.path().join("weights.pt");
    std::fs::copy(&file, &elsewhere).expect("copied");
    let elsewhere = elsewhere.display().to_string();
    let folder = world.hub.folder("me/torch");
    let url = format!("{folder}/pytorch_model.bin");
    // `convert` writes an index.
    let sharded = world.path("sharded");
    let mut convert = world.command("convert");
    convert.args(["--dtype", "fp32", "--model", &torch, "--output", &sharded]);
    convert.assert().success();
    for dtype in ["fp32", "q8", "q4"] {
        let expected = world.logits(&["--dtype", dtype, "--model", &world.path("safetensors")]);
        for model in [
            &["--model", &torch][..],
            &["--model", &file],
            &["--model", &elsewhere, "--config", &config],
            &["--model", &torch, "--config", &config],
            &["--model", &sharded, "--config", &config],
            &["--model", "me/torch"],
            &["--model", "ME/Torch"],
            &["--model", &folder],
            &["--model", &url],
        ] {
            let args = [&["--dtype", dtype][..], model].concat();
            assert_eq!(world.logits(&args), expected, "{args:?}");
        }
    }
}

#[test]
fn inspect_and_convert_read_it_from_a_server() {
    let world = World::new();
    let folder = world.hub.folder("me/torch");
    let local = json(world.command("inspect").arg(world.path("torch")));
    assert!(
        local["tensors"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    );
    for place in [
        folder.clone(),
        format!("{folder}/pytorch_model.bin"),
        "me/torch".to_owned(),
    ] {
        world.hub.reset();
        let report = json(world.command("inspect").arg(&place));
        assert_eq!(report["tensors"], local["tensors"], "{place}");
        assert_eq!(report["best"]["blocks"], 2, "{place}");
        let (download, all) = (&report["best"]["download_bytes"], &report["file_bytes"]);
        let (download, all) = (download.as_u64().unwrap_or(0), all.as_u64().unwrap_or(0));
        assert!(
            download > 0 && download < all,
            "{place}: {download} of {all}"
        );
        assert!(world.hub.sent() < 300_000, "{place}: {}", world.hub.sent());
    }
    let converted = |model: &str, name: &str| {
        let output = world.root.path().join(name);
        let mut program = world.command("convert");
        program
            .args(["--model", model, "--dtype", "q4", "--output"])
            .arg(&output);
        program.assert().success();
        std::fs::read(output.join("model-00001-of-00001.safetensors")).expect("it is there")
    };
    assert!(converted("me/torch", "a") == converted(&world.path("safetensors"), "b"));
}

#[test]
fn apples_pair_is_found_in_a_folder() {
    let world = World::new();
    let dir = world.root.path().join("apple");
    std::fs::create_dir(&dir).expect("the folder is writable");
    let copy = |name: &str| {
        std::fs::copy(world.path("torch/pytorch_model.bin"), dir.join(name)).expect("copied");
    };
    let model = dir.display().to_string();
    copy("aim_600m_2bimgs_attnprobe_backbone.pth");
    // The one that the layers need is missing.
    let mut program = world.command("inspect");
    let error = refused(program.args([&model, "--probe-layers", "last"]));
    assert!(error.contains("head_last_layers.pth"), "{error}");
    copy("aim_600m_2bimgs_attnprobe_head_best_layers.pth");
    // What they are is known, and these are others.
    let is_of_apple = || {
        let error = refused(world.command("inspect").arg(&model));
        assert!(
            error.contains("backbone.pth: tensor preprocessor"),
            "{error}"
        );
    };
    is_of_apple();
    let config = dir.join("config.json");
    let mut program = world.command("inspect");
    let error = refused(program.arg(&model).arg("--config").arg(&config));
    assert!(error.contains("leave --config out"), "{error}");
    // One of theirs that lies beside says nothing else.
    std::fs::copy(world.path("torch/config.json"), config).expect("copied");
    is_of_apple();
    copy("aim_1b_5bimgs_attnprobe_backbone.pth");
    let error = refused(world.command("inspect").arg(&model));
    assert!(error.contains("--arch"), "{error}");
    let empty = world.root.path().join("empty");
    std::fs::create_dir(&empty).expect("the folder is writable");
    let error = refused(world.command("inspect").arg(&empty));
    assert!(error.contains("pytorch_model.bin"), "{error}");
}
