//! BMP: 16-bit pixels as Pillow scales them.

use std::io::Cursor;

use ::image::RgbImage;
use ::image::codecs::bmp::BmpDecoder;

use super::pixels::read;
use crate::Result;

/// Decodes a BMP to RGB.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let mut picture = read(BmpDecoder::new(Cursor::new(bytes)), "BMP")?;
    if let Some(largest) = largest_levels(bytes) {
        for pixel in picture.pixels_mut() {
            for (channel, largest) in pixel.0.iter_mut().zip(largest) {
                // The decoder rounds level * 255 / largest to the nearest, Pillow rounds it down.
                let level = (u32::from(*channel) * largest + 127) / 255;
                *channel = (level * 255 / largest) as u8;
            }
        }
    }
    Ok(picture)
}

/// The largest red, green and blue of a 16-bit BMP in one of the two layouts that Pillow reads.
fn largest_levels(bytes: &[u8]) -> Option<[u32; 3]> {
    const BITS: usize = 28;
    const COMPRESSION: usize = 30;
    const MASKS: usize = 54;
    let at = |offset: usize| Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?));
    let bits = u16::from_le_bytes(*bytes.get(BITS..)?.first_chunk()?);
    let header = at(14)?;
    if bits != 16 || header < 40 {
        return None;
    }
    match at(COMPRESSION)? {
        0 => Some([31, 31, 31]),
        3 => match [at(MASKS)?, at(MASKS + 4)?, at(MASKS + 8)?] {
            [0xF800, 0x07E0, 0x001F] => Some([31, 63, 31]),
            [0x7C00, 0x03E0, 0x001F] => Some([31, 31, 31]),
            _ => None,
        },
        _ => None,
    }
}
