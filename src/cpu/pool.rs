//! The attention probe: tokens pooled by one query, then classified.

use pulp::{Simd, WithSimd};

use super::epilogue::Epilogue;
use super::gelu::exp;
use super::lanes::dispatch;
use super::matrix::{Matrix, Rows};
use super::threads;
use crate::error::{Error, Result};
use crate::memory;

/// The parameters of the probe, named as in the checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Of every channel, `[dim]`.
    pub running_mean: &'a [f32],
    /// Of every channel, `[dim]`.
    pub running_std: &'a [f32],
    /// The query, `[dim]`.
    pub cls_token: &'a [f32],
    /// `[dim, dim]`
    pub k: &'a Matrix,
    /// `[dim, dim]`
    pub v: &'a Matrix,
    /// `[num_classes, dim]`
    pub linear: &'a Matrix,
    /// Heads of the attention.
    pub num_heads: usize,
}

/// Tokens that one thread takes at a time.
const PART: usize = 64;

impl Probe<'_> {
    /// Classifies pictures.
    ///
    /// # Shapes
    /// - `x`: `[pictures * tokens, dim]`, the mean of the probed layers
    /// - output: `[pictures, num_classes]`, logits
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the shapes don't fit each other,
    /// [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if the keys and values have no room.
    pub fn forward(self, x: &[f32], tokens: usize) -> Result<Vec<f32>> {
        self.check(x, tokens)?;
        threads::inside(|| {
            let pooled = self.pool(x, tokens)?;
            self.classify(&pooled)
        })
    }

    /// Pools the tokens of pictures, as [`forward`](Self::forward) does before it classifies them.
    ///
    /// # Shapes
    /// - `x`: `[pictures * tokens, dim]`, the mean of the probed layers
    /// - output: `[pictures, dim]`
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn pooled(self, x: &[f32], tokens: usize) -> Result<Vec<f32>> {
        self.check(x, tokens)?;
        threads::inside(|| self.pool(x, tokens))
    }

    /// Whether all shapes fit each other.
    fn check(self, x: &[f32], tokens: usize) -> Result<()> {
        let dim = self.cls_token.len();
        let [num_classes, _] = self.linear.dims();
        let fits = [self.k, self.v]
            .iter()
            .all(|matrix| matrix.dims() == [dim, dim])
            && self.linear.dims() == [num_classes, dim]
            && [self.running_mean, self.running_std]
                .iter()
                .all(|values| values.len() == dim)
            && self.num_heads > 0
            && dim.is_multiple_of(self.num_heads)
            && dim > 0
            && tokens > 0
            && x.len().is_multiple_of(tokens.saturating_mul(dim));
        if fits {
            return Ok(());
        }
        Err(Error::option(format!(
            "{} values of {tokens} tokens a picture do not fit a probe of {dim} channels",
            x.len()
        )))
    }

    fn pool(self, x: &[f32], tokens: usize) -> Result<Vec<f32>> {
        let dim = self.cls_token.len();
        let n = x.len() / dim;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        memory::resize(&mut keys, n.checked_mul(dim), "the keys of the probe")?;
        memory::resize(&mut values, n.checked_mul(dim), "the values of the probe")?;
        let part = threads::part(n, PART, PART / 4) * dim;
        let tasks = x
            .chunks(part)
            .zip(keys.chunks_mut(part).zip(values.chunks_mut(part)));
        threads::each(tasks.collect(), |(x, (keys, values))| {
            let mut rows = Rows::default();
            for (matrix, y) in [(self.k, keys), (self.v, values)] {
                rows.make(x.len() / dim, matrix, |row, to| {
                    let x = x.chunks_exact(dim).nth(row).unwrap_or_default();
                    let statistics = self.running_mean.iter().zip(self.running_std);
                    for ((to, x), (mean, std)) in to.iter_mut().zip(x).zip(statistics) {
                        *to = (x - mean) / std;
                    }
                })?;
                matrix.product(&rows, y, Epilogue::None)?;
            }
            Ok(())
        })?;

        let pictures = n / tokens;
        let mut pooled = vec![0.0; pictures * dim];
        let tasks = pooled
            .chunks_mut(dim)
            .zip(keys.chunks(tokens * dim).zip(values.chunks(tokens * dim)));
        for (pooled, (keys, values)) in tasks {
            dispatch(Pool {
                query: self.cls_token,
                keys,
                values,
                head_dim: dim / self.num_heads,
                pooled,
            });
        }
        Ok(pooled)
    }

    /// # Shapes
    /// - `pooled`: `[pictures, dim]`
    /// - output: `[pictures, num_classes]`
    fn classify(self, pooled: &[f32]) -> Result<Vec<f32>> {
        let dim = self.cls_token.len();
        let pictures = pooled.len() / dim;
        let [num_classes, _] = self.linear.dims();
        let mut rows = Rows::default();
        rows.make(pictures, self.linear, |row, to| {
            let pooled = pooled.chunks_exact(dim).nth(row).unwrap_or_default();
            to.iter_mut().zip(pooled).for_each(|(to, from)| *to = *from);
        })?;
        let mut logits = vec![0.0; pictures * num_classes];
        self.linear.product(&rows, &mut logits, Epilogue::None)?;
        Ok(logits)
    }
}

/// Attention of one query to the tokens of a picture.
struct Pool<'a> {
    /// `[dim]`
    query: &'a [f32],
    /// `[tokens, dim]`
    keys: &'a [f32],
    /// `[tokens, dim]`
    values: &'a [f32],
    head_dim: usize,
    /// `[dim]`, zeros
    pooled: &'a mut [f32],
}

impl WithSimd for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Pool {
            query,
            keys,
            values,
            head_dim,
            pooled,
        } = self;
        let dim = query.len();
        let scale = 1.0 / (head_dim as f32).sqrt();
        let heads = query
            .chunks_exact(head_dim)
            .zip(pooled.chunks_exact_mut(head_dim));
        for (head, (query, pooled)) in heads.enumerate() {
            let of_head = |row: &[f32]| head * head_dim..((head + 1) * head_dim).min(row.len());
            let mut scores: Vec<f32> = keys
                .chunks_exact(dim)
                .map(|key| {
                    let key = key.get(of_head(key)).unwrap_or_default();
                    scale * query.iter().zip(key).map(|(q, k)| q * k).sum::<f32>()
                })
                .collect();
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum = exp(simd, &mut scores, most);
            for (weight, value) in scores.iter().zip(values.chunks_exact(dim)) {
                let value = value.get(of_head(value)).unwrap_or_default();
                for (pooled, value) in pooled.iter_mut().zip(value) {
                    *pooled += weight * value;
                }
            }
            for pooled in pooled {
                *pooled /= sum;
            }
        }
    }
}
