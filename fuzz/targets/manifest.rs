//! `aim.manifest.json`.
#![no_main]

use aim_web::weights::shards::manifest::{CHUNK, Manifest};
use aim_web_fuzz::error::checked;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _watch = aim_web_fuzz::time::watch();
    let Some(manifest) = checked(Manifest::from_json(text)) else {
        return;
    };
    for (name, hashes) in manifest.files() {
        assert_eq!(manifest.file(name), Some(hashes));
        assert_eq!(hashes.chunks.len() as u64, hashes.size.div_ceil(CHUNK));
    }
    assert_eq!(
        Manifest::from_json(&manifest.to_json()).ok(),
        Some(manifest)
    );
});
