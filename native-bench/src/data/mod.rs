//! Data sets: labelled pictures, wherever they lie.
//!
//! | file | idea |
//! |---|---|
//! | `walk.rs` | the pictures in folders, each folder once |
//! | `folder.rs` | a folder of classes, as torchvision's `ImageFolder` reads it |
//! | `classes.rs` | from a data set's classes to a model's |

pub mod classes;
mod folder;
pub mod walk;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use aim_web::{Error, ErrorKind, Result};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::args::Exif;
use crate::pictures::{self, Picture};

/// A data set whose pictures are known by name; none of them was read.
pub struct DataSet {
    /// What `--data-path` said.
    path: String,
    classes: Vec<Class>,
    samples: Vec<Sample>,
    seen: Seen,
}

/// A class of a data set: a folder, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub name: String,
    /// How many pictures it has.
    pub pictures: u64,
}

/// A picture of a data set.
struct Sample {
    place: Place,
    /// The number of its class among those of the data set.
    class: u32,
    /// The length of its file in bytes.
    len: u64,
}

/// Where a picture lies.
enum Place {
    File(PathBuf),
}

/// What a person may not have meant to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Pictures whose name begins with a dot; the reference reads them.
    pub hidden: u64,
    /// Classes without a picture.
    pub empty_classes: Vec<String>,
}

impl DataSet {
    /// Opens a folder of classes: `path/split` if there is such a folder, else `path` itself.
    ///
    /// # Errors
    /// Kind `NotFound` if there is no picture, or something can't be listed.
    pub fn open(path: &Path, split: &str) -> Result<Self> {
        let data = folder::open(path, split)?;
        if data.samples.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{}: holds no picture; it must have a folder of pictures for each class",
                    path.display()
                ),
            ));
        }
        Ok(data)
    }

    fn new(path: &Path, names: Vec<String>, samples: Vec<Sample>, hidden: u64) -> Self {
        let mut classes: Vec<Class> = names
            .into_iter()
            .map(|name| Class { name, pictures: 0 })
            .collect();
        for sample in &samples {
            if let Some(class) = classes.get_mut(sample.class as usize) {
                class.pictures += 1;
            }
        }
        let empty_classes = classes
            .iter()
            .filter(|class| class.pictures == 0)
            .map(|class| class.name.clone())
            .collect();
        Self {
            path: path.to_string_lossy().into_owned(),
            classes,
            samples,
            seen: Seen {
                hidden,
                empty_classes,
            },
        }
    }

    /// What it was opened by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How many pictures there are.
    pub const fn len(&self) -> usize {
        self.samples.len()
    }

    /// The classes, in their order: sorted by name.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// What a person may want to know of it.
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The number of the class of a picture, from 0.
    pub fn class(&self, picture: usize) -> usize {
        self.samples[picture].class as usize
    }

    /// What a picture is called: its path.
    pub fn name(&self, picture: usize) -> Cow<'_, str> {
        match &self.samples[picture].place {
            Place::File(path) => path.to_string_lossy(),
        }
    }

    /// Reads and decodes a picture.
    ///
    /// # Errors
    /// Kind `Image` or `NotFound`, with the name of the picture, if that can't be done.
    pub fn read(&self, picture: usize, exif: Exif) -> Result<Picture> {
        match &self.samples[picture].place {
            Place::File(path) => pictures::read(path, exif),
        }
    }

    /// Tells this data set from others: of the classes, and of each picture its name below the data set's path, its
    /// class and its length. What is in the pictures is not looked at.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut text = |text: &[u8]| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        for class in &self.classes {
            text(class.name.as_bytes());
        }
        for sample in &self.samples {
            let Place::File(path) = &sample.place;
            let below = path.strip_prefix(&self.path).unwrap_or(path);
            text(below.as_os_str().as_encoded_bytes());
            text(&sample.class.to_le_bytes());
            text(&sample.len.to_le_bytes());
        }
        hex(&hash.finalize())
    }
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
