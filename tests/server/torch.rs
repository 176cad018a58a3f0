//! What `torch.save` wrote, from a server.

use std::io::{Cursor, Write as _};
use std::path::Path;

use aim_web::config::{Family, ProbeLayers};
use aim_web::weights::files::ApplePair;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;

fn torch(world: &World) -> Location {
    world.location(By::Torch)
}

/// The bytes of `pytorch_model.bin`, and a way to write it anew.
fn file(world: &World) -> std::path::PathBuf {
    world.root.path().join("me/torch/pytorch_model.bin")
}

/// Where the storage of a tensor begins: the first bytes of it, found in the file.
fn place_of(world: &World, tensor: &str, shape: &[usize]) -> usize {
    let bytes = std::fs::read(file(world)).unwrap();
    let values = generator::tensor("server", tensor, shape);
    let first: Vec<u8> = values[..8].iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes
        .windows(first.len())
        .position(|window| window == first)
        .expect("the tensor is there")
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn only_the_chunks_that_run_are_fetched() {
    let world = World::new();
    let expected = expected();
    let len = std::fs::metadata(file(&world)).unwrap().len();
    assert!(len > 3 * CHUNK && len < 4 * CHUNK, "{len}");
    // Three blocks of ten: the first two chunks, and the last one, which holds the directory and the probe.
    let last = len - 3 * CHUNK;
    for by in [By::Torch, By::TorchFolder] {
        world.hub.reset();
        let loaded = world.load(by, 3).unwrap();
        assert_eq!(loaded.logits, expected, "{by:?}");
        assert_eq!(loaded.traffic, (loaded.traffic.0, 0), "{by:?}");
        assert_eq!(world.hub.sent(), 2 * CHUNK + last, "{by:?}");
        // And none of them again.
        let again = world.load(by, 3).unwrap();
        assert_eq!(again.logits, expected, "{by:?}");
        assert_eq!(again.traffic.1, 2 * CHUNK + last, "{by:?}");
    }
    // On the hub nothing was asked for that is not there.
    world.hub.reset();
    world.load(By::Torch, 3).unwrap();
    let log = world.hub.log();
    assert!(log.iter().all(|entry| entry.status != 404), "{log:?}");
}

#[test]
fn quantised_on_the_way_it_is_the_model_of_the_safetensors_file() {
    let world = World::new();
    for precision in [Precision::Q8, Precision::Q4] {
        let load = |by| world.load_as(world.location(by), None, 3, precision);
        assert_eq!(
            load(By::Torch).unwrap().logits,
            load(By::Plain).unwrap().logits,
            "{precision:?}"
        );
    }
}

#[test]
fn a_bit_that_flipped_on_the_way_is_fetched_again() {
    let world = World::new();
    let expected = expected();
    // The first answers: of the first chunk, of the last, of the second.
    for after in 0..6 {
        let _ = std::fs::remove_dir_all(world.home.path());
        world.hub.set(Plan {
            after,
            ..Plan::passing(Fault::Flip, 1)
        });
        let loaded = world
            .load(By::Torch, 3)
            .unwrap_or_else(|error| panic!("{after}: {error}"));
        assert_eq!(loaded.logits, expected, "{after}");
        world.hub.reset();
        assert_eq!(
            world.load(By::Torch, 3).unwrap().logits,
            expected,
            "{after}"
        );
    }
}

#[test]
fn a_bit_that_is_wrong_on_the_server_is_refused() {
    let world = World::new();
    let hidden = [256, 256];
    for (tensor, shape) in [
        ("head.k.weight", &hidden[..]),
        ("trunk.blocks.1.attn.proj.weight", &hidden[..]),
        ("trunk.blocks.2.norm_1.weight", &[256]),
    ] {
        let at = place_of(&world, tensor, shape) + 9;
        flip(&file(&world), at);
        for by in [By::Torch, By::TorchFolder] {
            let error = world.load(by, 3).expect_err(tensor);
            let message = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Integrity, "{message}");
            assert!(message.contains("pytorch_model.bin"), "{message}");
            assert!(message.contains(&format!("tensor {tensor}")), "{message}");
        }
        // It is whole again, under the same commit and ETag as far as the cache can know: what was kept of the
        // damaged one is not used.
        flip(&file(&world), at);
        for by in [By::Torch, By::TorchFolder] {
            assert_eq!(world.load(by, 3).unwrap().logits, expected(), "{by:?}");
        }
    }
    // What no block needs may be wrong.
    let late = "trunk.blocks.7.mlp.fc1.weight";
    flip(&file(&world), place_of(&world, late, &[1024, 256]) + 9);
    assert_eq!(world.load(By::Torch, 3).unwrap().logits, expected());
    assert!(world.load(By::Torch, 10).is_err());
}

#[test]
fn a_value_that_is_none_because_a_bit_flipped_is_damage_and_not_a_broken_model() {
    let world = World::new();
    let at = place_of(&world, "trunk.blocks.1.norm_1.weight", &[256]);
    let mut bytes = std::fs::read(file(&world)).unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(file(&world), bytes).unwrap();
    let error = world.load(By::Torch, 3).expect_err("it is not a number");
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
}

#[test]
fn a_load_that_was_broken_off_goes_on() {
    let whole = World::new();
    whole.load(By::Torch, 10).unwrap();
    let needed = whole.hub.sent();

    let world = World::new();
    let before = needed * 6 / 10;
    world.hub.set(Plan::of(Fault::StallAt(before)));
    world.load(By::Torch, 10).expect_err("the rest never comes");
    world.hub.reset();
    let loaded = world.load(By::Torch, 10).unwrap();
    assert_eq!(loaded.logits, whole.load(By::Torch, 10).unwrap().logits);
    let twice = before + world.hub.sent() - needed;
    assert!(twice <= 2 * CHUNK, "{twice}");
}

#[test]
fn renamed_bridged_and_gated_repositories() {
    let world = World::new();
    let location = Location::new("Me/TORCH", None, Some(&world.hub.endpoint)).unwrap();
    assert_eq!(
        world.load_from(location, None, 3).unwrap().logits,
        expected()
    );
    let log = world.hub.log();
    assert!(log.iter().any(|entry| entry.status == 307), "{log:?}");

    let _ = std::fs::remove_dir_all(world.home.path());
    world.hub.set(Plan {
        bridge: true,
        token: Some("secret".to_owned()),
        ..Plan::default()
    });
    let loaded = world.load_from(torch(&world), Some("secret"), 3).unwrap();
    assert_eq!(loaded.logits, expected());
    let log = world.hub.log();
    let leaked = log.iter().find(|entry| {
        (entry.is_signed || entry.path.starts_with("/bridge")) && entry.authorization.is_some()
    });
    assert!(leaked.is_none(), "{leaked:?}");
    assert!(log.iter().any(|entry| entry.path.starts_with("/bridge")));

    world.hub.set(Plan {
        gated: true,
        token: Some("secret".to_owned()),
        ..Plan::default()
    });
    let _ = std::fs::remove_dir_all(world.home.path());
    for token in [None, Some("of somebody else")] {
        let error = world
            .load_from(torch(&world), token, 3)
            .expect_err("it is gated");
        let message = error.to_string();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{message}");
        let page = format!("accept its terms at {}/me/torch", world.hub.endpoint);
        assert!(message.contains(&page), "{message}");
        assert!(message.contains("token"), "{message}");
    }
}

#[test]
fn without_a_listing_the_names_are_tried() {
    let world = World::new();
    world.hub.set(Plan {
        no_api: true,
        ..Plan::default()
    });
    assert_eq!(world.load(By::Torch, 3).unwrap().logits, expected());
    // Offline, what the last complete load read.
    for by in [By::Torch, By::TorchFolder] {
        world.load(by, 3).unwrap();
        world.hub.set(everywhere(Fault::Close));
        assert_eq!(world.load(by, 3).unwrap().logits, expected(), "{by:?}");
        world.hub.reset();
    }
    // Nothing that could be a model.
    std::fs::remove_file(file(&world)).unwrap();
    for by in [By::Torch, By::TorchFolder] {
        let error = world.load(by, 3).expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[test]
fn an_index_of_files_of_torch_is_read() {
    let world = World::new();
    let dir = world.root.path().join("me/split-torch");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(
        world.root.path().join("me/torch/config.json"),
        dir.join("config.json"),
    )
    .unwrap();
    let is_late = |name: &str| (3..10).any(|block| name.contains(&format!("blocks.{block}.")));
    let mut map = serde_json::Map::new();
    for (number, late) in [(1, false), (2, true)] {
        let name = format!("pytorch_model-0000{number}-of-00002.bin");
        let mut weights = Generated::new("server", &config());
        torch_file::write(&dir.join(&name), &mut weights, |tensor| {
            is_late(tensor) == late
        });
        for tensor in weights.tensors() {
            if is_late(&tensor.name) == late {
                map.insert(tensor.name.clone(), name.as_str().into());
            }
        }
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(dir.join("pytorch_model.bin.index.json"), index).unwrap();
    for location in [
        Location::new("me/split-torch", None, Some(&world.hub.endpoint)),
        Location::new(&world.hub.folder("me/split-torch"), None, None),
    ] {
        world.hub.reset();
        let loaded = world.load_from(location.unwrap(), None, 3).unwrap();
        assert_eq!(loaded.logits, expected());
        let log = world.hub.log();
        assert!(!log.iter().any(|entry| entry.path.contains("00002-of")));
    }
    assert_eq!(LocalModel::from_dir(&dir).unwrap().files().len(), 2);
}

/// The files of `apple/AIM`, with a small model in them.
fn apple(world: &World) -> Location {
    let dir = world.root.path().join("me/AIM");
    std::fs::create_dir_all(&dir).unwrap();
    let mut weights = Generated::new("server", &config());
    for layers in [ProbeLayers::Best, ProbeLayers::Last] {
        let pair = ApplePair::new(Family::Aim600M, Some(&layers));
        for (name, is_head) in [(&pair.backbone, false), (&pair.head, true)] {
            torch_file::write(&dir.join(name), &mut weights, |tensor| {
                tensor.starts_with("head.") == is_head
            });
        }
    }
    Location::new("me/AIM", None, Some(&world.hub.endpoint)).unwrap()
}

#[test]
fn of_apples_files_the_pair_is_taken_that_fits() {
    let world = World::new();
    let location = apple(&world);
    let load = |layers: Option<ProbeLayers>| {
        world.hub.reset();
        let wanted = Wanted {
            arch: Some(Family::Aim600M),
            config: Some(config()),
            probe_layers: layers,
            file: None,
        };
        let loaded = world.load_with(location.clone(), None, &wanted, 10, Precision::Fp32);
        let paths: Vec<String> = world.hub.log().into_iter().map(|e| e.path).collect();
        (loaded.unwrap(), paths)
    };
    let (loaded, _) = load(None);
    assert_eq!(loaded.logits, expected());
    // They are not the files that Apple published, and whoever reads them whole is told so.
    let told = |part: &str| loaded.warnings.iter().any(|w| w.contains(part));
    assert!(told("backbone.pth: its SHA-256 begins with"));
    assert!(told("Apple published ebd45c05"));
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);

    let _ = std::fs::remove_dir_all(world.home.path());
    let (_, paths) = load(Some(ProbeLayers::Last));
    assert!(paths.iter().any(|path| path.contains("head_last")));
    assert!(!paths.iter().any(|path| path.contains("head_best")));

    let _ = std::fs::remove_dir_all(world.home.path());
    let (loaded, paths) = load(Some(ProbeLayers::List(vec![0, 2])));
    assert!(paths.iter().any(|path| path.contains("head_best")));
    assert!(
        loaded
            .warnings
            .iter()
            .any(|w| w.contains("trained on the best layers"))
    );

    // Without a configuration and a word which, one model's files say which it is; several don't.
    let error = world
        .load_with(
            location.clone(),
            None,
            &Wanted::default(),
            3,
            Precision::Fp32,
        )
        .expect_err("the files hold a small model");
    assert!(error.to_string().contains("1536"), "{error}");
    let dir = world.root.path().join("me/AIM");
    let other = ApplePair::new(Family::Aim1B, None);
    std::fs::write(dir.join(other.backbone), b"x").unwrap();
    let error = world
        .load_with(location, None, &Wanted::default(), 3, Precision::Fp32)
        .expect_err("there are two");
    assert_eq!(error.kind(), ErrorKind::Option, "{error}");
    assert!(error.to_string().contains("arch"), "{error}");
}

/// A repository of one small checkpoint and the configuration of `tests/bad`.
fn serve(world: &World, bytes: &[u8]) -> Location {
    let dir = world.root.path().join("me/bad");
    std::fs::create_dir_all(&dir).unwrap();
    let bad = Path::new("tests/bad");
    std::fs::copy(bad.join("config_ok.json"), dir.join("config.json")).unwrap();
    std::fs::write(dir.join("pytorch_model.bin"), bytes).unwrap();
    Location::new("me/bad", None, Some(&world.hub.endpoint)).unwrap()
}

/// The logits of a model of `tests/bad`, or why there are none.
fn logits(engine: Result<Box<dyn engine::Engine>, Error>) -> Result<Vec<f32>, Error> {
    let input = HostTensor {
        shape: vec![1, 3, 4, 4],
        values: generator::tensor("bad", "input", &[1, 3, 4, 4]),
    };
    let output = block_on(engine?.logits_and_features(input, &[]))?;
    Ok(output.logits.values)
}

fn from_server(world: &World, bytes: &[u8]) -> Result<Vec<f32>, Error> {
    let client = Client::new(http(), serve(world, bytes), None);
    logits(block_on(async {
        let repository = Repository::open(client, None).await?;
        let model = RemoteModel::open(repository, &Wanted::default()).await?;
        engine::fetch(model, 1, Precision::Fp32, &Device::Cpu, &|_| {}).await
    }))
}

fn from_disk(bytes: &[u8]) -> Result<Vec<f32>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pytorch_model.bin");
    std::fs::write(&path, bytes).unwrap();
    let model = LocalModel::from_files(&[path], Path::new("tests/bad/config_ok.json"))?;
    logits(block_on(model.load(&Device::Cpu, Precision::Fp32)))
}

#[test]
fn a_hostile_file_comes_to_the_same_from_a_server_as_from_disk() {
    let world = World::new();
    let mut good = 0;
    let mut files: Vec<_> = std::fs::read_dir("tests/bad")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "pth"))
        .collect();
    files.push("tests/bad/is_a_pth.safetensors".into());
    assert!(files.len() > 20);
    // And those that PyTorch wrote.
    let fixtures = std::fs::read_dir("tests/torch").unwrap();
    let fixtures = fixtures.map(|entry| entry.unwrap().path());
    files.extend(fixtures.filter(|path| path.extension().is_some_and(|end| end == "bin")));
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        match (from_disk(&bytes), from_server(&world, &bytes)) {
            (Ok(disk), Ok(server)) => {
                assert_eq!(disk, server, "{path:?}");
                good += 1;
            }
            (Err(disk), Err(server)) => {
                assert_eq!(disk.kind(), server.kind(), "{path:?}: {disk} / {server}");
                let cause = |error: &Error| {
                    let text = error.to_string();
                    text.split_once("pytorch_model.bin").unwrap().1.to_owned()
                };
                assert_eq!(cause(&disk), cause(&server), "{path:?}");
            }
            (disk, server) => panic!("{path:?}: {disk:?} from disk, {server:?} from a server"),
        }
    }
    assert!(good >= 25, "{good}");
}

#[test]
fn archives_that_can_not_be_read_in_parts_say_so() {
    let world = World::new();
    let good = std::fs::read("tests/bad/ok_plain.pth").unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(good)).unwrap();
    let mut repack = |method: CompressionMethod, extra: &[&str]| {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method);
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i).unwrap();
            zip.start_file(entry.name().unwrap().into_owned(), options)
                .unwrap();
            std::io::copy(&mut entry, &mut zip).unwrap();
        }
        for name in extra {
            zip.start_file(*name, options).unwrap();
            zip.write_all(b"x").unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let stored = repack(CompressionMethod::Stored, &[]);
    assert_eq!(
        from_server(&world, &stored).unwrap(),
        from_disk(&stored).unwrap()
    );
    let deflated = repack(CompressionMethod::Deflated, &[]);
    from_disk(&deflated).expect("a file that lies here may be compressed");
    let error = from_server(&world, &deflated).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("compressed"), "{error}");
    let two = repack(CompressionMethod::Stored, &["other/data.pkl"]);
    let error = from_server(&world, &two).unwrap_err();
    assert!(error.to_string().contains("several checkpoints"), "{error}");
}
