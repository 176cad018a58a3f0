//! A part of the benchmark in a process of its own: this program again, that writes lines of JSON.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Command, ExitStatus, Stdio};
use std::{env, process, thread};

use aim_web::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::output::say;

/// Set for a part: its standard input is a pipe that is closed when whoever waits for it is gone, in whatever way.
const IS_PART: &str = "AIM_BENCH_PART";

/// Ends this process, which is a part, with the one that waits for it.
///
/// # Errors
/// Kind `DeviceLost` if there is no thread to look out for that.
pub fn end_with_parent() -> Result<()> {
    if env::var_os(IS_PART).is_none() {
        return Ok(());
    }
    let watch = || {
        let mut input = io::stdin().lock();
        let mut byte = [0];
        // Nothing is ever written to it.
        while input.read_exact(&mut byte).is_ok() {}
        process::exit(1);
    };
    let watching = thread::Builder::new().spawn(watch);
    watching.map(drop).map_err(|error| unreadable(&error))
}

/// Runs this program with other arguments, and passes on what it writes, line by line. What it tells people they see.
pub fn run<T: DeserializeOwned>(
    args: Vec<OsString>,
    mut sink: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::DeviceLost,
            format!("the process that measures could not be started: {error}"),
        )
    };
    let program = env::current_exe().map_err(|error| failed(&error))?;
    let mut child = Command::new(program)
        .args(args)
        .env(IS_PART, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    // Waiting would close it.
    let _alive = child.stdin.take();
    let mut result = Ok(());
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = match line {
                Ok(line) => line,
                Err(error) => {
                    result = Err(unreadable(&error));
                    break;
                }
            };
            let parsed = serde_json::from_str(&line).map_err(|error| unreadable(&error));
            if let Err(error) = parsed.and_then(&mut sink) {
                // Nobody wants the rest.
                let _ = child.kill();
                result = Err(error);
                break;
            }
        }
    }
    let status = child.wait().map_err(|error| unreadable(&error))?;
    result?;
    if status.success() {
        return Ok(());
    }
    Err(ended(status))
}

/// Writes a line for the process that waits for it.
pub fn tell(value: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(value).map_err(|error| unreadable(&error))?;
    say!("{line}")
}

fn unreadable(error: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::DeviceLost,
        format!("the process that measures gave no answer: {error}"),
    )
}

/// The error of a process that ended before its work did.
fn ended(status: ExitStatus) -> Error {
    // What ends a process from outside is mostly a system without memory.
    let killed = status.code().is_none();
    let kind = if killed {
        ErrorKind::OutOfMemory
    } else {
        ErrorKind::DeviceLost
    };
    let advice = if killed {
        ", perhaps for want of memory: take a smaller batch or fewer bits"
    } else {
        ""
    };
    Error::new(
        kind,
        format!("the process that measures ended by {status}{advice}"),
    )
}
