//! JPEG to RGB, and what is checked before a decoder sees the picture.
//!
//! | file | idea |
//! |---|---|
//! | `frame.rs` | the markers of a file: tables, frame, colours |
//! | `scan.rs` | entropy-coded coefficients, in sequence or progressively |
//! | `huffman.rs` | codes, and the bits they are read from |
//! | `idct.rs` | coefficients to samples |
//! | `upsample.rs` | planes of half the size to the picture's |
//! | `color.rs` | luma and chroma to red, green and blue |
//!
//! The standard leaves rounding to decoders, and the reference reads its pictures with libjpeg-turbo. No crate rounds as
//! that does: the nearest is a level or two off, which moves the scores of a small picture by up to 0.003. So these are
//! its integers, and the pixels are equal. What photographs are not (CMYK, lossless, arithmetic coding) is left to
//! `jpeg-decoder`.

use ::image::{ColorType, RgbImage};
use ::jpeg_decoder::{Decoder, Error as JpegError, PixelFormat};

use super::pixels::{MAX_BYTES, check_bytes, check_size, picture, rgb, truncated};
use crate::{Error, Result, printable};

mod color;
mod frame;
mod huffman;
mod idct;
mod scan;
mod upsample;

/// The most scans, as libvips has it: encoders write about ten. Each goes through the whole picture, and a few bytes make
/// one.
const MAX_SCANS: usize = 100;

/// How often the scans of a progressive picture may go through its coefficients: encoders write three or four bits of one
/// apart from the others. In any other picture it is once.
const MAX_PASSES: usize = 8;

/// Decodes a JPEG to RGB, as [`decode`](super::decode()) does: for a build that has no room for the other formats.
///
/// CMYK and YCCK are inverted, as Adobe writes them and Pillow reads them.
///
/// # Errors
/// [`ErrorKind::Image`](crate::ErrorKind::Image) if it is no JPEG, broken, or larger than what is decoded.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let header = Header::find(bytes)?;
    check_size(header.width, header.height)?;
    if !matches!(header.components, 1 | 3 | 4) {
        return Err(Error::image(format!(
            "the JPEG picture has {} colour components, 1, 3 or 4 are read: save it as RGB",
            header.components
        )));
    }
    // A decoder holds all coefficients, two bytes each, besides the planes, unless it can do without.
    let sample = if header.is_sequential() { 2 } else { 4 };
    let samples = u64::from(header.width) * u64::from(header.height) * u64::from(header.components);
    check_bytes(samples * sample)?;

    if let Some(pixels) = frame::decode(bytes)? {
        return picture(header.width, header.height, pixels);
    }
    other_kinds(bytes)
}

/// What is not read here.
fn other_kinds(bytes: &[u8]) -> Result<RgbImage> {
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(MAX_BYTES).unwrap_or(usize::MAX));
    let mut pixels = decoder.decode().map_err(broken)?;
    let info = decoder
        .info()
        .ok_or_else(|| Error::image(truncated("JPEG")))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    match info.pixel_format {
        PixelFormat::RGB24 => picture(width, height, pixels),
        PixelFormat::L8 => rgb(&pixels, ColorType::L8, width, height),
        PixelFormat::L16 => rgb(&pixels, ColorType::L16, width, height),
        PixelFormat::CMYK32 => {
            for pixel in pixels.chunks_exact_mut(4) {
                if let [inks @ .., black] = pixel {
                    for ink in inks.iter_mut() {
                        *ink = ink_to_light(*ink, *black);
                    }
                }
            }
            rgb(&pixels, ColorType::Rgba8, width, height)
        }
    }
}

/// Pillow's `cmyk2rgb`: `(255-K) - C*(255-K)/255`, rounded.
fn ink_to_light(ink: u8, black: u8) -> u8 {
    let paper = 255 - black;
    let product = u32::from(ink) * u32::from(paper) + 128;
    paper.saturating_sub(((product + (product >> 8)) >> 8) as u8)
}

/// The error of a file that contradicts itself.
fn damaged(what: &str) -> Error {
    Error::image(format!(
        "the JPEG picture is broken or cut short: fetch or save it again ({what})"
    ))
}

fn broken(error: JpegError) -> Error {
    let why = printable(&error.to_string());
    let message = match &error {
        JpegError::Unsupported(_) => {
            format!(
                "this kind of JPEG is not read: save it as a baseline or progressive one ({why})"
            )
        }
        _ => format!("the JPEG picture is broken or cut short: fetch or save it again ({why})"),
    };
    Error::image(message).with_source(error)
}

/// The header of a frame (ITU T.81, B.2.2).
struct Header {
    width: u32,
    height: u32,
    components: u8,
    /// The marker it follows, which says how the frame is coded.
    marker: u8,
}

impl Header {
    /// Walks the markers to the end of the image. The decoder fills a truncated picture with grey;
    /// Pillow refuses it, and so does this, which asks for the end marker.
    fn find(bytes: &[u8]) -> Result<Self> {
        let mut frame: Option<Self> = None;
        let mut scans = 0;
        // By the identifiers of components.
        let mut coefficients = [0; 256];
        let mut rest = bytes;
        loop {
            let Some((marker, after)) = next_marker(rest) else {
                return Err(Error::image(truncated("JPEG")));
            };
            rest = after;
            match marker {
                // A stuffed zero, TEM, restarts and the start of the image have no body.
                0x00 | 0x01 | 0xD0..=0xD8 => {}
                0xD9 => {
                    return frame.ok_or_else(|| {
                        Error::image("the JPEG file holds no picture: fetch or save it again")
                    });
                }
                _ => {
                    let (body, after) =
                        segment(rest).ok_or_else(|| Error::image(truncated("JPEG")))?;
                    rest = after;
                    if marker == 0xDA {
                        scans += 1;
                        let is_progressive = frame.as_ref().is_some_and(Self::is_progressive);
                        if scans > MAX_SCANS || !count_scan(body, is_progressive, &mut coefficients)
                        {
                            return Err(Error::image(
                                "the JPEG picture has more scans than any program writes: save it again",
                            ));
                        }
                    }
                    if matches!(marker, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF) {
                        frame = frame.or(Self::parse(body, marker));
                    }
                }
            }
        }
    }

    fn parse(body: &[u8], marker: u8) -> Option<Self> {
        let &[_precision, h1, h0, w1, w0, components, ..] = body else {
            return None;
        };
        Some(Self {
            width: u32::from(u16::from_be_bytes([w1, w0])),
            height: u32::from(u16::from_be_bytes([h1, h0])),
            components,
            marker,
        })
    }

    const fn is_sequential(&self) -> bool {
        matches!(self.marker, 0xC0 | 0xC1)
    }

    const fn is_progressive(&self) -> bool {
        matches!(self.marker, 0xC2 | 0xC6 | 0xCA | 0xCE)
    }
}

/// Adds the coefficients that a scan goes through to those of its components (ITU T.81, B.2.3); false if they are too many.
fn count_scan(body: &[u8], is_progressive: bool, coefficients: &mut [usize; 256]) -> bool {
    let parts = body.split_first();
    let parts = parts.and_then(|(&count, rest)| rest.split_at_checked(2 * usize::from(count)));
    let Some((specs, rest)) = parts else {
        // Too short: whoever reads it says so.
        return true;
    };
    let (band, most) = match rest {
        &[first, last, ..] if is_progressive => {
            let band = usize::from(last.saturating_sub(first)) + 1;
            (band, 64 * MAX_PASSES)
        }
        _ => (64, 64),
    };
    specs.as_chunks::<2>().0.iter().all(|&[id, _]| {
        let sum = &mut coefficients[usize::from(id)];
        *sum += band;
        *sum <= most
    })
}

/// The next marker, past entropy-coded data or stray bytes, and what follows it.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let at = bytes.iter().position(|&byte| byte == 0xFF)?;
    let rest = bytes.get(at..)?;
    let fill = rest.iter().take_while(|&&byte| byte == 0xFF).count();
    let (&marker, after) = rest.get(fill..)?.split_first()?;
    Some((marker, after))
}

/// The body of a segment, whose length counts its own two bytes, and what follows.
fn segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)).checked_sub(2)?)
}
