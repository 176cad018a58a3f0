//! Pillow's bicubic resize of 8-bit RGB, bit for bit, for the pixels of a crop alone.
//!
//! The arithmetic is that of `Resample.c` of Pillow 13: coefficients in f64, rounded to 22 fractional
//! bits, sums in i32, and two passes with a rounding to 8 bits between them. A pass that doesn't change
//! the size is left out there; here its window is one pixel of weight 1, which is the same.
//!
//! The columns and rows outside the crop are never computed, and the first pass visits only the part of
//! the source that the second one needs. So work and memory follow from the crop and the source, and not
//! from the resized picture, which for a thin source is enormous.

use super::geometry::Geometry;

/// Fractional bits of a coefficient: 32 less 8 for the pixel and 2 for the overshoot of the cubic.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Half of the last place, so that the final shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);
/// Source rows that the horizontal pass takes at a time.
const ROWS: usize = 8;
/// Numbers side by side in the horizontal pass: [`ROWS`] pixels of three channels.
const LANES: usize = ROWS * 3;

/// Packed rows of pixels that start with red, green and blue; further channels are ignored.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes of a pixel, at least 3.
    pub(super) channels: usize,
}

/// The crop of the resized picture: `size * size` pixels of interleaved RGB.
///
/// `geometry` must be that of the picture. Bytes that `pixels` lacks count as black.
pub(super) fn resized_crop(pixels: Pixels<'_>, geometry: &Geometry) -> Vec<u8> {
    pulp::Arch::new().dispatch(Resize { pixels, geometry })
}

/// A resize that is compiled for each kind of vectors.
struct Resize<'a> {
    pixels: Pixels<'a>,
    geometry: &'a Geometry,
}

impl pulp::NullaryFnOnce for Resize<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn call(self) -> Vec<u8> {
        resize(self.pixels, self.geometry)
    }
}

#[inline(always)]
fn resize(pixels: Pixels<'_>, geometry: &Geometry) -> Vec<u8> {
    let Pixels {
        bytes,
        width,
        height,
        channels,
    } = pixels;
    let columns = Filter::new(width, geometry.resized_width, geometry.left, geometry.size);
    let rows = Filter::new(height, geometry.resized_height, geometry.top, geometry.size);
    let needed = columns.start * channels..columns.end * channels;
    let source: Vec<&[u8]> = bytes
        .chunks_exact((width as usize).saturating_mul(channels).max(1))
        .take(rows.end)
        .skip(rows.start)
        .filter_map(|row| row.get(needed.clone()))
        .collect();
    if vertical_first(width, height, geometry) {
        let flat = vertical(&source, &rows, needed.len());
        let flat: Vec<&[u8]> = flat.chunks_exact(needed.len().max(1)).collect();
        horizontal(&flat, channels, &columns)
    } else {
        let narrow = horizontal(&source, channels, &columns);
        let row_len = geometry.size as usize * 3;
        let narrow: Vec<&[u8]> = narrow.chunks_exact(row_len.max(1)).collect();
        vertical(&narrow, &rows, row_len)
    }
}

/// Whether the vertical pass comes first: as of Pillow 13, where the height loses more than twice the
/// pixels that the width does. (Before Pillow 13 it never does; some bytes then differ by one level.)
fn vertical_first(width: u32, height: u32, geometry: &Geometry) -> bool {
    let lost = |source: u32, resized: u64| i128::from(source) - i128::from(resized);
    let lost_height = lost(height, geometry.resized_height);
    lost_height > 0 && lost_height > 2 * lost(width, geometry.resized_width)
}

/// One output position of a pass: the source positions it reads.
struct Window {
    start: usize,
    len: usize,
}

/// The windows and coefficients of one pass, for the output positions of the crop.
struct Filter {
    windows: Vec<Window>,
    /// `stride` coefficients for each window, zeros after its end.
    weights: Vec<i32>,
    stride: usize,
    /// The source positions that some window reads.
    start: usize,
    end: usize,
}

impl Filter {
    /// For the outputs `first..first + count` of a pass from `source` to `resized` positions.
    fn new(source: u32, resized: u64, first: u64, count: u32) -> Self {
        let outputs = first..first + u64::from(count);
        if u64::from(source) == resized {
            let windows = outputs.map(|output| Window {
                start: output as usize,
                len: 1,
            });
            return Self::collect(
                windows.collect(),
                vec![1 << PRECISION_BITS; count as usize],
                1,
            );
        }
        // Pillow passes the source's extent as a C float.
        let scale = f64::from(source as f32) / resized as f64;
        let filter_scale = scale.max(1.0);
        let support = 2.0 * filter_scale;
        let stride = support.ceil() as usize * 2 + 1;
        let mut windows = Vec::with_capacity(count as usize);
        let mut weights = Vec::with_capacity(count as usize * stride);
        let mut taps = Vec::with_capacity(stride);
        for output in outputs {
            let center = (output as f64 + 0.5) * scale;
            // A float cast to an integer saturates, and so does `min`: both ends stay in the source.
            let start = ((center - support + 0.5) as u32).min(source);
            let end = ((center + support + 0.5) as u32).clamp(start, source);
            taps.clear();
            taps.extend((start..end).map(|position| {
                cubic((f64::from(position) - center + 0.5) * (1.0 / filter_scale))
            }));
            let sum = taps.iter().fold(0.0, |sum, tap| sum + tap);
            weights.extend(
                taps.iter()
                    .map(|&tap| fixed(if sum == 0.0 { tap } else { tap / sum })),
            );
            weights.resize((windows.len() + 1) * stride, 0);
            windows.push(Window {
                start: start as usize,
                len: (end - start) as usize,
            });
        }
        Self::collect(windows, weights, stride)
    }

    fn collect(windows: Vec<Window>, weights: Vec<i32>, stride: usize) -> Self {
        let start = windows.iter().map(|window| window.start).min().unwrap_or(0);
        let end = windows
            .iter()
            .map(|window| window.start + window.len)
            .max()
            .unwrap_or(0);
        Self {
            windows,
            weights,
            stride,
            start,
            end,
        }
    }

    /// Each window, counted from the filter's start, with its coefficients.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.windows
            .iter()
            .zip(self.weights.chunks_exact(self.stride))
            .map(|(window, weights)| {
                (
                    window.start - self.start,
                    weights.get(..window.len).unwrap_or(weights),
                )
            })
    }
}

/// Pillow's `bicubic_filter`: Keys' cubic with a = -0.5, in its order of operations.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Pillow's `normalize_coeffs_8bpc`: half away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (scaled + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
}

/// A sum of products back to a byte.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Adds `byte * weight` to each sum. The sums wrap as C's do in practice; the coefficients of a window
/// add up to 1 and overshoot little, so that in truth none reaches 2^31.
#[inline(always)]
fn accumulate(sums: &mut [i32], bytes: &[u8], weight: i32) {
    for (sum, &byte) in sums.iter_mut().zip(bytes) {
        *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(weight));
    }
}

/// The horizontal pass over rows that begin at the source column `columns.start`: RGB rows.
///
/// Three channels are too few to fill a vector, so a block of [`ROWS`] rows is transposed first: the
/// pixels of one column lie side by side, and share a coefficient.
#[inline(always)]
fn horizontal(source: &[&[u8]], channels: usize, columns: &Filter) -> Vec<u8> {
    let row_len = columns.windows.len() * 3;
    let mut out = vec![0; source.len() * row_len];
    let mut block = vec![[0_u8; LANES]; columns.end - columns.start];
    for (out_rows, rows) in out
        .chunks_mut((row_len * ROWS).max(1))
        .zip(source.chunks(ROWS))
    {
        for (lane, row) in rows.iter().enumerate() {
            let pixels = row.chunks_exact(channels).filter_map(<[u8]>::first_chunk);
            for (column, pixel) in block.iter_mut().zip(pixels) {
                if let Some(to) = column.as_chunks_mut::<3>().0.get_mut(lane) {
                    *to = *pixel;
                }
            }
        }
        for (x, (start, weights)) in columns.iter().enumerate() {
            let mut sums = [HALF; LANES];
            let window = block.get(start..).unwrap_or_default();
            for (column, &weight) in window.iter().zip(weights) {
                accumulate(&mut sums, column, weight);
            }
            let bytes = sums.map(clip);
            let pixels = bytes.as_chunks::<3>().0;
            for (out_row, pixel) in out_rows.chunks_exact_mut(row_len).zip(pixels) {
                if let Some(to) = out_row.as_chunks_mut::<3>().0.get_mut(x) {
                    *to = *pixel;
                }
            }
        }
    }
    out
}

/// The vertical pass over rows of `row_len` bytes that begin at the source row `rows.start`.
#[inline(always)]
fn vertical(source: &[&[u8]], rows: &Filter, row_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.windows.len() * row_len);
    let mut sums = vec![HALF; row_len];
    for (start, weights) in rows.iter() {
        sums.fill(HALF);
        for (row, &weight) in source.iter().skip(start).zip(weights) {
            accumulate(&mut sums, row, weight);
        }
        out.extend(sums.iter().map(|&sum| clip(sum)));
    }
    out
}
