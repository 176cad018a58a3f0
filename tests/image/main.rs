//! Pictures: what the reference makes of them, and what is refused.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../pictures/mod.rs"]
mod picture_files;

mod goldens;
mod hostile;
mod native;
mod resize;
mod upright;
