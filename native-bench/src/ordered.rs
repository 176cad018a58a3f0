//! Work over threads whose results come in order, with a bound on how far it runs ahead.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use aim_web::cpu::threads;
use aim_web::{Error, ErrorKind, Result};

/// What the threads share.
struct State<T> {
    /// The first item that nobody has begun.
    next: usize,
    /// The first item whose result was not taken yet.
    taken: usize,
    /// Results that wait for those before them.
    ready: BTreeMap<usize, T>,
    /// Nothing more is to be begun.
    is_over: bool,
    /// A thread is gone that had begun an item.
    is_broken: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something is ready, or a thread is gone.
    ready: Condvar,
    /// There is room to begin something, or nothing more to begin.
    room: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.room.notify_all();
    }
}

/// Ends everything when it is dropped by a panic.
struct Alarm<'a, T>(&'a Shared<T>);

impl<T> Drop for Alarm<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().is_broken = true;
            self.0.ready.notify_all();
            self.0.end();
        }
    }
}

/// Does `work` for each item on some threads, of which each computes by itself, and hands the results to `take` in the
/// order of the items. No item is begun that is `ahead` or more past the one that `take` waits for, so that the results
/// which wait are bounded.
///
/// # Errors
/// The first of `take`; then nothing more is begun. Kind `Unsupported` if the system gives no thread.
pub fn map<T: Send>(
    items: Range<usize>,
    threads: usize,
    ahead: usize,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let ahead = ahead.max(1);
    let end = items.end;
    let shared = Shared {
        state: Mutex::new(State {
            next: items.start,
            taken: items.start,
            ready: BTreeMap::new(),
            is_over: false,
            is_broken: false,
        }),
        ready: Condvar::new(),
        room: Condvar::new(),
    };
    let lane = || {
        let _alarm = Alarm(&shared);
        // If it can't be alone it is slower, no more.
        let _alone = threads::alone();
        loop {
            let mut state = shared.lock();
            while !state.is_over
                && state.next < end
                && state.next >= state.taken.saturating_add(ahead)
            {
                state = shared
                    .room
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_over || state.next >= end {
                return;
            }
            let item = state.next;
            state.next += 1;
            drop(state);
            let result = work(item);
            shared.lock().ready.insert(item, result);
            shared.ready.notify_all();
        }
    };
    thread::scope(|scope| {
        // However it ends, the threads end too.
        struct End<'a, T>(&'a Shared<T>);
        impl<T> Drop for End<'_, T> {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let _end = End(&shared);
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            thread::Builder::new()
                .spawn_scoped(scope, lane)
                .map_err(|error| {
                    Error::new(ErrorKind::Unsupported, "the system gives no thread")
                        .with_source(error)
                })?;
        }
        for item in items {
            let mut state = shared.lock();
            let result = loop {
                if let Some(result) = state.ready.remove(&item) {
                    break result;
                }
                if state.is_broken {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "a thread ended in the middle of its work: this is a fault of the program",
                    ));
                }
                state = shared
                    .ready
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            state.taken = item + 1;
            drop(state);
            shared.room.notify_all();
            take(item, result)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_and_work_stays_near() {
        let (begun, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |item: usize| {
            let far = begun.fetch_add(1, Ordering::SeqCst) + 1 - taken.load(Ordering::SeqCst);
            // Those that wait, and the one that is being taken.
            assert!(far <= 6, "{far}");
            thread::sleep(Duration::from_micros(if item.is_multiple_of(3) {
                300
            } else {
                10
            }));
            item * item
        };
        let mut all = Vec::new();
        map(10..200, 4, 5, work, |item, result| {
            assert_eq!(result, item * item);
            all.push(item);
            taken.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        assert_eq!(all, (10..200).collect::<Vec<_>>());
        map(3..3, 4, 5, |_| (), |_, ()| Ok(())).unwrap();
    }

    #[test]
    fn an_error_ends_it() {
        let begun = AtomicUsize::new(0);
        let work = |_| begun.fetch_add(1, Ordering::SeqCst);
        let error = map(0..1_000_000, 3, 8, work, |item, _| match item {
            5 => Err(Error::new(ErrorKind::Aborted, "enough")),
            _ => Ok(()),
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Aborted);
        assert!(begun.into_inner() <= 5 + 8 + 1);
    }
}
