//! A probe of one's own: classes taught from pictures, on a trunk that stays as it is.
//!
//! A picture's features are computed once, kept as bytes, and are all that training sees. Three heads can be
//! trained on them, and each becomes a head of AIM, so that every program that runs AIM runs it.
//!
//! | file | idea |
//! |---|---|
//! | [`examples`] | pictures as the features that a probe reads, and the classes they show |
//! | `split` | the part of each class that is held out |
//! | [`normalization`] | the statistics of the head's batch norm, over the training part |
//! | [`objective`] | the loss: cross-entropy with smoothed labels and balanced classes |
//! | [`attention`] | the attention probe and its gradients |
//! | `linear` | logistic regression on the mean of the tokens |
//! | `mean` | the nearest mean of a class |
//! | `optimizer` | `AdamW`, and its rate over time |
//! | [`training`] | all of it, step by step |
//! | [`report`] | how good it is on what was held out |
//! | [`head`] | what comes out: the tensors of a head |
//! | [`compact`] | the same function in fewer numbers, for a link |
//! | [`mod@file`] | a head as a file that knows its trunk |
//! | `folder` | natively: a model's folder of it |
//! | `arithmetic`, `random` | sums, exponentials and random numbers that are the same on every machine |
//! | `parallel` | work over threads, with the same numbers however many there are |
//!
//! Source: section 4.2 and appendix B of the paper, which trains the attention probe on the frozen trunk with `AdamW` and a
//! cosine schedule.

mod arithmetic;
pub mod attention;
pub mod compact;
pub mod examples;
pub mod file;
#[cfg(not(target_family = "wasm"))]
mod folder;
pub mod head;
mod linear;
mod mean;
pub mod normalization;
pub mod objective;
mod optimizer;
mod parallel;
mod random;
pub mod report;
mod split;
pub mod training;

pub use examples::Examples;
pub use file::{HeadFile, Trunk};
#[cfg(not(target_family = "wasm"))]
pub use folder::HeadFolder;
pub use head::{Head, HeadKind};
pub use report::{ClassReport, Confusion, Report};
pub use training::{Options, Progress, Training};
