//! Random numbers from a seed.

use crate::random::SplitMix64;

/// Numbers and orders from random bits.
#[derive(Clone, Debug)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// From -1 to 1, evenly.
    pub(super) fn uniform(&mut self) -> f32 {
        (self.0.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// Below `n`, evenly but for 2^-64.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next()) * n as u128) >> 64) as usize
    }

    /// Any order of a list, as likely as the others.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_order_and_each_entry_once() {
        let shuffled = |seed| {
            let mut list: Vec<usize> = (0..100).collect();
            Random::new(seed).shuffle(&mut list);
            list
        };
        assert_eq!(shuffled(3), shuffled(3));
        assert_ne!(shuffled(3), shuffled(4));
        let mut sorted = shuffled(3);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }

    #[test]
    fn values_are_spread_evenly() {
        let mut random = Random::new(0);
        let values: Vec<f32> = (0..10_000).map(|_| random.uniform()).collect();
        assert!(values.iter().all(|value| (-1.0..1.0).contains(value)));
        let mean = values.iter().sum::<f32>() / 10_000.0;
        let below = values.iter().filter(|value| **value < -0.5).count();
        assert!(
            mean.abs() < 0.03 && (2300..2700).contains(&below),
            "{mean} {below}"
        );
    }
}
