//! The nearest mean of a class, by the Euclidean distance between mean tokens.
//!
//! `-t |x - m_c|² / 2` is, but for what is the same for all classes, `t m_c x - t |m_c|² / 2`: a linear layer with a bias.
//! How sure it is of a distance, `t`, is what makes the picture that is left out likeliest.
//!
//! A picture that is the mean of its class, as the only one of a class is, can't be left out: it says nothing of how far
//! pictures of a class are from each other. If all are such, the distances between the classes are all there is, and `t` is what
//! the other heads would learn of them: what makes the pictures likeliest with [smoothed](SMOOTHING) labels.

use super::attention::Normalized;
use super::linear::means;
use super::objective::cross_entropy;
use super::parallel;

/// The share of the probability that goes to all classes alike, where nothing but that keeps the head from being too sure.
const SMOOTHING: f32 = 0.1;

/// Powers of two: distances of normalised means grow with the number of channels.
const TEMPERATURES: usize = 27;

fn temperatures() -> [f32; TEMPERATURES] {
    const SMALLEST: u32 = 127 - 20;
    std::array::from_fn(|power| f32::from_bits((SMALLEST + power as u32) << 23))
}

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

        let mut all = vec![Losses::default(); training.len()];
        let tasks = training.iter().zip(&mut all).collect();
        parallel::each(tasks, |(&picture, losses)| {
            let class = labels[picture];
            let own = &pictures[picture * dim..(picture + 1) * dim];
            *losses = Losses::of(distances(own, &means, dim), class, counts[class]);
        });
        let can_tell = all.iter().any(|losses| losses.is_left_out);
        let mut sums = [0.0; TEMPERATURES];
        for losses in all.iter().filter(|losses| losses.is_left_out == can_tell) {
            for (sum, loss) in sums.iter_mut().zip(losses.by_temperature) {
                *sum += loss;
            }
        }
        let best = sums
            .into_iter()
            .zip(temperatures())
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
        let mut logits = distances(own, &self.means, self.dim);
        for logit in &mut logits {
            *logit *= -0.5 * self.temperature;
        }
        logits
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

/// What a picture's class costs at each temperature; the classes count alike.
#[derive(Clone, Copy, Default)]
struct Losses {
    by_temperature: [f32; TEMPERATURES],
    /// Whether the picture was left out of its class's mean, with labels as they are.
    is_left_out: bool,
}

impl Losses {
    /// - `distances`: of the picture to each mean
    /// - `count`: pictures of its class
    fn of(mut distances: Vec<f32>, class: usize, count: usize) -> Self {
        let is_left_out = distances[class] > 0.0;
        let smoothing = if is_left_out {
            // With the picture in it, the mean of n is nearer by (n - 1) / n.
            let n = count as f32;
            distances[class] *= (n / (n - 1.0)) * (n / (n - 1.0));
            0.0
        } else {
            SMOOTHING
        };
        let mut logits = vec![0.0; distances.len()];
        let by_temperature = temperatures().map(|temperature| {
            for (logit, distance) in logits.iter_mut().zip(&distances) {
                *logit = -0.5 * temperature * distance;
            }
            cross_entropy(&logits, class, smoothing) / count as f32
        });
        Self {
            by_temperature,
            is_left_out,
        }
    }
}

/// The squared distance to each mean.
fn distances(own: &[f32], means: &[f32], dim: usize) -> Vec<f32> {
    means
        .chunks_exact(dim)
        .map(|mean| own.iter().zip(mean).map(|(a, b)| (a - b) * (a - b)).sum())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples::Examples;
    use super::super::random::Random;
    use super::*;
    use crate::config::Config;

    const DIM: usize = 8;

    /// Pictures of one token, each of a class.
    fn examples(pictures: &[(usize, [f32; DIM])]) -> Examples {
        let config = Config {
            img_size: [14, 14],
            patch_size: [14, 14],
            num_channels: 3,
            embed_dim: DIM,
            num_blocks: 1,
            num_heads: 2,
            num_classes: 1,
            probe_layers: vec![0],
            quantization: None,
        };
        let classes = pictures.iter().map(|(class, _)| class + 1).max().unwrap();
        let names: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
        let mut examples = Examples::new(&config, &names).unwrap();
        for (class, features) in pictures {
            examples.push(*class, features).unwrap();
        }
        examples
    }

    fn nearest(pictures: &[(usize, [f32; DIM])]) -> Nearest {
        let examples = examples(pictures);
        let all: Vec<usize> = (0..pictures.len()).collect();
        let input = Normalized::new(&examples, &[0.0; DIM], &[1.0; DIM]);
        Nearest::new(input, &all)
    }

    /// One picture of each class, anywhere.
    fn one_of_each(classes: usize, seed: u64) -> Vec<(usize, [f32; DIM])> {
        let mut random = Random::new(seed);
        let mut picture = || std::array::from_fn(|_| random.uniform());
        (0..classes).map(|class| (class, picture())).collect()
    }

    #[test]
    fn one_picture_a_class_makes_a_head_that_is_neither_sure_nor_blind() {
        for classes in [2, 3, 10] {
            for seed in 0..40 {
                let pictures = one_of_each(classes, seed);
                let nearest = nearest(&pictures);
                let losses = pictures.iter().enumerate().map(|(picture, (class, _))| {
                    cross_entropy(&nearest.logits(picture), *class, 0.0)
                });
                let mean = losses.sum::<f32>() / classes as f32;
                let probability = (-mean).exp();
                assert!(
                    (0.6..0.99).contains(&probability),
                    "{classes} classes, seed {seed}: {probability}"
                );
            }
        }
    }

    #[test]
    fn a_picture_that_is_there_twice_tells_no_more() {
        for seed in 0..10 {
            let once = one_of_each(3, seed);
            let twice = [&once[..], &once[..]].concat();
            assert_eq!(nearest(&once).temperature, nearest(&twice).temperature);
        }
    }

    #[test]
    fn a_class_of_one_picture_does_not_say_how_far_pictures_of_others_are_apart() {
        let mut random = Random::new(5);
        let mut near = |centre: f32| std::array::from_fn(|_| centre + random.uniform());
        let mut pictures: Vec<(usize, [f32; DIM])> = Vec::new();
        for class in 0..2 {
            pictures.extend((0..8).map(|_| (class, near(0.3 * class as f32))));
        }
        let without = nearest(&pictures).temperature;
        // So far that it takes no probability from the others.
        for distance in [60.0, -60.0] {
            let mut with = pictures.clone();
            with.push((2, [distance; DIM]));
            assert_eq!(nearest(&with).temperature, without);
        }
    }
}
