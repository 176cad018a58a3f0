//! Bytes of a picture to 8-bit RGB, as Pillow's `Image.open(..).convert("RGB")` gives it.

use std::io::Cursor;

use ::image::codecs::png::PngDecoder;
use ::image::{ImageFormat, Limits, RgbImage};

use super::pixels::{MAX_BYTES, read};
use super::{bmp, gif, jpeg, webp};
use crate::{Error, Result};

/// Decodes a JPEG, PNG, WebP, GIF or BMP picture. The format is told by the content.
///
/// The result is what Pillow's `Image.open(..).convert("RGB")` gives:
///
/// - alpha is dropped, not blended with a background; palettes are looked up; grey is repeated;
/// - CMYK and YCCK JPEG are taken with Adobe's inversion, as `clip((255-K) - C*(255-K)/255)`;
/// - EXIF orientation and colour profiles are ignored;
/// - of an animation the first picture is taken;
/// - of 16 bits a channel the high byte is taken. (For 16-bit grey PNG Pillow clips at 255 instead,
///   which leaves nearly all white.)
///
/// PNG, BMP, GIF and WebP give the same bytes as Pillow with libwebp, JPEG differs by a level or two.
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
        ImageFormat::Png => {
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(MAX_BYTES);
            read(PngDecoder::with_limits(Cursor::new(bytes), limits), "PNG")
        }
        ImageFormat::Bmp => bmp::decode(bytes),
        other => Err(Error::image(format!(
            "{other:?} pictures are not read: save it as JPEG, PNG, WebP, GIF or BMP"
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
    } else {
        format!(
            "this is no picture in a known format ({} bytes): JPEG, PNG, WebP, GIF and BMP are read",
            bytes.len()
        )
    }))
}
