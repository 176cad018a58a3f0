//! The scans of a JPEG: entropy-coded coefficients, in sequence (ITU T.81, annex F) or progressively (annex G).

use super::frame::{Component, Frame, Tables, ZIGZAG, store};
use super::huffman::{Bits, Huffman};
use super::{damaged, idct};
use crate::Result;

/// What a scan header says.
pub(super) struct Scan {
    /// The component, and the numbers of its tables for the first coefficient and for the others.
    pub(super) components: Vec<(usize, usize, usize)>,
    /// The coefficients, from the first to the last.
    band: [usize; 2],
    /// The bit that earlier scans left; 0 in a first scan.
    refines: u32,
    /// The bit that this scan ends at.
    low: u32,
}

impl Scan {
    pub(super) fn new(body: &[u8], frame: &Frame) -> Result<Self> {
        let short = || damaged("a scan header is too short");
        let (&count, rest) = body.split_first().ok_or_else(short)?;
        let (specs, rest) = rest
            .split_at_checked(2 * usize::from(count))
            .ok_or_else(short)?;
        let mut components: Vec<(usize, usize, usize)> = Vec::new();
        for spec in specs.as_chunks::<2>().0 {
            let &[id, tables] = spec;
            let component = frame
                .component(id)
                .filter(|own| components.iter().all(|(other, ..)| other != own))
                .ok_or_else(|| damaged("a scan is of a component that is not there"))?;
            components.push((
                component,
                usize::from(tables >> 4),
                usize::from(tables & 15),
            ));
        }
        let &[first, last, bits, ..] = rest else {
            return Err(short());
        };
        let (refines, low) = (u32::from(bits >> 4), u32::from(bits & 15));
        let is_sound = if frame.is_progressive {
            let is_band = if first == 0 {
                last == 0
            } else {
                first <= last && last < 64 && components.len() == 1
            };
            is_band && low < 14 && (refines == 0 || refines == low + 1)
        } else {
            true
        };
        if components.is_empty() || !is_sound {
            return Err(damaged("a scan header makes no sense"));
        }
        Ok(Self {
            components,
            band: [first.into(), last.into()],
            refines,
            low,
        })
    }
}

/// Reads the entropy-coded data of a scan; what follows them.
pub(super) fn read<'d>(
    scan: &Scan,
    frame: &mut Frame,
    tables: &Tables,
    data: &'d [u8],
) -> Result<&'d [u8]> {
    pulp::Arch::new().dispatch(Reading {
        scan,
        frame,
        tables,
        data,
    })
}

/// The data between restart markers, without the zeros that are stuffed behind 0xFF, of the first `most` parts; and what
/// follows the scan.
fn segments(data: &[u8], most: usize) -> (Vec<Vec<u8>>, &[u8]) {
    let mut segments = Vec::new();
    let mut own = Vec::with_capacity(data.len().min(1 << 20));
    let mut rest = data;
    loop {
        let at = rest
            .iter()
            .position(|&byte| byte == 0xFF)
            .unwrap_or(rest.len());
        let (plain, after) = rest.split_at(at);
        own.extend_from_slice(plain);
        let fill = after.iter().take_while(|&&byte| byte == 0xFF).count();
        match after.get(fill) {
            Some(0) => {
                own.push(0xFF);
                rest = &after[fill + 1..];
            }
            Some(0xD0..=0xD7) => {
                if segments.len() < most {
                    segments.push(std::mem::take(&mut own));
                }
                own.clear();
                rest = &after[fill + 1..];
            }
            _ => {
                if segments.len() < most {
                    segments.push(own);
                }
                return (segments, after);
            }
        }
    }
}

/// A scan that is being read.
struct Reading<'a, 'd> {
    scan: &'a Scan,
    frame: &'a mut Frame,
    tables: &'a Tables,
    data: &'d [u8],
}

impl<'d> pulp::NullaryFnOnce for Reading<'_, 'd> {
    type Output = Result<&'d [u8]>;

    #[inline(always)]
    fn call(self) -> Result<&'d [u8]> {
        let Self {
            scan,
            frame,
            tables,
            data,
        } = self;
        let is_progressive = frame.is_progressive;
        let mcus = frame.mcus;
        let table = |tables: &'_ [Option<Huffman>; 4], number: usize| {
            tables
                .get(number)
                .is_some_and(Option::is_some)
                .then_some(number)
                .ok_or_else(|| damaged("a Huffman table is missing"))
        };
        let has_dc = scan.band[0] == 0 || !is_progressive;
        let has_ac = scan.band[0] > 0 || !is_progressive;
        for &(_, dc, ac) in &scan.components {
            // A scan that refines the first coefficients has bits, not codes.
            if has_dc && !(is_progressive && scan.refines > 0) {
                table(&tables.dc, dc)?;
            }
            if has_ac {
                table(&tables.ac, ac)?;
            }
        }
        // A single component is not interleaved: an MCU is a block, and those past the picture's edge are left out.
        let single = match scan.components.as_slice() {
            [(component, ..)] => frame.components.get(*component),
            _ => None,
        };
        let size = single.map_or(mcus, |component| {
            component.samples.map(|side| side.div_ceil(8))
        });
        let is_single = single.is_some();
        let count = size[0] * size[1];
        let interval = if tables.restart == 0 {
            count
        } else {
            tables.restart
        };
        let parts = count.div_ceil(interval.max(1));
        let (segments, rest) = segments(data, parts);
        if segments.len() < parts {
            return Err(damaged("parts of it are missing"));
        }

        for (part, segment) in (0..count).step_by(interval.max(1)).zip(&segments) {
            let mut bits = Bits::new(segment);
            let mut before = [0_i32; 4];
            let mut run = 0_u32;
            for mcu in part..(part + interval).min(count) {
                let (y, x) = (mcu / size[0], mcu % size[0]);
                for (&(component, dc, ac), before) in scan.components.iter().zip(&mut before) {
                    let Some(component) = frame.components.get_mut(component) else {
                        continue;
                    };
                    let [across, down] = if is_single { [1, 1] } else { component.blocks };
                    for inner in 0..across * down {
                        let block = [x * across + inner % across, y * down + inner / across];
                        let dc = tables.dc.get(dc).and_then(Option::as_ref);
                        let ac = tables.ac.get(ac).and_then(Option::as_ref);
                        if is_progressive {
                            let at = block[1] * component.size[0] + block[0];
                            let Some(block) = component.coefficients.get_mut(at) else {
                                continue;
                            };
                            progressive(scan, &mut bits, dc, ac, before, &mut run, block)?;
                        } else if let (Some(dc), Some(ac)) = (dc, ac) {
                            sequential(&mut bits, dc, ac, before, component, block)?;
                        }
                    }
                }
            }
        }
        Ok(rest)
    }
}

/// Reads a block and transforms it.
#[inline(always)]
fn sequential(
    bits: &mut Bits<'_>,
    dc: &Huffman,
    ac: &Huffman,
    before: &mut i32,
    component: &mut Component,
    [x, y]: [usize; 2],
) -> Result<()> {
    let mut block = [0_i16; 64];
    *before = before.wrapping_add(difference(bits, dc)?);
    block[0] = *before as i16;
    let mut at = 1;
    while at < 64 {
        let symbol = bits.symbol(ac)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros < 15 {
                break;
            }
            at += 16;
            continue;
        }
        at += zeros;
        let value = bits.value(size);
        let place = ZIGZAG
            .get(at)
            .ok_or_else(|| damaged("a block has too many coefficients"))?;
        block[usize::from(place & 63)] = value as i16;
        at += 1;
    }
    let stride = 8 * component.size[0];
    let steps = component.steps.as_ref().unwrap_or(&[1; 64]);
    let start = 8 * y * stride;
    if let Some(plane) = component.plane.get_mut(start..start + 8 * stride) {
        // Only the first coefficient was there.
        let samples = if at == 1 {
            [[idct::flat(block[0], steps[0]); 8]; 8]
        } else {
            idct::block(&block, steps)
        };
        store(&samples, plane, stride, 8 * x);
    }
    Ok(())
}

/// What the first coefficient differs by from the block before.
#[inline(always)]
fn difference(bits: &mut Bits<'_>, dc: &Huffman) -> Result<i32> {
    match bits.symbol(dc)? {
        size @ 0..=15 => Ok(bits.value(size.into())),
        _ => Err(damaged("a coefficient is too large")),
    }
}

/// Reads what a progressive scan says of a block.
#[inline(always)]
fn progressive(
    scan: &Scan,
    bits: &mut Bits<'_>,
    dc: Option<&Huffman>,
    ac: Option<&Huffman>,
    before: &mut i32,
    run: &mut u32,
    block: &mut [i16; 64],
) -> Result<()> {
    let missing = || damaged("a Huffman table is missing");
    match (scan.band[0], scan.refines) {
        (0, 0) => {
            *before = before.wrapping_add(difference(bits, dc.ok_or_else(missing)?)?);
            block[0] = (*before << scan.low) as i16;
            Ok(())
        }
        (0, _) => {
            if bits.bit() {
                block[0] |= 1 << scan.low;
            }
            Ok(())
        }
        (_, 0) => first_of_band(scan, bits, ac.ok_or_else(missing)?, run, block),
        _ => refined_band(scan, bits, ac.ok_or_else(missing)?, run, block),
    }
}

/// The first bits of the coefficients of a band (T.81, G.1.2.2).
fn first_of_band(
    scan: &Scan,
    bits: &mut Bits<'_>,
    ac: &Huffman,
    run: &mut u32,
    block: &mut [i16; 64],
) -> Result<()> {
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    let [mut at, last] = scan.band;
    while at <= last {
        let symbol = bits.symbol(ac)?;
        let (zeros, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros < 15 {
                // This block ends, and as many after it.
                *run = (1 << zeros) - 1 + bits.number(zeros);
                break;
            }
            at += 16;
            continue;
        }
        at += zeros as usize;
        let value = bits.value(size);
        let place = ZIGZAG
            .get(at)
            .ok_or_else(|| damaged("a block has too many coefficients"))?;
        block[usize::from(place & 63)] = (value << scan.low) as i16;
        at += 1;
    }
    Ok(())
}

/// One more bit of the coefficients of a band (T.81, G.1.2.3).
fn refined_band(
    scan: &Scan,
    bits: &mut Bits<'_>,
    ac: &Huffman,
    run: &mut u32,
    block: &mut [i16; 64],
) -> Result<()> {
    let bit = 1_i16 << scan.low;
    let [mut at, last] = scan.band;
    let refine = |bits: &mut Bits<'_>, coefficient: &mut i16| {
        if bits.bit() && *coefficient & bit == 0 {
            *coefficient = coefficient.wrapping_add(if *coefficient >= 0 { bit } else { -bit });
        }
    };
    if *run == 0 {
        while at <= last {
            let symbol = bits.symbol(ac)?;
            let (mut zeros, size) = (u32::from(symbol >> 4), symbol & 15);
            let mut new = 0;
            if size == 0 {
                if zeros < 15 {
                    *run = (1 << zeros) + bits.number(zeros);
                    break;
                }
            } else {
                new = if bits.bit() { bit } else { -bit };
            }
            // Past so many that are zero still; those that are not are refined.
            while at <= last {
                let place = usize::from(ZIGZAG.get(at).copied().unwrap_or(63) & 63);
                let coefficient = &mut block[place];
                at += 1;
                if *coefficient != 0 {
                    refine(bits, coefficient);
                } else if zeros == 0 {
                    *coefficient = new;
                    break;
                } else {
                    zeros -= 1;
                }
            }
        }
    }
    if *run > 0 {
        while at <= last {
            let place = usize::from(ZIGZAG.get(at).copied().unwrap_or(63) & 63);
            let coefficient = &mut block[place];
            if *coefficient != 0 {
                refine(bits, coefficient);
            }
            at += 1;
        }
        *run -= 1;
    }
    Ok(())
}
