//! Batch after batch by the clock.

use std::time::{Duration, Instant};

use aim_web::Result;

use crate::args::bench::Timing;

/// Batches that are timed where nobody asks for a number.
const LEAST: usize = 3;
const MOST: usize = 10_000;

/// What so many seconds come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
    pub count: usize,
}

impl Spread {
    /// Of an even number the median is the mean of the two in the middle. `None` of none.
    pub fn of(mut seconds: Vec<f64>) -> Option<Self> {
        seconds.sort_by(f64::total_cmp);
        let count = seconds.len();
        let (lowest, highest) = (*seconds.first()?, *seconds.last()?);
        let middle = [*seconds.get((count - 1) / 2)?, *seconds.get(count / 2)?];
        Some(Self {
            median: f64::midpoint(middle[0], middle[1]),
            lowest,
            highest,
            count,
        })
    }
}

impl Timing {
    /// Runs batches, the first ones untimed, and gives the seconds of the others. `begin` is called before the first
    /// that is timed.
    pub fn of(
        &self,
        mut batch: impl FnMut() -> Result<()>,
        begin: impl FnOnce(),
    ) -> Result<Vec<f64>> {
        for _ in 0..self.warmup {
            batch()?;
        }
        begin();
        let mut seconds = Vec::new();
        let start = Instant::now();
        let span = Duration::from_secs_f64(self.seconds);
        let wanted = self.runs.map(|runs| runs as usize);
        let is_enough = |count: usize| match wanted {
            Some(wanted) => count >= wanted,
            None => count >= MOST || (count >= LEAST && start.elapsed() >= span),
        };
        while !is_enough(seconds.len()) {
            let start = Instant::now();
            batch()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(Vec::new()), None);
        let spread = Spread::of(vec![5.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (spread.median, spread.lowest, spread.highest),
            (2.0, 1.0, 5.0)
        );
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
    }

    #[test]
    fn batches_are_counted_or_timed() {
        let ran = Cell::new(0);
        let batch = || {
            ran.set(ran.get() + 1);
            Ok(())
        };
        let mut timing = Timing {
            warmup: 2,
            runs: Some(5),
            seconds: 0.0,
        };
        let begun = Cell::new(None);
        let seconds = timing.of(batch, || begun.set(Some(ran.get()))).unwrap();
        assert_eq!((seconds.len(), ran.get(), begun.get()), (5, 7, Some(2)));
        timing.runs = None;
        assert_eq!(timing.of(batch, || ()).unwrap().len(), LEAST);
    }
}
