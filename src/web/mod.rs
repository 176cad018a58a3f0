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
//! | `picture.rs` | JPEG files, decoded as natively |
//! | `promise.rs` | promises that settle even if Rust panics |
//! | `error.rs` | errors and progress as JavaScript objects |

mod backend;
mod cache;
mod classifier;
mod error;
mod fetch;
mod lesson;
mod options;
mod picture;
mod promise;
#[cfg(feature = "threads")]
mod threads;
mod timer;

pub use classifier::Classifier;
pub use picture::decode_jpeg;
#[cfg(feature = "threads")]
pub use threads::{serve_thread, start_threads};
