//! Work over threads. What a task writes is its own and no sum is cut between tasks, so the numbers are
//! the same however many threads there are.

#[cfg(feature = "cpu")]
use crate::cpu::threads;

/// Does the tasks, over threads where there are some.
pub(super) fn each<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    #[cfg(feature = "cpu")]
    // No task fails.
    let _ = threads::each(tasks, |task| {
        work(task);
        Ok(())
    });
    #[cfg(not(feature = "cpu"))]
    tasks.into_iter().for_each(work);
}
