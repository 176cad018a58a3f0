//! The files that models are published in, good, unusual, broken and hostile.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod files;
mod pth;
mod safetensors;
