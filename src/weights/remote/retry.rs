//! What to do about an answer that is no success: try again, and when.

use std::time::Duration;

/// How often a request is tried before its error is final.
pub const ATTEMPTS: u32 = 5;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// True for a status after which the same request may succeed.
pub const fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// How long to wait after attempt `attempt` (from 0) failed: what the server asks for in
/// `Retry-After`, else twice as long each time, less up to half of it by chance.
pub fn wait(attempt: u32, retry_after: Option<&str>, jitter: f64) -> Duration {
    let seconds = retry_after.and_then(|text| text.trim().parse().ok());
    if let Some(seconds) = seconds {
        return Duration::from_secs(seconds).min(LONGEST_WAIT);
    }
    let doubled = FIRST_WAIT.saturating_mul(1 << attempt.min(16));
    doubled
        .min(LONGEST_WAIT)
        .mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_vary() {
        assert_eq!(wait(0, None, 0.0), Duration::from_millis(250));
        assert_eq!(wait(2, None, 0.0), Duration::from_secs(1));
        assert_eq!(wait(2, None, 1.0), Duration::from_millis(500));
        assert_eq!(wait(40, None, 0.0), LONGEST_WAIT);
    }

    #[test]
    fn the_server_says_how_long() {
        assert_eq!(wait(0, Some("2"), 0.5), Duration::from_secs(2));
        assert_eq!(wait(0, Some("86400"), 0.0), LONGEST_WAIT);
        let date = wait(0, Some("Wed, 21 Oct 2026 07:28:00 GMT"), 0.0);
        assert_eq!(date, Duration::from_millis(250));
    }
}
