//! Work shared out over threads: with the feature `threads` over rayon's pool, else all to the caller.

#[cfg(feature = "threads")]
use crate::error::Error;
use crate::error::Result;

/// The threads of the pool.
pub fn count() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    1
}

/// Makes the pool with so many threads; with 0 it has as many as `RAYON_NUM_THREADS` says, else as there are
/// cores. Without this rayon makes the same pool by itself, and panics where the system gives fewer threads.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if there is a pool already, or the system gives
/// no such number of threads.
#[cfg(feature = "threads")]
pub fn start(count: usize) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count);
    pool.build_global().map_err(|error| {
        let threads = match count {
            0 => "the threads that RAYON_NUM_THREADS asks for, else one for each core,".to_owned(),
            count => format!("{count} threads"),
        };
        Error::unsupported(format!(
            "{threads} could not be started: ask for fewer, and only once"
        ))
        .with_source(error)
    })
}

/// While this is there, the thread that made it computes by itself: where there are as many pictures as threads, one
/// picture a thread is quicker than all threads on one picture, which wait for each other.
#[cfg(feature = "threads")]
#[derive(Debug)]
pub struct Alone {
    _pool: rayon::ThreadPool,
}

/// Lets the calling thread, which must be of no pool, compute by itself. The numbers are the same.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the thread is of a pool.
#[cfg(feature = "threads")]
pub fn alone() -> Result<Alone> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread();
    match pool.build() {
        Ok(pool) => Ok(Alone { _pool: pool }),
        Err(error) => {
            Err(Error::unsupported("the thread belongs to a pool already").with_source(error))
        }
    }
}

/// Runs `work` on a thread of the pool, if it has several: from there tasks are shared out at less cost.
pub fn inside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    #[cfg(feature = "threads")]
    if count() > 1 {
        return rayon::scope(|_| work());
    }
    work()
}

/// Runs `work` for each task: the first error of any.
///
/// # Errors
/// What `work` returns.
pub fn each<T: Send>(tasks: Vec<T>, work: impl Fn(T) -> Result<()> + Sync + Send) -> Result<()> {
    #[cfg(feature = "threads")]
    if tasks.len() > 1 && count() > 1 {
        use rayon::iter::{
            IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _,
        };
        return tasks.into_par_iter().with_max_len(1).try_for_each(work);
    }
    tasks.into_iter().try_for_each(work)
}

/// The length of parts of `n` rows, of at most `most`, of which all threads get as many.
pub fn part(n: usize, most: usize, least: usize) -> usize {
    let threads = count();
    let rounds = n.div_ceil(most.saturating_mul(threads).max(1)).max(1);
    n.div_ceil(rounds.saturating_mul(threads)).max(least).max(1)
}
