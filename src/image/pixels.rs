//! What the formats share: limits before memory is taken, and pixels of any layout to RGB.

use std::io::ErrorKind as IoErrorKind;

use ::image::{ColorType, ImageDecoder, ImageError, RgbImage};

use crate::{Error, Result, printable};

/// The most pixels that [`decode`](super::decode()) accepts: Pillow's limit for a "decompression bomb".
pub const MAX_PIXELS: u64 = if cfg!(fuzzing) {
    // What takes longer finds no more.
    1 << 14
} else {
    178_956_970
};

/// The most bytes that a decoder may ask for at once.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// Checks a picture's size before anything of that size is allocated.
pub(super) fn check_size(width: u32, height: u32) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Error::image(format!(
            "the picture is {width} x {height}: it has no pixels"
        )));
    }
    if pixels > MAX_PIXELS {
        return Err(Error::image(format!(
            "the picture is {width} x {height}, {pixels} pixels: at most {MAX_PIXELS} are decoded, make \
             it smaller"
        )));
    }
    Ok(())
}

/// Checks how much memory a decoder is about to take.
pub(super) fn check_bytes(bytes: u64) -> Result<()> {
    if bytes > MAX_BYTES {
        return Err(Error::image(format!(
            "the picture takes {bytes} bytes to decode, at most {MAX_BYTES} are allowed: make it smaller"
        )));
    }
    Ok(())
}

/// Zeros, or an error where there is no memory for them.
pub(super) fn zeros(len: u64) -> Result<Vec<u8>> {
    check_bytes(len)?;
    let (mut bytes, len) = empty(len)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// Checks that there is memory for so many bytes, before a decoder takes them that would end the process without.
pub(super) fn check_memory(bytes: u64) -> Result<()> {
    empty(bytes).map(drop)
}

/// An empty vector with room for `len` bytes, and that number.
fn empty(len: u64) -> Result<(Vec<u8>, usize)> {
    let mut bytes = Vec::new();
    let reserved = usize::try_from(len)
        .ok()
        .filter(|&len| bytes.try_reserve_exact(len).is_ok());
    match reserved {
        Some(len) => Ok((bytes, len)),
        None => Err(Error::image(format!(
            "there is no memory for the picture's {len} bytes: make it smaller"
        ))),
    }
}

/// All pixels of a decoder whose header is read; `name` is the format's, for errors.
pub(super) fn read(decoder: Result<impl ImageDecoder, ImageError>, name: &str) -> Result<RgbImage> {
    let decoder = decoder.map_err(|error| broken(error, name))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let color = decoder.color_type();
    let mut pixels = zeros(decoder.total_bytes())?;
    decoder
        .read_image(&mut pixels)
        .map_err(|error| broken(error, name))?;
    if color == ColorType::Rgb8 {
        return picture(width, height, pixels);
    }
    rgb(&pixels, color, width, height)
}

/// Red, green and blue of pixels in any layout that the decoders give.
pub(super) fn rgb(pixels: &[u8], color: ColorType, width: u32, height: u32) -> Result<RgbImage> {
    let channels = usize::from(color.channel_count());
    let sample = usize::from(color.bytes_per_pixel()) / channels.max(1);
    if !(1..=4).contains(&channels) || !(1..=2).contains(&sample) {
        return Err(Error::image(format!(
            "pixels of type {color:?} are not read: save it as 8-bit RGB"
        )));
    }
    // Decoders give 16-bit samples in the machine's byte order.
    let high = if cfg!(target_endian = "little") {
        sample - 1
    } else {
        0
    };
    let step = if channels < 3 { 0 } else { sample };
    let mut out = zeros(u64::from(width) * u64::from(height) * 3)?;
    for (to, from) in out
        .chunks_exact_mut(3)
        .zip(pixels.chunks_exact(channels * sample))
    {
        for (channel, to) in to.iter_mut().enumerate() {
            *to = from.get(channel * step + high).copied().unwrap_or(0);
        }
    }
    picture(width, height, out)
}

/// A picture from exactly its bytes.
pub(super) fn picture(width: u32, height: u32, rgb: Vec<u8>) -> Result<RgbImage> {
    RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| Error::image("the picture has fewer pixels than its header says"))
}

/// A decoder's error in this crate's terms.
fn broken(error: ImageError, name: &str) -> Error {
    // Some decoders list all that a file says.
    let why = printable(&error.to_string());
    let message = match &error {
        ImageError::IoError(io) if io.kind() == IoErrorKind::UnexpectedEof => truncated(name),
        ImageError::Limits(_) => {
            format!("the {name} picture is too large to decode: make it smaller ({why})")
        }
        ImageError::Unsupported(_) => {
            format!("this kind of {name} picture is not read: save it as 8-bit RGB ({why})")
        }
        _ => format!("the {name} picture is broken or cut short: fetch or save it again ({why})"),
    };
    Error::image(message).with_source(error)
}

/// The message for a picture whose end is missing.
pub(super) fn truncated(name: &str) -> String {
    format!("the {name} picture is cut short: check that the file or download is complete")
}
