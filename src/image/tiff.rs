//! TIFF, turned upright as Pillow does while it loads one.

use std::io::Cursor;

use ::image::codecs::tiff::TiffDecoder;
use ::image::metadata::Orientation;
use ::image::{ImageDecoder as _, ImageError, Limits, RgbImage};

use super::pixels::{MAX_BYTES, check_memory, check_size, read};
use super::upright::turn;
use crate::{Error, Result};

/// What a strip or a tile takes besides the pixels: a file of few pixels may still have large ones.
const BESIDES: u64 = 16 << 20;

/// Decodes the first picture of a TIFF to RGB.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage> {
    // The decoder makes room for all of them before it reads any.
    if counts(bytes).any(|count| count > bytes.len() as u64) {
        return Err(Error::image(
            "the TIFF picture is broken: a tag claims more values than the file has bytes; fetch or save it again",
        ));
    }
    let mut orientation = Orientation::NoTransforms;
    let mut memory = 0;
    let mut size = (1, 1);
    let mut open = || -> Result<_, ImageError> {
        let mut decoder = TiffDecoder::new(Cursor::new(bytes))?;
        size = decoder.dimensions();
        // Before the limits for the pixels, which are wider than those for a tag.
        orientation = decoder.orientation()?;
        memory = decoder
            .total_bytes()
            .saturating_mul(2)
            .saturating_add(BESIDES);
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(memory.min(MAX_BYTES));
        decoder.set_limits(limits)?;
        Ok(decoder)
    };
    let decoder = open();
    check_size(size.0, size.1)?;
    // The decoder takes as much again as it gives, and would not return without it.
    check_memory(memory)?;
    turn(read(decoder, "TIFF")?, orientation)
}

/// How many values each tag of the first picture claims to have.
fn counts(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let number = |at: usize, len: usize| {
        let field = bytes.get(at..)?.get(..len)?;
        let join = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        Some(if bytes.starts_with(b"II") {
            field.iter().rev().fold(0, join)
        } else {
            field.iter().fold(0, join)
        })
    };
    let directory = number(4, 4).and_then(|at| usize::try_from(at).ok());
    let first = directory.and_then(|at| at.checked_add(2));
    let tags = directory.and_then(|at| number(at, 2)).unwrap_or(0);
    // A tag: its number, its type, how many values, and they or where they are.
    (0..tags as usize).map_while(move |nth| number(first?.checked_add(12 * nth + 4)?, 4))
}
