//! A JPEG from its markers on: tables, frame and scans (ITU T.81, annex B).

use super::huffman::Huffman;
use super::scan::{self, Scan};
use super::upsample::Plane;
use super::{color, damaged, idct, next_marker, segment};
use crate::image::pixels::zeros;
use crate::{Error, Result};

/// The places of the coefficients, row by row, in the order in which they are stored.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The tables that scans are read with; a file may change them in between.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) dc: [Option<Huffman>; 4],
    pub(super) ac: [Option<Huffman>; 4],
    /// The steps of the coefficients, row by row.
    steps: [Option<[u16; 64]>; 4],
    /// MCUs between two restart markers; 0 for none.
    pub(super) restart: usize,
}

/// One of the planes that a picture is made of.
pub(super) struct Component {
    id: u8,
    /// Blocks in an MCU, across and down.
    pub(super) blocks: [usize; 2],
    table: usize,
    /// Its steps, from its first scan on.
    pub(super) steps: Option<[u16; 64]>,
    /// Blocks across and down, whole MCUs.
    pub(super) size: [usize; 2],
    /// Samples across and down that belong to the picture.
    pub(super) samples: [usize; 2],
    /// Of a progressive picture: blocks in rows.
    pub(super) coefficients: Vec<[i16; 64]>,
    /// Its samples, in rows of `8 * size[0]`.
    pub(super) plane: Vec<u8>,
}

/// What a frame header says, and what came of its scans.
pub(super) struct Frame {
    width: usize,
    height: usize,
    pub(super) is_progressive: bool,
    pub(super) components: Vec<Component>,
    /// MCUs across and down.
    pub(super) mcus: [usize; 2],
}

/// How the colours are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colors {
    Gray,
    YCbCr,
    Rgb,
}

/// Decodes a JPEG of 8 bits in one or three colours, baseline or progressive, to RGB: pixels equal to libjpeg-turbo's.
/// `None` for other kinds.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut tables = Tables::default();
    let mut frame: Option<Frame> = None;
    let (mut is_jfif, mut adobe) = (false, None);
    let mut rest = bytes;
    loop {
        let Some((marker, after)) = next_marker(rest) else {
            return Err(damaged("it ends early"));
        };
        rest = after;
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD8) {
            continue;
        }
        if marker == 0xD9 {
            break;
        }
        let (body, after) = segment(rest).ok_or_else(|| damaged("it ends early"))?;
        rest = after;
        match marker {
            0xC4 => tables.add_huffman(body)?,
            0xDB => tables.add_steps(body)?,
            0xDD => {
                let interval = body
                    .first_chunk()
                    .ok_or_else(|| damaged("a segment is too short"))?;
                tables.restart = u16::from_be_bytes(*interval).into();
            }
            0xC0..=0xC2 if frame.is_none() => match Frame::new(body, marker == 0xC2)? {
                Some(new) => frame = Some(new),
                None => return Ok(None),
            },
            // Arithmetic coding, lossless, hierarchical; a height that follows.
            0xC1..=0xC3 | 0xC5..=0xCF | 0xDC => return Ok(None),
            0xDA => {
                let frame = frame
                    .as_mut()
                    .ok_or_else(|| damaged("a scan comes before its frame"))?;
                let scan = Scan::new(body, frame)?;
                for &(component, ..) in &scan.components {
                    frame.latch_steps(component, &tables)?;
                }
                rest = scan::read(&scan, frame, &tables, rest)?;
            }
            0xE0 => is_jfif |= body.starts_with(b"JFIF\0"),
            0xEE if body.starts_with(b"Adobe") => adobe = body.get(11).copied(),
            _ => {}
        }
    }
    let mut frame = frame.ok_or_else(|| damaged("it holds no picture"))?;
    let colors = frame.colors(is_jfif, adobe);
    frame.finish()?;
    let pixels = pulp::Arch::new().dispatch(Pixels {
        frame: &frame,
        colors,
    })?;
    Ok(Some(pixels))
}

impl Tables {
    fn add_huffman(&mut self, mut body: &[u8]) -> Result<()> {
        let short = || damaged("a Huffman table is too short");
        while let Some((&head, rest)) = body.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
            let len = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(len).ok_or_else(short)?;
            let tables = if head >> 4 == 0 {
                &mut self.dc
            } else {
                &mut self.ac
            };
            let table = tables
                .get_mut(usize::from(head & 15))
                .ok_or_else(|| damaged("a Huffman table has no such number"))?;
            *table = Some(Huffman::new(counts, symbols)?);
            body = rest;
        }
        Ok(())
    }

    fn add_steps(&mut self, mut body: &[u8]) -> Result<()> {
        let short = || damaged("a quantisation table is too short");
        while let Some((&head, rest)) = body.split_first() {
            let size = if head >> 4 == 0 { 1 } else { 2 };
            let (values, rest) = rest.split_at_checked(64 * size).ok_or_else(short)?;
            let mut steps = [0; 64];
            for (&place, value) in ZIGZAG.iter().zip(values.chunks(size)) {
                let value = value
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | u16::from(byte));
                steps[usize::from(place)] = value;
            }
            let table = self
                .steps
                .get_mut(usize::from(head & 15))
                .ok_or_else(|| damaged("a quantisation table has no such number"))?;
            *table = Some(steps);
            body = rest;
        }
        Ok(())
    }
}

impl Frame {
    /// `None` for kinds that are not read here.
    fn new(body: &[u8], is_progressive: bool) -> Result<Option<Self>> {
        let &[precision, h1, h0, w1, w0, count, ref specs @ ..] = body else {
            return Err(damaged("its frame header is too short"));
        };
        let height = usize::from(u16::from_be_bytes([h1, h0]));
        let width = usize::from(u16::from_be_bytes([w1, w0]));
        if precision != 8 || !matches!(count, 1 | 3) || height == 0 || width == 0 {
            return Ok(None);
        }
        let (specs, _) = specs.as_chunks::<3>();
        let specs = specs
            .get(..usize::from(count))
            .ok_or_else(|| damaged("its frame header is too short"))?;
        let blocks = |sampling: u8| [usize::from(sampling >> 4), usize::from(sampling & 15)];
        let mut most = [1, 1];
        for &[_, sampling, _] in specs {
            let [across, down] = blocks(sampling);
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) {
                return Err(damaged("its sampling makes no sense"));
            }
            most = [most[0].max(across), most[1].max(down)];
        }
        let mcus = [width.div_ceil(8 * most[0]), height.div_ceil(8 * most[1])];
        let mut components = Vec::new();
        for &[id, sampling, table] in specs {
            let [across, down] = blocks(sampling);
            // What libjpeg itself does not read.
            if most[0] % across != 0 || most[1] % down != 0 {
                return Ok(None);
            }
            let size = [mcus[0] * across, mcus[1] * down];
            let count = size[0] as u64 * size[1] as u64;
            components.push(Component {
                id,
                blocks: [across, down],
                table: table.into(),
                steps: None,
                size,
                samples: [
                    (width * across).div_ceil(most[0]),
                    (height * down).div_ceil(most[1]),
                ],
                coefficients: if is_progressive {
                    blocks_of_zeros(count)?
                } else {
                    Vec::new()
                },
                plane: zeros(count * 64)?,
            });
        }
        Ok(Some(Self {
            width,
            height,
            is_progressive,
            components,
            mcus,
        }))
    }

    /// The number of a component by its identifier.
    pub(super) fn component(&self, id: u8) -> Option<usize> {
        self.components
            .iter()
            .position(|component| component.id == id)
    }

    /// The steps that a component has when its first scan begins are those that count.
    fn latch_steps(&mut self, component: usize, tables: &Tables) -> Result<()> {
        if let Some(component) = self.components.get_mut(component)
            && component.steps.is_none()
        {
            let steps = tables.steps.get(component.table).copied().flatten();
            component.steps =
                Some(steps.ok_or_else(|| damaged("a quantisation table is missing"))?);
        }
        Ok(())
    }

    /// As libjpeg guesses them.
    fn colors(&self, is_jfif: bool, adobe: Option<u8>) -> Colors {
        let ids: Vec<u8> = self
            .components
            .iter()
            .map(|component| component.id)
            .collect();
        match (ids.as_slice(), is_jfif, adobe) {
            ([_], ..) => Colors::Gray,
            (_, false, Some(0)) | (b"RGB", false, None) => Colors::Rgb,
            _ => Colors::YCbCr,
        }
    }

    /// The samples of a progressive picture, once all its scans are read.
    fn finish(&mut self) -> Result<()> {
        for component in &mut self.components {
            // A component without a scan stays as it is in libjpeg: grey.
            let steps = component.steps.unwrap_or([1; 64]);
            if self.is_progressive {
                pulp::Arch::new().dispatch(Samples {
                    coefficients: &component.coefficients,
                    steps: &steps,
                    across: component.size[0],
                    plane: &mut component.plane,
                });
                component.coefficients = Vec::new();
            } else if component.steps.is_none() {
                component.plane.fill(128);
            }
        }
        Ok(())
    }
}

/// Zeros, or an error where there is no memory for them.
fn blocks_of_zeros(count: u64) -> Result<Vec<[i16; 64]>> {
    let mut blocks = Vec::new();
    let len = usize::try_from(count).unwrap_or(usize::MAX);
    blocks.try_reserve_exact(len).map_err(|error| {
        Error::image("there is no memory for the picture: make it smaller").with_source(error)
    })?;
    blocks.resize(len, [0; 64]);
    Ok(blocks)
}

/// Blocks of coefficients to samples.
struct Samples<'a> {
    coefficients: &'a [[i16; 64]],
    steps: &'a [u16; 64],
    /// Blocks in a row.
    across: usize,
    plane: &'a mut [u8],
}

impl pulp::NullaryFnOnce for Samples<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let stride = 8 * self.across;
        let rows = self.plane.chunks_exact_mut((8 * stride).max(1));
        for (plane, blocks) in rows.zip(self.coefficients.chunks_exact(self.across.max(1))) {
            for (x, coefficients) in blocks.iter().enumerate() {
                store(&idct::block(coefficients, self.steps), plane, stride, 8 * x);
            }
        }
    }
}

/// Writes a block to a plane, from a column of the plane's first row on.
#[inline(always)]
pub(super) fn store(block: &[[u8; 8]; 8], plane: &mut [u8], stride: usize, at: usize) {
    for (row, samples) in block.iter().enumerate() {
        let start = row * stride + at;
        if let Some(to) = plane.get_mut(start..start + 8) {
            to.copy_from_slice(samples);
        }
    }
}

/// Planes to pixels.
struct Pixels<'a> {
    frame: &'a Frame,
    colors: Colors,
}

impl pulp::NullaryFnOnce for Pixels<'_> {
    type Output = Result<Vec<u8>>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Frame { width, height, .. } = *self.frame;
        let mut pixels = zeros(width as u64 * height as u64 * 3)?;
        let most = |side: usize| {
            let blocks = self
                .frame
                .components
                .iter()
                .map(|component| component.blocks[side]);
            blocks.max().unwrap_or(1)
        };
        let most = [most(0), most(1)];
        let planes: Vec<Plane<'_>> = self
            .frame
            .components
            .iter()
            .map(|component| Plane {
                samples: &component.plane,
                stride: 8 * component.size[0],
                width: component.samples[0],
                height: component.samples[1],
                scale: [
                    most[0] / component.blocks[0].max(1),
                    most[1] / component.blocks[1].max(1),
                ],
            })
            .collect();
        let mut scratch = Vec::new();
        let mut lines = [vec![0; width], vec![0; width], vec![0; width]];
        for (y, out) in pixels.chunks_exact_mut(3 * width).enumerate() {
            for (plane, line) in planes.iter().zip(&mut lines) {
                plane.upsampled(y, &mut scratch, line);
            }
            let [first, second, third] = &lines;
            match self.colors {
                Colors::Gray => color::interleaved([first, first, first], out),
                Colors::Rgb => color::interleaved([first, second, third], out),
                Colors::YCbCr => color::rgb(first, second, third, out),
            }
        }
        Ok(pixels)
    }
}
