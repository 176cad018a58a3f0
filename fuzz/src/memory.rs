//! The limit that every input is read under.
//!
//! An allocation that passes it fails, as on a machine that has no more: what asks for memory so that it may be refused
//! goes on with an error, everything else ends the process, which is a finding.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all allocations together may take, in bytes. With the fuzzer's own memory it stays below 256 MB.
const MOST: usize = 160 << 20;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

struct Limited;

fn take(bytes: usize) -> bool {
    let before = TAKEN.fetch_add(bytes, Ordering::Relaxed);
    let fits = before.saturating_add(bytes) <= MOST;
    if !fits {
        TAKEN.fetch_sub(bytes, Ordering::Relaxed);
    }
    fits
}

// SAFETY: All is the system's, or refused.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: As the caller has it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: As the caller has it.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: As the caller has it.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: As the caller has it.
        let new = unsafe { System.realloc(pointer, layout, size) };
        let gone = if new.is_null() { size } else { layout.size() };
        TAKEN.fetch_sub(gone, Ordering::Relaxed);
        new
    }
}

#[global_allocator]
static LIMITED: Limited = Limited;
