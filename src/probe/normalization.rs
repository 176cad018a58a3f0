//! The statistics of the head's batch norm.

use super::examples::Examples;
use crate::model::norm::EPSILON;

/// Mean and variance of each channel, over all tokens of the training part.
///
/// The reference trains with those of each batch and keeps a running average. Here all features are known before
/// training begins and don't change, so they are normalised by what that average tends to. Each class counts as much as
/// the others, however many pictures it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// `[dim]`
    pub mean: Vec<f32>,
    /// `[dim]`
    pub variance: Vec<f32>,
}

impl Normalization {
    /// Measures some of the pictures.
    ///
    /// - `weights`: of each class
    pub fn of(examples: &Examples, pictures: &[usize], weights: &[f32]) -> Self {
        let dim = examples.dim();
        let mut features = vec![0.0; examples.tokens() * dim];
        let mut sums = vec![(0.0_f64, 0.0_f64); dim];
        let mut total = 0.0;
        for &picture in pictures {
            let weight = f64::from(weights[examples.labels()[picture]]);
            let views = examples.views(picture);
            for view in 0..views {
                examples.read((picture, view), &mut features);
                for token in features.chunks_exact(dim) {
                    for ((sum, squares), &value) in sums.iter_mut().zip(token) {
                        let value = f64::from(value);
                        *sum += weight * value;
                        *squares += weight * value * value;
                    }
                }
            }
            total += weight * (views * examples.tokens()) as f64;
        }
        let moments = sums.into_iter().map(|(sum, squares)| {
            let mean = sum / total;
            let variance = (squares / total - mean * mean).max(0.0);
            (mean as f32, variance as f32)
        });
        let (mean, variance) = moments.unzip();
        Self { mean, variance }
    }

    /// What normalised values are multiplied with.
    pub(super) fn rates(&self) -> Vec<f32> {
        let rate = |&variance: &f32| (1.0 / (f64::from(variance) + EPSILON).sqrt()) as f32;
        self.variance.iter().map(rate).collect()
    }
}
