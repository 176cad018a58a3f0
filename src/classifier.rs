//! The way of a picture: crop, normalise, model, softmax, labels.

use std::sync::Arc;

use image::RgbImage;
use serde::Serialize;

use crate::engine::{Engine, HostTensor};
use crate::error::{Error, Result};
use crate::image::Preprocessor;
use crate::labels::Labels;
use crate::probe::HeadFile;

/// A class that a picture may show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The name of the class.
    pub label: String,
    /// The softmax of its logit among all classes, from 0 to 1.
    pub score: f32,
    /// The number of the class, from 0.
    pub index: usize,
}

/// A model with what surrounds it: pictures in, names out.
#[derive(Clone)]
pub struct Classifier {
    engine: Arc<dyn Engine>,
    preprocessor: Preprocessor,
    labels: Labels,
}

impl Classifier {
    /// Joins a model and its labels.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the model does not take square
    /// pictures of three colours.
    pub fn new(engine: Box<dyn Engine>, labels: Labels) -> Result<Self> {
        let config = engine.config();
        let [height, width] = config.img_size;
        if height != width || config.num_channels != 3 {
            return Err(Error::unsupported(format!(
                "pictures are cut to a square of three colours, but the model takes {} channels of {height}x{width}",
                config.num_channels
            )));
        }
        Ok(Self {
            preprocessor: Preprocessor::new(height)?,
            engine: engine.into(),
            labels,
        })
    }

    /// The same trunk under a head that was taught on it.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if it was taught on another trunk, or is read at other layers or sizes of picture.
    pub fn with_head(&self, file: &HeadFile) -> Result<Self> {
        Ok(Self {
            engine: file.on(self.engine())?.into(),
            labels: file.labels.clone(),
            ..self.clone()
        })
    }

    /// The model inside.
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// The names of the classes.
    pub const fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The side of the square that pictures are cut to, in pixels.
    pub const fn img_size(&self) -> usize {
        self.preprocessor.img_size()
    }

    /// The `top_k` likeliest classes of a picture, the likeliest first.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub async fn classify(&self, picture: &RgbImage, top_k: usize) -> Result<Vec<Prediction>> {
        let logits = self.logits(self.images(picture)).await?;
        Ok(predictions(&logits, &self.labels, top_k))
    }

    /// The logits of preprocessed pictures, one a class, picture after picture.
    ///
    /// # Shapes
    /// - `images`: `[n, 3, height, width]`
    ///
    /// # Errors
    /// [`ErrorKind::DeviceLost`](crate::ErrorKind::DeviceLost) if the device stops;
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if the weights give logits that are not
    /// finite.
    pub async fn logits(&self, images: HostTensor) -> Result<Vec<f32>> {
        let logits = self
            .engine
            .logits_and_features(images, &[])
            .await?
            .logits
            .values;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::format(
                "the model's logits are not finite: its weights are broken or too large for this precision",
            ));
        }
        Ok(logits)
    }

    /// Crops and normalises a picture.
    ///
    /// # Shapes
    /// - output: `[1, 3, img_size, img_size]`
    pub fn images(&self, picture: &RgbImage) -> HostTensor {
        self.batch_of_one(self.preprocessor.tensor(picture))
    }

    /// Crops and normalises packed rows of red, green, blue and alpha, which is dropped.
    ///
    /// # Shapes
    /// - output: `[1, 3, img_size, img_size]`
    ///
    /// # Errors
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if the picture has no pixels, [`ErrorKind::Option`](crate::ErrorKind::Option) if `rgba` isn't `4 * width * height` bytes long.
    pub fn images_of_rgba(&self, rgba: &[u8], width: usize, height: usize) -> Result<HostTensor> {
        let values = self.preprocessor.tensor_rgba(rgba, width, height)?;
        Ok(self.batch_of_one(values))
    }

    fn batch_of_one(&self, values: Vec<f32>) -> HostTensor {
        let size = self.img_size();
        HostTensor {
            shape: vec![1, 3, size, size],
            values,
        }
    }
}

/// The `top_k` likeliest classes; of equals the one with the smaller number comes first.
///
/// `logits` are finite and as many as `labels`.
pub fn predictions(logits: &[f32], labels: &Labels, top_k: usize) -> Vec<Prediction> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = logits
        .iter()
        .map(|&logit| f64::from(logit - largest).exp())
        .collect();
    let sum: f64 = exponentials.iter().sum();

    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order
        .into_iter()
        .take(top_k)
        .map(|index| Prediction {
            label: labels.get(index).unwrap_or_default().to_owned(),
            score: (exponentials[index] / sum) as f32,
            index,
        })
        .collect()
}
