//! What the integration tests share.
#![allow(dead_code)] // Each test file uses its own part.

pub mod cases;
#[cfg(feature = "cpu")]
pub mod cpu_cases;
pub mod generator;
pub mod goldens;
#[cfg(feature = "cpu")]
pub mod int8_cases;
pub mod torch_file;
