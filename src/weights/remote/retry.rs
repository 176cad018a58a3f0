//! What to do about an answer that is no success: try again, and when.

use std::time::Duration;

/// How often a request is tried before its error is final.
pub const ATTEMPTS: u32 = 5;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The longest wait that a server may ask for, in seconds. A server that asks for more is not
/// asked again: the error says when it may be.
pub const LONGEST_ASKED: u64 = 60;

/// True for a status after which the same request may succeed.
pub const fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// How long to wait after attempt `attempt` (from 0) failed: twice as long each time, less up to half
/// of it by chance, but no shorter than the server asks for in `Retry-After`.
///
/// # Errors
/// The seconds that it asks for, if they are over [`LONGEST_ASKED`].
pub fn wait(attempt: u32, retry_after: Option<&str>, jitter: f64) -> Result<Duration, u64> {
    let asked = retry_after.and_then(seconds).unwrap_or(0);
    if asked > LONGEST_ASKED {
        return Err(asked);
    }
    let doubled = FIRST_WAIT.saturating_mul(1 << attempt.min(16));
    let own = doubled
        .min(LONGEST_WAIT)
        .mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0));
    Ok(own.max(Duration::from_secs(asked)))
}

/// The seconds of a `Retry-After`. Its other form, a date, says as little as none: to compare it there
/// would have to be a clock, and one that agrees with the server's.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // More than fit are a long time too.
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_vary() {
        assert_eq!(wait(0, None, 0.0), Ok(Duration::from_millis(250)));
        assert_eq!(wait(2, None, 0.0), Ok(Duration::from_secs(1)));
        assert_eq!(wait(2, None, 1.0), Ok(Duration::from_millis(500)));
        assert_eq!(wait(40, None, 0.0), Ok(LONGEST_WAIT));
    }

    #[test]
    fn the_server_says_how_long() {
        assert_eq!(wait(0, Some("2"), 0.5), Ok(Duration::from_secs(2)));
        assert_eq!(wait(0, Some(" 60 "), 0.5), Ok(Duration::from_secs(60)));
        assert_eq!(wait(0, Some("61"), 0.0), Err(61));
        let many = "9".repeat(30);
        assert_eq!(wait(0, Some(&many), 0.0), Err(u64::MAX));
        // What says less than the back-off does not undercut it.
        for short in ["0", "-5", "", "+1", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            let wait = wait(3, Some(short), 0.0);
            assert_eq!(wait, Ok(Duration::from_secs(2)), "{short}");
        }
    }
}
