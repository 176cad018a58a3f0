//! How good a head is on the pictures that were held out.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeSeq as _, Serializer};

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
    /// How many held-out pictures of a class got each name.
    pub confusion: Confusion,
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

/// How often pictures of each class got each name. Written as a table of all classes, row by row; kept as the entries that
/// are not 0, of which there are no more than pictures, where a table of 10,000 classes has a hundred million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// By what was shown, then by what it was named.
    counts: BTreeMap<(usize, usize), usize>,
}

impl Confusion {
    const fn new(classes: usize) -> Self {
        Self {
            classes,
            counts: BTreeMap::new(),
        }
    }

    /// How many pictures of a class got a name, both by their number.
    pub fn count(&self, shown: usize, named: usize) -> usize {
        self.counts.get(&(shown, named)).copied().unwrap_or(0)
    }

    /// What is not 0: `((shown, named), count)`, in this order.
    pub fn entries(&self) -> impl Iterator<Item = ((usize, usize), usize)> {
        self.counts.iter().map(|(&at, &count)| (at, count))
    }

    /// For each class that was shown, how many of its pictures got each name: `[classes]`.
    pub fn rows(&self) -> impl Iterator<Item = Vec<usize>> {
        (0..self.classes).map(move |shown| {
            let mut row = vec![0; self.classes];
            for (&(_, named), &count) in self.counts.range((shown, 0)..(shown + 1, 0)) {
                row[named] = count;
            }
            row
        })
    }
}

impl Serialize for Confusion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.classes))?;
        for row in self.rows() {
            rows.serialize_element(&row)?;
        }
        rows.end()
    }
}

/// What the held-out pictures were called.
#[derive(Clone, Debug)]
pub(super) struct Score {
    pub(super) confusion: Confusion,
    loss: f64,
    pictures: usize,
    right: usize,
}

impl Score {
    pub(super) const fn new(classes: usize) -> Self {
        Self {
            confusion: Confusion::new(classes),
            loss: 0.0,
            pictures: 0,
            right: 0,
        }
    }

    pub(super) fn add(&mut self, logits: &[f32], class: usize) {
        let named = logits
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))
            .map_or(0, |(named, _)| named);
        *self.confusion.counts.entry((class, named)).or_default() += 1;
        self.right += usize::from(named == class);
        self.loss += f64::from(cross_entropy(logits, class, 0.0));
        self.pictures += 1;
    }

    pub(super) fn accuracy(&self) -> Option<f64> {
        share(self.right, self.pictures)
    }

    pub(super) fn loss(&self) -> Option<f64> {
        (self.pictures > 0).then(|| self.loss / self.pictures as f64)
    }
}

pub(super) fn share(part: usize, all: usize) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_by_what_was_shown() {
        let mut score = Score::new(3);
        for (logits, class) in [
            ([2.0, 1.0, 0.0], 0),
            ([0.0, 1.0, 0.5], 0),
            ([0.0, 1.0, 0.5], 0),
            ([0.0, 0.0, 9.0], 2),
        ] {
            score.add(&logits, class);
        }
        assert_eq!(score.accuracy(), Some(0.5));
        let confusion = &score.confusion;
        let rows: Vec<_> = confusion.rows().collect();
        assert_eq!(rows, [[1, 2, 0], [0, 0, 0], [0, 0, 1]]);
        assert_eq!(
            serde_json::to_string(confusion).unwrap(),
            "[[1,2,0],[0,0,0],[0,0,1]]"
        );
        assert_eq!(confusion.count(0, 1), 2);
        assert_eq!(confusion.count(1, 0), 0);
        let entries: Vec<_> = confusion.entries().collect();
        assert_eq!(entries, [((0, 0), 1), ((0, 1), 2), ((2, 2), 1)]);
    }

    #[test]
    fn many_classes_take_no_more_than_their_pictures() {
        let mut score = Score::new(10_000);
        let mut logits = vec![0.0; 10_000];
        for picture in 0..20 {
            logits[picture] = 1.0 + picture as f32;
            score.add(&logits, picture / 2 * 2);
        }
        assert_eq!(score.confusion.counts.len(), 20);
        assert_eq!(score.accuracy(), Some(0.5));
    }
}
