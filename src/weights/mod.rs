//! From files to the model: bytes → tensors, one after the other → their device.
//!
//! | file | idea |
//! |---|---|
//! | [`dtype`] | element types, and bytes to `f32` as they arrive |
//! | [`safetensors`] | the header of a safetensors file |
//! | `pickle`, `pth` | what `torch.save` writes, without running any of it |
//! | [`content`], `open` | which of them a file is, by its first bytes |
//! | [`tensor_info`] | what a file says about a tensor |
//! | [`checkpoint`] | one face for both kinds of file |
//! | [`layout`] | which tensors an AIM checkpoint holds, and of what shape |
//! | [`index`] | which files a model is in |
//! | [`inventory`] | files against that layout, strictly |
//! | [`sink`] | what takes tensors as they arrive |
//! | `collect` | the values of one tensor, as its bytes arrive |
//! | [`assemble`] | one tensor after the other to parameters on the device, quantised on the way |
//! | [`load`] | open files to a sink |
//! | `shards`, `synth` | natively: a model written as shards, and a random one in Apple's layout |
//! | [`local`] | a model's folder: configuration, checkpoint, labels |
//! | [`manifest`] | `aim.manifest.json`: the SHA-256 of every chunk |
//! | `verified` | natively: a file read chunk by chunk, each held to it |
//! | [`remote`] | a model on a server, in chunks |
//! | `http`, `disk_cache` | natively: the server by HTTP, and the chunks kept on disk |

pub mod assemble;
pub mod checkpoint;
mod collect;
pub mod content;
#[cfg(not(target_family = "wasm"))]
pub mod disk_cache;
pub mod dtype;
#[cfg(all(feature = "http", not(target_family = "wasm")))]
pub mod http;
pub mod index;
pub mod inventory;
pub mod layout;
pub mod load;
#[cfg(not(target_family = "wasm"))]
pub mod local;
pub mod manifest;
#[cfg(not(target_family = "wasm"))]
mod open;
#[cfg(not(target_family = "wasm"))]
mod pickle;
#[cfg(not(target_family = "wasm"))]
mod pth;
pub mod remote;
pub mod safetensors;
#[cfg(not(target_family = "wasm"))]
pub mod shards;
pub mod sink;
#[cfg(not(target_family = "wasm"))]
pub mod staging;
#[cfg(not(target_family = "wasm"))]
pub mod synth;
pub mod tensor_info;
#[cfg(not(target_family = "wasm"))]
mod verified;

#[cfg(not(target_family = "wasm"))]
pub use local::LocalModel;
#[cfg(not(target_family = "wasm"))]
pub use open::{open, open_reader};
