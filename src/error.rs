//! One error for the whole library: a kind that a program can match on, and a message for a person.

use std::error::Error as StdError;
use std::fmt::Display;

/// What went wrong, in the terms of a caller who has to act on it.
///
/// The names are those of `AimError.code` in the npm package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A server could not be reached or failed. Trying again may help.
    Network,
    /// A file, a repository or a tensor is not there.
    NotFound,
    /// Bytes differ from the hash or length promised for them.
    Integrity,
    /// A checkpoint, a configuration or a label file breaks its format.
    Format,
    /// The input is well formed, but this build or this model can't do it.
    Unsupported,
    /// The model does not fit in memory.
    OutOfMemory,
    /// The device stopped, or there is none.
    DeviceLost,
    /// A picture can't be decoded.
    Image,
    /// An option or an argument has a value that makes no sense.
    Option,
    /// The classifier was used after it was disposed of.
    Disposed,
    /// The caller gave up. A browser sees the reason of its `AbortSignal` instead.
    Aborted,
}

impl ErrorKind {
    /// The name of the kind in `AimError.code`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::NotFound => "not_found",
            Self::Integrity => "integrity",
            Self::Format => "format",
            Self::Unsupported => "unsupported",
            Self::OutOfMemory => "out_of_memory",
            Self::DeviceLost => "device_lost",
            Self::Image => "image",
            Self::Option => "option",
            Self::Disposed => "disposed",
            Self::Aborted => "aborted",
        }
    }
}

/// The error of every fallible function of this crate.
///
/// Its message is one line that says what is wrong, where, and where possible what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message for a person.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Keeps the error below this one for programs that walk the chain.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says where it happened: `place: message`.
    pub fn at(mut self, place: impl Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The caller gave up.
    pub(crate) fn aborted() -> Self {
        Self::new(ErrorKind::Aborted, "the caller gave up")
    }

    /// What went wrong, for a program.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Adds the place of an error to a result.
pub(crate) trait At<T> {
    /// On error, puts `place: ` before the message.
    fn at(self, place: impl Display) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, place: impl Display) -> Self {
        self.map_err(|error| error.at(place))
    }
}

/// One short constructor a kind, for the kinds this crate raises often.
macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $(#[allow(dead_code)] // Not every build raises every kind.
            pub(crate) fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })*
        }
    };
}

constructors! {
    not_found => NotFound,
    format => Format,
    unsupported => Unsupported,
    device_lost => DeviceLost,
    image => Image,
    option => Option,
}

/// True for what would let the name of a file command a terminal, or lie in it: control characters, and marks that reorder
/// or hide text. The joiners that some scripts and emoji need are none.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text from a file made fit for a message: one line, no control characters, at most 200
/// characters.
pub fn printable(text: &str) -> String {
    const MOST: usize = 200;
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MOST {
            line.push('…');
            break;
        }
        if is_deceptive(c) {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_files_are_made_fit_for_a_terminal() {
        for (text, expected) in [
            ("Schnürschuh 👩‍🔧", "Schnürschuh 👩‍🔧"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("a\u{202e}b\u{1b}[2J", "a\\u{202e}b\\u{1b}[2J"),
            ("a\nb", "a\\u{a}b"),
        ] {
            assert_eq!(printable(text), expected);
        }
        assert_eq!(printable(&"x".repeat(300)).chars().count(), 201);
    }
}
