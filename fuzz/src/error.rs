//! What an error has to be.

use aim_web::{Error, ErrorKind, Result};

/// The longest message, in bytes: it quotes a name or two of a file.
const MOST: usize = 3000;

/// The value, if there is one; an error has to be a line for a person, of a kind that bad input can have.
///
/// # Panics
/// If it is not.
pub fn checked<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(check).ok()
}

/// # Panics
/// If the error is none for a person.
pub fn check(error: &Error) {
    let text = error.to_string();
    assert!(
        text.len() > 10 && text.len() < MOST,
        "{} bytes: {text:?}",
        text.len()
    );
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(
        !matches!(
            error.kind(),
            ErrorKind::Aborted | ErrorKind::DeviceLost | ErrorKind::Disposed
        ),
        "{error:?}"
    );
}
