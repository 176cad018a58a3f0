//! What training ends in: the tensors of a head of AIM.

use std::fmt;
use std::str::FromStr;

use half::f16;

use super::attention::Attention;
use super::normalization::Normalization;
use crate::error::{Error, Result};

/// How a head was trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadKind {
    /// As many pictures as there are ask for: see [`HeadKind::for_pictures`].
    #[default]
    Auto,
    /// The attention probe.
    Attention,
    /// Logistic regression on the mean of the tokens.
    Linear,
    /// The nearest mean of a class.
    Mean,
}

/// From so many pictures of a class on, `auto` takes logistic regression in place of the nearest mean, and the attention probe
/// in place of both. How good each is `examples/few_shot.rs` measures: the table is in `docs/teach.md`.
const LINEAR_FROM: usize = 5;
const ATTENTION_FROM: usize = 10;

impl HeadKind {
    /// The head for classes that have so many pictures: the median decides.
    pub fn for_pictures(counts: &[usize]) -> Self {
        let mut sorted = counts.to_vec();
        sorted.sort_unstable();
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        if middle >= ATTENTION_FROM {
            Self::Attention
        } else if middle >= LINEAR_FROM {
            Self::Linear
        } else {
            Self::Mean
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Attention => "attention",
            Self::Linear => "linear",
            Self::Mean => "mean",
        }
    }
}

impl FromStr for HeadKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Auto, Self::Attention, Self::Linear, Self::Mean]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| {
                Error::option(format!(
                    "there is no head {text:?}: auto, attention, linear or mean"
                ))
            })
    }
}

impl fmt::Display for HeadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The tensors of a head, named as in the checkpoint. Its matrices are rounded to 16 bits, as a file has them, so that a
/// head that was read is the one that was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// How it was trained; never [`HeadKind::Auto`].
    pub kind: HeadKind,
    /// Heads of its attention.
    pub num_heads: usize,
    /// `[dim]`
    pub running_mean: Vec<f32>,
    /// `[dim]`
    pub running_var: Vec<f32>,
    /// `[dim]`
    pub cls_token: Vec<f32>,
    /// `[dim, dim]`
    pub k: Vec<f32>,
    /// `[dim, dim]`
    pub v: Vec<f32>,
    /// `[classes, dim]`
    pub linear: Vec<f32>,
}

impl Head {
    /// Channels of a token.
    pub const fn dim(&self) -> usize {
        self.running_mean.len()
    }

    /// How many classes it tells apart.
    pub fn num_classes(&self) -> usize {
        self.linear.len() / self.dim().max(1)
    }

    /// A trained probe with the statistics that it was trained under.
    pub(super) fn of_attention(
        probe: Attention,
        num_heads: usize,
        normalization: Normalization,
    ) -> Self {
        let Attention {
            cls_token,
            mut k,
            mut v,
            mut linear,
            ..
        } = probe;
        for matrix in [&mut k, &mut v, &mut linear] {
            round(matrix);
        }
        Self {
            kind: HeadKind::Attention,
            num_heads,
            running_mean: normalization.mean,
            running_var: normalization.variance,
            cls_token,
            k,
            v,
            linear,
        }
    }

    /// A linear layer on the mean of the normalised tokens. Attention with a query of 0 is the mean, and where AIM's
    /// head has no bias, the mean that it subtracts moves by what the layer makes the biases of.
    ///
    /// # Shapes
    /// - `linear`: `[classes, dim]`
    /// - `biases`: `[classes]`
    pub(super) fn of_linear(
        kind: HeadKind,
        num_heads: usize,
        mut linear: Vec<f32>,
        biases: &[f32],
        normalization: Normalization,
    ) -> Self {
        round(&mut linear);
        let dim = normalization.mean.len();
        let shift = shift(&linear, biases, dim);
        let rates = normalization.rates();
        let running_mean = normalization.mean.iter().zip(&shift).zip(&rates);
        let mut v = vec![0.0; dim * dim];
        identity(&mut v, dim);
        Self {
            kind,
            num_heads,
            running_mean: running_mean
                .map(|((mean, shift), rate)| (f64::from(*mean) + shift / f64::from(*rate)) as f32)
                .collect(),
            running_var: normalization.variance,
            cls_token: vec![0.0; dim],
            k: vec![0.0; dim * dim],
            v,
            linear,
        }
    }

    /// Whether tokens are weighed or mixed, as only an attention probe does: all others take their plain mean.
    pub(super) fn attends(&self) -> bool {
        let dim = self.dim();
        let is_one = |i: usize| i.is_multiple_of(dim + 1);
        self.cls_token.iter().any(|&value| value != 0.0)
            || self
                .v
                .iter()
                .enumerate()
                .any(|(i, &value)| value != f32::from(u8::from(is_one(i))))
    }
}

/// Zeros to the identity.
pub(super) fn identity(zeros: &mut [f32], dim: usize) {
    zeros.iter_mut().step_by(dim + 1).for_each(|one| *one = 1.0);
}

/// To 16 bits; what is over their range stays at its end.
pub(super) fn round(values: &mut [f32]) {
    for value in values {
        let most = f16::MAX.to_f32();
        *value = f16::from_f32(value.clamp(-most, most)).to_f32();
    }
}

/// The shortest `δ` with `W (x - δ) = W x + b`, but for what is the same for all classes, which no probability depends on.
/// With more classes than channels, the one that comes nearest.
fn shift(linear: &[f32], biases: &[f32], dim: usize) -> Vec<f64> {
    let classes = biases.len();
    // What is the same for all classes is left out of both.
    let mut mean_row = vec![0.0_f64; dim];
    for row in linear.chunks_exact(dim) {
        for (mean, value) in mean_row.iter_mut().zip(row) {
            *mean += f64::from(*value) / classes as f64;
        }
    }
    let rows: Vec<Vec<f64>> = linear
        .chunks_exact(dim)
        .map(|row| {
            let parts = row.iter().zip(&mean_row);
            parts
                .map(|(value, mean)| f64::from(*value) - mean)
                .collect()
        })
        .collect();
    let mean_bias = biases.iter().map(|&bias| f64::from(bias)).sum::<f64>() / classes as f64;
    let wanted: Vec<f64> = biases
        .iter()
        .map(|&bias| mean_bias - f64::from(bias))
        .collect();
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let combined = |rows: &[Vec<f64>], by: &[f64]| {
        let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
        for (row, by) in rows.iter().zip(by) {
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += by * value;
            }
        }
        sum
    };
    if classes <= dim {
        let gram = rows
            .iter()
            .map(|a| rows.iter().map(|b| dot(a, b)).collect())
            .collect();
        combined(&rows, &solve(gram, wanted))
    } else {
        let columns: Vec<Vec<f64>> = (0..dim)
            .map(|at| rows.iter().map(|row| row[at]).collect())
            .collect();
        let gram = columns
            .iter()
            .map(|a| columns.iter().map(|b| dot(a, b)).collect())
            .collect();
        solve(gram, combined(&rows, &wanted))
    }
}

/// `A y = b` for a symmetric `A` that has no negative eigenvalue, by Cholesky's decomposition; of several the shortest,
/// nearly.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    let trace: f64 = (0..n).map(|i| a[i][i]).sum();
    let ridge = 1e-10 * trace / n.max(1) as f64 + f64::MIN_POSITIVE.sqrt();
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| a[i][k] * a[j][k]).sum();
            let rest = a[i][j] - known;
            a[i][j] = if i == j {
                (rest + ridge).max(ridge).sqrt()
            } else {
                rest / a[j][j]
            };
        }
    }
    for i in 0..n {
        let known: f64 = (0..i).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - known) / a[i][i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| a[k][i] * b[k]).sum();
        b[i] = (b[i] - known) / a[i][i];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn a_bias_moves_into_the_mean() {
        for (classes, dim, limit) in [(2, 8, 1e-4), (5, 8, 1e-4), (8, 8, 1e-3)] {
            let mut random = Random::new(classes as u64);
            let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| random.uniform()).collect() };
            let normalization = Normalization {
                mean: values(dim),
                variance: values(dim).iter().map(|v| v * v + 0.1).collect(),
            };
            let (linear, biases, x) = (values(classes * dim), values(classes), values(dim));
            let logits = |head: &Head, biases: &[f32]| -> Vec<f64> {
                let rates = Normalization {
                    mean: head.running_mean.clone(),
                    variance: head.running_var.clone(),
                }
                .rates();
                let rows = head.linear.chunks_exact(dim).zip(biases);
                rows.map(|(row, bias)| {
                    let parts = row.iter().zip(&x).zip(head.running_mean.iter().zip(&rates));
                    let sum: f64 = parts
                        .map(|((w, x), (mean, rate))| f64::from(w * (x - mean) * rate))
                        .sum();
                    sum + f64::from(*bias)
                })
                .collect()
            };
            let mut plain = Head::of_linear(
                HeadKind::Linear,
                2,
                linear.clone(),
                &biases,
                normalization.clone(),
            );
            let moved = logits(&plain, &vec![0.0; classes]);
            plain.running_mean = normalization.mean;
            let wanted = logits(&plain, &biases);
            let constant = moved[0] - wanted[0];
            for (moved, wanted) in moved.iter().zip(&wanted) {
                let off = (moved - wanted - constant).abs();
                assert!(off < limit, "{classes} classes: {off:e}");
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for kind in [
            HeadKind::Auto,
            HeadKind::Attention,
            HeadKind::Linear,
            HeadKind::Mean,
        ] {
            assert_eq!(kind.name().parse::<HeadKind>().unwrap(), kind);
        }
        "tree".parse::<HeadKind>().unwrap_err();
        assert_eq!(HeadKind::for_pictures(&[2, 2, 100]), HeadKind::Mean);
        assert_eq!(HeadKind::for_pictures(&[7, 7]), HeadKind::Linear);
        assert_eq!(HeadKind::for_pictures(&[20, 100, 100]), HeadKind::Attention);
    }
}
