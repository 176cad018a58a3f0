//! A model from a server that misbehaves: the right model or an error, and never half of one in the cache.
#![no_main]

use std::collections::BTreeMap;
use std::rc::Rc;

use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::weights::shards::manifest::{FileHashes, MANIFEST_FILE, Manifest};
use aim_web_fuzz::error::checked;
use aim_web_fuzz::model;
use aim_web_fuzz::server::{self, Fault, Memory, Server};
use aim_web_fuzz::sink::Kept;
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case {
    is_torch: bool,
    has_manifest: bool,
    has_listing: bool,
    is_folder: bool,
    faults: Vec<Fault>,
}

fuzz_target!(|case: Case| {
    let _watch = aim_web_fuzz::time::watch();
    let config = model::config();
    let tensors = model::tensors(&config, Dtype::F32, 1);
    let (name, bytes) = if case.is_torch {
        (
            "pytorch_model.bin",
            model::torch(&tensors).expect("torch has floats"),
        )
    } else {
        ("model.safetensors", model::safetensors(&tensors))
    };
    let mut files = BTreeMap::from([
        ("config.json".to_owned(), config.to_json().into_bytes()),
        (name.to_owned(), bytes),
    ]);
    if case.has_manifest {
        let mut manifest = Manifest::default();
        manifest.insert(
            name,
            FileHashes::of(&files[name][..]).expect("it is in memory"),
        );
        files.insert(MANIFEST_FILE.to_owned(), manifest.to_json().into_bytes());
    }
    if case.has_listing {
        let siblings: Vec<String> = files
            .iter()
            .map(|(name, bytes)| format!("{{\"rfilename\":{name:?},\"size\":{}}}", bytes.len()))
            .collect();
        let listing = format!(
            "{{\"sha\":\"{}\",\"siblings\":[{}]}}",
            "1".repeat(40),
            siblings.join(",")
        );
        files.insert(String::new(), listing.into_bytes());
    }
    let place = if case.is_folder {
        "https://example.org/model"
    } else {
        "user/model"
    };
    let wanted =
        |name: &String| !name.starts_with("trunk.post") && !name.ends_with("num_batches_tracked");
    let mut expected = model::values(&tensors);
    expected.retain(|name, _| wanted(name));

    let cache = Rc::new(Memory::default());
    let server = Server::new(files.clone(), case.faults);
    let mut kept = Kept::new(1);
    if checked(server::load(&server, Some(cache.clone()), place, &mut kept)).is_some() {
        assert_eq!(kept.values, expected, "another model");
    }
    // Whatever that load left behind.
    let server = Server::new(files, Vec::new());
    let mut kept = Kept::new(1);
    let again = server::load(&server, Some(cache), place, &mut kept);
    assert!(again.is_ok(), "the cache is poisoned: {again:?}");
    assert_eq!(kept.values, expected, "another model from the cache");
});
