//! A model on a server: fetched in chunks, only those that it runs, and straight to its device.
//!
//! | file | idea |
//! |---|---|
//! | [`hub`] | names and folders to URLs |
//! | [`transport`] | one HTTP request, whatever carries it out |
//! | [`retry`] | which failures pass, and how long to wait |
//! | [`client`] | files: retried, resumed, checked against what the server said before |
//! | [`plan`] | which chunks hold what the model needs |
//! | [`progress`] | what a progress bar shows |
//! | [`model`] | all of it: a location to a model |

pub mod client;
pub mod hub;
pub mod model;
pub mod plan;
pub mod progress;
pub mod retry;
pub mod transport;

pub use hub::Location;
pub use model::RemoteModel;
pub use progress::{Event, Status};
pub use transport::{Failure, Request, Response, Transport};
