//! The function of a head in fewer numbers: what scores the tokens of each attention head, and what classes make of each
//! pooled token.
//!
//! `logit_c = Σ_h A_ch · Σ_t softmax_t(u_h · x_t) x_t` with `u_h = s Σ_{i in h} q_i K_i` and `A_ch = Σ_{i in h} W_ci V_i`,
//! both divided by the standard deviation of each channel. Three classes of the embedded model are 2,500 numbers in place
//! of 75,000: a link can carry them. A head without attention has one `A_c` for all of its heads.

use super::attention::Attention;
use super::head::{Head, HeadKind, identity, round};
use super::normalization::Normalization;
use crate::error::{Error, ErrorKind, Result};

/// The most bytes that the keys and values may take of a head which was compact. They grow with the square of the channels, so
/// that a small file can ask for any amount; those of the 7B, with 4096 channels, are half as many.
const MOST_BYTES: usize = 256 << 20;

/// Refuses heads whose keys and values would be too large.
fn check_channels(dim: usize) -> Result<()> {
    let bytes = dim
        .checked_mul(dim)
        .and_then(|len| len.checked_mul(2 * size_of::<f32>()));
    if bytes.is_some_and(|bytes| bytes <= MOST_BYTES) {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "a compact head of {dim} channels would take over {MOST_BYTES} bytes: export it whole"
    )))
}

/// A head in fewer numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Compact {
    /// `[dim]`: what is subtracted from each token.
    pub mean: Vec<f32>,
    /// `[num_heads, dim]`, or nothing if all tokens count alike.
    pub queries: Vec<f32>,
    /// `[classes, num_heads, dim]`, or `[classes, dim]` if all tokens count alike.
    pub linear: Vec<f32>,
}

impl Compact {
    /// What a head computes.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if it has more classes than an attention head has channels: then
    /// it is not smaller. [`ErrorKind::Unsupported`] if it has more channels than [`into_head`](Self::into_head) takes.
    pub fn of(head: &Head) -> Result<Self> {
        let dim = head.dim();
        check_channels(dim)?;
        let head_dim = dim / head.num_heads;
        let normalization = Normalization {
            mean: head.running_mean.clone(),
            variance: head.running_var.clone(),
        };
        let rates = normalization.rates();
        let scaled = |mut rows: Vec<f32>| {
            for row in rows.chunks_exact_mut(dim) {
                row.iter_mut()
                    .zip(&rates)
                    .for_each(|(value, rate)| *value *= rate);
            }
            round(&mut rows);
            rows
        };
        if head.kind != HeadKind::Attention {
            return Ok(Self {
                mean: head.running_mean.clone(),
                queries: Vec::new(),
                linear: scaled(head.linear.clone()),
            });
        }
        if head.num_classes() > head_dim {
            return Err(Error::option(format!(
                "a compact head of this model has at most {head_dim} classes, and this one has {}: export it whole, or \
                 train a linear one",
                head.num_classes()
            )));
        }
        let parameters = [
            head.cls_token.clone(),
            head.k.clone(),
            head.v.clone(),
            head.linear.clone(),
        ];
        let probe = Attention::from_parameters(parameters, head.num_heads)
            .ok_or_else(|| Error::option("the head's tensors do not fit each other"))?;
        let mut linear = Vec::with_capacity(head.num_classes() * head.num_heads * dim);
        for row in head.linear.chunks_exact(dim) {
            let heads = row
                .chunks_exact(head_dim)
                .zip(head.v.chunks_exact(head_dim * dim));
            for (weights, values) in heads {
                let mut sums = vec![0.0_f64; dim];
                for (weight, value) in weights.iter().zip(values.chunks_exact(dim)) {
                    for (sum, value) in sums.iter_mut().zip(value) {
                        *sum += f64::from(*weight) * f64::from(*value);
                    }
                }
                linear.extend(sums.into_iter().map(|sum| sum as f32));
            }
        }
        Ok(Self {
            mean: head.running_mean.clone(),
            queries: scaled(probe.queries()),
            linear: scaled(linear),
        })
    }

    /// The same function as a head of AIM: the first row of a head's keys is what scores, its first values are the
    /// classes'.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if its numbers fit no head of `num_heads`; [`ErrorKind::Unsupported`] if the head would take far more
    /// than that of any released model, which is the square of its channels; [`ErrorKind::OutOfMemory`] if it does not fit in memory.
    pub fn into_head(self, num_heads: usize) -> Result<Head> {
        let dim = self.mean.len();
        let has_attention = !self.queries.is_empty();
        let per_class = if has_attention { num_heads * dim } else { dim };
        let fits = num_heads > 0
            && dim.is_multiple_of(num_heads)
            && per_class > 0
            && (!has_attention || self.queries.len() == num_heads * dim)
            && !self.linear.is_empty()
            && self.linear.len().is_multiple_of(per_class);
        let wrong = || Error::format("the compact head's tensors do not fit each other");
        if !fits {
            return Err(wrong());
        }
        check_channels(dim)?;
        let mut head = Head {
            kind: HeadKind::Linear,
            num_heads,
            running_mean: self.mean,
            // The square root of the sum with the norm's epsilon is 1, nearly.
            running_var: vec![1.0; dim],
            cls_token: vec![0.0; dim],
            k: square(dim)?,
            v: square(dim)?,
            linear: self.linear,
        };
        if !has_attention {
            identity(&mut head.v, dim);
            return Ok(head);
        }
        let head_dim = dim / num_heads;
        let classes = head.linear.len() / per_class;
        if classes > head_dim {
            return Err(wrong());
        }
        let scale = (head_dim as f32).sqrt();
        let mut linear = vec![0.0; classes * dim];
        for of in 0..num_heads {
            let first = of * head_dim;
            head.cls_token[first] = scale;
            head.k[first * dim..(first + 1) * dim]
                .copy_from_slice(&self.queries[of * dim..(of + 1) * dim]);
            for class in 0..classes {
                let from = class * per_class + of * dim;
                let row = first + class;
                head.v[row * dim..(row + 1) * dim].copy_from_slice(&head.linear[from..from + dim]);
                linear[class * dim + row] = 1.0;
            }
        }
        head.linear = linear;
        head.kind = HeadKind::Attention;
        Ok(head)
    }
}

/// A matrix of zeros that a small file asks for.
fn square(dim: usize) -> Result<Vec<f32>> {
    let mut matrix = Vec::new();
    let len = dim
        .checked_mul(dim)
        .filter(|&len| matrix.try_reserve_exact(len).is_ok())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::OutOfMemory,
                format!("no memory for a head of {dim} channels"),
            )
        })?;
    matrix.resize(len, 0.0);
    Ok(matrix)
}
