//! What the benchmarks time with.

use std::time::Instant;

/// Of one run.
pub fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// The middle one of `values`, NaN of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs all in turns, so that what else the machine does falls on all of them: the median of each.
pub fn in_turns<const N: usize>(rounds: usize, mut runs: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (times, run) in times.iter_mut().zip(&mut runs) {
            times.push(seconds(run));
        }
    }
    times.map(median)
}
