//! A model on a server: fetched in chunks, only those that it runs, and straight to its device.
//!
//! | file | idea |
//! |---|---|
//! | [`hub`] | names and folders to URLs |
//! | [`transport`] | one HTTP request, whatever carries it out |
//! | `stall` | how long a server is waited for |
//! | [`retry`] | which failures pass, and how long to wait |
//! | [`client`] | files: retried, resumed, checked against what the server said before |
//! | [`listing`] | what the hub says a repository holds |
//! | [`cache`] | chunks that stay on this machine |
//! | `entries` | what a model has in the cache, and under which names |
//! | `record` | what a complete load read: all that is used without a server |
//! | [`repository`] | files: from the cache or the server, checked against what they have to be |
//! | [`plan`] | which chunks hold what the model needs |
//! | `stream` | one file: what it holds, then its tensors in chunks |
//! | [`progress`] | what a progress bar shows |
//! | [`model`] | all of it: a location to a model |
//! | `http`, `disk_cache` | natively: a transport by HTTP, and a cache on disk |

pub mod cache;
pub mod client;
#[cfg(not(target_family = "wasm"))]
pub mod disk_cache;
mod entries;
#[cfg(all(feature = "http", not(target_family = "wasm")))]
pub mod http;
pub mod hub;
pub mod listing;
pub mod model;
pub mod plan;
pub mod progress;
mod record;
pub mod repository;
pub mod retry;
#[cfg(any(
    feature = "http",
    all(target_family = "wasm", not(feature = "pictures"))
))]
pub mod stall;
mod stream;
pub mod transport;

pub use cache::{Cache, Store};
pub use hub::Location;
pub use model::{RemoteModel, Wanted};
pub use progress::{Event, Status};
pub use repository::Repository;
pub use transport::{Failure, Request, Response, Transport};
