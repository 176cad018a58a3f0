//! Photographs of a camera that was held otherwise than upright.

use ::image::metadata::Orientation;
use ::image::{ImageDecoder as _, ImageFormat, RgbImage};
use ::jpeg_decoder::Decoder;

use super::decode::decode;
use super::pixels::{picture, zeros};
use super::{jpeg, png};
use crate::Result;

/// Decodes a picture as [`decode`] does, and turns it as browsers do: by its [`orientation`].
///
/// # Errors
/// As [`decode`], and the same kind if there is no memory for a second picture of its size.
pub fn decode_upright(bytes: &[u8]) -> Result<RgbImage> {
    turn(decode(bytes)?, orientation(bytes))
}

/// Decodes a JPEG as [`decode_jpeg`](super::decode_jpeg) does, and turns it as [`decode_upright`] does.
///
/// # Errors
/// As [`decode_jpeg`](super::decode_jpeg), and the same kind if there is no memory for a second picture of its size.
pub fn decode_jpeg_upright(bytes: &[u8]) -> Result<RgbImage> {
    turn(jpeg::decode(bytes)?, turned_by(exif_of_jpeg(bytes)))
}

/// How a picture has to be turned after [`decode`], by what its EXIF data say: [`Orientation::NoTransforms`] if they
/// say nothing that makes sense.
///
/// Heeded where browsers do: in JPEG, and in PNG before its pixels. Chromium leaves WebP as it is. A TIFF is upright
/// after [`decode`], since Pillow turns it while it loads it.
pub fn orientation(bytes: &[u8]) -> Orientation {
    let exif = match ::image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => exif_of_jpeg(bytes),
        Ok(ImageFormat::Png) => png::decoder(bytes)
            .and_then(|mut decoder| decoder.exif_metadata())
            .unwrap_or_default(),
        _ => None,
    };
    turned_by(exif)
}

fn exif_of_jpeg(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(bytes);
    decoder.read_info().ok()?;
    decoder.exif_data().map(<[u8]>::to_vec)
}

fn turned_by(exif: Option<Vec<u8>>) -> Orientation {
    exif.as_deref()
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}

/// A turned picture. (Its crate does so too, but ends the process where there is no memory.)
pub(super) fn turn(source: RgbImage, orientation: Orientation) -> Result<RgbImage> {
    use Orientation as Turn;
    if orientation == Turn::NoTransforms {
        return Ok(source);
    }
    let (width, height) = source.dimensions();
    let sides_swap = matches!(
        orientation,
        Turn::Rotate90 | Turn::Rotate270 | Turn::Rotate90FlipH | Turn::Rotate270FlipH
    );
    let (new_width, new_height) = if sides_swap {
        (height, width)
    } else {
        (width, height)
    };
    let mut turned = zeros(u64::from(width) * u64::from(height) * 3)?;
    let mut pixels = turned.chunks_exact_mut(3);
    for y in 0..new_height {
        for (x, pixel) in (0..new_width).zip(&mut pixels) {
            // From the left, and from the right; from the top, and from the bottom.
            let (right, bottom) = (new_width - 1 - x, new_height - 1 - y);
            let (from_x, from_y) = match orientation {
                Turn::NoTransforms => (x, y),
                Turn::FlipHorizontal => (right, y),
                Turn::FlipVertical => (x, bottom),
                Turn::Rotate180 => (right, bottom),
                Turn::Rotate90FlipH => (y, x),
                Turn::Rotate90 => (y, right),
                Turn::Rotate270FlipH => (bottom, right),
                Turn::Rotate270 => (bottom, x),
            };
            if let Some(from) = source.get_pixel_checked(from_x, from_y) {
                pixel.copy_from_slice(&from.0);
            }
        }
    }
    picture(new_width, new_height, turned)
}

#[cfg(test)]
mod tests {
    use ::image::DynamicImage;

    use super::*;

    #[test]
    fn pictures_are_turned_as_their_crate_does() {
        let source = RgbImage::from_fn(5, 3, |x, y| ::image::Rgb([x as u8, y as u8, 7]));
        for number in 1..=8 {
            let orientation = Orientation::from_exif(number).unwrap();
            let mut expected = DynamicImage::ImageRgb8(source.clone());
            expected.apply_orientation(orientation);
            let turned = turn(source.clone(), orientation).unwrap();
            assert_eq!(turned, expected.into_rgb8(), "{number}");
        }
    }
}
