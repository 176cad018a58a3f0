//! The loops of a product, for any instruction set.
//!
//! A panel is some rows of `W` that a kernel multiplies together. A part of its columns that fits in the first-level
//! cache meets as many rows of `x` as fit in the second-level cache, a few at a time: a tile, whose sums stay in
//! registers for a group.

use std::ops::Range;

use super::activations::{Group, Row, Rows};
use super::isa::{Isa, Task};
use super::matrix::{IntMatrix, Write};
use crate::quant::simd::widen;
use crate::quant::{Bits, Scheme};

/// The most words of a panel's part, each [`Isa::STEP`] columns.
const DEPTH: usize = 256;

/// The most groups of a panel's part: those of 32 columns, four a word.
const GROUPS: usize = DEPTH * 4 / 32;

/// Words that are multiplied in one turn of the innermost loop, a divisor of those of every group.
const UNROLL: usize = 1;

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
        let rows = (RESIDENT / (d_input / I::STEP * 4))
            .max(ROWS)
            .next_multiple_of(R);
        let mut panel = Panel::<L, V>::new();
        for first_row in (0..x.len()).step_by(rows) {
            let end = (first_row + rows).min(x.len());
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
                    let mut row = first_row;
                    while row < end {
                        let at = row * stride + (first - outputs.start);
                        if end - row == 1 {
                            block.run::<I, 1>(isa, x, row, end, &mut y[at..], stride, width);
                            row += 1;
                        } else {
                            block.run::<I, R>(isa, x, row, end, &mut y[at..], stride, width);
                            row += R;
                        }
                    }
                }
            }
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
    /// Computes a tile of `R` rows, of which those from `end` are left out.
    ///
    /// - `y`: from the first value of the tile; rows have `width` values of it
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // It is inlined into the loop that it is a part of.
    fn run<I: Isa<L>, const R: usize>(
        &self,
        isa: I,
        x: Rows<'_>,
        row: usize,
        end: usize,
        y: &mut [f32],
        stride: usize,
        width: usize,
    ) {
        let mut words: [&[u32]; R] = [&[]; R];
        let mut groups: [&[Group]; R] = [&[]; R];
        let mut rows = [Row::default(); R];
        for r in 0..R {
            // Rows from `end` on repeat the last.
            let (w, g, of_row) = x.row((row + r).min(end - 1));
            words[r] = &w[self.first_word..][..self.words.len()];
            groups[r] = &g[self.first_group..][..self.groups.len()];
            rows[r] = of_row;
        }
        let sums = self.tile::<I, R>(isa, words, groups);
        for r in 0..R.min(end - row) {
            let y = &mut y[r * stride..][..width];
            if let (y, []) = y.as_chunks_mut::<L>()
                && let Ok(y) = <&mut [[f32; L]; V]>::try_from(y)
            {
                self.write(isa, &sums[r], rows[r], y);
            } else {
                // The last panel may have fewer rows.
                let mut whole = [[0.0; L]; V];
                whole.as_flattened_mut()[..width].copy_from_slice(y);
                self.write(isa, &sums[r], rows[r], &mut whole);
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

    /// Products of `R` rows with the panel, by group.
    #[inline(always)]
    fn tile<I: Isa<L>, const R: usize>(
        &self,
        isa: I,
        x: [&[u32]; R],
        x_groups: [&[Group]; R],
    ) -> [[I::Floats; V]; R] {
        let mut sums = [[isa.splat(0.0); V]; R];
        for (g, scales) in self.groups.iter().enumerate() {
            let start = g * self.words_per_group;
            let mut ints = [[isa.ints(isa.zero()); V]; R];
            if I::SPAN >= Scheme::MAX_GROUP {
                let dots = self.dots(isa, &x, start, self.words_per_group);
                for r in 0..R {
                    for v in 0..V {
                        ints[r][v] = isa.ints(dots[r][v]);
                    }
                }
            } else {
                let span = I::SPAN / I::STEP;
                for start in (start..start + self.words_per_group).step_by(span) {
                    let dots = self.dots(isa, &x, start, span);
                    for r in 0..R {
                        for v in 0..V {
                            ints[r][v] = isa.add_ints(ints[r][v], isa.ints(dots[r][v]));
                        }
                    }
                }
            }
            for r in 0..R {
                let group = x_groups[r][g];
                let (scale, sum) = (isa.splat(group.scale), isa.splat(group.sum));
                for v in 0..V {
                    let mut dot = isa.floats(ints[r][v]);
                    if I::STEP == 4 {
                        dot = isa.mul(dot, scale);
                    }
                    let dot = isa.mul_add(dot, isa.load(&scales.scales[v]), sums[r][v]);
                    sums[r][v] = isa.mul_add(sum, isa.load(&scales.biases[v]), dot);
                }
            }
        }
        sums
    }

    /// Dots of some words, a multiple of [`UNROLL`].
    #[inline(always)]
    fn dots<I: Isa<L>, const R: usize>(
        &self,
        isa: I,
        x: &[&[u32]; R],
        start: usize,
        len: usize,
    ) -> [[I::Dots; V]; R] {
        let words = self.words[start..][..len].as_chunks::<UNROLL>().0;
        let mut inputs: [&[[u32; UNROLL]]; R] = [&[]; R];
        for r in 0..R {
            inputs[r] = &x[r][start..][..len].as_chunks::<UNROLL>().0[..words.len()];
        }
        let mut dots = [[isa.zero(); V]; R];
        for (k, words) in words.iter().enumerate() {
            for u in 0..UNROLL {
                let mut weights = [isa.weights(&words[u][0]); V];
                for v in 1..V {
                    weights[v] = isa.weights(&words[u][v]);
                }
                for r in 0..R {
                    let input = isa.input(inputs[r][k][u]);
                    for v in 0..V {
                        dots[r][v] = isa.dot(dots[r][v], weights[v], input);
                    }
                }
            }
        }
        dots
    }
}
