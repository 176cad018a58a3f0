//! Activations to whole numbers.

use super::activations::{Group, Row};
use super::isa::{Isa, Task};

/// Added to a number of magnitude up to 2^22, it leaves the nearest whole number, ties to even, in the low bits of the
/// sum, in two's complement.
const MAGIC: f32 = 12_582_912.0;

/// Below this a range is none: its inverse would not be finite.
const SMALL: f32 = 1e-30;

/// Columns that are rounded at once, a divisor of every group size.
const AT_ONCE: usize = 32;

/// One row.
pub(super) struct Round<'a> {
    pub x: &'a [f32],
    pub group_size: usize,
    pub words: &'a mut [u32],
    pub groups: &'a mut [Group],
    pub row: &'a mut Row,
}

impl Task for Round<'_> {
    #[inline(always)]
    fn run<I: Isa<L>, const L: usize, const V: usize, const R: usize>(self, _: I) {
        if I::STEP == 4 {
            self.to_8_bits();
        } else {
            self.to_16_bits();
        }
    }
}

impl Round<'_> {
    /// Each group by its own scale, about a centre of the row. GELU's output is never below -0.17, and its groups have
    /// much the same range: a centre then gives them nearly another bit.
    #[inline(always)]
    fn to_8_bits(self) {
        let share = self.group_size as f32 / self.x.len() as f32;
        let mut largest = 0;
        let mut centre = 0.0;
        for (x, group) in self.x.chunks_exact(self.group_size).zip(&mut *self.groups) {
            let range = Range::of(x);
            largest = range.largest.max(largest);
            centre += (0.5 * range.min + 0.5 * range.max) * share;
            // Kept here until the centre is known.
            (group.scale, group.sum) = (range.min, range.max);
        }
        if largest >= f32::INFINITY.to_bits() {
            return self.not_finite();
        }
        *self.row = Row { scale: 1.0, centre };
        let parts = self
            .x
            .chunks_exact(self.group_size)
            .zip(self.words.chunks_exact_mut(self.group_size / 4));
        for ((x, words), group) in parts.zip(self.groups) {
            let (min, max) = (group.scale, group.sum);
            let reach = if max - centre > centre - min {
                max - centre
            } else {
                centre - min
            };
            let (scale, inverse) = scale_of(reach, 127.0);
            let mut sum = 0.0;
            for (x, words) in x
                .as_chunks::<AT_ONCE>()
                .0
                .iter()
                .zip(words.as_chunks_mut::<{ AT_ONCE / 4 }>().0)
            {
                let (codes, part) = round(x, centre, inverse);
                sum += part;
                let mut bytes = [0; AT_ONCE];
                for (byte, code) in bytes.iter_mut().zip(codes) {
                    *byte = code as u8;
                }
                for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                    *word = u32::from_le_bytes(*bytes);
                }
            }
            *group = Group {
                scale,
                sum: scale * sum,
            };
        }
    }

    /// All by the same scale, which is fine enough.
    #[inline(always)]
    fn to_16_bits(self) {
        let mut largest = 0;
        for x in self.x.chunks_exact(self.group_size) {
            largest = Range::of(x).largest.max(largest);
        }
        if largest >= f32::INFINITY.to_bits() {
            return self.not_finite();
        }
        let (scale, inverse) = scale_of(f32::from_bits(largest), 32_767.0);
        *self.row = Row { scale, centre: 0.0 };
        let parts = self
            .x
            .chunks_exact(self.group_size)
            .zip(self.words.chunks_exact_mut(self.group_size / 2));
        for ((x, words), group) in parts.zip(self.groups) {
            let mut sum = 0.0;
            for (x, words) in x
                .as_chunks::<AT_ONCE>()
                .0
                .iter()
                .zip(words.as_chunks_mut::<{ AT_ONCE / 2 }>().0)
            {
                let (codes, part) = round(x, 0.0, inverse);
                sum += part;
                for (word, c) in words.iter_mut().zip(codes.as_chunks::<2>().0) {
                    *word = c[0] & 0xffff | c[1] << 16;
                }
            }
            *group = Group { scale: 1.0, sum };
        }
    }

    /// All products are NaN.
    #[inline(always)]
    fn not_finite(self) {
        *self.row = Row {
            scale: f32::NAN,
            centre: 0.0,
        };
        self.words.fill(0);
        self.groups.fill(Group::default());
    }
}

/// The scale that takes `reach` to `limit`, and its inverse. Both are 0 where there is no reach.
#[inline(always)]
const fn scale_of(reach: f32, limit: f32) -> (f32, f32) {
    if reach < SMALL {
        (0.0, 0.0)
    } else {
        (reach / limit, limit / reach)
    }
}

/// Whole numbers in the low bits, and their sum, which is exact: they are below 2^15.
#[inline(always)]
fn round(x: &[f32; AT_ONCE], centre: f32, inverse: f32) -> ([u32; AT_ONCE], f32) {
    let mut codes = [0; AT_ONCE];
    let mut sums = [0.0; 8];
    for (codes, x) in codes
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(x.as_chunks::<8>().0)
    {
        for i in 0..8 {
            let raised = (x[i] - centre) * inverse + MAGIC;
            codes[i] = raised.to_bits();
            sums[i] += raised - MAGIC;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    (codes, ((a + b) + (c + d)) + ((e + f) + (g + h)))
}

/// What a group spans.
struct Range {
    min: f32,
    max: f32,
    /// The largest magnitude, as its bits: those of infinity and NaN are larger than a number's.
    largest: u32,
}

impl Range {
    #[inline(always)]
    fn of(x: &[f32]) -> Self {
        let mut min = [f32::INFINITY; 8];
        let mut max = [f32::NEG_INFINITY; 8];
        let mut largest = [0; 8];
        for x in x.as_chunks::<8>().0 {
            for l in 0..8 {
                let x = x[l];
                min[l] = if x < min[l] { x } else { min[l] };
                max[l] = if x > max[l] { x } else { max[l] };
                let magnitude = x.to_bits() & 0x7fff_ffff;
                largest[l] = if magnitude > largest[l] {
                    magnitude
                } else {
                    largest[l]
                };
            }
        }
        let mut range = Self {
            min: min[0],
            max: max[0],
            largest: largest[0],
        };
        for l in 1..8 {
            range.min = if min[l] < range.min {
                min[l]
            } else {
                range.min
            };
            range.max = if max[l] > range.max {
                max[l]
            } else {
                range.max
            };
            range.largest = if largest[l] > range.largest {
                largest[l]
            } else {
                range.largest
            };
        }
        range
    }
}
