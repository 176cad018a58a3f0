//! `AdamW`, and its rate over time.

use pulp::{Simd, WithSimd};

use super::arithmetic::cos_pi;
use super::parallel::each;

/// `AdamW` on some parameters.
///
/// Source: Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019.
#[derive(Clone, Debug)]
pub(super) struct AdamW {
    /// The means of the gradients, and of their squares.
    means: Vec<f32>,
    squares: Vec<f32>,
    weight_decay: f32,
    step: i32,
}

const BETAS: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// Parameters that a thread moves at a time: fewer are not worth handing over.
const PART: usize = 1 << 14;

impl AdamW {
    pub(super) fn new(parameters: usize, weight_decay: f32) -> Self {
        Self {
            means: vec![0.0; parameters],
            squares: vec![0.0; parameters],
            weight_decay,
            step: 0,
        }
    }

    /// Moves the parameters against their gradients.
    pub(super) fn step(&mut self, parameters: &mut [f32], gradients: &[f32], rate: f32) {
        self.step += 1;
        let [first, second] = BETAS.map(|beta| 1.0 - power(beta, self.step));
        let kept = 1.0 - rate * self.weight_decay;
        let rate = rate / first;
        let scale = 1.0 / second;
        let moments = self
            .means
            .chunks_mut(PART)
            .zip(self.squares.chunks_mut(PART));
        let parts = parameters.chunks_mut(PART).zip(gradients.chunks(PART));
        let parts = parts
            .zip(moments)
            .map(|((parameters, gradients), (means, squares))| Part {
                parameters,
                gradients,
                means,
                squares,
                kept,
                rate,
                scale,
            });
        each(parts.collect(), |part| pulp::Arch::new().dispatch(part));
    }
}

/// Some of the parameters, in a step.
struct Part<'a> {
    parameters: &'a mut [f32],
    gradients: &'a [f32],
    means: &'a mut [f32],
    squares: &'a mut [f32],
    /// What is left of a parameter by its decay.
    kept: f32,
    /// Of learning, with what corrects the means' start at 0.
    rate: f32,
    /// What corrects the start of the squares.
    scale: f32,
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Part {
            parameters,
            gradients,
            means,
            squares,
            kept,
            rate,
            scale,
        } = self;
        let moments = means.iter_mut().zip(squares);
        for ((parameter, gradient), (mean, square)) in
            parameters.iter_mut().zip(gradients).zip(moments)
        {
            *mean += (1.0 - BETAS[0]) * (gradient - *mean);
            *square += (1.0 - BETAS[1]) * (gradient * gradient - *square);
            *parameter = *parameter * kept - rate * *mean / ((*square * scale).sqrt() + EPSILON);
        }
    }
}

/// By squares, as `powi` is of no known precision.
fn power(base: f32, exponent: i32) -> f32 {
    let (mut result, mut square, mut rest) = (1.0_f64, f64::from(base), exponent);
    while rest > 0 {
        if rest % 2 == 1 {
            result *= square;
        }
        square *= square;
        rest /= 2;
    }
    result as f32
}

/// The rate at a step: up in the first twentieth of the steps, then down to 0 along a cosine.
pub(super) fn rate(peak: f32, step: usize, steps: usize) -> f32 {
    let warm = (steps / 20).max(1);
    if step < warm {
        return peak * (step + 1) as f32 / warm as f32;
    }
    let done = (step - warm) as f64 / (steps - warm).max(1) as f64;
    (f64::from(peak) * 0.5 * (1.0 + cos_pi(done))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_bottom_of_a_bowl() {
        let mut at = [3.0_f32, -2.0];
        let mut adam = AdamW::new(2, 0.0);
        for step in 0..500 {
            let gradients = [2.0 * (at[0] - 1.0), 20.0 * (at[1] - 0.5)];
            adam.step(&mut at, &gradients, rate(0.1, step, 500));
        }
        assert!(
            (at[0] - 1.0).abs() < 1e-3 && (at[1] - 0.5).abs() < 1e-3,
            "{at:?}"
        );
    }

    #[test]
    fn the_first_step_is_as_long_as_the_rate() {
        let mut at = [1.0, 1.0, 1.0];
        AdamW::new(3, 0.5).step(&mut at, &[7.0, -0.001, 0.0], 0.1);
        for (value, wanted) in at.into_iter().zip([0.85, 1.05, 0.95]) {
            assert!((value - wanted).abs() < 1e-3, "{at:?}");
        }
    }

    #[test]
    fn parts_are_moved_as_one_by_one() {
        let len = 2 * PART + 7;
        let value = |seed: usize, i: usize| ((i * 37 + seed * 101) % 1009) as f32 / 500.0 - 1.0;
        let start: Vec<f32> = (0..len).map(|i| value(0, i)).collect();
        let mut together = start.clone();
        let mut adam = AdamW::new(len, 0.3);
        let steps: Vec<Vec<f32>> = (1..4)
            .map(|seed| (0..len).map(|i| value(seed, i)).collect())
            .collect();
        for gradients in &steps {
            adam.step(&mut together, gradients, 0.01);
        }
        for i in (0..len).step_by(97).chain([PART - 1, PART, len - 1]) {
            let mut alone = [start[i]];
            let mut adam = AdamW::new(1, 0.3);
            for gradients in &steps {
                adam.step(&mut alone, &gradients[i..=i], 0.01);
            }
            assert_eq!(alone[0].to_bits(), together[i].to_bits(), "{i}");
        }
    }

    #[test]
    fn the_rate_rises_and_falls_to_nothing() {
        let rates: Vec<f32> = (0..=100).map(|step| rate(2.0, step, 100)).collect();
        assert!(rates[..5].is_sorted() && rates[5..].is_sorted_by(|a, b| a >= b));
        assert_eq!((rates[4], rates[5]), (2.0, 2.0));
        assert!(rates[100].abs() < 1e-6 && rates.iter().all(|rate| *rate >= 0.0));
        assert!(rate(1.0, 0, 1) == 1.0);
    }
}
