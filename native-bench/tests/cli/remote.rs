//! Models from a server, and those that are kept of them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aim_web::config::{Config, Family};
use aim_web::weights::shards::synth::{self, Format};
use assert_cmd::Command;
use tempfile::TempDir;

use super::hub::{Fault, Hub, Plan};
use super::{aim_bench, json, read_tensor, refused, relative_error, use_hub, write_tensor};

/// A hub with `me/tiny`, a copy of the embedded model.
struct World {
    hub: Hub,
    root: TempDir,
    home: TempDir,
}

/// Copies what is in a folder.
fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from)
        .expect("the folder is there")
        .flatten()
    {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let tiny = root.path().join("me/tiny");
        std::fs::create_dir_all(&tiny).expect("the folder is writable");
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/aim-tiny");
        copy_files(&model, &tiny);
        Self {
            hub: Hub::start(root.path(), 0),
            root,
            home: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn command(&self, command: &str) -> Command {
        let mut program = aim_bench(command);
        self.environment(&mut program);
        program
    }

    fn environment(&self, program: &mut Command) {
        use_hub(program, &self.hub, self.home.path());
    }

    /// `classify` with `me/tiny`.
    fn classify(&self) -> Command {
        let mut program = self.command("classify");
        program.arg(photograph()).args(["--model", "me/tiny"]);
        program
    }

    /// An empty folder where the hub's own tools keep the newest state of `me/tiny`.
    fn snapshot(&self) -> PathBuf {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let repository = self.home.path().join("hub/models--me--tiny");
        let snapshot = repository.join("snapshots").join(commit);
        std::fs::create_dir_all(&snapshot).expect("the folder is writable");
        std::fs::create_dir_all(repository.join("refs")).expect("the folder is writable");
        std::fs::write(repository.join("refs/main"), commit).expect("written");
        snapshot
    }

    fn cache(&self, args: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_aim-bench"));
        program.arg("cache").args(args);
        self.environment(&mut program);
        program
    }
}

fn photograph() -> PathBuf {
    super::test_file("photos/5/signer017-1296.jpg")
}

#[test]
fn a_model_of_the_hub_or_of_a_folder_names_what_the_embedded_one_names() {
    let world = World::new();
    let embedded = json(aim_bench("classify").arg(photograph()));
    let folder = world.hub.folder("me/tiny");
    let file = format!("{folder}/model-00001-of-00001.safetensors");
    for model in ["me/tiny", "me/tiny@main", &folder, &file] {
        let report = json(
            world
                .command("classify")
                .arg(photograph())
                .args(["--model", model]),
        );
        assert_eq!(report, embedded, "{model}");
    }
    let listed = json(&mut world.cache(&["list"]));
    assert_eq!(listed.as_array().expect("a list").len(), 2);
    world.cache(&["delete", "me/tiny"]).assert().success();
    let error = refused(&mut world.cache(&["delete", "me/tiny"]));
    assert!(error.contains("me/tiny"), "{error}");
}

#[test]
fn what_the_hubs_own_tools_downloaded_is_used() {
    let world = World::new();
    let snapshot = world.snapshot();
    copy_files(&world.root.path().join("me/tiny"), &snapshot);
    let report = json(
        world
            .command("classify")
            .arg(photograph())
            .args(["--model", "me/tiny"])
            .env("HF_ENDPOINT", "http://127.0.0.1:9"),
    );
    assert_eq!(report, json(aim_bench("classify").arg(photograph())));
}

#[test]
fn a_model_that_is_nowhere_is_an_error() {
    let world = World::new();
    let error = refused(
        world
            .command("classify")
            .arg(photograph())
            .args(["--model", "me/none"]),
    );
    assert!(
        error.contains("me/none: is no file or folder here, and as a repository: http"),
        "{error}"
    );
    let error = refused(
        world
            .command("classify")
            .arg(photograph())
            .args(["--model", "me/tiny@other"]),
    );
    assert!(error.contains("other"), "{error}");
}

#[test]
fn paths_are_not_asked_of_the_hub() {
    let world = World::new();
    let work = tempfile::tempdir().expect("a temporary folder");
    let classify = |model: &str| {
        let mut program = world.command("classify");
        program.current_dir(work.path()).arg(photograph());
        program.args(["--model", model]);
        program
    };
    for path in [
        "./tiny",
        "../tiny",
        "/tiny",
        "~/tiny",
        "me/model.safetensors",
        "me/weights.PTH",
        "me/config.json",
        "me\\tiny",
    ] {
        let error = refused(&mut classify(path));
        let part = format!("{path}: no such file or directory");
        assert!(error.contains(&part), "{error}");
        assert_eq!(error.contains("write it out"), path.starts_with('~'));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;

        // It is there, but nobody can look at it.
        let me = work.path().join("me");
        symlink("me", &me).expect("linked");
        let error = refused(&mut classify("me/tiny"));
        assert!(error.contains("me/tiny: can't be read"), "{error}");
        let mut eval = world.command("eval");
        eval.current_dir(work.path());
        let error = refused(eval.args(["--data-path", "me/val.tar"]));
        assert!(error.contains("me/val.tar: can't be read"), "{error}");
        std::fs::remove_file(&me).expect("it was there");
        std::fs::create_dir(&me).expect("created");
        symlink("nowhere", me.join("tiny")).expect("linked");
        let error = refused(&mut classify("me/tiny"));
        assert!(error.contains("a link to what is not there"), "{error}");
        // Nor what is in a folder.
        let folder = me.join("folder");
        std::fs::create_dir(&folder).expect("created");
        symlink("config.json", folder.join("config.json")).expect("linked");
        let error = refused(&mut classify("me/folder"));
        assert!(error.contains("config.json: can't be read"), "{error}");
        std::fs::remove_dir_all(&me).expect("it was there");
    }
    assert_eq!(world.hub.log().len(), 0);

    // A file is no folder that models are in.
    std::fs::write(work.path().join("me"), "a note").expect("written");
    let report = json(&mut classify("me/tiny"));
    assert_eq!(report, json(aim_bench("classify").arg(photograph())));
}

#[test]
fn what_is_no_address_is_tried_once() {
    let world = World::new();
    for address in ["http://[::1/m/", "http://a.b:99999/m/"] {
        let error = refused(world.command("inspect").arg(address));
        assert!(error.contains("no address"), "{error}");
        assert!(!error.contains("attempts"), "{error}");
    }
}

#[test]
fn a_proxy_that_does_not_answer_is_named() {
    let world = World::new();
    let error = refused(
        world
            .command("inspect")
            .arg("http://a.b/m/")
            .env("HTTP_PROXY", "http://127.0.0.1:9"),
    );
    assert!(error.contains("HTTP_PROXY is set"), "{error}");
    assert!(error.contains("unless NO_PROXY has a.b"), "{error}");
}

/// Connects to `address` whatever is asked for by SOCKS 5, and passes on what comes from either side.
fn socks(mut client: TcpStream, address: &str) -> std::io::Result<()> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting)?;
    assert_eq!(greeting[0], 5);
    client.read_exact(&mut vec![0; usize::from(greeting[1])])?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 5];
    client.read_exact(&mut request)?;
    assert_eq!(request[..4], [5, 1, 0, 3], "a name to connect to");
    let mut name = vec![0; usize::from(request[4])];
    client.read_exact(&mut name)?;
    assert_eq!(name, b"a.b");
    client.read_exact(&mut [0; 2])?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let mut server = TcpStream::connect(address)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
    std::io::copy(&mut client, &mut server)?;
    Ok(())
}

#[test]
fn a_socks_proxy_is_used() {
    let world = World::new();
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = proxy.local_addr().expect("it has one");
    let hub = world.hub.endpoint.replace("http://", "");
    std::thread::spawn(move || {
        for stream in proxy.incoming().flatten() {
            let hub = hub.clone();
            std::thread::spawn(move || socks(stream, &hub));
        }
    });
    let mut program = world.command("inspect");
    program
        .arg("http://a.b/files/me/tiny/model-00001-of-00001.safetensors")
        .env("ALL_PROXY", format!("socks5h://{own}"));
    let report = json(&mut program);
    assert!(report["tensors"].is_array());
}

#[test]
fn a_redirect_to_what_is_not_http_is_followed_by_nobody() {
    let world = World::new();
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("it has one");
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(
                b"HTTP/1.1 302 Found\r\nlocation: ftp://a.b/m\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
    let error = refused(world.command("inspect").arg(format!("http://{address}/m/")));
    assert!(
        error.contains("127.0.0.1 redirects to an address of ftp"),
        "{error}"
    );
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[test]
fn inspect_reads_headers_and_says_what_best_needs() {
    let world = World::new();
    for (family, most) in [
        (Family::Aim600M, 0.86),
        (Family::Aim1B, 0.77),
        (Family::Aim3B, 0.77),
        (Family::Aim7B, 0.65),
    ] {
        let dir = world.root.path().join("apple").join(family.name());
        std::fs::create_dir_all(&dir).expect("the folder is writable");
        super::inspect::write_sparse_checkpoint(&dir.join("model.safetensors"), family);
        std::fs::write(dir.join("config.json"), family.config().to_json()).expect("written");
        world.hub.reset();
        let report = json(world.command("inspect").arg(family.name()));
        assert_eq!(report["model"], family.name());
        let number = |value: &serde_json::Value| value.as_f64().expect("a number");
        let share = number(&report["best"]["download_bytes"]) / number(&report["file_bytes"]);
        println!("{family}: best needs {share:.4} of the repository");
        assert!(share <= most, "{family}: {share}");
        assert!(world.hub.sent() < 1 << 20, "more than the header was read");
    }
}

#[test]
fn a_killed_download_goes_on_where_it_stopped() {
    let world = World::new();
    let dir = world.root.path().join("me/large");
    let config = Config {
        embed_dim: 512,
        num_blocks: 8,
        num_heads: 4,
        num_classes: 10,
        probe_layers: vec![7],
        ..Family::Aim600M.config()
    };
    synth::write(&config, 1, Format::Safetensors, &dir, false).expect("written");
    let input = world.root.path().join("input.safetensors");
    write_tensor(&input, "input", &[1, 3, 28, 28], &vec![0.5; 3 * 28 * 28]);
    let run = |world: &World, output: &Path| {
        let mut program = world.command("run");
        program.args(["--model", "me/large", "--input"]).arg(&input);
        program.arg("--output").arg(output);
        program
    };
    let whole = world.root.path().join("whole.safetensors");
    run(&world, &whole).assert().success();
    let needed = world.hub.sent();
    assert!(needed > 10 << 23, "{needed}");
    world.cache(&["delete", "me/large"]).assert().success();

    world.hub.reset();
    let before = needed * 6 / 10;
    world.hub.set(Plan::of(Fault::StallAt(before)));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_aim-bench"))
        .args(["run", "--device", "cpu", "--model", "me/large", "--input"])
        .arg(&input)
        .args(["--output", "unused.safetensors"])
        .env("HF_HOME", world.home.path())
        .env("HF_ENDPOINT", &world.hub.endpoint)
        .spawn()
        .expect("it starts");
    while world.hub.sent() < before {
        assert!(
            child.try_wait().expect("it is ours").is_none(),
            "it ended by itself"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");

    world.hub.reset();
    let resumed = world.root.path().join("resumed.safetensors");
    run(&world, &resumed).assert().success();
    let twice = (world.hub.sent() + before).saturating_sub(needed);
    println!("fetched twice: {twice} bytes");
    assert!(twice <= 2 << 23, "{twice} bytes were fetched twice");
    let (_, expected) = read_tensor(&whole, "logits");
    let (_, logits) = read_tensor(&resumed, "logits");
    assert!(relative_error(&logits, &expected) == 0.0);
}

#[test]
fn an_interrupted_download_of_the_hubs_own_tools_is_not_taken_for_a_model() {
    let world = World::new();
    let snapshot = world.snapshot();
    for file in ["config.json", "model.safetensors.index.json"] {
        let from = world.root.path().join("me/tiny").join(file);
        std::fs::copy(from, snapshot.join(file)).expect("copied");
    }
    let mut command = world.command("classify");
    command.arg(photograph()).args(["--model", "me/tiny"]);
    let report = json(&mut command);
    assert_eq!(report, json(aim_bench("classify").arg(photograph())));
}

#[test]
fn a_file_is_inspected_by_its_url_alone() {
    let world = World::new();
    let folder = world.root.path().join("me/tiny");
    for file in ["config.json", "aim.manifest.json"] {
        std::fs::remove_file(folder.join(file)).expect("it was there");
    }
    let file = format!(
        "{}/model-00001-of-00001.safetensors",
        world.hub.folder("me/tiny")
    );
    let report = json(world.command("inspect").arg(&file));
    assert!(
        report["tensors"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    );
    let error = refused(world.command("inspect").arg(format!("{file}.safetensors")));
    assert!(error.contains("no such file"), "{error}");
}

#[test]
fn a_flipped_bit_in_a_folder_with_a_manifest_is_found() {
    let world = World::new();
    let folder = world.root.path().join("me/tiny");
    let shard = folder.join("model-00001-of-00001.safetensors");
    let mut bytes = std::fs::read(&shard).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&shard, bytes).expect("written");
    let mut command = aim_bench("classify");
    command.arg(photograph()).arg("--model").arg(&folder);
    let error = refused(&mut command);
    assert!(error.contains("aim.manifest.json"), "{error}");
}

#[test]
fn offline_nothing_is_asked_of_a_server() {
    let world = World::new();
    for (variables, name) in [
        (&[("HF_HUB_OFFLINE", "1")][..], "HF_HUB_OFFLINE"),
        (&[("TRANSFORMERS_OFFLINE", "yes")], "TRANSFORMERS_OFFLINE"),
    ] {
        let error = refused(world.classify().envs(variables.iter().copied()));
        assert!(error.contains(name) && error.contains("me/tiny"), "{error}");
        assert!(!error.contains("attempts"), "{error}");
        // Nor of a server that is no hub.
        let folder = world.hub.folder("me/tiny");
        let mut program = world.command("classify");
        program.arg(photograph()).args(["--model", &folder]);
        let error = refused(program.envs(variables.iter().copied()));
        assert!(error.contains(name), "{error}");
    }
    assert_eq!(world.hub.log().len(), 0);

    // What is cached is there, by whatever variable.
    let online = json(&mut world.classify());
    world.hub.reset();
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let report = json(world.classify().env(variable, "TRUE"));
        assert_eq!(report, online);
    }
    assert_eq!(world.hub.log().len(), 0);
    // The first that is set decides, as with the hub's own tools.
    let mut program = world.classify();
    program.envs([("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]);
    json(&mut program);
    assert_ne!(world.hub.log().len(), 0);
}

#[test]
fn offline_a_snapshot_of_the_hubs_own_tools_is_used() {
    let world = World::new();
    let snapshot = world.snapshot();
    copy_files(&world.root.path().join("me/tiny"), &snapshot);
    let commit = snapshot.file_name().expect("a name").to_string_lossy();
    let embedded = json(aim_bench("classify").arg(photograph()));
    let elsewhere = world.root.path().join("elsewhere");
    for (model, variable, cache) in [
        (
            "me/tiny".to_owned(),
            "HF_HUB_CACHE",
            world.home.path().join("hub"),
        ),
        (
            format!("me/tiny@{commit}"),
            "HUGGINGFACE_HUB_CACHE",
            world.home.path().join("hub"),
        ),
        ("me/tiny".to_owned(), "HF_HUB_CACHE", PathBuf::from("~/hub")),
    ] {
        let mut program = world.command("classify");
        program.arg(photograph()).args(["--model", &model]);
        program
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", &elsewhere);
        program.env(variable, cache).env("HOME", world.home.path());
        assert_eq!(json(&mut program), embedded, "{model} {variable}");
    }
    assert_eq!(world.hub.log().len(), 0);
}

#[test]
fn a_snapshot_without_a_configuration_is_used_with_one() {
    let world = World::new();
    let tiny = world.root.path().join("me/tiny");
    let config = world.root.path().join("config.json");
    std::fs::rename(tiny.join("config.json"), &config).expect("moved");
    let snapshot = world.snapshot();
    copy_files(&tiny, &snapshot);
    std::fs::copy(
        tiny.join("labels.json"),
        config.with_file_name("labels.json"),
    )
    .expect("copied");
    let mut program = world.classify();
    program
        .arg("--config")
        .arg(&config)
        .env("HF_HUB_OFFLINE", "1");
    assert_eq!(
        json(&mut program),
        json(aim_bench("classify").arg(photograph()))
    );
    // Nothing says what it is.
    refused(world.classify().env("HF_HUB_OFFLINE", "1"));
    // One file of several.
    std::fs::remove_file(snapshot.join("model-00001-of-00001.safetensors")).expect("removed");
    let error = refused(&mut program);
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn a_snapshot_of_apples_pairs_is_used() {
    let world = World::new();
    let tiny = world.root.path().join("me/tiny");
    let weights = tiny.join("model-00001-of-00001.safetensors");
    let snapshot = world.snapshot();
    let backbone = "aim_600m_2bimgs_attnprobe_backbone.pth";
    let head = "aim_600m_2bimgs_attnprobe_head_best_layers.pth";
    std::fs::copy(&weights, snapshot.join(backbone)).expect("copied");
    let classify = |arguments: &[&str]| {
        let mut program = world.classify();
        program.args(arguments).env("HF_HUB_OFFLINE", "1");
        refused(&mut program)
    };
    // The probe is missing yet.
    let arch = &["--arch", "aim-600M"][..];
    let error = classify(arch);
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    std::fs::copy(&weights, snapshot.join(head)).expect("copied");
    let is_read = |error: &str| error.contains("snapshots") && error.contains(backbone);
    // They are read, and are others than Apple's.
    for arguments in [arch, &[]] {
        let error = classify(arguments);
        assert!(is_read(&error), "{error}");
    }
    for arguments in [
        &["--arch", "aim-1B"][..],
        &["--arch", "aim-600M", "--probe-layers", "last"],
    ] {
        let error = classify(arguments);
        assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    }
    assert_eq!(world.hub.log().len(), 0);

    // Online too; and of several models in the repository one has to be chosen, whichever was downloaded.
    std::fs::remove_dir_all(&tiny).expect("removed");
    std::fs::create_dir(&tiny).expect("the folder is writable");
    for name in [backbone, head, "aim_1b_5bimgs_attnprobe_backbone.pth"] {
        std::fs::write(tiny.join(name), "not downloaded").expect("written");
    }
    let commit = world.hub.commit("me/tiny");
    std::fs::rename(&snapshot, snapshot.with_file_name(commit)).expect("renamed");
    let error = refused(world.classify().args(arch));
    assert!(is_read(&error), "{error}");
    let error = refused(&mut world.classify());
    assert!(error.contains("several models"), "{error}");
}

#[test]
fn a_cache_that_cannot_be_written_is_warned_of_and_done_without() {
    let world = World::new();
    let file = world.root.path().join("file");
    std::fs::write(&file, b"no folder").expect("written");
    let output = world
        .classify()
        .env("HF_HOME", &file)
        .arg("--json")
        .assert()
        .success()
        .get_output()
        .clone();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report, json(aim_bench("classify").arg(photograph())));
    let warnings = String::from_utf8(output.stderr).expect("UTF-8");
    let lines: Vec<&str> = warnings.lines().collect();
    assert_eq!(lines.len(), 1, "{warnings}");
    assert!(
        lines[0].starts_with("warning: me/tiny is not kept") && lines[0].contains("file"),
        "{warnings}"
    );
}

#[test]
fn the_token_is_the_hubs_own() {
    let world = World::new();
    let home_token = world.home.path().join("token");
    let other = world.root.path().join("other");
    std::fs::write(&home_token, "hf_home\n").expect("written");
    std::fs::write(&other, "hf_other\r\n").expect("written");
    let signed = AtomicUsize::new(0);
    let asked_with = |variables: &[(&str, &str)], model: &str| {
        world.hub.reset();
        let mut program = world.command("classify");
        program.arg(photograph()).args(["--model", model]);
        let _ = program
            .envs(variables.iter().copied())
            .output()
            .expect("it starts");
        let log = world.hub.log();
        assert!(!log.is_empty());
        let first = log[0].authorization.clone();
        let own = log.iter().filter(|request| request.is_signed).count();
        signed.fetch_add(own, Ordering::Relaxed);
        assert!(
            log.iter()
                .all(|request| request.is_signed || request.authorization == first),
            "{log:?}"
        );
        assert!(
            log.iter()
                .all(|request| !request.is_signed || request.authorization.is_none()),
            "{log:?}"
        );
        first
    };
    let other = other.to_str().expect("UTF-8");
    for (variables, expected) in [
        (&[][..], Some("Bearer hf_home")),
        (&[("HF_TOKEN_PATH", other)], Some("Bearer hf_other")),
        (
            &[("HF_TOKEN_PATH", other), ("HF_TOKEN", " hf_own ")],
            Some("Bearer hf_own"),
        ),
        (&[("HF_TOKEN_PATH", "/no/such/file")], None),
        (&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], None),
    ] {
        assert_eq!(
            asked_with(variables, "me/tiny").as_deref(),
            expected,
            "{variables:?}"
        );
    }
    assert_ne!(signed.load(Ordering::Relaxed), 0, "no file was redirected");
    // Another server does not get it.
    let folder = format!(
        "{}/files/me/tiny",
        world.hub.endpoint.replace("127.0.0.1", "localhost")
    );
    assert_eq!(asked_with(&[], &folder), None);
    std::fs::write(&home_token, "hf_\u{e9} and more").expect("written");
    let error = refused(&mut world.classify());
    assert!(
        error.contains("token") && error.contains("log in"),
        "{error}"
    );
    assert!(!error.contains("and more"), "a secret is shown: {error}");
}

#[test]
fn an_address_that_stays_refused_is_signed_anew_once_and_named() {
    let world = World::new();
    world.hub.set(Plan::of(Fault::Expired));
    let error = refused(&mut world.classify());
    assert!(
        error.contains("AccessDenied Request has expired") && error.contains("127.0.0.1"),
        "{error}"
    );
    assert!(!error.contains("/signed/"), "a secret is shown: {error}");
    let refusals = world
        .hub
        .log()
        .iter()
        .filter(|request| request.status == 403)
        .count();
    assert_eq!(refusals, 2, "{:?}", world.hub.log());
    // One that has expired meanwhile is only signed anew.
    world.hub.set(Plan::passing(Fault::Expired, 1));
    json(&mut world.classify());
}
