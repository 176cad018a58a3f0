//! Activations to whole numbers.

use super::activations::{Group, Row};
use super::isa::{Isa, MAGIC, Task};

/// Below this a range is none: its inverse would not be finite.
const SMALL: f32 = 1e-30;

/// One row of a block.
pub(super) struct Round<'a> {
    pub x: &'a [f32],
    pub group_size: usize,
    /// Of the block, as those that follow.
    pub words: &'a mut [u32],
    pub groups: &'a mut [Group],
    pub rows: &'a mut [Row],
    /// Which of the block.
    pub row: usize,
}

impl Task for Round<'_> {
    #[inline(always)]
    fn run<I: Isa<L>, const L: usize, const V: usize, const R: usize>(self, isa: I) {
        let Self {
            x,
            group_size,
            words,
            groups,
            rows,
            row,
        } = self;
        let words = words.as_chunks_mut::<R>().0;
        let groups = groups.as_chunks_mut::<R>().0;
        if row >= R || row >= rows.len() {
            return;
        }
        let share = group_size as f32 / x.len() as f32;
        let mut centre = 0.0;
        let mut whole = Range::NONE;
        for (x, group) in x.chunks_exact(group_size).zip(&mut *groups) {
            let range = Range::of(isa, x);
            whole = whole.with(range);
            centre += (0.5 * range.min + 0.5 * range.max) * share;
            // Kept here until the centre is known.
            group[row] = Group {
                scale: range.min,
                sum: range.max,
            };
        }
        if !whole.finite {
            // All products are NaN.
            rows[row] = Row {
                scale: f32::NAN,
                centre: 0.0,
            };
            words.iter_mut().for_each(|words| words[row] = 0);
            groups
                .iter_mut()
                .for_each(|groups| groups[row] = Group::default());
            return;
        }

        // 16 bits: all by the same scale, which is fine enough. 8 bits: each group by its own, about a centre of the
        // row. What GELU gives is never below -0.17, and its groups have much the same range: a centre then gives
        // them nearly another bit.
        let by_row = scale_of(reach(whole.min, whole.max, 0.0), 32_767.0);
        let of_row = if I::STEP == 2 {
            Row {
                scale: by_row.0,
                centre: 0.0,
            }
        } else {
            Row { scale: 1.0, centre }
        };
        rows[row] = of_row;
        let words = words.chunks_exact_mut(group_size / I::STEP);
        for ((x, words), group) in x.chunks_exact(group_size).zip(words).zip(groups) {
            let group = &mut group[row];
            let (scale, inverse) = if I::STEP == 2 {
                by_row
            } else {
                scale_of(reach(group.scale, group.sum, centre), 127.0)
            };
            let sum = round(isa, x, of_row.centre, inverse, words, row);
            *group = if I::STEP == 2 {
                Group { scale: 1.0, sum }
            } else {
                Group {
                    scale,
                    sum: scale * sum,
                }
            };
        }
    }
}

/// How far a range goes from a centre.
#[inline(always)]
const fn reach(min: f32, max: f32, centre: f32) -> f32 {
    let (below, above) = (centre - min, max - centre);
    if above > below { above } else { below }
}

/// The scale that takes `reach` to `limit`, and its inverse. Both are 0 where there is no reach.
#[inline(always)]
const fn scale_of(reach: f32, limit: f32) -> (f32, f32) {
    if reach < SMALL {
        (0.0, 0.0)
    } else {
        (reach * (1.0 / limit), limit / reach)
    }
}

/// Rounds a group. Gives the sum of the whole numbers.
#[inline(always)]
fn round<I: Isa<L>, const L: usize, const R: usize>(
    isa: I,
    x: &[f32],
    centre: f32,
    inverse: f32,
    words: &mut [[u32; R]],
    row: usize,
) -> f32 {
    let (centre, inverse, magic) = (isa.splat(-centre), isa.splat(inverse), isa.splat(MAGIC));
    let mut sums = isa.ints(isa.zero());
    let pairs = x.as_chunks::<L>().0.as_chunks::<2>().0;
    for (x, words) in pairs.iter().zip(words.chunks_exact_mut(2 * L / I::STEP)) {
        let mut wholes = [sums; 2];
        for i in 0..2 {
            let x = isa.add(isa.load(&x[i]), centre);
            wholes[i] = isa.wholes(isa.mul_add(x, inverse, magic));
            sums = isa.add_ints(sums, wholes[i]);
        }
        let mut packed = [[0; L]; 2];
        let packed = packed.as_flattened_mut();
        isa.pack(wholes, packed);
        for (words, packed) in words.iter_mut().zip(packed) {
            words[row] = *packed;
        }
    }
    // Exact: a sum of 128 numbers of 16 bits.
    let mut out = [0.0; L];
    isa.store(isa.floats(sums), &mut out);
    fold(out, Fold::Sum)
}

/// How [`fold`] joins two.
#[derive(Clone, Copy)]
enum Fold {
    Sum,
    Min,
    Max,
}

/// Joins the halves of `values` until one is left, which a compiler does in vectors.
#[inline(always)]
fn fold<const L: usize>(mut values: [f32; L], by: Fold) -> f32 {
    let mut half = L / 2;
    while half > 0 {
        for l in 0..half {
            let (a, b) = (values[l], values[l + half]);
            values[l] = match by {
                Fold::Sum => a + b,
                Fold::Min if b < a => b,
                Fold::Max if b > a => b,
                _ => a,
            };
        }
        half /= 2;
    }
    values[0]
}

/// What numbers span.
#[derive(Clone, Copy)]
struct Range {
    min: f32,
    max: f32,
    /// Whether none is infinite or NaN; else the others mean nothing.
    finite: bool,
}

impl Range {
    const NONE: Self = Self {
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
        finite: true,
    };

    #[inline(always)]
    const fn with(self, other: Self) -> Self {
        Self {
            min: if other.min < self.min {
                other.min
            } else {
                self.min
            },
            max: if other.max > self.max {
                other.max
            } else {
                self.max
            },
            finite: self.finite && other.finite,
        }
    }

    /// Of a group.
    #[inline(always)]
    fn of<I: Isa<L>, const L: usize>(isa: I, x: &[f32]) -> Self {
        let mut min = isa.splat(f32::INFINITY);
        let mut max = isa.splat(f32::NEG_INFINITY);
        // 0, or NaN.
        let mut zero = isa.splat(0.0);
        for x in x.as_chunks::<L>().0 {
            let x = isa.load(x);
            min = isa.min(min, x);
            max = isa.max(max, x);
            zero = isa.mul_add(x, isa.splat(0.0), zero);
        }
        let mut parts = [[0.0; L]; 3];
        isa.store(min, &mut parts[0]);
        isa.store(max, &mut parts[1]);
        isa.store(zero, &mut parts[2]);
        Self {
            min: fold(parts[0], Fold::Min),
            max: fold(parts[1], Fold::Max),
            finite: fold(parts[2], Fold::Sum) == 0.0,
        }
    }
}
