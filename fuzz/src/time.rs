//! The time that an input may take.

use std::time::Duration;

use cpu_time::ThreadTime;

const MOST: Duration = Duration::from_secs(1);

/// An input that is being read.
#[derive(Debug)]
pub struct Watch(ThreadTime);

/// Begins; when what is returned is dropped, a second of the processor must not have passed. A fuzzer's own limit counts
/// the time on the wall, which says nothing on a busy machine.
#[must_use]
pub fn watch() -> Watch {
    Watch(ThreadTime::now())
}

impl Drop for Watch {
    fn drop(&mut self) {
        let took = self.0.elapsed();
        assert!(took < MOST || std::thread::panicking(), "{took:?}");
    }
}
