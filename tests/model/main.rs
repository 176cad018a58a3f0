//! The model: its configuration, its outputs, and the generator of the weights that it is tested with.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod config;
mod generator;
mod gpu_parts;
mod memory;
mod parity;
mod slices;
