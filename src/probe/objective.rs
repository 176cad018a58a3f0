//! What is made small: cross-entropy with smoothed labels and balanced classes.

use super::arithmetic::softmax;

/// The loss of a picture's logits, and how it changes with them.
#[derive(Clone, Debug)]
pub struct Objective {
    /// The share of the probability that goes to all classes alike.
    pub smoothing: f32,
    /// What the loss of each class counts, 1 in the mean over pictures.
    pub weights: Vec<f32>,
}

impl Objective {
    /// Classes count alike, however many pictures each has in the training part.
    pub fn balanced(counts: &[usize], smoothing: f32) -> Self {
        let all: usize = counts.iter().sum();
        let weight = |&count: &usize| all as f32 / (counts.len() * count.max(1)) as f32;
        Self {
            smoothing,
            weights: counts.iter().map(weight).collect(),
        }
    }

    /// The loss, and in place of the logits its gradient.
    pub fn gradient(&self, logits: &mut [f32], class: usize) -> f32 {
        let weight = self.weights[class];
        let loss = weight * cross_entropy(logits, class, self.smoothing);
        softmax(logits);
        let even = self.smoothing / logits.len() as f32;
        for (other, logit) in logits.iter_mut().enumerate() {
            let wanted = even
                + if other == class {
                    1.0 - self.smoothing
                } else {
                    0.0
                };
            *logit = weight * (*logit - wanted);
        }
        loss
    }
}

/// `-Σ y_c log p_c` for a label that is smoothed. Only shown to people, so the system's logarithm will do.
pub(super) fn cross_entropy(logits: &[f32], class: usize, smoothing: f32) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - most).exp())
        .sum();
    let log_sum = sum.ln() as f32 + most;
    let own = log_sum - logits[class];
    let mean = log_sum - logits.iter().sum::<f32>() / logits.len() as f32;
    (1.0 - smoothing) * own + smoothing * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let objective = Objective::balanced(&[2, 6, 4], 0.1);
        assert_eq!(objective.weights, [2.0, 12.0 / 18.0, 1.0]);
        let logits = [0.3, -1.2, 0.7];
        let mut gradient = logits;
        objective.gradient(&mut gradient, 1);
        for at in 0..3 {
            let loss = |step: f32| {
                let mut moved = logits;
                moved[at] += step;
                objective.gradient(&mut moved, 1)
            };
            let slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!((slope - gradient[at]).abs() < 1e-4, "{slope} {gradient:?}");
        }
    }
}
