//! Bytes of a picture to 8-bit RGB, as Pillow's `Image.open(..).convert("RGB")` gives it.

#[cfg(not(target_family = "wasm"))]
use std::io::Cursor;

#[cfg(not(target_family = "wasm"))]
use ::image::codecs::pnm::PnmDecoder;
use ::image::{ImageFormat, RgbImage};

use super::{bmp, gif, jpeg, png, webp};
#[cfg(not(target_family = "wasm"))]
use super::{pixels::read, tiff};
use crate::{Error, Result};

/// What is read, for messages.
const FORMATS: &str = if cfg!(target_family = "wasm") {
    "JPEG, PNG, WebP, GIF and BMP"
} else {
    "JPEG, PNG, WebP, GIF, BMP, TIFF and PPM"
};

/// Decodes a JPEG, PNG, WebP, GIF or BMP picture; natively, a TIFF, PPM, PGM or PBM too. The format is recognised by
/// the content, whatever the file is called.
///
/// The result is what Pillow's `Image.open(..).convert("RGB")` gives:
///
/// - alpha is dropped, not blended with a background; palettes are looked up; grey is repeated;
/// - CMYK and YCCK JPEG are taken with Adobe's inversion, as `clip((255-K) - C*(255-K)/255)`;
/// - EXIF orientation and colour profiles are ignored ([`decode_upright`](super::decode_upright) heeds the former),
///   but a TIFF is turned;
/// - of an animation, or of the pages of a TIFF, the first picture is taken;
/// - of 16 bits a channel the high byte is taken. (For 16-bit grey Pillow clips at 255 instead, which leaves nearly
///   all white.)
///
/// PNG, BMP, GIF, TIFF, WebP and JPEG give the same bytes as Pillow with libwebp and libjpeg-turbo; a JPEG in CMYK differs
/// by up to three levels, a PPM whose largest value is not 255 by one. Of TIFF these kinds are not read: palettes, grey with alpha, `YCbCr`
/// that is not JPEG, CIE Lab, floats, and what Group 3 fax or Zstandard compress.
///
/// # Errors
/// Kind `Image` for empty input, bytes that are no picture, a format that isn't read here, a broken or
/// truncated picture, one of more than [`MAX_PIXELS`](super::MAX_PIXELS) or that would take more than 1 GiB. Nothing of
/// the picture's size is allocated before these limits are checked.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    match format(bytes)? {
        ImageFormat::Jpeg => jpeg::decode(bytes),
        ImageFormat::WebP => webp::decode(bytes),
        ImageFormat::Gif => gif::decode(bytes),
        ImageFormat::Png => png::decode(bytes),
        ImageFormat::Bmp => bmp::decode(bytes),
        #[cfg(not(target_family = "wasm"))]
        ImageFormat::Tiff => tiff::decode(bytes),
        #[cfg(not(target_family = "wasm"))]
        ImageFormat::Pnm => read(PnmDecoder::new(Cursor::new(bytes)), "PPM"),
        other => Err(Error::image(format!(
            "{other:?} pictures are not read: save it as a JPEG or PNG ({FORMATS} are read)"
        ))),
    }
}

/// The format by its first bytes, or what the bytes are in place of a picture.
fn format(bytes: &[u8]) -> Result<ImageFormat> {
    if let Ok(format) = ::image::guess_format(bytes) {
        return Ok(format);
    }
    let text = bytes
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(bytes)
        .trim_ascii_start();
    Err(Error::image(if bytes.is_empty() {
        "the picture is empty (0 bytes): check that the file or download is complete".to_owned()
    } else if text.starts_with(b"<") {
        "this is a web page or SVG (it starts with '<'), not a picture in pixels: check the address, \
         or save the SVG as PNG"
            .to_owned()
    } else if text.starts_with(b"version https://git-lfs") {
        "this is a git-lfs pointer, not the picture itself: run `git lfs pull`".to_owned()
    } else if bytes.get(4..8) == Some(b"ftyp") {
        format!(
            "this is a HEIC picture or a video, which are not read: save it as a JPEG or PNG ({FORMATS} are read)"
        )
    } else if bytes.starts_with(b"II+\0") || bytes.starts_with(b"MM\0+") {
        "this is a BigTIFF, which is not read: save it as a TIFF of less than 4 GB, a JPEG or PNG"
            .to_owned()
    } else {
        format!(
            "this is no picture in a known format ({} bytes): {FORMATS} are read",
            bytes.len()
        )
    }))
}
