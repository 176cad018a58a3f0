//! The face of the library in a browser and at the edge: thin, without logic that native code could
//! share.
//!
//! | file | idea |
//! |---|---|
//! | `classifier.rs` | the class that JavaScript sees |
//! | `lesson.rs` | training a head of one's own |
//! | `backend.rs` | the one backend of this build |
//! | `options.rs` | JavaScript's options to Rust's |
//! | `fetch.rs` | HTTP by the page's `fetch` |
//! | `cache.rs` | chunks in the browser's Cache API |
//! | `timer.rs` | waiting |
//! | `threads.rs` | workers that share the memory, for rayon's pool |
//! | `picture.rs` | files of pictures, decoded as natively |
//! | `promise.rs` | promises that settle even if Rust panics |
//! | `error.rs` | errors and progress as JavaScript objects |

// Pictures alone use a little of what the modules share.
#![cfg_attr(feature = "pictures", allow(dead_code))]

#[cfg(not(feature = "pictures"))]
mod backend;
#[cfg(not(feature = "pictures"))]
mod cache;
#[cfg(not(feature = "pictures"))]
mod classifier;
mod error;
#[cfg(not(feature = "pictures"))]
mod fetch;
#[cfg(not(feature = "pictures"))]
mod lesson;
#[cfg(not(feature = "pictures"))]
mod options;
mod picture;
mod promise;
#[cfg(feature = "threads")]
mod threads;
#[cfg(not(feature = "pictures"))]
mod timer;

#[cfg(not(feature = "pictures"))]
pub use classifier::Classifier;
#[cfg(not(feature = "pictures"))]
pub use picture::decode_jpeg;
#[cfg(feature = "pictures")]
pub use picture::decode_picture;
#[cfg(feature = "threads")]
pub use threads::{serve_thread, start_threads};
