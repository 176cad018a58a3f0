//! `aim-bench`: AIM on this machine's CPU or GPU, from the command line.

mod args;
mod commands;
mod engine;
mod model;
mod output;
mod remote;
mod tensors;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Classify(args) => commands::classify::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Run(args) => commands::run::run(&args),
        Command::Preprocess(args) => commands::preprocess::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Parity(args) => commands::parity::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Synth(args) => commands::synth::run(&args),
        Command::Cache(args) => commands::cache::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", output::one_line(&error));
            ExitCode::FAILURE
        }
    }
}
