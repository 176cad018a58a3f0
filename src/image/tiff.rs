//! TIFF, turned upright as Pillow does while it loads one.

use std::io::Cursor;

use ::image::codecs::tiff::TiffDecoder;
use ::image::metadata::Orientation;
use ::image::{ImageDecoder as _, ImageError, Limits, RgbImage};

use super::pixels::{MAX_BYTES, check_room, check_size, read};
use super::upright::turn;
use crate::Result;

/// What a strip or a tile takes besides the pixels: a file of few pixels may still have large ones.
const BESIDES: u64 = 16 << 20;

/// Decodes the first picture of a TIFF to RGB.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage> {
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
    check_room(memory)?;
    turn(read(decoder, "TIFF")?, orientation)
}
