//! Heads that are trained on frozen features: gradients, results, files, bad input.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod files;
mod gradients;
mod lessons;
mod trunk;
