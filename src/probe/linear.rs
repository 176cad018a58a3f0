//! Logistic regression on the mean of the tokens: the attention probe with a query of 0 and the tokens as values.

use pulp::{Simd, WithSimd};

use super::arithmetic::{add_scaled, dot};
use super::attention::Normalized;
use super::objective::Objective;
use super::parallel::each;
use super::training::AT_ONCE;

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
        let mut logits = biases.to_vec();
        pulp::Arch::new().dispatch(Product {
            rows,
            mean: self.mean(picture),
            logits: &mut logits,
        });
        logits
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
        for pictures in pictures.chunks(AT_ONCE) {
            // Of each picture its loss, and the gradient by its logits.
            let mut passes = vec![(0.0, Vec::new()); pictures.len()];
            let tasks = pictures.iter().zip(&mut passes).collect();
            each(tasks, |(&picture, (loss, of_logits))| {
                *of_logits = self.logits(picture);
                *loss = objective.gradient(of_logits, labels[picture]);
            });
            sum = passes.iter().fold(sum, |sum, (loss, _)| sum + loss);

            // Row by row, picture by picture: one order, whoever does it.
            let tasks = rows.chunks_exact_mut(self.dim).zip(&mut *biases);
            each(tasks.enumerate().collect(), |(class, (row, bias))| {
                let by = passes.iter().map(|(_, of_logits)| part * of_logits[class]);
                for by in by.clone() {
                    *bias += by;
                }
                pulp::Arch::new().dispatch(Sum {
                    means: pictures.iter().map(|&picture| self.mean(picture)).zip(by),
                    row,
                });
            });
        }
        part * sum
    }

    /// `[classes, dim]` and `[classes]`
    pub(super) fn into_parts(mut self) -> (Vec<f32>, Vec<f32>) {
        let biases = self.parameters.split_off(self.classes * self.dim);
        (self.parameters, biases)
    }
}

/// A product with a picture's mean token, added to its logits.
struct Product<'a> {
    /// `[classes, dim]`
    rows: &'a [f32],
    /// `[dim]`
    mean: &'a [f32],
    /// `[classes]`
    logits: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let rows = self.rows.chunks_exact(self.mean.len());
        for (logit, row) in self.logits.iter_mut().zip(rows) {
            *logit += dot(row, self.mean);
        }
    }
}

/// The mean tokens of pictures, each times a number, added to a row.
struct Sum<'a, I> {
    means: I,
    /// `[dim]`
    row: &'a mut [f32],
}

impl<'a, I: Iterator<Item = (&'a [f32], f32)>> WithSimd for Sum<'_, I> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (mean, by) in self.means {
            add_scaled(self.row, by, mean);
        }
    }
}

/// The mean token of each picture over its views, `[pictures, dim]`.
pub(super) fn means(input: Normalized<'_>) -> Vec<f32> {
    let examples = input.examples();
    let mut means = vec![0.0; examples.labels().len() * examples.dim()];
    let tasks = means.chunks_exact_mut(examples.dim()).enumerate();
    each(tasks.collect(), |(picture, mean)| {
        let views = examples.views(picture);
        let part = 1.0 / (views * examples.tokens()) as f32;
        for view in 0..views {
            for token in input.read((picture, view)).chunks_exact(examples.dim()) {
                add_scaled(mean, part, token);
            }
        }
    });
    means
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn a_batch_in_parts_is_the_batch() {
        let (dim, classes, pictures) = (20, 5, 2 * AT_ONCE + 3);
        let mut random = Random::new(1);
        let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| random.uniform()).collect() };
        let layer = Linear {
            means: values(pictures * dim),
            dim,
            parameters: values(classes * (dim + 1)),
            classes,
        };
        let labels: Vec<usize> = (0..pictures).map(|picture| picture % classes).collect();
        let objective = Objective::balanced(&[3, 1, 4, 1, 5], 0.1);
        let batch: Vec<usize> = (0..pictures).rev().collect();
        let mut gradients = vec![f32::NAN; layer.parameters.len()];
        let loss = layer.gradients(&labels, &objective, &batch, &mut gradients);

        // One picture after the other, to the last bit.
        let part = 1.0 / pictures as f32;
        let (mut sum, mut expected) = (0.0, vec![0.0; layer.parameters.len()]);
        let (rows, biases) = layer.parameters.split_at(classes * dim);
        for &picture in &batch {
            let mean = layer.mean(picture);
            let mut logits: Vec<f32> = rows
                .chunks(dim)
                .zip(biases)
                .map(|(row, bias)| dot(row, mean) + bias)
                .collect();
            assert_eq!(layer.logits(picture), logits);
            sum += objective.gradient(&mut logits, labels[picture]);
            for (class, of_logit) in logits.iter().enumerate() {
                let row = &mut expected[class * dim..(class + 1) * dim];
                add_scaled(row, part * of_logit, mean);
                expected[classes * dim + class] += part * of_logit;
            }
        }
        assert_eq!(loss, part * sum);
        assert_eq!(gradients, expected);
    }
}
