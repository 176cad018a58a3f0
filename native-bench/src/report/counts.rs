//! Counts that add up exactly, whoever counted what.

use aim_web::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Losses are added in units of 2^-28: sums of whole numbers are the same in any order, and in any number of parts.
const LOSS_UNITS: f64 = (1_u64 << 28) as f64;
/// Their squares, for the interval alone, in units of 2^-20.
const SQUARE_UNITS: f64 = (1_u64 << 20) as f64;

/// The loss and the square of a single picture are below so many of their units: sums of thousands of millions of them
/// still fit.
const MOST_UNITS: u64 = 1 << 56;

/// What the logits of one picture say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// How many classes are likelier than its own.
    pub above: usize,
    /// The likeliest class.
    pub predicted: usize,
    /// Its cross-entropy.
    pub loss: f64,
}

impl Score {
    /// Of equal logits that of the smaller class comes first.
    pub fn new(logits: &[f32], class: usize) -> Self {
        let own = logits.get(class).copied().unwrap_or(f32::NEG_INFINITY);
        let is_above =
            |(index, &logit): (usize, &f32)| logit > own || (logit == own && index < class);
        let above = logits
            .iter()
            .enumerate()
            .filter(|&logit| is_above(logit))
            .count();
        let mut predicted = 0;
        let mut most = f32::NEG_INFINITY;
        for (index, &logit) in logits.iter().enumerate() {
            if logit > most {
                (predicted, most) = (index, logit);
            }
        }
        let largest = f64::from(most);
        let sum: f64 = logits
            .iter()
            .map(|&logit| (f64::from(logit) - largest).exp())
            .sum();
        Self {
            above,
            predicted,
            loss: sum.ln() + largest - f64::from(own),
        }
    }
}

/// Counts over some pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Counts {
    pub pictures: u64,
    pub top_1: u64,
    pub top_5: u64,
    /// In [`LOSS_UNITS`].
    loss: u64,
    /// In [`SQUARE_UNITS`].
    loss_squares: u64,
}

/// The same in a file.
#[derive(Serialize, Deserialize)]
struct Stored {
    pictures: u64,
    top_1: u64,
    top_5: u64,
    /// The sum of the pictures' cross-entropies, for people: the exact sums follow.
    loss: Option<f64>,
    exact: Exact,
}

#[derive(Serialize, Deserialize)]
struct Exact {
    /// In units of 2^-28.
    loss: u64,
    /// In units of 2^-20.
    loss_squares: u64,
}

impl TryFrom<Stored> for Counts {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let counts = Self {
            pictures: stored.pictures,
            top_1: stored.top_1,
            top_5: stored.top_5,
            loss: stored.exact.loss,
            loss_squares: stored.exact.loss_squares,
        };
        if stored.loss.is_none_or(|loss| is_same(loss, counts.loss())) {
            Ok(counts)
        } else {
            Err("a class's `loss` is not its exact sum: the counts are damaged")
        }
    }
}

impl From<Counts> for Stored {
    fn from(counts: Counts) -> Self {
        Self {
            pictures: counts.pictures,
            top_1: counts.top_1,
            top_5: counts.top_5,
            loss: Some(counts.loss()),
            exact: Exact {
                loss: counts.loss,
                loss_squares: counts.loss_squares,
            },
        }
    }
}

impl Counts {
    /// Of one picture.
    ///
    /// # Errors
    /// Kind `Format` if its loss is no number that counts.
    pub fn of(score: &Score) -> Result<Self> {
        let units = |value: f64, units: f64| {
            let scaled = (value.max(0.0) * units).round();
            (scaled < MOST_UNITS as f64).then_some(scaled as u64)
        };
        let loss = units(score.loss, LOSS_UNITS);
        let squares = units(score.loss * score.loss, SQUARE_UNITS);
        let (Some(loss), Some(loss_squares)) = (loss, squares) else {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "a cross-entropy of {}: the model's weights are broken",
                    score.loss
                ),
            ));
        };
        Ok(Self {
            pictures: 1,
            top_1: u64::from(score.above < 1),
            top_5: u64::from(score.above < 5),
            loss,
            loss_squares,
        })
    }

    /// Adds others.
    ///
    /// # Errors
    /// Kind `Format` if a sum is too large, as of damaged files.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        for (own, other) in [
            (&mut self.pictures, other.pictures),
            (&mut self.top_1, other.top_1),
            (&mut self.top_5, other.top_5),
            (&mut self.loss, other.loss),
            (&mut self.loss_squares, other.loss_squares),
        ] {
            *own = own.checked_add(other).ok_or_else(|| {
                Error::new(
                    ErrorKind::Format,
                    "the counts are too large to be added: they are damaged",
                )
            })?;
        }
        Ok(())
    }

    /// True if there can be such pictures: damaged files have others.
    pub fn is_possible(&self) -> bool {
        let is_counted = self.top_1 <= self.top_5 && self.top_5 <= self.pictures;
        is_counted && self.are_losses_possible()
    }

    /// Whether so many numbers of at least 0 can have this sum, and their squares that one.
    fn are_losses_possible(&self) -> bool {
        let most = self.pictures.saturating_mul(MOST_UNITS - 1);
        if self.loss > most || self.loss_squares > most {
            return false;
        }
        let n = self.pictures as f64;
        let (sum, squares) = (self.loss(), self.squares());
        // Each picture's were rounded; and a hair for the sums here.
        let (off, off_square) = (n * 0.5 / LOSS_UNITS, n * 0.5 / SQUARE_UNITS);
        let is_at_most = |small: f64, large: f64| small <= large * (1.0 + PRECISION);
        // Of all that add up to a sum equal ones have the least squares, and a single one has the most.
        is_at_most((sum - off).max(0.0).powi(2), n * (squares + off_square))
            && is_at_most(squares - off_square, (sum + off).powi(2))
    }

    /// The sum of the cross-entropies.
    pub fn loss(&self) -> f64 {
        self.loss as f64 / LOSS_UNITS
    }

    /// The sum of their squares.
    fn squares(&self) -> f64 {
        self.loss_squares as f64 / SQUARE_UNITS
    }

    /// Their mean, if there is any.
    pub fn mean_loss(&self) -> Option<f64> {
        (self.pictures > 0).then(|| self.loss() / self.pictures as f64)
    }

    /// A count in percent of the pictures, if there are any.
    pub fn percent(&self, count: u64) -> Option<f64> {
        (self.pictures > 0).then(|| 100.0 * count as f64 / self.pictures as f64)
    }

    /// Wilson's interval of 95% for a count, in percent of the pictures, if there are any.
    pub fn interval(&self, count: u64) -> Option<[f64; 2]> {
        if self.pictures == 0 {
            return None;
        }
        let n = self.pictures as f64;
        let (p, z2) = (count as f64 / n, Z * Z);
        let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        Some([center - half, center + half].map(|bound| 100.0 * bound.clamp(0.0, 1.0)))
    }

    /// The interval of 95% for the mean cross-entropy, by its standard error, which one picture alone does not have.
    pub fn loss_interval(&self) -> Option<[f64; 2]> {
        let n = self.pictures as f64;
        let mean = self.mean_loss().filter(|_| self.pictures > 1)?;
        let squares = self.squares();
        let variance = ((squares - n * mean * mean) / (n - 1.0)).max(0.0);
        let half = Z * (variance / n).sqrt();
        Some([mean - half, mean + half])
    }
}

/// How far numbers that are the same may differ, by their size: a reader of decimals may miss the last bit.
const PRECISION: f64 = 1e-12;

/// Whether a file says a number as it has to be.
pub fn is_same(said: f64, is: f64) -> bool {
    (said - is).abs() <= is.abs() * PRECISION
}

/// Of the normal distribution 95% lie within so many standard deviations.
const Z: f64 = 1.959_963_984_540_054;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(scores: &[Score]) -> Counts {
        let mut sum = Counts::default();
        for score in scores {
            sum.add(&Counts::of(score).unwrap()).unwrap();
        }
        sum
    }

    #[test]
    fn counts_follow_the_rank_of_the_class() {
        let logits = [0.0, 3.0, 2.0, 1.0, 4.0, 5.0];
        let scores = [5, 1, 0].map(|class| Score::new(&logits, class));
        assert_eq!(scores.map(|score| score.predicted), [5, 5, 5]);
        let sum = counts(&scores);
        assert_eq!((sum.pictures, sum.top_1, sum.top_5), (3, 1, 2));
        let even = Score::new(&[1.0, 1.0], 0);
        assert!((even.loss - 2.0_f64.ln()).abs() < 1e-12);
        // What counts as right is what is predicted.
        for class in [0, 1] {
            let score = Score::new(&[1.0, 1.0], class);
            assert_eq!(score.above == 0, score.predicted == class);
        }
    }

    #[test]
    fn sums_are_the_same_in_any_order_and_in_files() {
        let scores: Vec<Score> = (1..200)
            .map(|i| Score {
                above: i % 7,
                predicted: i,
                loss: 1.0 / i as f64 + 0.1,
            })
            .collect();
        let whole = counts(&scores);
        let mut parts = counts(&scores[150..]);
        parts.add(&counts(&scores[..150])).unwrap();
        assert_eq!(whole, parts);
        let sum: f64 = scores.iter().map(|score| score.loss).sum();
        assert!((whole.loss() - sum).abs() < 200.0 / LOSS_UNITS);
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), whole);
        assert!(
            Counts::of(&Score {
                above: 0,
                predicted: 0,
                loss: 1e30
            })
            .is_err()
        );
        let most = Counts {
            pictures: u64::MAX,
            ..whole
        };
        assert!(parts.add(&most).is_err());
    }

    #[test]
    fn losses_are_what_so_many_pictures_can_have() {
        let loss = |loss| Score {
            above: 0,
            predicted: 0,
            loss,
        };
        // What is rounded up and down, all equal, and far apart.
        for losses in [
            &[][..],
            &[0.0],
            &[1e-9, 2e-9, 1e-5],
            &[6.91; 999],
            &[3.7e-9; 999],
            &[0.000_9; 999],
            &[0.0, 0.0, 250_000.0],
            &[262_143.9; 99],
        ] {
            let scores: Vec<Score> = losses.iter().map(|&own| loss(own)).collect();
            let sum = counts(&scores);
            assert!(sum.is_possible(), "{losses:?}");
            assert!(is_same(sum.loss() * (1.0 - f64::EPSILON), sum.loss()));
        }
        let two = counts(&[loss(1.0), loss(2.0)]);
        for (loss, loss_squares) in [
            (0, two.loss_squares),
            (two.loss, 0),
            (two.loss * 2, two.loss_squares),
            (two.loss / 2, two.loss_squares),
            (1 << 63, two.loss_squares),
            (two.loss, 1 << 63),
            (1 << 63, 1 << 63),
            (u64::MAX, u64::MAX),
        ] {
            let sum = Counts {
                loss,
                loss_squares,
                ..two
            };
            assert!(!sum.is_possible(), "{sum:?}");
        }
        // However many pictures they are said to be of.
        for pictures in [0, 1 << 20, 1 << 40] {
            let sum = Counts {
                pictures,
                loss: 1 << 63,
                ..two
            };
            assert!(!sum.is_possible(), "{sum:?}");
        }
        for other in [0.0, 3.000_001, -3.0, f64::NAN, f64::INFINITY] {
            assert!(
                is_same(3.0, two.loss()) && !is_same(other, two.loss()),
                "{other}"
            );
        }
    }

    #[test]
    fn intervals_are_those_of_the_books() {
        let ten = Counts {
            pictures: 10,
            top_1: 8,
            top_5: 10,
            ..Counts::default()
        };
        // Wilson, 8 of 10: 0.4902 to 0.9433; 10 of 10: 0.7225 to 1.
        let close = |got: Option<[f64; 2]>, expected: [f64; 2]| {
            got.unwrap()
                .iter()
                .zip(expected)
                .all(|(got, expected)| (got - expected).abs() < 0.01)
        };
        assert!(
            close(ten.interval(8), [49.02, 94.33]),
            "{:?}",
            ten.interval(8)
        );
        assert!(
            close(ten.interval(10), [72.25, 100.0]),
            "{:?}",
            ten.interval(10)
        );
        let loss = |loss| Score {
            above: 0,
            predicted: 0,
            loss,
        };
        // Mean 2, standard deviation 1, three of them.
        let three = counts(&[loss(1.0), loss(2.0), loss(3.0)]);
        let half = Z / 3.0_f64.sqrt();
        assert!(close(three.loss_interval(), [2.0 - half, 2.0 + half]));
        // Of none nothing is known, of one not how far others are from it.
        let none = Counts::default();
        assert_eq!((none.percent(0), none.mean_loss()), (None, None));
        assert_eq!((none.interval(0), none.loss_interval()), (None, None));
        let one = counts(&[loss(1.0)]);
        assert_eq!((one.mean_loss(), one.loss_interval()), (Some(1.0), None));
    }
}
