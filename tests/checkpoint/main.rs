//! The files that models are published in, good, unusual, broken and hostile.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod files;
mod pth;
mod safetensors;
mod torch;

use std::path::PathBuf;

/// The weights of `ok_plain.safetensors` in the ways that `torch.save` may write them.
const GOOD_PTH: [&str; 8] = [
    "ok_plain.pth",
    "ok_metadata.pth",
    "ok_parameter.pth",
    "ok_protocol4.pth",
    "ok_strided.pth",
    "ok_other_root.pth",
    "ok_f64.pth",
    "nested_state_dict.pth",
];

/// A file of `tests/bad`, which holds good ones too.
fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/bad")
        .join(file)
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(path(file)).unwrap()
}
