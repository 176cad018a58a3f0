//! How good a head is on the pictures that were held out.

use super::head::HeadKind;
use super::objective::cross_entropy;

/// What training says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The head that was trained.
    pub head: HeadKind,
    /// Pictures in all.
    pub examples: usize,
    /// Pictures that were held out.
    pub held_out: usize,
    /// The share of those that got their class; nothing if none were held out.
    pub accuracy: Option<f64>,
    /// Their mean cross-entropy.
    pub loss: Option<f64>,
    /// Class by class.
    pub per_class: Vec<ClassReport>,
    /// `confusion[shown][named]`: how many held-out pictures of a class got each name.
    pub confusion: Vec<Vec<usize>>,
    /// Epoch by epoch.
    pub curve: Vec<Point>,
}

/// One class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassReport {
    /// Its name.
    pub label: String,
    /// Its pictures.
    pub examples: usize,
    /// Those that were held out.
    pub held_out: usize,
    /// Of those, the ones that got its name.
    pub right: usize,
    /// Their share.
    pub accuracy: Option<f64>,
}

/// Where training was after an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// From 1.
    pub epoch: usize,
    /// The mean loss of its batches, with smoothed labels and balanced classes.
    pub loss: f64,
    /// The mean cross-entropy of the pictures that were held out.
    pub held_out_loss: Option<f64>,
    /// The share of those that got their class.
    pub accuracy: Option<f64>,
}

/// What the held-out pictures were called.
#[derive(Clone, Debug)]
pub(super) struct Score {
    pub(super) confusion: Vec<Vec<usize>>,
    loss: f64,
    pictures: usize,
}

impl Score {
    pub(super) fn new(classes: usize) -> Self {
        Self {
            confusion: vec![vec![0; classes]; classes],
            loss: 0.0,
            pictures: 0,
        }
    }

    pub(super) fn add(&mut self, logits: &[f32], class: usize) {
        let named = logits
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))
            .map_or(0, |(named, _)| named);
        self.confusion[class][named] += 1;
        self.loss += f64::from(cross_entropy(logits, class, 0.0));
        self.pictures += 1;
    }

    pub(super) fn right(&self, class: usize) -> usize {
        self.confusion[class][class]
    }

    pub(super) fn accuracy(&self) -> Option<f64> {
        let right: usize = (0..self.confusion.len())
            .map(|class| self.right(class))
            .sum();
        share(right, self.pictures)
    }

    pub(super) fn loss(&self) -> Option<f64> {
        (self.pictures > 0).then(|| self.loss / self.pictures as f64)
    }
}

pub(super) fn share(part: usize, all: usize) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}
