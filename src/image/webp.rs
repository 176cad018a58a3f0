//! WebP: stills, and the first frame of an animation as libwebp's `WebPAnimDecoder` shows it to Pillow.

use std::io::Cursor;

use ::image::codecs::webp::WebPDecoder;
use ::image::{GenericImage, ImageDecoder as _, RgbImage};

use super::pixels::{check_memory, check_size, picture, read, truncated, zeros};
use crate::{Error, Result};

/// Bit of the VP8X flags: the picture is animated.
const ANIMATION: u8 = 0x02;
/// Bit of the VP8X flags: the picture has alpha.
const ALPHA: u8 = 0x10;

/// Decodes a WebP, or the first frame of an animated one, to RGB.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage> {
    // The decoder tolerates a missing tail, Pillow doesn't.
    let size = bytes
        .get(4..)
        .and_then(<[u8]>::first_chunk)
        .map(|&size| u32::from_le_bytes(size));
    if size.is_none_or(|size| u64::from(size) + 8 > bytes.len() as u64) {
        return Err(Error::image(truncated("WebP")));
    }
    match chunks(bytes.get(12..).unwrap_or(&[])).next() {
        Some((b"VP8X", &[flags, _, _, _, w0, w1, w2, h0, h1, h2, ..]))
            if flags & ANIMATION != 0 =>
        {
            animation(bytes, one_more([w0, w1, w2]), one_more([h0, h1, h2]))
        }
        _ => still(bytes),
    }
}

fn still(bytes: &[u8]) -> Result<RgbImage> {
    let decoder = WebPDecoder::new(Cursor::new(bytes));
    if let Ok(decoder) = &decoder {
        // Its frames would take memory that is not counted.
        if decoder.has_animation() {
            return Err(Error::image(
                "the WebP picture has an animation in a frame, or is cut short: save it again",
            ));
        }
        let (width, height) = decoder.dimensions();
        check_size(width, height)?;
        check_frame(bytes, width, height)?;
    }
    read(decoder, "WebP")
}

/// Checks that there is memory for what the decoder takes, which ends the process without. For a lossy frame that is what
/// the frame itself says of its size, before it is compared with the picture's.
fn check_frame(bytes: &[u8], width: u32, height: u32) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    // Red, green, blue and alpha.
    let mut taken = pixels * 4;
    for (name, content, _) in parts(bytes.get(12..).unwrap_or(&[])) {
        match (name, content) {
            (b"VP8 ", &[_, _, _, _, _, _, w0, w1, h0, h1, ..]) => {
                // The upper two bits are a scale.
                let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3FFF);
                let (w, h) = (side([w0, w1]), side([h0, h1]));
                if (w, h) != (width, height) {
                    return Err(Error::image(format!(
                        "the WebP picture is {width} x {height}, but its frame {w} x {h}: save it again"
                    )));
                }
                // A plane of brightness and two of a quarter, in blocks of 16 x 16.
                taken += u64::from(w + 15) * u64::from(h + 15) * 3 / 2;
            }
            // Colours, or as many for the alpha, and the alpha.
            (b"VP8L" | b"ALPH", _) => taken += pixels * 5,
            _ => {}
        }
    }
    check_memory(taken)
}

/// The first frame on a black canvas. The frame is wrapped as a still and decoded as one: a decoder of
/// animations blends it with the canvas by its alpha, while Pillow keeps its colours and drops the alpha.
fn animation(bytes: &[u8], width: u32, height: u32) -> Result<RgbImage> {
    check_size(width, height)?;
    let frame = chunks(bytes.get(12..).unwrap_or(&[])).find(|(name, _)| *name == b"ANMF");
    let Some((
        _,
        &[
            x0,
            x1,
            x2,
            y0,
            y1,
            y2,
            w0,
            w1,
            w2,
            h0,
            h1,
            h2,
            _,
            _,
            _,
            _,
            ref data @ ..,
        ],
    )) = frame
    else {
        return Err(Error::image(
            "the animated WebP picture has no frame: save it again",
        ));
    };
    let still = still(&wrap(data, [w0, w1, w2], [h0, h1, h2]))?;
    let (x, y) = (even([x0, x1, x2]), even([y0, y1, y2]));
    let mut canvas = picture(
        width,
        height,
        zeros(u64::from(width) * u64::from(height) * 3)?,
    )?;
    canvas.copy_from(&still, x, y).map_err(|error| {
        Error::image("a frame of the animated WebP picture lies outside of it: save it again")
            .with_source(error)
    })?;
    Ok(canvas)
}

/// A still WebP file of the chunks of a frame.
fn wrap(data: &[u8], width: [u8; 3], height: [u8; 3]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    if data.starts_with(b"ALPH") {
        body.extend(b"VP8X\x0A\0\0\0");
        body.extend([ALPHA, 0, 0, 0]);
        body.extend(width);
        body.extend(height);
    }
    body.extend(data);
    let mut file = b"RIFF".to_vec();
    // A chunk is shorter than 4 GiB, since its own length has 32 bits.
    file.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    file.extend(body);
    file
}

/// The chunks of a RIFF body: names and contents, up to the first that is cut short.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    parts(bytes)
        .take_while(|(.., is_whole)| *is_whole)
        .map(|(name, content, _)| (name, content))
}

/// The chunks of a RIFF body, of one that is cut short what is there of it, and whether each is whole.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8], bool)> {
    std::iter::from_fn(move || {
        let (name, rest) = bytes.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let Some((content, rest)) = rest.split_at_checked(len) else {
            bytes = &[];
            return Some((name, rest, false));
        };
        // Chunks are padded to an even length.
        bytes = rest.get(len % 2..).unwrap_or(&[]);
        Some((name, content, true))
    })
}

const fn u24([b0, b1, b2]: [u8; 3]) -> u32 {
    u32::from_le_bytes([b0, b1, b2, 0])
}

/// Sizes are stored less one.
const fn one_more(bytes: [u8; 3]) -> u32 {
    u24(bytes) + 1
}

/// Offsets are stored in pairs of pixels.
const fn even(bytes: [u8; 3]) -> u32 {
    u24(bytes) * 2
}
