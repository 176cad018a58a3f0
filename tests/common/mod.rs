//! What the integration tests share.
#![allow(dead_code)] // Each test file uses its own part.

pub mod cases;
pub mod cpu_cases;
pub mod generator;
pub mod goldens;
pub mod int8_cases;
#[cfg(not(target_family = "wasm"))]
pub mod torch_file;
