//! How results and errors are shown.

use std::error::Error as StdError;

use aim_web::{Error, Result};
use serde::Serialize;

/// An error and what lies below it, on one line.
pub fn one_line(error: &Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        let below_text = below.to_string();
        if !line.contains(&below_text) {
            line = format!("{line}: {below_text}");
        }
        source = below.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Prints a value as JSON.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Error::new(
            aim_web::ErrorKind::Format,
            format!("the result has no JSON form: {error}"),
        )
    })?;
    println!("{text}");
    Ok(())
}
