//! The loops of a product, for any instruction set.
//!
//! A panel is some rows of `W` that a kernel multiplies together. A part of its columns that fits in the first-level
//! cache meets as many rows of `x` as fit in the second-level cache, a few at a time: a tile, whose sums stay in
//! registers for a group.

use std::ops::Range;

use super::activations::{Group, Row, RowBlock, Rows};
use super::isa::{Isa, Task};
use super::matrix::{IntMatrix, Write};
use crate::quant::simd::widen;
use crate::quant::{Bits, Scheme};

/// The most words of a panel's part, each [`Isa::STEP`] columns.
const DEPTH: usize = 256;

/// The most groups of a panel's part: those of 32 columns, four a word.
const GROUPS: usize = DEPTH * 4 / 32;

/// Words that are multiplied in one turn of the innermost loop, where a group has a multiple of them; else half as many.
const UNROLL: usize = if cfg!(target_family = "wasm") { 16 } else { 2 };

/// Bytes of `x` that stay in the second-level cache while the panels pass.
const RESIDENT: usize = 256 << 10;

/// The fewest rows of `x` for which a panel is worth its unpacking.
const ROWS: usize = 48;

/// `y = x Wᵀ` for some rows of `W`. All shapes have been checked, and nothing is empty.
pub(super) struct Product<'a> {
    pub w: &'a IntMatrix,
    pub x: Rows<'a>,
    pub outputs: Range<usize>,
    pub y: &'a mut [f32],
    pub stride: usize,
    pub write: Write,
}

/// A part of a panel, ready for the kernel.
#[repr(C, align(64))] // Vectors then lie in one line of the cache.
struct Panel<const L: usize, const V: usize> {
    /// Of each word of columns; not used where codes are words as they are.
    words: [[[u32; L]; V]; DEPTH],
    groups: [Scales<L, V>; GROUPS],
}

/// Scales and biases of a group.
#[derive(Clone, Copy)]
struct Scales<const L: usize, const V: usize> {
    scales: [[f32; L]; V],
    biases: [[f32; L]; V],
}

impl Task for Product<'_> {
    #[inline(always)]
    fn run<I: Isa<L>, const L: usize, const V: usize, const R: usize>(self, isa: I) {
        let Self {
            w,
            x,
            outputs,
            y,
            stride,
            write,
        } = self;
        let (d_input, group_size) = (w.d_input(), w.scheme().group_size());
        // Parts of a row, as even as groups let them be.
        let parts = d_input.div_ceil(DEPTH * I::STEP);
        let part = d_input.div_ceil(parts).next_multiple_of(group_size);
        let words_per_row = d_input / I::STEP;
        let blocks = (RESIDENT / (words_per_row * 4)).max(ROWS).div_ceil(R);
        let mut panel = Panel::<L, V>::new();
        let (mut x_blocks, mut left) =
            (x.blocks::<R>(words_per_row, d_input / group_size), x.len());
        let mut y = y;
        while left > 0 {
            for first in (outputs.start..outputs.end).step_by(L * V) {
                let width = (outputs.end - first).min(L * V);
                let mut sums = [[0.0; L]; V];
                sums.as_flattened_mut()
                    .copy_from_slice(w.panel_sums(first / (L * V)));
                for start in (0..d_input).step_by(part) {
                    let columns = start..(start + part).min(d_input);
                    let (words, groups) = panel.load::<I>(w, first / (L * V), columns);
                    let block = Block {
                        words,
                        groups,
                        words_per_group: group_size / I::STEP,
                        first_word: start / I::STEP,
                        first_group: start / group_size,
                        sums: &sums,
                        add: start > 0 || write == Write::Add,
                    };
                    let mut y = &mut y[first - outputs.start..];
                    let mut left = left;
                    for x in x_blocks.clone().take(blocks) {
                        if left == 1 {
                            block.run::<I, R, 1>(isa, x, 1, y, stride, width);
                        } else {
                            block.run::<I, R, R>(isa, x, left.min(R), y, stride, width);
                        }
                        left = left.saturating_sub(R);
                        if left == 0 {
                            break;
                        }
                        y = &mut y[R * stride..];
                    }
                }
            }
            if left <= blocks * R {
                break;
            }
            left -= blocks * R;
            y = &mut y[blocks * R * stride..];
            let _ = x_blocks.nth(blocks - 1);
        }
    }
}

impl<const L: usize, const V: usize> Panel<L, V> {
    const fn new() -> Self {
        Self {
            words: [[[0; L]; V]; DEPTH],
            groups: [Scales {
                scales: [[0.0; L]; V],
                biases: [[0.0; L]; V],
            }; GROUPS],
        }
    }

    /// Takes some columns of a panel, whole groups. Gives their words, one for each [`Isa::STEP`] of them, and groups.
    #[inline(always)]
    fn load<'a, I: Isa<L>>(
        &'a mut self,
        w: &'a IntMatrix,
        panel: usize,
        columns: Range<usize>,
    ) -> (&'a [[[u32; L]; V]], &'a [Scales<L, V>]) {
        let (bits, group_size) = (w.scheme().bits(), w.scheme().group_size());

        let (scales, biases) = w.panel_groups(panel);
        let skip = columns.start / group_size * (L * V);
        let groups = &mut self.groups[..columns.len() / group_size];
        for ((to, scales), biases) in groups
            .iter_mut()
            .zip(scales[skip..].chunks_exact(L * V))
            .zip(biases[skip..].chunks_exact(L * V))
        {
            for (to, value) in to.scales.as_flattened_mut().iter_mut().zip(scales) {
                *to = widen(*value);
            }
            for (to, value) in to.biases.as_flattened_mut().iter_mut().zip(biases) {
                *to = widen(*value);
            }
            if I::SIGNED && bits == Bits::Eight {
                // Codes are less 128.
                let scales = to.scales.as_flattened().iter();
                for (bias, scale) in to.biases.as_flattened_mut().iter_mut().zip(scales) {
                    *bias += 128.0 * scale;
                }
            }
        }

        let per_word = bits.codes_per_word();
        let codes = w.panel_codes(panel).as_chunks::<L>().0.as_chunks::<V>().0;
        let codes = &codes[columns.start / per_word..columns.end / per_word];
        if per_word == I::STEP {
            return (codes, groups);
        }
        // See `Arrangement`.
        let mask = bits.max_code()
            * if I::STEP == 4 {
                0x0101_0101
            } else {
                0x0001_0001
            };
        let words = &mut self.words[..columns.len() / I::STEP];
        for (words, codes) in words.chunks_exact_mut(per_word / I::STEP).zip(codes) {
            for (words, shift) in words.iter_mut().zip((0..).step_by(bits.get())) {
                let words = words.as_flattened_mut().iter_mut();
                for (word, code) in words.zip(codes.as_flattened()) {
                    *word = code >> shift & mask;
                }
            }
        }
        (words, groups)
    }
}

/// A part of a panel, and where it is in `W`.
struct Block<'a, const L: usize, const V: usize> {
    words: &'a [[[u32; L]; V]],
    groups: &'a [Scales<L, V>],
    words_per_group: usize,
    first_word: usize,
    first_group: usize,
    /// Sums of the weights of each row of the panel.
    sums: &'a [[f32; L]; V],
    /// Whether the sums are added to what is in `y`.
    add: bool,
}

impl<const L: usize, const V: usize> Block<'_, L, V> {
    /// Multiplies the first `M` rows of `x`, of which `rows` are written.
    ///
    /// - `y`: from the first value of the tile; rows have `width` values of it
    #[inline(always)]
    fn run<I: Isa<L>, const R: usize, const M: usize>(
        &self,
        isa: I,
        x: RowBlock<'_, R>,
        rows: usize,
        y: &mut [f32],
        stride: usize,
        width: usize,
    ) {
        let sums = self.tile::<I, R, M>(
            isa,
            &x.words[self.first_word..][..self.words.len()],
            &x.groups[self.first_group..][..self.groups.len()],
        );
        for (r, (sums, row)) in sums.iter().zip(x.rows).enumerate().take(rows) {
            let y = &mut y[r * stride..][..width];
            if let (y, []) = y.as_chunks_mut::<L>()
                && let Ok(y) = <&mut [[f32; L]; V]>::try_from(y)
            {
                self.write(isa, sums, *row, y);
            } else {
                // The last panel may have fewer rows.
                let mut whole = [[0.0; L]; V];
                whole.as_flattened_mut()[..width].copy_from_slice(y);
                self.write(isa, sums, *row, &mut whole);
                y.copy_from_slice(&whole.as_flattened()[..width]);
            }
        }
    }

    /// Writes the sums of a row to `y`, or adds them.
    #[inline(always)]
    fn write<I: Isa<L>>(&self, isa: I, sums: &[I::Floats; V], row: Row, y: &mut [[f32; L]; V]) {
        let scale = isa.splat(row.scale);
        let centre = isa.splat(row.centre);
        for v in 0..V {
            let mut sum = if I::STEP == 4 && self.first_group == 0 {
                // Only numbers of 8 bits have a centre.
                isa.mul_add(centre, isa.load(&self.sums[v]), isa.mul(sums[v], scale))
            } else {
                isa.mul(sums[v], scale)
            };
            if self.add {
                sum = isa.add(sum, isa.load(&y[v]));
            }
            isa.store(sum, &mut y[v]);
        }
    }

    /// Products of the first `M` rows with the panel, by group.
    #[inline(always)]
    fn tile<I: Isa<L>, const R: usize, const M: usize>(
        &self,
        isa: I,
        x: &[[u32; R]],
        x_groups: &[[Group; R]],
    ) -> [[I::Floats; V]; M] {
        let mut sums = [[isa.splat(0.0); V]; M];
        let words = self.words.chunks_exact(self.words_per_group);
        let words = words.zip(x.chunks_exact(self.words_per_group));
        for ((words, x), (scales, groups)) in words.zip(self.groups.iter().zip(x_groups)) {
            let mut ints = [[isa.ints(isa.zero()); V]; M];
            if I::SPAN >= Scheme::MAX_GROUP {
                let dots = dots::<I, L, V, R, M>(isa, words, x);
                for m in 0..M {
                    for v in 0..V {
                        ints[m][v] = isa.ints(dots[m][v]);
                    }
                }
            } else {
                let span = I::SPAN / I::STEP;
                for (words, x) in words.chunks_exact(span).zip(x.chunks_exact(span)) {
                    let dots = dots::<I, L, V, R, M>(isa, words, x);
                    for m in 0..M {
                        for v in 0..V {
                            ints[m][v] = isa.add_ints(ints[m][v], isa.ints(dots[m][v]));
                        }
                    }
                }
            }
            for m in 0..M {
                let (scale, sum) = (isa.splat(groups[m].scale), isa.splat(groups[m].sum));
                for v in 0..V {
                    let mut dot = isa.floats(ints[m][v]);
                    if I::STEP == 4 {
                        dot = isa.mul(dot, scale);
                    }
                    let dot = isa.mul_add(dot, isa.load(&scales.scales[v]), sums[m][v]);
                    sums[m][v] = isa.mul_add(sum, isa.load(&scales.biases[v]), dot);
                }
            }
        }
        sums
    }
}

/// Dots of some words, as many of both.
#[inline(always)]
fn dots<I: Isa<L>, const L: usize, const V: usize, const R: usize, const M: usize>(
    isa: I,
    words: &[[[u32; L]; V]],
    x: &[[u32; R]],
) -> [[I::Dots; V]; M] {
    if words.len().is_multiple_of(UNROLL) {
        unrolled::<I, L, V, R, M, UNROLL>(isa, words, x)
    } else {
        unrolled::<I, L, V, R, M, { UNROLL / 2 }>(isa, words, x)
    }
}

/// The same, of a multiple of `U` words.
#[inline(always)]
fn unrolled<
    I: Isa<L>,
    const L: usize,
    const V: usize,
    const R: usize,
    const M: usize,
    const U: usize,
>(
    isa: I,
    words: &[[[u32; L]; V]],
    x: &[[u32; R]],
) -> [[I::Dots; V]; M] {
    let mut dots = [[isa.zero(); V]; M];
    let words = words.as_chunks::<U>().0;
    for (words, x) in words.iter().zip(x.as_chunks::<U>().0) {
        for u in 0..U {
            let mut weights = [isa.weights(&words[u][0]); V];
            for v in 1..V {
                weights[v] = isa.weights(&words[u][v]);
            }
            for m in 0..M {
                let input = isa.input(x[u][m]);
                for v in 0..V {
                    dots[m][v] = isa.dot(dots[m][v], weights[v], input);
                }
            }
        }
    }
    dots
}
