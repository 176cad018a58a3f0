//! Threads for the CPU build: web workers with an instance of their own on the same memory, which serve
//! rayon's pool.
//!
//! The half that starts the workers is `www/package/src/threads.ts`: only the package knows where its files
//! lie once a bundler has moved them.

use std::sync::{Condvar, Mutex, PoisonError};

use rayon::{ThreadBuilder, ThreadPoolBuilder};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use super::error::to_js;
use crate::error::Error;

/// Threads of the pool that no worker serves yet.
static WANTED: Mutex<Vec<ThreadBuilder>> = Mutex::new(Vec::new());
static THREAD_WANTED: Condvar = Condvar::new();

/// Serves the pool for as long as the worker lives. One worker is needed for each thread but the first.
#[wasm_bindgen(js_name = serveThread)]
pub fn serve_thread() {
    let mut wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = loop {
        match wanted.pop() {
            Some(thread) => break thread,
            None => {
                wanted = THREAD_WANTED
                    .wait(wanted)
                    .unwrap_or_else(PoisonError::into_inner)
            }
        }
    };
    drop(wanted);
    thread.run();
}

/// Makes the pool. The caller is its first thread, and returns once the others are served: it has to be a
/// worker, since the script of a page may not wait.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if there is a pool already.
#[wasm_bindgen(js_name = startThreads)]
pub fn start_threads(count: usize) -> Result<(), JsValue> {
    ThreadPoolBuilder::new()
        .num_threads(count)
        .use_current_thread()
        .spawn_handler(|thread| {
            let mut wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.push(thread);
            drop(wanted);
            THREAD_WANTED.notify_one();
            Ok(())
        })
        .build_global()
        .map_err(|error| {
            to_js(&Error::unsupported("the threads could not be started").with_source(error))
        })
}
