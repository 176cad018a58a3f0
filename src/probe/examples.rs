//! Pictures as the features that a probe reads, and the classes they show.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::arithmetic::widen;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result, printable};

/// The most classes of a lesson.
const MOST_CLASSES: usize = 10_000;

/// The longest name of a class, in bytes.
const LONGEST_NAME: usize = 1000;

/// The features of pictures: for each the mean of the probed layers, in 16-bit floats, and the class that it shows.
///
/// 64 tokens of 192 channels are 24 KB. All of them are kept, as attention weighs tokens anew in every step.
#[derive(Clone, Debug)]
pub struct Examples {
    classes: Vec<String>,
    dim: usize,
    num_heads: usize,
    /// Tokens of each picture.
    tokens: usize,
    /// Of each picture its views, each `[tokens, dim]`: the picture itself, then what was added.
    pictures: Vec<Vec<Vec<f16>>>,
    labels: Vec<usize>,
}

impl Examples {
    /// No pictures yet of these classes, for the trunk that `config` describes.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if there are fewer than two classes, two are called alike, or one has no name.
    pub fn new(config: &Config, classes: &[String]) -> Result<Self> {
        if classes.len() < 2 {
            return Err(Error::option(format!(
                "{} to tell apart: give pictures of two classes or more, one may be `none of these`",
                if classes.is_empty() {
                    "there are no classes"
                } else {
                    "there is one class, and nothing"
                }
            )));
        }
        if classes.len() > MOST_CLASSES {
            return Err(Error::option(format!(
                "{} classes, over the limit of {MOST_CLASSES}",
                classes.len()
            )));
        }
        let classes: Vec<String> = classes.iter().map(|name| name.trim().to_owned()).collect();
        for (nth, name) in classes.iter().enumerate() {
            if name.is_empty() || name.len() > LONGEST_NAME {
                return Err(Error::option(format!(
                    "class {nth} needs a name of 1 to {LONGEST_NAME} bytes"
                )));
            }
            let before = &classes[..nth];
            if let Some(other) = before.iter().find(|other| other.eq_ignore_ascii_case(name)) {
                return Err(Error::option(format!(
                    "two classes are called alike, {:?} and {:?}: give them different names, or put their pictures \
                     together",
                    printable(other),
                    printable(name)
                )));
            }
        }
        let [height, width] = config.img_size;
        let [rows, columns] = config.grid(height, width)?;
        Ok(Self {
            classes,
            dim: config.embed_dim,
            num_heads: config.num_heads,
            tokens: rows * columns,
            pictures: Vec::new(),
            labels: Vec::new(),
        })
    }

    /// Adds a picture of a class.
    ///
    /// # Shapes
    /// - `features`: `[tokens, dim]`
    ///
    /// # Errors
    /// As [`push_halves`](Self::push_halves), and [`ErrorKind::Unsupported`] for values over the range of 16-bit floats.
    pub fn push(&mut self, class: usize, features: &[f32]) -> Result<()> {
        self.push_halves(class, halves(features)?)
    }

    /// Adds a picture of a class whose features are in 16-bit floats already.
    ///
    /// # Shapes
    /// - `features`: `[tokens, dim]`
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if there is no such class, or the features are of another trunk;
    /// [`ErrorKind::OutOfMemory`].
    pub fn push_halves(&mut self, class: usize, features: Vec<f16>) -> Result<()> {
        if class >= self.classes.len() {
            return Err(Error::option(format!(
                "there is no class {class}: there are {}",
                self.classes.len()
            )));
        }
        self.check_features(&features)?;
        let number = self.labels.len() + 1;
        let full = |source| {
            Error::new(
                ErrorKind::OutOfMemory,
                format!("no memory for the features of picture {number}: take fewer pictures"),
            )
            .with_source(source)
        };
        self.labels.try_reserve(1).map_err(full)?;
        self.pictures.try_reserve(1).map_err(full)?;
        self.labels.push(class);
        self.pictures.push(vec![features]);
        Ok(())
    }

    /// Adds another view of the last picture, such as its mirror image. Views are in the part of their picture, and one
    /// that is held out is judged by its first.
    ///
    /// # Shapes
    /// - `features`: `[tokens, dim]`
    ///
    /// # Errors
    /// As [`push`](Self::push), and if there is no picture.
    pub fn push_view(&mut self, features: &[f32]) -> Result<()> {
        let halves = halves(features)?;
        self.check_features(&halves)?;
        match self.pictures.last_mut() {
            Some(views) => {
                views.push(halves);
                Ok(())
            }
            None => Err(Error::option("a view needs a picture before it")),
        }
    }

    fn check_features(&self, features: &[f16]) -> Result<()> {
        if features.len() != self.tokens * self.dim || !features.iter().all(|half| half.is_finite())
        {
            return Err(Error::option(format!(
                "features of a picture are {} finite numbers for this model, {} tokens of {} channels, and these are {}: \
                 they are of another one",
                self.tokens * self.dim,
                self.tokens,
                self.dim,
                features.len()
            )));
        }
        Ok(())
    }

    /// Whether each class has the pictures to learn from it, and one to hold out if that is asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] naming the first class that has not.
    pub(super) fn check(&self, least: usize) -> Result<()> {
        let counts = self.counts();
        match counts.iter().position(|&count| count < least) {
            None => Ok(()),
            Some(class) => Err(Error::option(format!(
                "the class {:?} has {}: it needs {least} or more, or has to go",
                printable(&self.classes[class]),
                match counts[class] {
                    0 => "no picture".to_owned(),
                    1 => "one picture".to_owned(),
                    count => format!("{count} pictures"),
                },
            ))),
        }
    }

    /// How many pictures each class has.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &label in &self.labels {
            counts[label] += 1;
        }
        counts
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of each picture.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Channels of a token.
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// Heads of the trunk's attention, and of the probe's.
    pub const fn num_heads(&self) -> usize {
        self.num_heads
    }

    /// Tokens of a picture.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// How many views a picture has.
    pub(super) fn views(&self, picture: usize) -> usize {
        self.pictures[picture].len()
    }

    /// Reads the features of a view of a picture.
    ///
    /// # Shapes
    /// - `features`: `[tokens, dim]`
    pub(super) fn read(&self, (picture, view): (usize, usize), features: &mut [f32]) {
        widen(&self.pictures[picture][view], features);
    }
}

/// Numbers in 16 bits.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for values over the range of 16-bit floats.
pub fn halves(features: &[f32]) -> Result<Vec<f16>> {
    let mut halves = vec![f16::ZERO; features.len()];
    halves.convert_from_f32_slice(features);
    if halves.iter().all(|half| half.is_finite()) {
        return Ok(halves);
    }
    Err(Error::unsupported(
        "a feature of this picture is not finite, or over the range of float16",
    ))
}
