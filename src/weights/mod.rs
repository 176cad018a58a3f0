//! From files to the model: bytes → tensors, one after the other → their device.
//!
//! | where | idea |
//! |---|---|
//! | [`checkpoint`] | the files that models are published in, and what they say of their tensors |
//! | [`files`] | what the files of a model are called |
//! | [`layout`] | which tensors an AIM checkpoint holds, and of what shape |
//! | [`inventory`] | files against that layout, strictly |
//! | [`mod@load`] | tensors to what takes them: a model on its device, quantised on the way |
//! | [`shards`] | the files of a model that is meant for a browser, and how they are written |
//! | [`local`] | natively: a model's folder: configuration, checkpoint, labels |
//! | [`synthetic`] | natively: random weights that lie in no file, for measuring |
//! | [`remote`] | a model on a server, in chunks that stay on this machine |

pub mod checkpoint;
pub mod files;
pub mod inventory;
pub mod layout;
pub mod load;
#[cfg(not(target_family = "wasm"))]
pub mod local;
pub mod remote;
pub mod shards;
#[cfg(not(target_family = "wasm"))]
pub mod synthetic;

#[cfg(not(target_family = "wasm"))]
pub use checkpoint::{open, open_reader};
#[cfg(not(target_family = "wasm"))]
pub use local::LocalModel;
