//! How results and errors are shown.
//!
//! Nothing here panics: a reader that goes away (`aim-bench … | head`) ends the program quietly, a disk that is full
//! behind standard output is an error, and what can't be said on standard error is left unsaid.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind as IoErrorKind, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aim_web::{Error, ErrorKind, Result, is_deceptive};
use serde::Serialize;

use crate::files;

/// Set once standard output is for data alone.
static IS_DATA: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output, or to standard error where the former is for data: see [`reserve`].
macro_rules! say {
    ($($text:tt)*) => {
        $crate::output::write_line(format_args!($($text)*))
    };
}
pub(crate) use say;

/// Nobody reads standard output any more.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl StdError for Closed {}

/// True for the error of a standard output that nobody reads any more.
pub fn is_closed(error: &Error) -> bool {
    error.source().is_some_and(|source| source.is::<Closed>())
}

/// The error of writing to standard output.
pub fn unwritten(error: &io::Error) -> Error {
    if error.kind() == IoErrorKind::BrokenPipe {
        return Error::new(ErrorKind::Aborted, Closed.to_string()).with_source(Closed);
    }
    Error::new(ErrorKind::Format, format!("standard output: {error}"))
}

/// Keeps standard output for data, if that is where one of these options writes its own: what people are told goes to
/// standard error then.
///
/// # Errors
/// Kind `Option` if two of them would write there, or `--json`, given as `has_json`, beside one.
pub fn reserve(options: &[(&str, Option<&Path>)], has_json: bool) -> Result<()> {
    let mut names = options
        .iter()
        .filter(|(_, path)| path.is_some_and(files::is_standard_output))
        .map(|(name, _)| *name)
        .chain(has_json.then_some("--json"));
    match (names.next(), names.next()) {
        (Some(first), Some(second)) => Err(Error::new(
            ErrorKind::Option,
            format!(
                "{first} and {second} would both write to standard output: name a file for one of them"
            ),
        )),
        (Some(only), None) if only != "--json" => {
            IS_DATA.store(true, Ordering::Relaxed);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard output: see [`say!`].
pub fn write_line(text: fmt::Arguments<'_>) -> Result<()> {
    if IS_DATA.load(Ordering::Relaxed) {
        // As everything that is told there.
        let _ = writeln!(io::stderr(), "{text}");
        return Ok(());
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").map_err(|error| unwritten(&error))
}

/// Sees to it that all that was written is where it belongs.
pub fn flush() -> Result<()> {
    io::stdout().flush().map_err(|error| unwritten(&error))
}

/// Prints what clap says, help or an error; its exit code.
pub fn usage(error: &clap::Error) -> Result<u8> {
    let printed = error.print();
    if !error.use_stderr() {
        printed.map_err(|error| unwritten(&error))?;
        flush()?;
    }
    Ok(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Tells a person of an error.
pub fn error(error: &Error) {
    let _ = writeln!(io::stderr(), "error: {}", one_line(error));
}

/// Warns a person.
pub fn warn(message: &str) {
    let _ = writeln!(io::stderr(), "warning: {}", without_controls(message));
}

/// Tells a person something that is as it should be.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "note: {}", without_controls(message));
}

/// Tells a person how far something is.
pub fn plain(message: &str) {
    let _ = writeln!(io::stderr(), "{}", without_controls(message));
}

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
    without_controls(&line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A text whose control characters and deceptive marks are spelt out: the name of a file must not command a terminal.
pub fn without_controls(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// The first of some names.
pub fn some(names: impl ExactSizeIterator<Item = impl fmt::Display>) -> String {
    const MOST: usize = 8;
    let has_more = names.len() > MOST;
    let first: Vec<String> = names.take(MOST).map(|name| name.to_string()).collect();
    let more = if has_more { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

/// A value as JSON, for people.
pub fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| {
        Error::new(
            ErrorKind::Format,
            format!("the result has no JSON form: {error}"),
        )
    })
}

/// Prints a value as JSON.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    say!("{}", to_json(value)?)
}

/// A list in JSON whose entries are printed as they are ready.
pub struct JsonList {
    is_empty: bool,
}

impl JsonList {
    /// Nothing is printed before the first entry.
    pub const fn new() -> Self {
        Self { is_empty: true }
    }

    /// Prints an entry.
    pub fn push(&mut self, entry: &impl Serialize) -> Result<()> {
        let before = if self.is_empty { "[" } else { "," };
        self.is_empty = false;
        let entry = to_json(entry)?.replace('\n', "\n  ");
        let mut out = io::stdout().lock();
        write!(out, "{before}\n  {entry}")
            .and_then(|()| out.flush())
            .map_err(|error| unwritten(&error))
    }

    /// True once something was printed.
    pub const fn is_begun(&self) -> bool {
        !self.is_empty
    }

    /// Ends the list.
    pub fn end(self) -> Result<()> {
        say!("{}", if self.is_empty { "[]" } else { "\n]" })
    }
}
