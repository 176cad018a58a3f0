//! Attention, one head at a time.

use pulp::{Simd, WithSimd};

use super::float::{Column, PANEL, Sums, rows, tile};
use super::gelu::exp;
use super::lanes::dispatch;
use crate::memory;

/// Queries whose scores are in memory at once: a multiple of the rows of a [`tile`] on every machine.
pub const QUERIES: usize = 24;

/// Where a head's queries, keys and values are: in a row for each token.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The rows of one picture, `[tokens, 3 * dim]`: in each the queries of all heads, then the keys, then
    /// the values.
    pub qkv: &'a [f32],
    /// The width of all heads.
    pub dim: usize,
    /// Which head.
    pub head: usize,
    /// The width of one.
    pub head_dim: usize,
}

/// The memory that attention works in; it grows to what the largest call needs.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The keys in panels, `[ceil(tokens / PANEL), head_dim]`.
    keys: Vec<Column>,
    /// The values in panels, `[ceil(head_dim / PANEL), tokens]`.
    values: Vec<Column>,
    /// The queries, scaled, `[QUERIES, head_dim]`.
    queries: Vec<f32>,
    /// `[QUERIES, ceil(tokens / PANEL)]`
    scores: Vec<Column>,
}

impl Workspace {
    /// The memory that it holds.
    pub const fn bytes(&self) -> u64 {
        memory::bytes(&self.keys)
            + memory::bytes(&self.values)
            + memory::bytes(&self.queries)
            + memory::bytes(&self.scores)
    }
}

/// `softmax(q kᵀ / sqrt(head_dim)) v` for the queries from `first` on.
///
/// # Shapes
/// - `out`: `[queries, head_dim]`, overwritten; its length says how many queries
pub fn attend(head: Head<'_>, first: usize, workspace: &mut Workspace, out: &mut [f32]) {
    dispatch(Attend {
        head,
        first,
        workspace,
        out,
    });
}

struct Attend<'a> {
    head: Head<'a>,
    first: usize,
    workspace: &'a mut Workspace,
    out: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Attend {
            head,
            first,
            workspace,
            out,
        } = self;
        let head_dim = head.head_dim;
        let tokens = head.qkv.len() / (3 * head.dim).max(1);
        if tokens == 0 || head_dim == 0 {
            return;
        }
        let Workspace {
            keys,
            values,
            queries,
            scores,
        } = workspace;
        let panels = tokens.div_ceil(PANEL);
        resize(keys, panels * head_dim);
        resize(values, head_dim.div_ceil(PANEL) * tokens);
        resize(queries, QUERIES * head_dim);
        resize(scores, QUERIES * panels);
        head.pack_keys(keys);
        head.pack_values(values);

        let scale = 1.0 / (head_dim as f32).sqrt();
        let at_once = rows::<S>();
        let mut sums = Sums::default();
        for (tile_of_queries, out) in out.chunks_mut(QUERIES * head_dim).enumerate() {
            let first = first + tile_of_queries * QUERIES;
            let count = out.len() / head_dim;
            for (m, to) in queries.chunks_exact_mut(head_dim).take(count).enumerate() {
                for (to, from) in to.iter_mut().zip(head.row(first + m, 0)) {
                    *to = from * scale;
                }
            }
            for (p, panel) in keys.chunks_exact(head_dim).enumerate() {
                for start in (0..count).step_by(at_once) {
                    let queries = queries.get(start * head_dim..).unwrap_or_default();
                    tile(simd, queries, head_dim, panel, &mut sums);
                    for (m, sums) in (start..count).zip(sums.iter().take(at_once)) {
                        if let Some(to) = scores.get_mut(m * panels + p) {
                            *to = *sums;
                        }
                    }
                }
            }
            let mut scales = [0.0; QUERIES];
            for (scores, scale) in scores.chunks_exact_mut(panels).zip(&mut scales).take(count) {
                *scale = 1.0 / exponentials(simd, scores, tokens);
            }
            let scores = scores.as_flattened();
            for (p, panel) in values.chunks_exact(tokens).enumerate() {
                let dims = p * PANEL..((p + 1) * PANEL).min(head_dim);
                for start in (0..count).step_by(at_once) {
                    let stride = panels * PANEL;
                    let scores = scores.get(start * stride..).unwrap_or_default();
                    tile(simd, scores, stride, panel, &mut sums);
                    for (m, sums) in (start..count).zip(sums.iter().take(at_once)) {
                        let to = out.get_mut(m * head_dim..).unwrap_or_default();
                        let to = to.get_mut(dims.clone()).unwrap_or_default();
                        for (to, sum) in to.iter_mut().zip(sums) {
                            *to = sum * scales[m];
                        }
                    }
                }
            }
        }
    }
}

impl Head<'_> {
    /// A token's query, key or value: `part` 0, 1 or 2.
    #[inline(always)]
    fn row(&self, token: usize, part: usize) -> &[f32] {
        let start = (3 * token + part) * self.dim + self.head * self.head_dim;
        self.qkv
            .get(start..start + self.head_dim)
            .unwrap_or_default()
    }

    /// Puts the keys into panels of [`PANEL`] tokens; those past the last token hold anything.
    #[inline(always)]
    fn pack_keys(&self, panels: &mut [Column]) {
        for (p, panel) in panels.chunks_exact_mut(self.head_dim).enumerate() {
            for at in 0..PANEL {
                for (column, value) in panel.iter_mut().zip(self.row(p * PANEL + at, 1)) {
                    column[at] = *value;
                }
            }
        }
    }

    /// Puts the values into panels of [`PANEL`] channels; those past the last channel hold anything.
    #[inline(always)]
    fn pack_values(&self, panels: &mut [Column]) {
        let tokens = panels.len() / self.head_dim.div_ceil(PANEL);
        for token in 0..tokens {
            let row = self.row(token, 2);
            let columns = panels.iter_mut().skip(token).step_by(tokens);
            for (column, values) in columns.zip(row.chunks(PANEL)) {
                match values.try_into() {
                    Ok(values) => *column = values,
                    Err(_) => {
                        for (to, value) in column.iter_mut().zip(values) {
                            *to = *value;
                        }
                    }
                }
            }
        }
    }
}

/// Scores become `e^(score - largest)`: their sum. Those past the last key become 0.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, scores: &mut [Column], keys: usize) -> f32 {
    for past in scores.as_flattened_mut().iter_mut().skip(keys) {
        *past = f32::NEG_INFINITY;
    }
    let mut most = [f32::NEG_INFINITY; PANEL];
    for scores in &*scores {
        for (most, score) in most.iter_mut().zip(scores) {
            // A NaN is passed over here, and shows in the sum.
            *most = if *score > *most { *score } else { *most };
        }
    }
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    exp(simd, scores.as_flattened_mut(), most)
}

/// Makes a buffer as long as is needed; it keeps what it has.
fn resize<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) {
    buffer.resize(len, T::default());
}
