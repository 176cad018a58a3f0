//! One file a subcommand.

pub mod cache;
pub mod classify;
pub mod convert;
pub mod eval;
pub mod inspect;
pub mod parity;
pub mod preprocess;
pub mod run;
pub mod synth;

use std::path::Path;

use aim_web::{Error, ErrorKind, Result};
use image::RgbImage;

/// Reads and decodes a picture.
fn read_picture(path: &Path) -> Result<RgbImage> {
    let bytes = std::fs::read(path).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound {
            ErrorKind::NotFound
        } else {
            ErrorKind::Image
        };
        Error::new(kind, format!("{}: {error}", path.display()))
    })?;
    aim_web::image::decode(&bytes).map_err(|error| error.at(path.display()))
}
