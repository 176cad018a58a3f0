//! The pictures of a data set through a model: decoded on all cores ahead of it, results in order.
//!
//! ```text
//! GPU:  read, decode, crop on every core → a bounded queue → batches → the device
//! CPU:  read, decode, crop and the model, a picture a core
//! ```
//!
//! On a CPU a picture a core beats all cores on a batch: cores that share a picture wait for each other three times a
//! block. The logits are the same to the last bit either way.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use aim_web::classifier::Classifier;
use aim_web::device::Device;
use aim_web::engine::HostTensor;
use aim_web::{Error, ErrorKind, Result};

use crate::args::Exif;
use crate::data::DataSet;
use crate::ordered;

/// A model, the pictures it is to see, and how.
pub struct Inference<'a> {
    pub data: &'a DataSet,
    pub classifier: &'a Classifier,
    pub device: &'a Device,
    pub exif: Exif,
    /// How many pictures a GPU takes at a time.
    pub batch_size: usize,
    pub threads: usize,
}

/// What comes of one picture.
pub struct Output {
    /// Its row of what the model gives.
    pub values: Vec<f32>,
    /// Its EXIF orientation was ignored.
    pub not_turned: bool,
}

/// A picture ready for the model.
struct Prepared {
    /// `[3, size, size]`
    values: Vec<f32>,
    not_turned: bool,
}

impl Inference<'_> {
    /// Runs `compute` on the pictures, `[n, 3, size, size]` to n rows, and hands each row to `take` in their order; of
    /// a picture that can't be read, why.
    ///
    /// # Errors
    /// Those of `compute` and `take`.
    pub fn run(
        &self,
        pictures: Range<usize>,
        compute: &(dyn Fn(HostTensor) -> Result<HostTensor> + Sync),
        take: &mut dyn FnMut(usize, Result<Output>) -> Result<()>,
    ) -> Result<()> {
        if self.device.is_gpu() {
            self.in_batches(pictures, compute, take)
        } else {
            self.a_picture_a_core(pictures, compute, take)
        }
    }

    fn a_picture_a_core(
        &self,
        pictures: Range<usize>,
        compute: &(dyn Fn(HostTensor) -> Result<HostTensor> + Sync),
        take: &mut dyn FnMut(usize, Result<Output>) -> Result<()>,
    ) -> Result<()> {
        // The outer error ends the run, the inner one is the picture's own.
        let work = |picture: usize| -> Result<Result<Output>> {
            let prepared = match self.prepare(picture) {
                Ok(prepared) => prepared,
                Err(error) => return Ok(Err(error)),
            };
            let not_turned = prepared.not_turned;
            let output = compute(self.batch(vec![prepared.values]))?;
            Ok(Ok(Output {
                values: output.values,
                not_turned,
            }))
        };
        ordered::map(
            pictures,
            self.threads,
            4 * self.threads,
            work,
            |picture, result| take(picture, result?),
        )
    }

    fn in_batches(
        &self,
        pictures: Range<usize>,
        compute: &(dyn Fn(HostTensor) -> Result<HostTensor> + Sync),
        take: &mut dyn FnMut(usize, Result<Output>) -> Result<()>,
    ) -> Result<()> {
        let end = pictures.end;
        let mut waiting: Vec<(usize, Result<Prepared>)> = Vec::new();
        let mut good = 0;
        // While the device has one batch, the next is made ready.
        let ahead = self.batch_size.saturating_mul(2).max(self.threads);
        ordered::map(
            pictures,
            self.threads,
            ahead,
            |picture| self.prepare(picture),
            |picture, prepared| {
                good += usize::from(prepared.is_ok());
                waiting.push((picture, prepared));
                // Broken ones are not held back until there are good ones.
                let is_full = good >= self.batch_size || waiting.len() >= ahead;
                if !is_full && picture + 1 < end {
                    return Ok(());
                }
                good = 0;
                self.flush(std::mem::take(&mut waiting), compute, take)
            },
        )
    }

    /// Runs a batch, and hands over its pictures.
    fn flush(
        &self,
        pictures: Vec<(usize, Result<Prepared>)>,
        compute: &(dyn Fn(HostTensor) -> Result<HostTensor> + Sync),
        take: &mut dyn FnMut(usize, Result<Output>) -> Result<()>,
    ) -> Result<()> {
        let mut inputs = Vec::new();
        let mut outcomes = Vec::new();
        for (picture, prepared) in pictures {
            let outcome = prepared.map(|Prepared { values, not_turned }| {
                inputs.push(values);
                not_turned
            });
            outcomes.push((picture, outcome));
        }
        let count = inputs.len();
        let output = if count == 0 {
            Vec::new()
        } else {
            compute(self.batch(inputs))?.values
        };
        let mut rows = output.chunks_exact((output.len() / count.max(1)).max(1));
        for (picture, outcome) in outcomes {
            let outcome = outcome.map(|not_turned| Output {
                values: rows.next().unwrap_or_default().to_vec(),
                not_turned,
            });
            take(picture, outcome)?;
        }
        Ok(())
    }

    fn batch(&self, mut pictures: Vec<Vec<f32>>) -> HostTensor {
        let size = self.classifier.img_size();
        let shape = vec![pictures.len(), 3, size, size];
        let values = if pictures.len() == 1 {
            pictures.pop().unwrap_or_default()
        } else {
            pictures.concat()
        };
        HostTensor { shape, values }
    }

    fn prepare(&self, picture: usize) -> Result<Prepared> {
        let prepare = || -> Result<Prepared> {
            let read = self.data.read(picture, self.exif)?;
            Ok(Prepared {
                values: self.classifier.images(&read.pixels).values,
                not_turned: read.ignored.is_some(),
            })
        };
        // Among millions of pictures there is one that its decoder did not expect.
        catch_unwind(AssertUnwindSafe(prepare)).unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Image,
                format!(
                    "{}: its decoder stopped: a fault of the program",
                    self.data.name(picture)
                ),
            ))
        })
    }
}
