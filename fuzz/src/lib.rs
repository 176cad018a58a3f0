//! What the fuzz targets share.
//!
//! | file | idea |
//! |---|---|
//! | [`checkpoint`] | the bytes of a checkpoint file, read in every way that there is |
//! | [`error`] | what an error has to be |
//! | [`memory`] | the limit that every input is read under |
//! | [`model`] | a model so small that thousands are read in a second, in files of every kind |
//! | [`server`] | that model on a server that behaves, or not, and in a cache |
//! | [`sink`] | what takes its tensors |
//! | [`time`] | the time that an input may take |
//! | [`picture`] | a picture's way to the tensor that a model reads |

pub mod checkpoint;
pub mod error;
pub mod memory;
pub mod model;
pub mod picture;
pub mod server;
pub mod sink;
pub mod time;
