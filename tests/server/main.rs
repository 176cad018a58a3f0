//! Models from a real server on this machine, which behaves like the hub and misbehaves on command.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../hub/mod.rs"]
mod hub;
mod torch;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use aim_web::config::Config;
use aim_web::device::Device;
use aim_web::engine::{self, HostTensor};
use aim_web::labels::Labels;
use aim_web::precision::Precision;
use aim_web::quant::Scheme;
use aim_web::weights::LocalModel;
use aim_web::weights::checkpoint::Checkpoint;
use aim_web::weights::remote::client::Client;
use aim_web::weights::remote::disk_cache::{CachedModel, DiskCache};
use aim_web::weights::remote::http::Http;
use aim_web::weights::remote::stall::Timeouts;
use aim_web::weights::remote::{Location, RemoteModel, Repository, Store, Wanted};
use aim_web::weights::shards::manifest::CHUNK;
use aim_web::weights::shards::{ShardWriter, StoredAs};
use aim_web::{Error, ErrorKind};
use common::generator::{self, Generated};
use common::torch_file;
use hub::{Fault, Hub, Plan};
use pollster::block_on;

/// A model of four chunks in one file; its probe needs three blocks of ten, which are two chunks.
fn config() -> Config {
    Config {
        img_size: [28, 28],
        patch_size: [14, 14],
        num_channels: 3,
        embed_dim: 256,
        num_blocks: 10,
        num_heads: 2,
        num_classes: 10,
        probe_layers: vec![0, 2],
        quantization: None,
    }
}

fn checkpoint() -> Vec<Box<dyn Checkpoint>> {
    checkpoint_of("server")
}

fn checkpoint_of(seed: &str) -> Vec<Box<dyn Checkpoint>> {
    vec![Box::new(Generated::new(seed, &config()))]
}

/// Three repositories with the same weights: `me/shards` has a manifest, `me/plain` none, and `me/torch` is
/// what `torch.save` would have written.
fn repositories(root: &Path) {
    publish(root, "server", Labels::unnamed(10));
}

/// Labels that are other ones.
fn other_labels() -> Labels {
    let names: Vec<String> = (0..10).map(|i| format!("other {i}")).collect();
    let text = serde_json::to_string(&names).unwrap();
    Labels::from_json(&text, 10).unwrap().unwrap()
}

/// Writes both repositories, in place of what was there.
fn publish(root: &Path, seed: &str, labels: Labels) {
    let shards = root.join("me/shards");
    let mut writer = ShardWriter::new(&shards, true, config(), labels, StoredAs::F32).unwrap();
    writer.copy(&mut checkpoint_of(seed), &config()).unwrap();
    writer.finish().unwrap();

    let plain = root.join("me/plain");
    std::fs::create_dir_all(&plain).unwrap();
    for name in ["config.json", "labels.json"] {
        std::fs::copy(shards.join(name), plain.join(name)).unwrap();
    }
    std::fs::copy(
        shards.join("model-00001-of-00001.safetensors"),
        plain.join("model.safetensors"),
    )
    .unwrap();
    let torch = root.join("me/torch");
    std::fs::create_dir_all(&torch).unwrap();
    for name in ["config.json", "labels.json"] {
        std::fs::copy(shards.join(name), torch.join(name)).unwrap();
    }
    let mut weights = Generated::new(seed, &config());
    torch_file::write(&torch.join("pytorch_model.bin"), &mut weights, |_| true);
}

/// The server, the folder it serves, and a cache.
struct World {
    hub: Hub,
    root: tempfile::TempDir,
    home: tempfile::TempDir,
}

/// How a model is named.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    /// On the hub, with the manifest of its shards.
    Shards,
    /// On the hub, without a manifest.
    Plain,
    /// By the URL of a folder, without a manifest: nothing says what it has to be.
    Folder,
    /// On the hub, written by torch.save.
    Torch,
    /// The same by the URL of a folder.
    TorchFolder,
}

impl By {
    /// The same way to what torch.save wrote, if there is one.
    const fn torch(self) -> Option<Self> {
        match self {
            Self::Plain => Some(Self::Torch),
            Self::Folder => Some(Self::TorchFolder),
            _ => None,
        }
    }
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        repositories(root.path());
        Self {
            hub: Hub::start(root.path(), 0),
            root,
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn location(&self, by: By) -> Location {
        match by {
            By::Shards => Location::new("me/shards", None, Some(&self.hub.endpoint)),
            By::Plain => Location::new("me/plain", None, Some(&self.hub.endpoint)),
            By::Folder => Location::new(&self.hub.folder("me/plain"), None, None),
            By::Torch => Location::new("me/torch", None, Some(&self.hub.endpoint)),
            By::TorchFolder => Location::new(&self.hub.folder("me/torch"), None, None),
        }
        .unwrap()
    }

    fn load(&self, by: By, blocks: usize) -> Result<Loaded, Error> {
        self.load_from(self.location(by), None, blocks)
    }

    fn load_from(
        &self,
        location: Location,
        token: Option<&str>,
        blocks: usize,
    ) -> Result<Loaded, Error> {
        self.load_as(location, token, blocks, Precision::Fp32)
    }

    fn load_as(
        &self,
        location: Location,
        token: Option<&str>,
        blocks: usize,
        precision: Precision,
    ) -> Result<Loaded, Error> {
        self.load_with(location, token, &Wanted::default(), blocks, precision)
    }

    /// Loads what the caller wants of a location.
    fn load_with(
        &self,
        location: Location,
        token: Option<&str>,
        wanted: &Wanted,
        blocks: usize,
        precision: Precision,
    ) -> Result<Loaded, Error> {
        let warnings = Rc::new(RefCell::new(Vec::new()));
        let told = Rc::clone(&warnings);
        let warn: Rc<dyn Fn(&str)> =
            Rc::new(move |warning: &str| told.borrow_mut().push(warning.to_owned()));
        let store = Store::new(Rc::new(DiskCache::new(self.home.path())), Rc::clone(&warn));
        let client = Client::new(http(), location, token.map(str::to_owned));
        block_on(async {
            let repository = Repository::open(client, Some(store)).await?.warning(warn);
            let model = RemoteModel::open(repository, wanted).await?;
            let repository = Rc::clone(model.repository());
            let labels = model.labels.clone();
            let engine = engine::fetch(model, blocks, precision, &Device::Cpu, &|_| {}).await?;
            let output = engine.logits_and_features(images(), &[]).await?;
            Ok(Loaded {
                logits: output.logits.values,
                labels,
                commit: repository.commit().map(str::to_owned),
                traffic: repository.traffic(),
                warnings: warnings.borrow().clone(),
            })
        })
    }
}

#[derive(Debug)]
struct Loaded {
    logits: Vec<f32>,
    labels: Labels,
    commit: Option<String>,
    /// Bytes from the server and from the cache.
    traffic: (u64, u64),
    warnings: Vec<String>,
}

/// A client that does not wait long.
fn http() -> Http {
    Http::new(Timeouts {
        stall: Duration::from_secs(1),
        longest_wait: Duration::from_millis(10),
    })
    .unwrap()
}

fn images() -> HostTensor {
    HostTensor {
        shape: vec![1, 3, 28, 28],
        values: generator::tensor("server.in", "input", &[1, 3, 28, 28]),
    }
}

/// What the same weights give when they are loaded from memory.
fn expected() -> Vec<f32> {
    expected_of("server")
}

fn expected_of(seed: &str) -> Vec<f32> {
    let model = block_on(engine::load(
        &mut checkpoint_of(seed),
        config(),
        3,
        Precision::Fp32,
        &Device::Cpu,
    ))
    .unwrap();
    block_on(model.logits_and_features(images(), &[]))
        .unwrap()
        .logits
        .values
}

/// A case of `hub/faults.json`, which Chromium has to pass as well (`www/package/tests/e2e/faults.test.mjs`).
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What goes wrong, as the server's command.
    plan: String,
    ways: Vec<By>,
    /// The error's code, and what its message holds; without it the load succeeds.
    code: Option<String>,
    says: Option<String>,
    /// The same two where a browser can't but differ.
    #[serde(rename = "browser")]
    _browser: Option<serde_json::Value>,
    /// The same two for what torch.save wrote, where they differ: its end is read before its tensors, and it
    /// has checksums.
    torch: Option<Outcome>,
}

#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    code: Option<String>,
    says: Option<String>,
}

/// Loads under a fault, compares, and loads again without it from the same cache.
fn check(world: &World, by: By, case: &Case, expected: &[f32]) {
    let plan = &case.plan;
    let is_torch = matches!(by, By::Torch | By::TorchFolder);
    let other = case.torch.clone().filter(|_| is_torch);
    let Outcome { code, says } = other.unwrap_or_else(|| Outcome {
        code: case.code.clone(),
        says: case.says.clone(),
    });
    let name = format!("{by:?}, {plan}");
    let query = plan.split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(key, value)| (key.to_owned(), value.to_owned()));
    world.hub.set(Plan::from_query(&query.collect()).unwrap());
    match (world.load(by, 3), code) {
        (Ok(loaded), None) => assert_eq!(loaded.logits, expected, "{name}"),
        (Ok(_), Some(_)) => panic!("{name}: was not noticed"),
        (Err(error), None) => panic!("{name}: {error}"),
        (Err(error), Some(code)) => {
            assert_eq!(error.kind().code(), code, "{name}: {error}");
            let message = error.to_string();
            let says = says.as_deref().unwrap();
            assert!(message.contains(says), "{name}: {message}");
            assert!(message.contains("://"), "{name}: {message} names no place");
        }
    }
    world.hub.reset();
    let again = world
        .load(by, 3)
        .unwrap_or_else(|error| panic!("{name}, then a server that behaves: {error}"));
    assert_eq!(again.logits, expected, "{name}: the cache is poisoned");
    assert_eq!(again.labels, Labels::unnamed(10), "{name}");
}

#[test]
fn faults_pass_or_are_told_and_leave_no_trace() {
    /// Most cases wait for a server most of the time.
    const AT_ONCE: usize = 6;
    let table: Vec<Case> = serde_json::from_str(include_str!("../hub/faults.json")).unwrap();
    assert!(table.len() > 50);
    let expected = &expected();
    let table = &table;
    std::thread::scope(|scope| {
        for first in 0..AT_ONCE {
            scope.spawn(move || {
                let world = World::new();
                for case in table.iter().skip(first).step_by(AT_ONCE) {
                    let torch = case.ways.iter().filter_map(|by| by.torch());
                    for by in case.ways.iter().copied().chain(torch) {
                        // Each case begins with nothing.
                        let _ = std::fs::remove_dir_all(world.home.path().join("hub"));
                        let _ = std::fs::remove_dir_all(world.home.path().join("aim-web"));
                        check(&world, by, case, expected);
                    }
                }
            });
        }
    });
}

#[test]
fn a_flipped_bit_is_found_without_a_manifest_if_the_whole_file_is_read() {
    let world = World::new();
    world.hub.set(Plan {
        after: 1,
        ..Plan::passing(Fault::Flip, 1)
    });
    let error = world.load(By::Plain, 10).expect_err("a bit is wrong");
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert!(error.to_string().contains("SHA-256"), "{error}");
    world.hub.reset();
    world.load(By::Plain, 10).expect("the cache forgot it");
}

#[test]
fn quantised_shards_give_the_same_from_disk_and_from_the_server() {
    let world = World::new();
    let exact = expected();
    let largest = exact
        .iter()
        .fold(0.0_f32, |largest, v| largest.max(v.abs()));
    for (name, stored, precision, most) in [
        ("q4", StoredAs::Quantised(Scheme::Q4), Precision::Q4, 0.25),
        ("q8", StoredAs::Quantised(Scheme::Q8), Precision::Q8, 0.02),
        ("fp16", StoredAs::F16, Precision::Fp32, 2e-3),
    ] {
        let dir = world.root.path().join("me").join(name);
        let labels = Labels::unnamed(10);
        let mut writer = ShardWriter::new(&dir, false, config(), labels, stored).unwrap();
        writer.copy(&mut checkpoint(), &config()).unwrap();
        writer.finish().unwrap();

        let local = LocalModel::from_dir(&dir).unwrap();
        let model = block_on(local.load(&Device::Cpu, precision)).unwrap();
        let from_disk = block_on(model.logits_and_features(images(), &[]))
            .unwrap()
            .logits
            .values;
        let repository = format!("me/{name}");
        let location = Location::new(&repository, None, Some(&world.hub.endpoint)).unwrap();
        let from_server = world.load_as(location, None, 3, precision).unwrap();
        assert_eq!(from_server.logits, from_disk, "{name}");

        let off = exact.iter().zip(&from_disk).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0_f32, f32::max) / largest;
        assert!(off > 0.0 && off < most, "{name}: {off}");

        if let StoredAs::Quantised(_) = stored {
            // Quantised while it is loaded, the float model comes to the same.
            let model = block_on(engine::load(
                &mut checkpoint(),
                config(),
                3,
                precision,
                &Device::Cpu,
            ));
            let on_the_way = block_on(model.unwrap().logits_and_features(images(), &[]))
                .unwrap()
                .logits
                .values;
            assert_eq!(on_the_way, from_disk, "{name}");
            let config = LocalModel::from_dir(&dir).unwrap().config;
            let again = ShardWriter::new(
                &world.root.path().join("twice"),
                false,
                config,
                Labels::unnamed(10),
                stored,
            );
            let error = again.err().expect("it is quantised already");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
    }
}

#[test]
fn shards_without_a_needed_tensor_are_not_touched() {
    let world = World::new();
    let dir = world.root.path().join("me/split");
    std::fs::create_dir_all(&dir).unwrap();
    let from = world.root.path().join("me/shards");
    for name in ["config.json", "labels.json"] {
        std::fs::copy(from.join(name), dir.join(name)).unwrap();
    }
    let bytes = std::fs::read(from.join("model-00001-of-00001.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let is_late = |name: &str| (3..10).any(|block| name.contains(&format!("blocks.{block}.")));
    let mut map = serde_json::Map::new();
    for (number, late) in [(1, false), (2, true)] {
        let shard = format!("model-0000{number}-of-00002.safetensors");
        let tensors: Vec<_> = file
            .tensors()
            .into_iter()
            .filter(|(name, _)| is_late(name) == late)
            .collect();
        for (name, _) in &tensors {
            map.insert(name.clone(), shard.as_str().into());
        }
        let shard_bytes = safetensors::serialize(tensors, None).unwrap();
        std::fs::write(dir.join(&shard), shard_bytes).unwrap();
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();

    let load = || {
        let location = Location::new("me/split", None, Some(&world.hub.endpoint)).unwrap();
        world.load_from(location, None, 3)
    };
    assert_eq!(load().unwrap().logits, expected());
    let log = world.hub.log();
    assert!(log.iter().any(|entry| entry.path.contains("00001-of")));
    assert!(!log.iter().any(|entry| entry.path.contains("00002-of")));

    // What the index says of a file that is not read must still make a model.
    map.remove("trunk.blocks.9.norm_1.weight");
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
    let error = load().expect_err("a tensor is missing");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("blocks.9.norm_1"), "{error}");
}

#[test]
fn what_was_fetched_once_is_not_fetched_again() {
    let expected = expected();
    for by in [By::Shards, By::Plain, By::Folder] {
        let world = World::new();
        let first = world.load(by, 3).unwrap();
        assert_eq!(first.logits, expected);
        let (fetched, cached) = first.traffic;
        assert!(fetched >= 2 * CHUNK && cached == 0, "{fetched} {cached}");
        assert!(world.hub.sent() < 3 * CHUNK, "no later block is fetched");

        world.hub.reset();
        let second = world.load(by, 3).unwrap();
        assert_eq!(second.logits, expected);
        assert_eq!(second.traffic.1, 2 * CHUNK, "{by:?}");
        // A folder's file is asked for one byte, to see whether it is the same.
        assert!(world.hub.sent() <= 1, "{by:?}: {}", world.hub.sent());

        // More blocks: only what is new comes.
        let all = world.load(by, 10).unwrap();
        assert_eq!(all.traffic.1, 2 * CHUNK);
    }
}

#[test]
fn a_broken_chunk_in_the_cache_is_fetched_again() {
    let expected = expected();
    for by in [By::Shards, By::Plain, By::Folder] {
        let world = World::new();
        world.load(by, 3).unwrap();
        let chunks = files_under(world.home.path());
        let chunk = chunks
            .iter()
            .find(|path| path.ends_with("00000001"))
            .expect("chunk 1 was kept");
        let mut bytes = std::fs::read(chunk).unwrap();
        bytes[1_000_000] ^= 4;
        std::fs::write(chunk, bytes).unwrap();
        world.hub.reset();
        let loaded = world.load(by, 3).unwrap();
        assert_eq!(loaded.logits, expected);
        assert_eq!(loaded.traffic.1, CHUNK);
        assert!((CHUNK..=CHUNK + 1).contains(&world.hub.sent()), "{by:?}");
        // And it is whole again.
        world.hub.reset();
        world.load(by, 3).unwrap();
        assert!(world.hub.sent() <= 1);
    }
}

#[test]
fn without_a_server_the_cache_is_enough() {
    let expected = expected();
    let world = World::new();
    for by in [By::Shards, By::Plain, By::Folder] {
        world.load(by, 3).unwrap();
        // A server that is gone, and a proxy that says so.
        for fault in [Fault::Close, Fault::Status(502)] {
            world.hub.set(everywhere(fault));
            let loaded = world
                .load(by, 3)
                .unwrap_or_else(|error| panic!("{by:?}: {error}"));
            assert_eq!(loaded.logits, expected, "{by:?}");
            assert_eq!(loaded.traffic.1, 2 * CHUNK, "{by:?}");
            let error = world.load(by, 10).expect_err("later blocks are not there");
            assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        }
        // Any other answer is the server's.
        world.hub.set(everywhere(Fault::Status(418)));
        let error = world.load(by, 3).expect_err("it has answered");
        assert_eq!(error.kind(), ErrorKind::Network, "{by:?}: {error}");
        world.hub.reset();
    }
    world.hub.set(everywhere(Fault::Close));
    let unknown = Location::new("me/unknown", None, Some(&world.hub.endpoint)).unwrap();
    let error = world
        .load_from(unknown, None, 3)
        .expect_err("nothing is known of it");
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
}

/// A fault of every answer, the hub's own too.
fn everywhere(fault: Fault) -> Plan {
    Plan {
        on: String::new(),
        ..Plan::of(fault)
    }
}

#[test]
fn another_hub_has_other_repositories() {
    let world = World::new();
    for by in [By::Shards, By::Plain] {
        world.load(by, 3).unwrap();
        let name = world.location(by).name;
        let nowhere = Location::new(&name, None, Some("http://127.0.0.1:9")).unwrap();
        let error = world
            .load_from(nowhere, None, 3)
            .expect_err("that hub was never asked");
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    }
    // It says that it has the same file, which nothing proves before it was read.
    let other = Hub::start(world.root.path(), 0);
    let location = Location::new("me/plain", None, Some(&other.endpoint)).unwrap();
    let loaded = world.load_from(location, None, 3).unwrap();
    assert_eq!(loaded.traffic.1, 0);
    // Chunks that a manifest describes are the same everywhere.
    let location = Location::new("me/shards", None, Some(&other.endpoint)).unwrap();
    let loaded = world.load_from(location, None, 3).unwrap();
    assert_eq!(loaded.traffic.1, 2 * CHUNK);
    let names: Vec<String> = DiskCache::new(world.home.path())
        .list()
        .unwrap()
        .into_iter()
        .map(|model| model.name)
        .collect();
    assert_eq!(names, ["me/plain", "me/shards"]);
}

#[test]
fn a_commit_that_was_loaded_needs_no_server() {
    let world = World::new();
    for by in [By::Shards, By::Plain] {
        let commit = world.load(by, 3).unwrap().commit.unwrap();
        let name = world.location(by).name;
        let location = Location::new(&name, Some(&commit), Some(&world.hub.endpoint)).unwrap();
        world.hub.reset();
        let loaded = world.load_from(location, None, 3).unwrap();
        assert_eq!(loaded.logits, expected());
        assert_eq!(world.hub.log().len(), 0, "{by:?}: {:?}", world.hub.log());
    }
}

#[test]
fn labels_and_weights_are_of_one_state_however_an_update_ends() {
    let (old, new) = (expected(), expected_of("other"));
    for (by, no_api) in [
        (By::Shards, false),
        (By::Shards, true),
        (By::Plain, false),
        (By::Plain, true),
        (By::Folder, false),
    ] {
        let name = format!("{by:?}, without API: {no_api}");
        let world = World::new();
        let behave = || {
            world.hub.reset();
            world.hub.set(Plan {
                no_api,
                ..Plan::default()
            });
        };
        behave();
        world.load(by, 3).unwrap();
        publish(world.root.path(), "other", other_labels());

        // The update ends after the small files; what is kept of the weights is of the older state.
        for fault in [
            Fault::Close,
            Fault::Status(418),
            Fault::Status(503),
            Fault::NoContentRange,
        ] {
            world.hub.set(Plan {
                no_api,
                ..Plan::of(fault)
            });
            let error = world.load(by, 3).expect_err("the weights do not come");
            assert_eq!(
                error.kind(),
                ErrorKind::Network,
                "{name}, {fault:?}: {error}"
            );
        }
        for _ in 0..2 {
            world.hub.set(everywhere(Fault::Close));
            let loaded = world
                .load(by, 3)
                .unwrap_or_else(|error| panic!("{name}: the older state: {error}"));
            assert_eq!(loaded.labels, Labels::unnamed(10), "{name}");
            assert_eq!(loaded.logits, old, "{name}");
        }

        behave();
        for _ in 0..2 {
            let loaded = world
                .load(by, 3)
                .unwrap_or_else(|error| panic!("{name}: the newer state: {error}"));
            assert_eq!(loaded.labels, other_labels(), "{name}");
            assert_eq!(loaded.logits, new, "{name}");
            world.hub.set(everywhere(Fault::Close));
        }
    }
}

#[test]
fn an_error_of_no_byte_costs_no_byte() {
    let expected = expected();
    for by in [By::Shards, By::Plain, By::Folder] {
        let world = World::new();
        world.load(by, 3).unwrap();
        let kept = |what: &str| {
            world.hub.reset();
            let loaded = world.load(by, 3).unwrap();
            assert_eq!(loaded.logits, expected, "{by:?}, {what}");
            assert_eq!(loaded.traffic.1, 2 * CHUNK, "{by:?}, {what}");
            assert!(world.hub.sent() <= 1, "{by:?}, {what}");
        };
        // The configuration of another model, and of one whose shapes differ.
        let deeper = Config {
            num_blocks: 11,
            ..config()
        };
        let wider = Config {
            embed_dim: 512,
            ..config()
        };
        for (wrong, kind) in [(deeper, ErrorKind::NotFound), (wider, ErrorKind::Format)] {
            let wrong = Wanted {
                config: Some(wrong),
                ..Wanted::default()
            };
            let error = world
                .load_with(world.location(by), None, &wrong, 3, Precision::Fp32)
                .expect_err("it is another model's");
            assert_eq!(error.kind(), kind, "{by:?}: {error}");
            kept("a wrong configuration");
        }
        for fault in [
            Fault::Status(416),
            Fault::ChangedEtag,
            Fault::WrongLength,
            Fault::NoContentRange,
            Fault::WrongRange,
            Fault::ShortBody,
            Fault::Status(404),
        ] {
            world.hub.set(Plan::of(fault));
            world.load(by, 10).expect_err("later blocks do not come");
            kept(&format!("{fault:?}"));
        }
    }
}

#[test]
fn bytes_that_make_no_model_are_not_kept() {
    let expected = expected();
    let world = World::new();
    let path = world.root.path().join("me/plain/model.safetensors");
    let good = std::fs::read(&path).unwrap();
    let modified = path.metadata().unwrap().modified().unwrap();
    // The file is replaced, and nothing that the server says of it changes.
    let replace = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
    };
    let header = 8 + usize::try_from(u64::from_le_bytes(good[..8].try_into().unwrap())).unwrap();
    let not_finite = |bytes: &mut [u8]| bytes[header..].fill(0xff);
    let no_header = |bytes: &mut [u8]| bytes[header - 1] = b'[';
    let other_name = |bytes: &mut [u8]| {
        let at = bytes.windows(6).position(|part| part == b"norm_1").unwrap();
        bytes[at] = b'm';
    };
    type Damage<'a> = &'a dyn Fn(&mut [u8]);
    let damages: [(&str, Damage<'_>); 3] = [
        ("not a number", &not_finite),
        ("broken", &no_header),
        ("morm_1", &other_name),
    ];
    for by in [By::Plain, By::Folder] {
        for (says, damage) in damages {
            let mut broken = good.clone();
            damage(&mut broken);
            replace(&broken);
            let error = world.load(by, 3).expect_err("it is broken");
            assert_eq!(error.kind(), ErrorKind::Format, "{by:?}: {error}");
            assert!(error.to_string().contains(says), "{by:?}, {says}: {error}");
            replace(&good);
            let loaded = world
                .load(by, 3)
                .unwrap_or_else(|error| panic!("{by:?}, {says}: the cache is poisoned: {error}"));
            assert_eq!(loaded.logits, expected, "{by:?}, {says}");
            DiskCache::new(world.home.path())
                .delete(&world.location(by).name)
                .unwrap();
        }
    }
}

#[test]
fn a_hub_that_says_less_works_as_a_folder_does() {
    let expected = expected();
    let without_api = Plan {
        no_api: true,
        ..Plan::default()
    };
    let other_names = Plan {
        other_names: true,
        ..Plan::default()
    };
    for plan in [without_api, other_names] {
        let world = World::new();
        world.hub.set(plan.clone());
        for by in [By::Shards, By::Plain] {
            for cached in [0, 2 * CHUNK] {
                let loaded = world.load(by, 3).unwrap();
                assert_eq!(loaded.logits, expected);
                assert_eq!(loaded.traffic.1, cached, "{by:?}, {plan:?}");
            }
        }
    }
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let world = World::new();
    world.hub.set(Plan {
        token: Some("secret".to_owned()),
        ..Plan::default()
    });
    let location = world.location(By::Plain);
    let error = world
        .load_from(location.clone(), None, 3)
        .expect_err("it may not be read");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    world
        .load_from(location, Some("secret"), 3)
        .expect("with the token it may");
    let log = world.hub.log();
    assert!(log.iter().any(|entry| entry.is_signed));
    for entry in log.iter().filter(|entry| entry.is_signed) {
        assert_eq!(entry.authorization, None, "{}", entry.path);
    }
}

#[test]
fn a_load_that_was_broken_off_goes_on_where_it_stopped() {
    let whole = World::new();
    whole.load(By::Shards, 10).unwrap();
    let needed = whole.hub.sent();
    assert!(needed > 3 * CHUNK);

    let world = World::new();
    let before = needed * 6 / 10;
    world.hub.set(Plan::of(Fault::StallAt(before)));
    world
        .load(By::Shards, 10)
        .expect_err("the rest never comes");
    world.hub.reset();
    let loaded = world.load(By::Shards, 10).unwrap();
    let again = world.hub.sent();
    assert!(again <= needed - before + 2 * CHUNK, "{again} of {needed}");
    assert!(loaded.traffic.1 > 0);
}

#[test]
fn several_loads_may_share_a_cache() {
    let expected = expected();
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let loaded = world.load(By::Shards, 3).unwrap();
                assert_eq!(loaded.logits, expected);
            });
        }
    });
    world.hub.reset();
    assert_eq!(world.load(By::Shards, 3).unwrap().logits, expected);
    assert_eq!(world.hub.sent(), 0);
    let leftovers = files_under(world.home.path());
    assert!(
        leftovers.iter().all(|path| path.extension().is_none()),
        "{leftovers:?}"
    );
}

#[test]
fn loads_at_once_fetch_a_model_once() {
    let world = World::new();
    let alone = world.load(By::Shards, 10).unwrap();
    let needed = world.hub.sent();
    for by in [By::Shards, By::Plain] {
        DiskCache::new(world.home.path())
            .delete(&world.location(By::Shards).name)
            .unwrap();
        world.hub.reset();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let loaded = world.load(by, 10).unwrap();
                    assert_eq!(loaded.logits, alone.logits);
                });
            }
        });
        assert_eq!(world.hub.sent(), needed, "{by:?}");
        world.hub.reset();
        world.load(By::Shards, 10).unwrap();
    }
}

#[test]
fn who_fetches_and_gets_nowhere_is_not_waited_for() {
    let world = World::new();
    world.load(By::Shards, 3).unwrap();
    let chunks = files_under(world.home.path());
    let chunk = chunks
        .iter()
        .find(|path| path.ends_with("00000001"))
        .unwrap();
    std::fs::remove_file(chunk).unwrap();
    // Another process has it locked and does nothing; its lock stays, and so does its file.
    let path = chunk.with_file_name(".00000001.lock");
    let lock = std::fs::File::create(&path).unwrap();
    lock.lock().unwrap();
    let loaded = world.load(By::Shards, 3).unwrap();
    assert_eq!(loaded.logits, expected());
    assert_eq!(loaded.traffic.1, CHUNK);
    assert!(path.exists());
    // One that was left by a process that ended keeps nobody.
    drop(lock);
    std::fs::remove_file(chunk).unwrap();
    world.load(By::Shards, 3).unwrap();
    assert!(chunk.exists() && !path.exists());
}

#[test]
fn a_file_is_signed_for_once() {
    let world = World::new();
    let count = |what: &str| {
        let log = world.hub.log();
        let meant = |path: &str| path.contains(what) && path.ends_with(".safetensors");
        log.iter().filter(|entry| meant(&entry.path)).count()
    };
    world.load(By::Shards, 10).unwrap();
    // Its first chunk came in two halves at once.
    assert!(count("/resolve/") <= 2);
    assert!(count("/signed/") > 4);
    // An address that expires meanwhile is renewed, and nothing is waited for.
    DiskCache::new(world.home.path())
        .delete("me/shards")
        .unwrap();
    world.hub.reset();
    world.hub.set(Plan {
        after: 3,
        ..Plan::passing(Fault::Expired, 1)
    });
    assert_eq!(world.load(By::Shards, 3).unwrap().logits, expected());
    assert!(count("/resolve/") <= 3);
}

#[test]
fn a_cache_that_can_not_be_written_is_a_warning() {
    let mut world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("hub"), "no folder").unwrap();
    world.home = elsewhere;
    let loaded = world.load(By::Shards, 3).unwrap();
    assert_eq!(loaded.logits, expected());
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("me/shards"));
}

#[test]
fn the_cache_is_listed_and_deleted() {
    let world = World::new();
    world.load(By::Shards, 3).unwrap();
    world.load(By::Folder, 3).unwrap();
    let cache = DiskCache::new(world.home.path());
    let models = cache.list().unwrap();
    let folder = world.hub.folder("me/plain");
    // With a slash it is the same one.
    let slash = Location::new(&format!("{folder}/"), None, None).unwrap();
    assert_eq!(
        world.load_from(slash, None, 3).unwrap().traffic.1,
        2 * CHUNK
    );
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, [folder.as_str(), "me/shards"]);
    assert!(models.iter().all(|model| model.bytes > 2 * CHUNK));
    for name in [format!("{folder}/").as_str(), "me/shards"] {
        assert!(cache.delete(name).unwrap() > 2 * CHUNK);
        cache.delete(name).expect_err("it is gone");
    }
    assert!(cache.list().unwrap().is_empty());
    assert!(files_under(world.home.path()).is_empty());
}

#[test]
fn chunks_that_lost_their_name_get_it_back() {
    let world = World::new();
    world.load(By::Shards, 3).unwrap();
    world.load(By::Folder, 3).unwrap();
    let cache = DiskCache::new(world.home.path());
    let listed = cache.list().unwrap();
    assert_eq!(listed.len(), 2);
    // As a process leaves them that was killed before it wrote the name.
    for path in files_under(world.home.path()) {
        if path.ends_with("name") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert!(cache.list().unwrap().is_empty());
    world.load(By::Shards, 10).unwrap();
    world.load(By::Folder, 10).unwrap();
    let names = |models: &[CachedModel]| -> Vec<String> {
        models.iter().map(|model| model.name.clone()).collect()
    };
    assert_eq!(names(&cache.list().unwrap()), names(&listed));
}

#[test]
fn a_dropped_load_ends_its_requests() {
    let world = World::new();
    world.hub.set(Plan::of(Fault::Stall(0)));
    let client = Client::new(http(), world.location(By::Plain), None);
    block_on(async {
        let model = RemoteModel::open(
            Repository::open(client, None).await.unwrap(),
            &Wanted::default(),
        )
        .await
        .unwrap();
        let timer = http();
        let soon = std::pin::pin!(aim_web::weights::remote::Transport::sleep(
            &timer,
            Duration::from_millis(10)
        ));
        let load = std::pin::pin!(engine::fetch(
            model,
            3,
            Precision::Fp32,
            &Device::Cpu,
            &|_| {}
        ));
        let first = futures_util::future::select(load, soon).await;
        assert!(matches!(first, futures_util::future::Either::Right(_)));
    });
    // The server sees the connections end, and answers others.
    world.hub.reset();
    world.load(By::Plain, 3).unwrap();
}

/// All files below a folder.
fn files_under(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.extend(files_under(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
