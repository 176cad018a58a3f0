//! The files of a model that is meant for a browser: shards in the order in which it runs, and what lies beside them.
//! The format is in `docs/shards.md`.
//!
//! | file | idea |
//! |---|---|
//! | [`index`] | `model.safetensors.index.json`: which files a model is in |
//! | [`manifest`] | `aim.manifest.json`: the SHA-256 of every chunk |
//! | `verified` | natively: a file read chunk by chunk, each held to its hash |
//! | `staging` | natively: a folder that appears whole or not at all |
//! | `write` | natively: any model written as shards |
//! | [`synth`] | natively: a random model in Apple's layout |

pub mod index;
pub mod manifest;
#[cfg(not(target_family = "wasm"))]
mod staging;
#[cfg(not(target_family = "wasm"))]
pub mod synth;
#[cfg(not(target_family = "wasm"))]
pub(super) mod verified;
#[cfg(not(target_family = "wasm"))]
mod write;

#[cfg(not(target_family = "wasm"))]
pub(crate) use staging::{Staging, unwritable};
#[cfg(not(target_family = "wasm"))]
pub use write::{MAX_SHARD, ShardWriter, StoredAs, Written, plan};
#[cfg(not(target_family = "wasm"))]
pub(crate) use write::{PREPROCESSOR_FILE, preprocessor_json};
