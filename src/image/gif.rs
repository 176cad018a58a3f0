//! GIF: the first picture as Pillow's `GifImagePlugin` shows it.

use ::gif::{ColorOutput, DecodeOptions, DecodingError, Frame, MemoryLimit};
use ::image::RgbImage;

use super::pixels::{check_size, picture, truncated, zeros};
use crate::{Error, Result, printable};

/// Decodes the first frame of a GIF on its canvas, to RGB.
///
/// As Pillow has it: the canvas grows to hold the frame; what the frame leaves free has the transparent
/// index, or index 0; then indices are looked up, and the transparent one keeps its colour.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // The sizes are checked below, before anything is allocated for the pixels.
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder = options.read_info(bytes).map_err(broken)?;
    let (screen_width, screen_height) = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info().map_err(broken)?;
    let Some(&Frame {
        left,
        top,
        width,
        height,
        transparent,
        interlaced,
        ..
    }) = frame
    else {
        return Err(Error::image(
            "the GIF file holds no picture: fetch or save it again",
        ));
    };
    let canvas_width = u32::from(screen_width).max(u32::from(left) + u32::from(width));
    let canvas_height = u32::from(screen_height).max(u32::from(top) + u32::from(height));
    check_size(u32::from(width), u32::from(height))?;
    check_size(canvas_width, canvas_height)?;

    let mut indices = zeros(u64::from(width) * u64::from(height))?;
    // Row by row, as the decoder would undo interlacing, the last of them may be missed.
    if !decoder.fill_buffer(&mut indices).map_err(broken)? {
        return Err(Error::image(truncated("GIF")));
    }
    let colors = colors(decoder.palette().map_err(broken)?);
    let color = |index: u8| colors[usize::from(index)];

    let mut rgb = zeros(u64::from(canvas_width) * u64::from(canvas_height) * 3)?;
    let background = color(transparent.unwrap_or(0));
    for pixel in rgb.chunks_exact_mut(3) {
        pixel.copy_from_slice(&background);
    }
    let mut rows: Vec<&mut [u8]> = rgb
        .chunks_exact_mut(canvas_width as usize * 3)
        .skip(usize::from(top))
        .take(usize::from(height))
        .collect();
    let order = order_of_rows(usize::from(height), interlaced);
    for (at, indices) in order.zip(indices.chunks_exact(usize::from(width))) {
        let Some(row) = rows.get_mut(at) else { break };
        for (pixel, &index) in row.chunks_exact_mut(3).skip(usize::from(left)).zip(indices) {
            pixel.copy_from_slice(&color(index));
        }
    }
    picture(canvas_width, canvas_height, rgb)
}

/// Which rows come one after the other: of an interlaced picture every eighth, those between, and so on.
fn order_of_rows(height: usize, interlaced: bool) -> impl Iterator<Item = usize> {
    let passes: &[(usize, usize)] = if interlaced {
        &[(0, 8), (4, 8), (2, 4), (1, 2)]
    } else {
        &[(0, 1)]
    };
    passes
        .iter()
        .flat_map(move |&(first, step)| (first..height).step_by(step))
}

/// A colour for every index: past the palette's end black. Pillow takes a palette whose every entry is
/// the grey of its index for none, and the picture for grey: then the ramp goes on.
fn colors(palette: &[u8]) -> [[u8; 3]; 256] {
    let (entries, _) = palette.as_chunks();
    let mut colors = std::array::from_fn(|index| [index as u8; 3]);
    if entries
        .iter()
        .zip(&colors)
        .any(|(entry, grey)| entry != grey)
    {
        colors.fill([0; 3]);
    }
    for (color, entry) in colors.iter_mut().zip(entries) {
        *color = *entry;
    }
    colors
}

fn broken(error: DecodingError) -> Error {
    let message = match &error {
        DecodingError::UnexpectedEof => truncated("GIF"),
        _ => format!(
            "the GIF picture is broken or cut short: fetch or save it again ({})",
            printable(&error.to_string())
        ),
    };
    Error::image(message).with_source(error)
}

#[cfg(test)]
mod tests {
    use ::image::Rgb;

    use super::*;

    /// 41 x 23 of one colour, interlaced, as Pillow writes it: its last code is of several rows.
    const INTERLACED: [u8; 90] = *include_bytes!("../../tests/pictures/interlaced_end.gif");

    #[test]
    fn the_last_code_of_an_interlaced_picture_may_be_of_several_rows() {
        let picture = decode(&INTERLACED).unwrap();
        assert_eq!(picture.dimensions(), (41, 23));
        assert!(picture.pixels().all(|pixel| *pixel == Rgb([195, 68, 129])));
        for end in 0..INTERLACED.len() - 3 {
            assert!(decode(&INTERLACED[..end]).is_err(), "cut after {end}");
        }
    }

    #[test]
    fn each_row_comes_once() {
        for height in 0..40 {
            let mut rows: Vec<usize> = order_of_rows(height, true).collect();
            assert!(height < 9 || rows[..2] == [0, 8]);
            rows.sort_unstable();
            assert!(rows.into_iter().eq(order_of_rows(height, false)));
        }
    }
}
