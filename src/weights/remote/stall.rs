//! How long a server is waited for, and when a body that hardly comes counts as stalled.

use std::time::Duration;

/// Fewer bytes than this in [`Timeouts::stall`] are as good as none.
const LEAST: usize = 4096;

/// How long to wait, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For an answer to begin, and for the next 4 KiB of its body.
    pub stall: Duration,
    /// The longest wait before an attempt is made again. Servers are granted five minutes
    /// (`remote::retry`), so less than that is for tests.
    pub longest_wait: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            longest_wait: Duration::from_secs(300),
        }
    }
}

impl Timeouts {
    /// Why a request was given up.
    pub(crate) fn too_slow(&self) -> String {
        format!(
            "the server sent nothing, or hardly anything, for {} seconds",
            self.stall.as_secs_f32()
        )
    }
}

/// Watches a body arrive. Times are those since any one moment.
pub(crate) struct Window {
    stall: Duration,
    start: Duration,
    len: usize,
}

impl Window {
    /// Begins with a body that has `len` bytes.
    pub(crate) const fn new(timeouts: &Timeouts, now: Duration, len: usize) -> Self {
        Self {
            stall: timeouts.stall,
            start: now,
            len,
        }
    }

    /// Whether a body, which has `len` bytes now, hardly came for too long.
    pub(crate) fn is_stalled(&mut self, now: Duration, len: usize) -> bool {
        if now.saturating_sub(self.start) < self.stall {
            return false;
        }
        let came = len.saturating_sub(self.len);
        (self.start, self.len) = (now, len);
        came < LEAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_stalls_when_a_window_brings_next_to_nothing() {
        let second = Duration::from_secs;
        let mut window = Window::new(&Timeouts::default(), second(5), 100);
        assert!(!window.is_stalled(second(34), 101));
        assert!(!window.is_stalled(second(35), 100 + LEAST));
        assert!(!window.is_stalled(second(64), 100 + LEAST));
        assert!(window.is_stalled(second(65), 99 + 2 * LEAST));
    }
}
