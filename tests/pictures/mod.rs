//! The test pictures and what is expected of them.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

#[cfg(not(target_family = "wasm"))]
pub fn read(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pictures")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A browser has no files: they are in the test.
#[cfg(target_family = "wasm")]
pub fn read(name: &str) -> Vec<u8> {
    static PICTURES: include_dir::Dir<'_> =
        include_dir::include_dir!("$CARGO_MANIFEST_DIR/../pictures");
    let file = PICTURES.get_file(name);
    file.unwrap_or_else(|| panic!("tests/pictures has no {name}"))
        .contents()
        .to_vec()
}

/// Every picture file, with its name.
pub fn all() -> Vec<(String, Vec<u8>)> {
    let formats = json("formats.json");
    let reference = json("reference.json");
    let names = |entries: &Value, folder: &str| -> Vec<String> {
        let entries = entries.as_array().unwrap();
        entries
            .iter()
            .map(|entry| format!("{folder}{}", text(&entry["file"])))
            .collect()
    };
    let mut all = names(&formats, "formats/");
    all.extend(
        names(&reference["files"], "")
            .iter()
            .map(|name| name.replace("pictures/", "")),
    );
    all.into_iter()
        .map(|name| (name.clone(), read(&name)))
        .collect()
}

pub fn json(name: &str) -> Value {
    serde_json::from_slice(&read(name)).unwrap()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
}

pub fn sha256_f32(floats: &[f32]) -> String {
    sha256(
        &floats
            .iter()
            .flat_map(|float| float.to_le_bytes())
            .collect::<Vec<_>>(),
    )
}
