//! What the integration tests share.
#![allow(dead_code)] // Each test file uses its own part.

pub mod cases;
// A build for WebGPU has no code for the CPU.
#[cfg(any(not(target_family = "wasm"), feature = "cpu"))]
pub mod cpu_cases;
pub mod generator;
pub mod goldens;
#[cfg(any(not(target_family = "wasm"), feature = "cpu"))]
pub mod int8_cases;
#[cfg(not(target_family = "wasm"))]
pub mod numbers;
#[cfg(not(target_family = "wasm"))]
pub mod torch_file;
