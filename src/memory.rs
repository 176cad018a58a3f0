//! How much memory there is to take, and vectors that take it or say that they can't.

use crate::error::{Error, ErrorKind, Result};

/// An empty vector with room for `len` values; `None` is more than an address reaches.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`] if they don't fit.
pub fn with_capacity<T>(len: Option<usize>) -> Result<Vec<T>> {
    let error = || Error::new(ErrorKind::OutOfMemory, "does not fit in memory");
    let len = len.ok_or_else(error)?;
    let mut values = Vec::new();
    values
        .try_reserve_exact(len)
        .map_err(|source| error().with_source(source))?;
    Ok(values)
}

/// Makes a vector `len` values long.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`] if they don't fit; `what` they are is in the message.
#[cfg_attr(not(feature = "cpu"), allow(dead_code))] // A GPU's memory is not ours.
pub fn resize<T: Clone + Default>(
    values: &mut Vec<T>,
    len: Option<usize>,
    what: &str,
) -> Result<()> {
    let error = || {
        Error::new(
            ErrorKind::OutOfMemory,
            format!("no memory for {what}: give smaller pictures, or fewer"),
        )
    };
    let len = len.ok_or_else(error)?;
    values
        .try_reserve(len.saturating_sub(values.len()))
        .map_err(|source| error().with_source(source))?;
    values.resize(len, T::default());
    Ok(())
}

/// The bytes that a vector holds, used or not.
#[cfg_attr(not(feature = "cpu"), allow(dead_code))] // A GPU's memory is not ours.
pub const fn bytes<T>(values: &Vec<T>) -> u64 {
    // In range: they lie in memory.
    (values.capacity() * size_of::<T>()) as u64
}

/// The bytes that this process may still take, swap and the limit of its container counted; `None` where nothing says
/// it, as in a browser.
///
/// An estimate, for errors that come before a system ends the process: memory is lent to more programs than there is
/// room for, so an allocation that can't be served need not fail.
#[cfg(not(target_family = "wasm"))]
pub fn available() -> Option<u64> {
    use sysinfo::{MemoryRefreshKind, RefreshKind, System};

    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
    let system = System::new_with_specifics(memory);
    if system.total_memory() == 0 {
        return None;
    }
    let machine = system.available_memory().saturating_add(system.free_swap());
    // What a container's files take can be taken back.
    let container = system.cgroup_limits().map(|limits| {
        let free = limits.total_memory.saturating_sub(limits.rss);
        free.saturating_add(limits.free_swap)
    });
    Some(container.map_or(machine, |container| container.min(machine)))
}

/// The bytes that this process may still take: nothing says it here.
#[cfg(target_family = "wasm")]
pub const fn available() -> Option<u64> {
    None
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use crate::error::ErrorKind;

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut values = vec![0_u64; 3];
        super::resize(&mut values, Some(5), "numbers").unwrap();
        assert_eq!(values.len(), 5);
        for len in [None, Some(usize::MAX), Some(1 << 58)] {
            let error = super::resize(&mut values, len, "numbers").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            assert!(error.to_string().contains("numbers"));
            assert_eq!(values.len(), 5);
        }
    }

    #[test]
    fn there_is_some() {
        let bytes = super::available().expect("every system that tests run on says it");
        assert!(bytes > 1 << 26, "{bytes}");
    }
}
