//! The attention probe and its gradients.
//!
//! A picture's tokens meet the keys only through one query, and the values only through the weights that come of it. So
//! the query is taken through the keys' matrix once a step, `u_h = s Σ_{i in h} q_i K_i`, tokens are scored by `u_h` and
//! pooled as they are, and only what was pooled goes through the values' matrix. It is the same function at a
//! `num_heads`-th of `embed_dim`, 64 times less work for the embedded model, and so are its gradients, which are written
//! out here and held to automatic ones by `tests/probe`.

use pulp::{Simd, WithSimd};

use super::arithmetic::{add_scaled, dot, softmax};
use super::examples::Examples;
use super::head::identity;
use super::normalization::Normalization;
use super::objective::Objective;
use super::parallel::each;
use super::random::Random;

/// The parameters of the probe, or how the loss changes with them; named as in the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// The query, `[dim]`.
    pub cls_token: Vec<f32>,
    /// `[dim, dim]`
    pub k: Vec<f32>,
    /// `[dim, dim]`
    pub v: Vec<f32>,
    /// `[classes, dim]`
    pub linear: Vec<f32>,
    num_heads: usize,
}

/// Pictures whose features are read in normalised form.
#[derive(Clone, Copy, Debug)]
pub struct Normalized<'a> {
    examples: &'a Examples,
    mean: &'a [f32],
    rates: &'a [f32],
}

impl<'a> Normalized<'a> {
    pub(super) const fn new(examples: &'a Examples, mean: &'a [f32], rates: &'a [f32]) -> Self {
        Self {
            examples,
            mean,
            rates,
        }
    }

    pub(super) const fn examples(&self) -> &'a Examples {
        self.examples
    }

    /// The tokens of a view of a picture, `[tokens, dim]`.
    pub(super) fn read(&self, view: (usize, usize)) -> Vec<f32> {
        let dim = self.mean.len();
        let mut features = vec![0.0; self.examples.tokens() * dim];
        self.examples.read(view, &mut features);
        for token in features.chunks_exact_mut(dim) {
            for ((value, mean), rate) in token.iter_mut().zip(self.mean).zip(self.rates) {
                *value = (*value - mean) * rate;
            }
        }
        features
    }
}

/// The loss of a batch, and its gradient by the probe's parameters. For tests and whoever trains otherwise.
pub fn loss_and_gradients(
    probe: &Attention,
    examples: &Examples,
    normalization: &Normalization,
    objective: &Objective,
    pictures: &[usize],
) -> (f32, Attention) {
    let rates = normalization.rates();
    let input = Normalized::new(examples, &normalization.mean, &rates);
    let mut gradients = probe.zeros();
    let batch: Vec<_> = pictures.iter().map(|&picture| (picture, 0)).collect();
    let loss = probe.gradients(input, objective, &batch, &mut gradients);
    (loss, gradients)
}

impl Attention {
    /// A probe that begins as the mean of the tokens: the query is 0, so that all weigh alike, and the values are the
    /// tokens themselves.
    pub(super) fn new(dim: usize, num_heads: usize, classes: usize, random: &mut Random) -> Self {
        let bound = 1.0 / (dim as f32).sqrt();
        let mut v = vec![0.0; dim * dim];
        identity(&mut v, dim);
        Self {
            cls_token: vec![0.0; dim],
            k: (0..dim * dim).map(|_| bound * random.uniform()).collect(),
            v,
            linear: vec![0.0; classes * dim],
            num_heads,
        }
    }

    /// A probe with these parameters; `None` if their numbers don't fit.
    ///
    /// # Shapes
    /// - `cls_token`: `[dim]`
    /// - `k`, `v`: `[dim, dim]`
    /// - `linear`: `[classes, dim]`
    pub fn from_parameters(
        [cls_token, k, v, linear]: [Vec<f32>; 4],
        num_heads: usize,
    ) -> Option<Self> {
        let dim = cls_token.len();
        let fits = num_heads > 0
            && dim.is_multiple_of(num_heads)
            && k.len() == dim * dim
            && v.len() == dim * dim
            && !linear.is_empty()
            && linear.len().is_multiple_of(dim);
        fits.then_some(Self {
            cls_token,
            k,
            v,
            linear,
            num_heads,
        })
    }

    pub(super) fn zeros(&self) -> Self {
        Self {
            cls_token: vec![0.0; self.cls_token.len()],
            k: vec![0.0; self.k.len()],
            v: vec![0.0; self.v.len()],
            linear: vec![0.0; self.linear.len()],
            num_heads: self.num_heads,
        }
    }

    const fn dim(&self) -> usize {
        self.cls_token.len()
    }

    fn scale(&self) -> f32 {
        1.0 / ((self.dim() / self.num_heads) as f32).sqrt()
    }

    /// What scores tokens, `[num_heads, dim]`.
    pub(super) fn queries(&self) -> Vec<f32> {
        let dim = self.dim();
        let mut queries = vec![0.0; self.num_heads * dim];
        let head_dim = dim / self.num_heads;
        for (row, (q, k)) in self
            .cls_token
            .iter()
            .zip(self.k.chunks_exact(dim))
            .enumerate()
        {
            let head = row / head_dim * dim;
            add_scaled(&mut queries[head..head + dim], self.scale() * q, k);
        }
        queries
    }

    /// The logits of pictures.
    pub(super) fn logits(&self, input: Normalized<'_>, pictures: &[usize]) -> Vec<Vec<f32>> {
        let queries = self.queries();
        let mut logits = vec![Vec::new(); pictures.len()];
        let tasks = pictures.iter().copied().zip(&mut logits).collect();
        each(tasks, |(picture, logits)| {
            let x = input.read((picture, 0));
            let mut pass = Pass::default();
            pulp::Arch::new().dispatch(Work {
                probe: self,
                queries: &queries,
                x: &x,
                objective: None,
                pass: &mut pass,
            });
            *logits = pass.logits;
        });
        logits
    }

    /// The mean loss of a batch of pictures, each in one of its views; its gradient replaces what is in `gradients`.
    pub(super) fn gradients(
        &self,
        input: Normalized<'_>,
        objective: &Objective,
        batch: &[(usize, usize)],
        gradients: &mut Self,
    ) -> f32 {
        let dim = self.dim();
        let head_dim = dim / self.num_heads;
        let queries = self.queries();
        let mut passes: Vec<Pass> = batch.iter().map(|_| Pass::default()).collect();
        let tasks = batch.iter().copied().zip(&mut passes).collect();
        each(tasks, |(view, pass)| {
            let x = input.read(view);
            pulp::Arch::new().dispatch(Work {
                probe: self,
                queries: &queries,
                x: &x,
                objective: Some((objective, input.examples().labels()[view.0])),
                pass,
            });
        });

        // Row by row of each matrix, picture by picture: one order, whoever does it.
        let part = 1.0 / batch.len() as f32;
        let passes = &passes;
        let rows = gradients.linear.chunks_exact_mut(dim).enumerate();
        each(rows.collect(), |(class, row)| {
            row.fill(0.0);
            for pass in passes {
                add_scaled(row, part * pass.logits[class], &pass.values);
            }
        });
        let rows = gradients.v.chunks_exact_mut(dim).enumerate();
        each(rows.collect(), |(at, row)| {
            row.fill(0.0);
            let head = at / head_dim * dim;
            for pass in passes {
                add_scaled(
                    row,
                    part * pass.of_values[at],
                    &pass.pooled[head..head + dim],
                );
            }
        });
        let mut of_queries = vec![0.0; queries.len()];
        for pass in passes {
            add_scaled(&mut of_queries, part * self.scale(), &pass.of_queries);
        }
        let rows = self
            .k
            .chunks_exact(dim)
            .zip(gradients.k.chunks_exact_mut(dim));
        let tasks = rows.zip(&mut gradients.cls_token).enumerate();
        each(tasks.collect(), |(at, ((k, of_k), of_q))| {
            let head = at / head_dim * dim;
            let of_query = &of_queries[head..head + dim];
            *of_q = dot(k, of_query);
            of_k.fill(0.0);
            add_scaled(of_k, self.cls_token[at], of_query);
        });
        part * passes.iter().map(|pass| pass.loss).sum::<f32>()
    }
}

/// What one picture gives.
#[derive(Default)]
struct Pass {
    /// `[num_heads, dim]`, the tokens by their weights.
    pooled: Vec<f32>,
    /// `[dim]`
    values: Vec<f32>,
    /// `[classes]`, or the gradient by them.
    logits: Vec<f32>,
    /// Gradients: `[dim]`, and `[num_heads, dim]` but for the scale.
    of_values: Vec<f32>,
    of_queries: Vec<f32>,
    loss: f32,
}

/// One picture through the probe and, for a class, back.
struct Work<'a> {
    probe: &'a Attention,
    queries: &'a [f32],
    /// `[tokens, dim]`
    x: &'a [f32],
    objective: Option<(&'a Objective, usize)>,
    pass: &'a mut Pass,
}

impl WithSimd for Work<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Work {
            probe,
            queries,
            x,
            objective,
            pass,
        } = self;
        let dim = probe.dim();
        let head_dim = dim / probe.num_heads;
        let tokens = x.len() / dim;

        // Of each head, `[num_heads, tokens]`.
        let mut weights = vec![0.0; probe.num_heads * tokens];
        pass.pooled = vec![0.0; queries.len()];
        let heads = queries
            .chunks_exact(dim)
            .zip(weights.chunks_exact_mut(tokens))
            .zip(pass.pooled.chunks_exact_mut(dim));
        for ((query, weights), pooled) in heads {
            for (weight, x) in weights.iter_mut().zip(x.chunks_exact(dim)) {
                *weight = dot(query, x);
            }
            softmax(weights);
            for (weight, x) in weights.iter().zip(x.chunks_exact(dim)) {
                add_scaled(pooled, *weight, x);
            }
        }
        let values = probe.v.chunks_exact(dim).enumerate().map(|(at, row)| {
            let head = at / head_dim * dim;
            dot(row, &pass.pooled[head..head + dim])
        });
        pass.values = values.collect();
        let logits = probe.linear.chunks_exact(dim);
        pass.logits = logits.map(|row| dot(row, &pass.values)).collect();

        let Some((objective, class)) = objective else {
            return;
        };
        pass.loss = objective.gradient(&mut pass.logits, class);
        pass.of_values = vec![0.0; dim];
        for (of_logit, row) in pass.logits.iter().zip(probe.linear.chunks_exact(dim)) {
            add_scaled(&mut pass.of_values, *of_logit, row);
        }
        let mut of_pooled = vec![0.0; queries.len()];
        for (at, (of_value, row)) in pass
            .of_values
            .iter()
            .zip(probe.v.chunks_exact(dim))
            .enumerate()
        {
            let head = at / head_dim * dim;
            add_scaled(&mut of_pooled[head..head + dim], *of_value, row);
        }
        pass.of_queries = vec![0.0; queries.len()];
        let heads = of_pooled
            .chunks_exact(dim)
            .zip(weights.chunks_exact(tokens))
            .zip(pass.of_queries.chunks_exact_mut(dim));
        let mut of_weights = vec![0.0; tokens];
        for ((of_pooled, weights), of_query) in heads {
            for (of_weight, x) in of_weights.iter_mut().zip(x.chunks_exact(dim)) {
                *of_weight = dot(of_pooled, x);
            }
            // Through the softmax.
            let mean = dot(weights, &of_weights);
            let parts = weights.iter().zip(&of_weights).zip(x.chunks_exact(dim));
            for ((weight, of_weight), x) in parts {
                add_scaled(of_query, weight * (of_weight - mean), x);
            }
        }
    }
}
