//! What to do about an answer that is no success: try again, and when.

use std::time::Duration;

/// How often a request is tried before its error is final.
pub const ATTEMPTS: u32 = 5;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The longest wait that a server may ask for, in seconds: the hub counts requests over as many. A server that
/// asks for more is not asked again: the error says when it may be.
pub const LONGEST_ASKED: u64 = 300;

/// True for a status after which the same request may succeed.
pub const fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// How long to wait after attempt `attempt` (from 0) failed: twice as long each time, less up to half
/// of it by chance, but no shorter than the `after` seconds that the server asks for.
///
/// # Errors
/// The seconds that it asks for, if they are over [`LONGEST_ASKED`].
pub fn wait(attempt: u32, after: Option<u64>, jitter: f64) -> Result<Duration, u64> {
    let asked = after.unwrap_or(0);
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
pub fn seconds(retry_after: Option<&str>) -> Option<u64> {
    number(retry_after?)
}

/// The seconds after which a `RateLimit` such as `"resolvers";r=0;t=55` allows more requests; of several
/// limits, the last that is used up.
pub fn renewal(rate_limit: &str) -> Option<u64> {
    let limits = rate_limit.split(',').filter_map(|limit| {
        let parameter = |name: &str| {
            let mut parameters = limit.split(';').skip(1);
            parameters.find_map(|one| number(one.trim().strip_prefix(name)?))
        };
        let is_used_up = parameter("r=").is_none_or(|rest| rest == 0);
        parameter("t=").filter(|_| is_used_up)
    });
    limits.max()
}

fn number(text: &str) -> Option<u64> {
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
        let many = "9".repeat(30);
        let wait = |attempt, after, jitter| wait(attempt, seconds(Some(after)), jitter);
        assert_eq!(wait(0, "2", 0.5), Ok(Duration::from_secs(2)));
        assert_eq!(wait(0, " 300 ", 0.5), Ok(Duration::from_secs(300)));
        assert_eq!(wait(0, "301", 0.0), Err(301));
        assert_eq!(wait(0, &many, 0.0), Err(u64::MAX));
        // What says less than the back-off does not undercut it.
        for short in ["0", "-5", "", "+1", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(wait(3, short, 0.0), Ok(Duration::from_secs(2)), "{short}");
        }
    }

    #[test]
    fn a_limit_says_when_more_is_allowed() {
        for (limit, expected) in [
            (r#""resolvers";r=0;t=55"#, Some(55)),
            (
                r#""api";r=0;t=7, "pages";r=90;t=300, "resolvers"; r=0; t=55"#,
                Some(55),
            ),
            (r#""resolvers";t=12"#, Some(12)),
            (r#""resolvers";r=5;t=12"#, None),
            (r#""resolvers";r=0;t=-1"#, None),
            ("limit=100, remaining=0, reset=50", None),
            ("t=5", None),
            ("", None),
        ] {
            assert_eq!(renewal(limit), expected, "{limit}");
        }
    }
}
