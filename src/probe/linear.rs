//! Logistic regression on the mean of the tokens: the attention probe with a query of 0 and the tokens as values.

use super::arithmetic::{add_scaled, dot};
use super::attention::Normalized;
use super::objective::Objective;

/// A vector for each picture, and how it tells the classes apart.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// The mean token of each picture, `[pictures, dim]`.
    means: Vec<f32>,
    dim: usize,
    /// `[classes, dim]`, and behind it `[classes]` biases.
    pub(super) parameters: Vec<f32>,
    classes: usize,
}

impl Linear {
    pub(super) fn new(input: Normalized<'_>) -> Self {
        let examples = input.examples();
        let dim = examples.dim();
        let classes = examples.classes().len();
        Self {
            means: means(input),
            dim,
            parameters: vec![0.0; classes * (dim + 1)],
            classes,
        }
    }

    fn mean(&self, picture: usize) -> &[f32] {
        &self.means[picture * self.dim..(picture + 1) * self.dim]
    }

    pub(super) fn logits(&self, picture: usize) -> Vec<f32> {
        let (rows, biases) = self.parameters.split_at(self.classes * self.dim);
        let mean = self.mean(picture);
        let rows = rows.chunks_exact(self.dim).zip(biases);
        rows.map(|(row, bias)| dot(row, mean) + bias).collect()
    }

    /// The mean loss of a batch; its gradient replaces what is in `gradients`.
    pub(super) fn gradients(
        &self,
        labels: &[usize],
        objective: &Objective,
        pictures: &[usize],
        gradients: &mut [f32],
    ) -> f32 {
        gradients.fill(0.0);
        let (rows, biases) = gradients.split_at_mut(self.classes * self.dim);
        let part = 1.0 / pictures.len() as f32;
        let mut sum = 0.0;
        for &picture in pictures {
            let mut logits = self.logits(picture);
            sum += objective.gradient(&mut logits, labels[picture]);
            let mean = self.mean(picture);
            for ((row, bias), of_logit) in rows
                .chunks_exact_mut(self.dim)
                .zip(&mut *biases)
                .zip(logits)
            {
                add_scaled(row, part * of_logit, mean);
                *bias += part * of_logit;
            }
        }
        part * sum
    }

    /// `[classes, dim]` and `[classes]`
    pub(super) fn into_parts(mut self) -> (Vec<f32>, Vec<f32>) {
        let biases = self.parameters.split_off(self.classes * self.dim);
        (self.parameters, biases)
    }
}

/// The mean token of each picture over its views, `[pictures, dim]`.
pub(super) fn means(input: Normalized<'_>) -> Vec<f32> {
    let examples = input.examples();
    let mut means = vec![0.0; examples.labels().len() * examples.dim()];
    for (picture, mean) in means.chunks_exact_mut(examples.dim()).enumerate() {
        let views = examples.views(picture);
        let part = 1.0 / (views * examples.tokens()) as f32;
        for view in 0..views {
            for token in input.read((picture, view)).chunks_exact(examples.dim()) {
                add_scaled(mean, part, token);
            }
        }
    }
    means
}
