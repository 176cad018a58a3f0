//! The nearest mean of a class, by the Euclidean distance between mean tokens.
//!
//! `-t |x - m_c|² / 2` is, but for what is the same for all classes, `t m_c x - t |m_c|² / 2`: a linear layer with a bias.
//! How sure it is of a distance, `t`, is what makes the picture that is left out likeliest.

use super::attention::Normalized;
use super::linear::means;
use super::objective::cross_entropy;

/// The means of classes.
#[derive(Clone, Debug)]
pub(super) struct Nearest {
    /// The mean token of each picture, `[pictures, dim]`.
    pictures: Vec<f32>,
    /// `[classes, dim]`
    means: Vec<f32>,
    temperature: f32,
    dim: usize,
}

impl Nearest {
    /// Takes the means over some pictures.
    pub(super) fn new(input: Normalized<'_>, training: &[usize]) -> Self {
        let examples = input.examples();
        let (dim, labels) = (examples.dim(), examples.labels());
        let pictures = means(input);
        let mut sums = vec![0.0_f64; examples.classes().len() * dim];
        let mut counts = vec![0_usize; examples.classes().len()];
        for &picture in training {
            let class = labels[picture];
            counts[class] += 1;
            let own = &pictures[picture * dim..(picture + 1) * dim];
            for (sum, value) in sums[class * dim..].iter_mut().zip(own) {
                *sum += f64::from(*value);
            }
        }
        let mean = |sum: &f64, count: usize| (sum / count.max(1) as f64) as f32;
        let means: Vec<f32> = sums
            .chunks_exact(dim)
            .zip(&counts)
            .flat_map(|(sums, &count)| sums.iter().map(move |sum| mean(sum, count)))
            .collect();

        // The distances of each picture to the means, to that of its own class without it.
        let distances: Vec<(usize, Vec<f32>)> = training
            .iter()
            .map(|&picture| {
                let class = labels[picture];
                let own = &pictures[picture * dim..(picture + 1) * dim];
                let mut distances = distances(own, &means, dim);
                // With the picture in it, the mean of n is nearer by (n - 1) / n.
                let n = counts[class] as f32;
                if counts[class] > 1 {
                    distances[class] *= (n / (n - 1.0)) * (n / (n - 1.0));
                } else {
                    // Of one picture nothing can be left out: as far as the nearest of the others.
                    let others = distances
                        .iter()
                        .enumerate()
                        .filter(|(other, _)| *other != class);
                    distances[class] = others.map(|(_, d)| *d).fold(f32::INFINITY, f32::min);
                }
                (class, distances)
            })
            .collect();
        let loss = |temperature: f32| -> f32 {
            let losses = distances.iter().map(|(class, distances)| {
                let logits: Vec<f32> = distances.iter().map(|d| -0.5 * temperature * d).collect();
                cross_entropy(&logits, *class, 0.0) / counts[*class] as f32
            });
            losses.sum()
        };
        // Powers of two: distances of normalised means grow with the number of channels.
        let temperatures = (-20..=6).map(|power| f32::from_bits(((127 + power) as u32) << 23));
        let best = temperatures
            .map(|temperature| (loss(temperature), temperature))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        Self {
            pictures,
            means,
            temperature: best.map_or(1.0, |(_, temperature)| temperature),
            dim,
        }
    }

    pub(super) fn logits(&self, picture: usize) -> Vec<f32> {
        let own = &self.pictures[picture * self.dim..(picture + 1) * self.dim];
        let distances = distances(own, &self.means, self.dim);
        distances
            .into_iter()
            .map(|d| -0.5 * self.temperature * d)
            .collect()
    }

    /// `[classes, dim]` and `[classes]`
    pub(super) fn into_parts(self) -> (Vec<f32>, Vec<f32>) {
        let biases = self.means.chunks_exact(self.dim).map(|mean| {
            let squares: f64 = mean.iter().map(|&m| f64::from(m) * f64::from(m)).sum();
            (-0.5 * f64::from(self.temperature) * squares) as f32
        });
        let biases = biases.collect();
        let rows = self.means.iter().map(|mean| self.temperature * mean);
        (rows.collect(), biases)
    }
}

/// The squared distance to each mean.
fn distances(own: &[f32], means: &[f32], dim: usize) -> Vec<f32> {
    means
        .chunks_exact(dim)
        .map(|mean| own.iter().zip(mean).map(|(a, b)| (a - b) * (a - b)).sum())
        .collect()
}
