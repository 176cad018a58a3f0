//! `y = x Wᵀ` on the CPU, with `W` quantised and the activations f32.
//!
//! A panel of 16 rows and up to 512 columns of `W` is dequantised column after column, so that it
//! lies as the product reads it; then it meets every row of `x`.
//! The cost of dequantisation is thereby shared by all rows of `x`, and neither operand is packed.
//! One row of `x` alone takes the codes as they are, and scales the sum of each group.
//!
//! With the feature `threads` the rows of `W` are shared out over rayon's pool.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::matrix::QuantMatrix;
use super::scheme::Bits;
use super::simd::{dispatch, widen};
use crate::error::{Error, Result};

/// Rows of `W` in a panel: two vectors of AVX2, four of NEON or wasm.
const PANEL: usize = 16;

/// The most columns of `W` in a panel, a multiple of every group size. 32 KiB in f32, which the
/// second-level cache streams faster than the sums need it; fewer columns would mean more additions
/// to `y`.
const DEPTH: usize = 512;

/// One column of a panel, or a sum for each of its rows.
type Column = [f32; PANEL];

/// Computes `y = x Wᵀ`.
///
/// Sums run over `d_input` in an order that depends on the instruction set, but not on the number
/// of threads.
///
/// # Shapes
/// - `x`: `[n, d_input]`
/// - `y`: `[n, d_output]`, overwritten
///
/// # Errors
/// [`ErrorKind::Option`](crate::ErrorKind::Option) if `x` is not a number of whole rows or `y` has
/// not as many.
pub fn matmul(x: &[f32], w: &QuantMatrix, y: &mut [f32]) -> Result<()> {
    let (d_output, d_input) = (w.d_output(), w.d_input());
    // `d_input` is at least one group.
    let n = x.len() / d_input;
    if !x.len().is_multiple_of(d_input) || n.checked_mul(d_output) != Some(y.len()) {
        return Err(Error::option(format!(
            "{} inputs and {} outputs do not fit a matrix of {d_output} x {d_input}",
            x.len(),
            y.len()
        )));
    }
    if y.is_empty() {
        return Ok(());
    }
    let part = part_of(n, d_output, d_input);
    let parts = d_output.div_ceil(part);
    if parts == 1 {
        let y = y.chunks_exact_mut(d_output).collect();
        dispatch(Part { x, w, row: 0, y });
        return Ok(());
    }
    // Columns of `y`, which are rows of `W`, to each part: of each row of `y` its slice.
    let mut columns: Vec<Vec<&mut [f32]>> = (0..parts).map(|_| Vec::with_capacity(n)).collect();
    for row in y.chunks_exact_mut(d_output) {
        for (columns, slice) in columns.iter_mut().zip(row.chunks_mut(part)) {
            columns.push(slice);
        }
    }
    let each = |(at, y)| {
        dispatch(Part {
            x,
            w,
            row: at * part,
            y,
        });
    };
    #[cfg(feature = "threads")]
    {
        use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
        columns.into_par_iter().enumerate().for_each(each);
    }
    #[cfg(not(feature = "threads"))]
    columns.into_iter().enumerate().for_each(each);
    Ok(())
}

/// Rows of `W` that one task takes: a multiple of [`PANEL`], or all.
#[cfg(feature = "threads")]
fn part_of(n: usize, d_output: usize, d_input: usize) -> usize {
    /// Products that are worth a task.
    const WORTH: usize = 1 << 18;
    let tasks = n.saturating_mul(d_output).saturating_mul(d_input) / WORTH;
    // Some more than threads, since these rarely run evenly.
    let tasks = tasks.min(4 * rayon::current_num_threads());
    if tasks < 2 || rayon::current_num_threads() == 1 {
        return d_output;
    }
    d_output.div_ceil(tasks).next_multiple_of(PANEL)
}

#[cfg(not(feature = "threads"))]
const fn part_of(_: usize, d_output: usize, _: usize) -> usize {
    d_output
}

/// Some rows of `W` against all of `x`.
struct Part<'a> {
    /// `[n, d_input]`
    x: &'a [f32],
    w: &'a QuantMatrix,
    /// The first row of `W`.
    row: usize,
    /// `n` rows, each of the outputs of this part.
    y: Vec<&'a mut [f32]>,
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // A panel is at least two vectors, or single lanes.
        const { assert!(S::F32_LANES <= 8) };
        let bits = self.w.scheme().bits();
        match (self.y.as_mut_slice(), bits) {
            ([y], Bits::Four) => one_row::<8>(self.x, self.w, self.row, y),
            ([y], Bits::Eight) => one_row::<4>(self.x, self.w, self.row, y),
            // AVX2 has 16 registers: 12 for sums, and a column and an activation fit in the rest.
            (y, _) if S::F32_LANES == 8 => rows::<S, 2, 6>(simd, self.x, self.w, self.row, y),
            // NEON has 32; wasm runs on machines of 16, and needs one for the product.
            #[cfg(target_arch = "aarch64")]
            (y, _) if S::F32_LANES == 4 => rows::<S, 4, 6>(simd, self.x, self.w, self.row, y),
            #[cfg(not(target_arch = "aarch64"))]
            (y, _) if S::F32_LANES == 4 => rows::<S, 4, 2>(simd, self.x, self.w, self.row, y),
            (y, _) => rows::<S, PANEL, 1>(simd, self.x, self.w, self.row, y),
        }
    }
}

/// A panel's codes, scales and biases, column after column.
///
/// Where a panel passes the last row of `W` it holds anything; nobody reads the result.
struct Panel {
    /// Of each column of words. A word holds at least four codes.
    words: [[u32; PANEL]; DEPTH / 4],
    /// Of each column of groups. A group has at least 32 weights.
    scales: [Column; DEPTH / 32],
    biases: [Column; DEPTH / 32],
}

impl Panel {
    const fn new() -> Self {
        Self {
            words: [[0; PANEL]; DEPTH / 4],
            scales: [[0.0; PANEL]; DEPTH / 32],
            biases: [[0.0; PANEL]; DEPTH / 32],
        }
    }

    /// Takes the rows from `row` and the columns from `column`, which starts a group.
    #[inline(always)]
    fn load(&mut self, w: &QuantMatrix, row: usize, column: usize) {
        let scheme = w.scheme();
        let word = column / scheme.bits().codes_per_word();
        let group = column / scheme.group_size();
        for r in 0..PANEL.min(w.d_output().saturating_sub(row)) {
            let words = w.row_codes(row + r).get(word..).unwrap_or_default();
            for (to, word) in self.words.iter_mut().zip(words) {
                to[r] = *word;
            }
            let (scales, biases) = w.row_groups(row + r);
            for (to, scale) in self.scales.iter_mut().zip(scales.iter().skip(group)) {
                to[r] = widen(*scale);
            }
            for (to, bias) in self.biases.iter_mut().zip(biases.iter().skip(group)) {
                to[r] = widen(*bias);
            }
        }
    }

    /// The words, scale and bias of each group. `N` codes to a word.
    #[inline(always)]
    fn groups<const N: usize>(
        &self,
        group_size: usize,
    ) -> impl Iterator<Item = (&[[u32; PANEL]], (&Column, &Column))> {
        self.words
            .chunks_exact(group_size / N)
            .zip(self.scales.iter().zip(&self.biases))
    }

    /// Dequantises the panel. `N` codes to a word.
    ///
    /// - `columns`: a [`Column`] for each column of `W`, overwritten
    #[inline(always)]
    fn dequantize<const N: usize>(&self, columns: &mut [Column], group_size: usize) {
        for (columns, (words, (scales, biases))) in columns
            .chunks_exact_mut(group_size)
            .zip(self.groups::<N>(group_size))
        {
            for (columns, words) in columns.as_chunks_mut::<N>().0.iter_mut().zip(words) {
                for (i, column) in columns.iter_mut().enumerate() {
                    for r in 0..PANEL {
                        column[r] = scales[r] * code::<N>(words[r], i) + biases[r];
                    }
                }
            }
        }
    }
}

/// Code `i` of a word of `N`.
#[inline(always)]
const fn code<const N: usize>(word: u32, i: usize) -> f32 {
    let bits = 32 / N as u32;
    // Signed, for which more processors have a conversion.
    (word >> (i as u32 * bits) & (u32::MAX >> (32 - bits))) as i32 as f32
}

/// One row of `x`. `N` codes to a word.
#[inline(always)]
fn one_row<const N: usize>(x: &[f32], w: &QuantMatrix, row: usize, y: &mut [f32]) {
    let group_size = w.scheme().group_size();
    let mut panel = Panel::new();
    for (p, y) in y.chunks_mut(PANEL).enumerate() {
        let mut total = Column::default();
        for (d, x) in x.chunks(DEPTH).enumerate() {
            panel.load(w, row + p * PANEL, d * DEPTH);
            for (x, (words, (scales, biases))) in x
                .chunks_exact(group_size)
                .zip(panel.groups::<N>(group_size))
            {
                let mut sum = Column::default();
                let mut sum_x = 0.0;
                for (words, x) in words.iter().zip(x.as_chunks::<N>().0) {
                    for (i, x) in x.iter().enumerate() {
                        sum_x += x;
                        for r in 0..PANEL {
                            sum[r] += code::<N>(words[r], i) * x;
                        }
                    }
                }
                for r in 0..PANEL {
                    total[r] += scales[r] * sum[r] + biases[r] * sum_x;
                }
            }
        }
        // The last panel may have fewer rows.
        for (y, total) in y.iter_mut().zip(total) {
            *y = total;
        }
    }
}

/// Rows of `x`, `M` at a time, with a panel of `V` vectors.
#[inline(always)]
fn rows<S: Simd, const V: usize, const M: usize>(
    simd: S,
    x: &[f32],
    w: &QuantMatrix,
    row: usize,
    y: &mut [&mut [f32]],
) {
    let scheme = w.scheme();
    let d_input = w.d_input();
    let outputs = y.first().map_or(0, |y| y.len());
    let mut codes = Panel::new();
    let mut panel = [Column::default(); DEPTH];
    for start in (0..d_input).step_by(DEPTH) {
        let depth = DEPTH.min(d_input - start);
        let panel = panel.get_mut(..depth).unwrap_or_default();
        for first in (0..outputs).step_by(PANEL) {
            codes.load(w, row + first, start);
            match scheme.bits() {
                Bits::Four => codes.dequantize::<8>(panel, scheme.group_size()),
                Bits::Eight => codes.dequantize::<4>(panel, scheme.group_size()),
            }
            let outputs = first..(first + PANEL).min(outputs);
            for (x, y) in x.chunks(M * d_input).zip(y.chunks_mut(M)) {
                let block = Block {
                    x,
                    d_input,
                    start,
                    panel,
                    y,
                    outputs: outputs.clone(),
                };
                match block.y.len() {
                    n if n == M => block.run::<S, V, M>(simd),
                    1..=2 => block.run::<S, V, 2>(simd),
                    3..=4 => block.run::<S, V, 4>(simd),
                    _ => block.run::<S, V, M>(simd),
                }
            }
        }
    }
}

/// A few rows of `x` and a panel.
struct Block<'a, 'b> {
    /// `[y.len(), d_input]`
    x: &'a [f32],
    d_input: usize,
    /// The panel's first column in `W`.
    start: usize,
    panel: &'a [Column],
    y: &'a mut [&'b mut [f32]],
    /// Where the panel's rows are in a row of `y`.
    outputs: Range<usize>,
}

impl Block<'_, '_> {
    /// Adds the products to `y`, or puts them there if the panel is the first of its rows. `y` has
    /// at most `M` rows.
    #[inline(always)]
    fn run<S: Simd, const V: usize, const M: usize>(self, simd: S) {
        let mut x = [[].as_slice(); M];
        for (to, row) in x.iter_mut().zip(self.x.chunks_exact(self.d_input)) {
            *to = row
                .get(self.start..self.start + self.panel.len())
                .unwrap_or_default();
        }
        // Rows past the last repeat the first.
        for i in self.y.len()..M {
            x[i] = x[0];
        }
        let sums = product::<S, V, M>(simd, x, self.panel);
        for (sums, y) in sums.iter().zip(self.y) {
            let y = y.get_mut(self.outputs.clone()).unwrap_or_default();
            // Of known length but in the last panel.
            match <&mut Column>::try_from(&mut *y) {
                Ok(y) => add(y, sums, self.start > 0),
                Err(_) => add(y, sums, self.start > 0),
            }
        }
    }
}

/// Adds `sums` to `y`, or puts them there.
#[inline(always)]
fn add(y: &mut [f32], sums: &Column, add: bool) {
    for (y, sum) in y.iter_mut().zip(sums) {
        *y = if add { *y + sum } else { *sum };
    }
}

/// `M` rows of `x` times a panel of `V` vectors: a sum for each and each row of the panel.
///
/// - `x`: each as long as `panel`
#[inline(always)]
fn product<S: Simd, const V: usize, const M: usize>(
    simd: S,
    x: [&[f32]; M],
    panel: &[Column],
) -> [Column; M] {
    let mut sums = [[simd.splat_f32s(0.0); V]; M];
    let x = x.map(|x| x.get(..panel.len()).unwrap_or_default());
    if x.iter().any(|x| x.len() != panel.len()) {
        return [Column::default(); M];
    }
    for (k, column) in panel.iter().enumerate() {
        let column = S::as_simd_f32s(column).0;
        for m in 0..M {
            let x = simd.splat_f32s(x[m][k]);
            for v in 0..V {
                sums[m][v] = mul_add(simd, x, column[v], sums[m][v]);
            }
        }
    }
    let mut out = [Column::default(); M];
    for (out, sums) in out.iter_mut().zip(&sums) {
        for (out, sum) in S::as_mut_simd_f32s(out).0.iter_mut().zip(sums) {
            *out = *sum;
        }
    }
    out
}

/// `a * b + c`, in one step where the machine has one.
#[inline(always)]
fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    // pulp's own relaxed vectors are chosen at run time, which a wasm module can't do: one with such an
    // instruction starts nowhere else.
    #[cfg(all(target_family = "wasm", feature = "relaxed-simd"))]
    if size_of::<S::f32s>() == size_of::<core::arch::wasm32::v128>() {
        use pulp::bytemuck::cast;
        return cast(core::arch::wasm32::f32x4_relaxed_madd(
            cast(a),
            cast(b),
            cast(c),
        ));
    }
    simd.mul_add_e_f32s(a, b, c)
}
