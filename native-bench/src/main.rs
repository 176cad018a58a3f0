//! `aim-bench`: AIM on this machine's CPU or GPU, from the command line.

#![warn(clippy::print_stderr, clippy::print_stdout)] // They panic: see `output`.

mod args;
mod bench;
mod commands;
mod curve;
mod data;
mod drivers;
mod engine;
mod features;
mod files;
mod host;
mod inference;
mod model;
mod ordered;
mod output;
mod pictures;
mod progress;
mod remote;
mod report;
mod tensors;
mod world;
mod xml;

use std::process::ExitCode;

use aim_web::Result;
use args::{Args, Command};
use commands::Outcome;

/// As a shell reports a program that a closed pipe ended.
const CLOSED: u8 = 128 + 13;

fn main() -> ExitCode {
    let code = match Args::of_process() {
        Ok(args) => run(args.command).map(|outcome| match outcome {
            Outcome::Complete => ExitCode::SUCCESS,
            Outcome::Incomplete => ExitCode::FAILURE,
        }),
        Err(usage) => output::usage(&usage).map(ExitCode::from),
    };
    code.unwrap_or_else(|error| {
        if output::is_closed(&error) {
            return ExitCode::from(CLOSED);
        }
        output::error(&error);
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<Outcome> {
    let outcome = match command {
        Command::Classify(args) => commands::classify::run(&args)?,
        Command::Eval(args) => commands::eval::run(&args)?,
        Command::Merge(args) => commands::merge::run(&args)?,
        Command::Features(args) => commands::features::run(&args)?,
        Command::Run(args) => commands::run::run(&args)?.into(),
        Command::Preprocess(args) => commands::preprocess::run(&args)?.into(),
        Command::Inspect(args) => commands::inspect::run(&args)?.into(),
        Command::Parity(args) => commands::parity::run(&args)?.into(),
        Command::Convert(args) => commands::convert::run(&args)?.into(),
        Command::Train(args) => commands::train::run(&args)?,
        Command::Synth(args) => commands::synth::run(&args)?.into(),
        Command::Bench(args) => commands::bench::run(&args)?,
        Command::BenchModel(args) => commands::bench_model::run(&args)?.into(),
        Command::BenchPeak(args) => commands::bench_peak::run(&args)?.into(),
        Command::Devices(args) => commands::devices::run(&args)?.into(),
        Command::Cache(args) => commands::cache::run(&args)?.into(),
    };
    output::flush()?;
    Ok(outcome)
}
