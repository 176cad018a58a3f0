//! A part of `aim-bench bench`: the fastest products of a device.

use std::time::Instant;

use aim_web::Result;
use aim_web::device::peak;
use pollster::block_on;

use crate::args::bench::BenchPeak;
use crate::bench::child;
use crate::engine;

/// Writes the operations a second.
pub fn run(args: &BenchPeak) -> Result<()> {
    child::end_with_parent()?;
    engine::start_threads(args.threads.unwrap_or_default().into())?;
    let device = engine::open_named(args.target)?;
    let start = Instant::now();
    let clock = || start.elapsed().as_secs_f64();
    child::tell(&block_on(peak::flops(&device, args.dtype.into(), &clock))?)
}
