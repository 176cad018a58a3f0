//! PNG to RGB, and what is checked before the decoder sees the picture.

use std::io::Cursor;

use ::image::codecs::png::PngDecoder;
use ::image::{ImageResult, Limits, RgbImage};

use super::pixels::{MAX_BYTES, read};
use crate::{Error, Result};

/// What comes before the chunks.
const SIGNATURE: usize = 8;

/// Decodes a PNG, of an animation the picture that other programs show, to RGB.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage> {
    // The decoder takes a palette for whole colours.
    if palette(bytes).is_some_and(|palette| !palette.len().is_multiple_of(3)) {
        return Err(Error::image(
            "the PNG picture is broken: fetch or save it again (the last colour of its palette is cut short)",
        ));
    }
    read(decoder(bytes), "PNG")
}

/// A decoder that has read the header, with a limit for what it may take.
pub(super) fn decoder(bytes: &[u8]) -> ImageResult<PngDecoder<Cursor<&[u8]>>> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    PngDecoder::with_limits(Cursor::new(bytes), limits)
}

/// The palette, which comes before the pixels (PNG, 5.6).
fn palette(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(SIGNATURE..)?;
    loop {
        let (length, after) = rest.split_first_chunk()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (content, after) = after.split_at_checked(length)?;
        match kind {
            b"PLTE" => return Some(content),
            b"IDAT" => return None,
            _ => {}
        }
        // Behind a sum of 4 bytes.
        rest = after.get(4..)?;
    }
}
