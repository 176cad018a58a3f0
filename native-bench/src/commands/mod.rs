//! One file a subcommand.

pub mod bench;
pub mod bench_model;
pub mod bench_peak;
pub mod cache;
pub mod classify;
pub mod convert;
pub mod devices;
pub mod eval;
pub mod features;
pub mod inspect;
pub mod merge;
pub mod parity;
pub mod preprocess;
pub mod run;
pub mod synth;
pub mod train;

/// How a command ended that had no error of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All was done.
    Complete,
    /// Some of it was not, which was reported.
    Incomplete,
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Complete
    }
}
