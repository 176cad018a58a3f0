//! Matrices and models of few bits.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod checkpoints;
mod int8;
mod matrix;
mod mlx;
mod model;
mod product;
