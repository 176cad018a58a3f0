//! Apple's AIM vision transformers, wherever there is a GPU or a CPU with SIMD: in a browser tab,
//! at the edge, on the desktop.
//!
//! Two paths, one way each, meet in the model:
//!
//! - a picture: [`image`] decodes, resizes, crops and normalises it; [`model`] turns it into
//!   tokens, blocks and logits; [`labels`] names them. [`classifier`] is the whole of it;
//! - weights: [`weights`] reads a checkpoint's header, checks it against [`config`], and hands
//!   tensor after tensor to the model on its [`device`]. [`engine`] is the loaded model, whatever it
//!   runs on; [`cost`] is what a pass over pictures takes.
//!
//! ```no_run
//! use aim_web::precision::Precision;
//! use aim_web::{classifier::Classifier, device::Device, image, weights::LocalModel};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let files = LocalModel::from_dir("models/aim-tiny".as_ref())?;
//! let labels = files.labels.clone();
//! let classifier = Classifier::new(files.load(&Device::Cpu, Precision::Auto).await?, labels)?;
//!
//! let picture = image::decode(&std::fs::read("photo.jpg")?)?;
//! for prediction in classifier.classify(&picture, 5).await? {
//!     println!("{:5.1}% {}", 100.0 * prediction.score, prediction.label);
//! }
//! # Ok(())
//! # }
//! ```

pub mod classifier;
pub mod config;
pub mod cost;
#[cfg(feature = "cpu")]
pub mod cpu;
pub mod device;
#[cfg(all(feature = "embedded", not(target_family = "wasm")))]
pub mod embedded;
pub mod engine;
mod error;
#[cfg(feature = "gpu")]
mod gpu;
pub mod hex;
pub mod image;
pub mod labels;
mod memory;
pub mod model;
pub mod precision;
pub mod probe;
pub mod quant;
pub mod random;
#[cfg(target_family = "wasm")]
pub mod web;
pub mod weights;

pub use error::{Error, ErrorKind, Result, is_deceptive, printable};
