//! How far a command is: a bar where somebody watches, else a line now and then.

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::Show;
use crate::output;

/// How often a line of progress is written where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress over a known number of things, on standard error.
pub struct Progress {
    /// What is counted, in the plural.
    things: &'static str,
    bar: ProgressBar,
    is_bar: bool,
    lines: Option<Lines>,
    total: u64,
    began: Instant,
    /// How many were done before.
    before: u64,
    state: RefCell<State>,
}

#[derive(Clone, Copy)]
struct Lines {
    /// Also one at the begin and one at the end.
    all: bool,
}

struct State {
    done: u64,
    last_line: Instant,
    /// What a line says besides the count.
    note: String,
}

impl Progress {
    /// Begins to show progress over `total` things, of which some were done in an earlier run.
    pub fn new(show: Show, things: &'static str, total: u64, done: u64) -> Self {
        let is_watched = std::io::stderr().is_terminal();
        let is_bar = show == Show::Bar || (show == Show::Auto && is_watched);
        let lines = match show {
            Show::Lines => Some(Lines { all: true }),
            Show::Auto if !is_bar => Some(Lines { all: false }),
            _ => None,
        };
        let target = if is_bar {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template =
            format!("{{bar:30}} {{pos}} of {{len}} {things}, {{per_sec}}, {{eta}} left{{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            let style = style.with_key(
                "per_sec",
                |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = write!(out, "{:.1}/s", state.per_sec());
                },
            );
            bar.set_style(style);
        }
        let now = Instant::now();
        bar.set_position(done);
        bar.reset_eta();
        let progress = Self {
            things,
            bar,
            is_bar,
            lines,
            total,
            began: now,
            before: done,
            state: RefCell::new(State {
                done,
                last_line: now,
                note: String::new(),
            }),
        };
        if lines.is_some_and(|lines| lines.all) {
            output::plain(&progress.line());
        }
        progress
    }

    /// So many more are done. `note` is shown behind the counts, such as `top-1 71.3%`.
    pub fn advance(&self, by: u64, note: &str) {
        let mut state = self.state.borrow_mut();
        state.done = state.done.saturating_add(by);
        note.clone_into(&mut state.note);
        let is_due = self.lines.is_some() && state.last_line.elapsed() >= LINE_EVERY;
        if is_due {
            state.last_line = Instant::now();
        }
        let (done, message) = (state.done, with_comma(&state.note));
        drop(state);
        if self.is_bar {
            self.bar.set_message(message);
            self.bar.set_position(done);
        }
        if is_due {
            output::plain(&self.line());
        }
    }

    /// Does something that writes to standard error, without the bar in its way.
    pub fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }

    /// Takes the bar away.
    pub fn end(self) {
        self.bar.finish_and_clear();
        if self.lines.is_some_and(|lines| lines.all) {
            output::plain(&self.line());
        }
    }

    fn line(&self) -> String {
        let state = self.state.borrow();
        let seconds = self.began.elapsed().as_secs_f64();
        let here = state.done.saturating_sub(self.before);
        let mut line = format!("{} of {} {}", state.done, self.total, self.things);
        if here > 0 && seconds > 0.0 {
            let speed = here as f64 / seconds;
            let left = self.total.saturating_sub(state.done) as f64 / speed;
            line.push_str(&format!(", {speed:.1}/s, {} left", duration(left)));
        }
        line.push_str(&with_comma(&state.note));
        line
    }
}

fn with_comma(note: &str) -> String {
    if note.is_empty() {
        String::new()
    } else {
        format!(", {note}")
    }
}

/// A time for a person.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_counts_and_notes() {
        let progress = Progress::new(Show::Off, "pictures", 200, 50);
        assert_eq!(progress.line(), "50 of 200 pictures");
        progress.advance(25, "top-1 80.0%");
        let line = progress.line();
        assert!(line.starts_with("75 of 200 pictures, "), "{line}");
        assert!(line.ends_with(" left, top-1 80.0%"), "{line}");
        progress.end();
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!(duration(7.4), "7 s");
        assert_eq!(duration(75.0), "1 min 15 s");
        assert_eq!(duration(7320.0), "2 h 2 min");
    }
}
