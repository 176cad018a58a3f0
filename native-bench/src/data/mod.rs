//! Data sets: labelled pictures, wherever they lie.
//!
//! | file | idea |
//! |---|---|
//! | `walk.rs` | the pictures in folders, each folder once |
//! | `folder.rs` | a folder of classes, as torchvision's `ImageFolder` reads it |
//! | `archive.rs` | tar archives, `WebDataset`'s among them |
//! | `rows.rs` | Parquet files of the hub's picture data sets |
//! | `pattern.rs` | many files by one name |
//! | `classes.rs` | from a data set's classes to a model's |

mod archive;
pub mod classes;
mod folder;
mod pattern;
mod rows;
pub mod walk;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use aim_web::hex::to_hex;
use aim_web::labels::Labels;
use aim_web::{Error, ErrorKind, Result};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use self::classes::Mapping;
use self::rows::Rows;
use crate::args::Exif;
use crate::files::check_regular;
use crate::output;
use crate::pictures::{self, Picture};

/// Which part of a data set is taken.
#[derive(Clone, Copy, Debug)]
pub enum Split<'a> {
    /// The folder of this name in a folder, if it is there; else all.
    IfThere(&'a str),
    /// The one of this name.
    Named(&'a str),
}

/// A data set whose pictures are known by name; none of them was read.
pub struct DataSet {
    path: String,
    /// Archives and tables, with their lengths.
    files: Vec<(PathBuf, u64)>,
    classes: Vec<Class>,
    /// The classes' names are numbers of the model's classes.
    is_numbered: bool,
    samples: Vec<Sample>,
    seen: Seen,
    rows: Rows,
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
    location: Location,
    /// The number of its class among those of the data set, or [`NO_CLASS`].
    class: u32,
    /// The length of its file in bytes.
    len: u64,
}

const NO_CLASS: u32 = u32::MAX;

/// Where a picture lies.
enum Location {
    File(PathBuf),
    /// In an archive, from this byte on.
    Archive {
        file: usize,
        offset: u64,
        path: String,
    },
    /// In a table.
    Row {
        file: usize,
        group: usize,
        row: usize,
    },
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
    /// Opens a folder of classes, tar archives or Parquet files. Every picture has a class.
    ///
    /// # Errors
    /// Kind `NotFound` if there is no picture or no such split, or something can't be listed; kind `Format` for broken
    /// files, and if a picture has no class; kind `Option` if archives are to have splits.
    pub fn open(path: &Path, split: Split<'_>) -> Result<Self> {
        let data = Self::open_any(path, split)?;
        let lacks = (0..data.len()).find(|&picture| data.label(picture).is_none());
        match lacks {
            None => Ok(data),
            Some(picture) => Err(Error::new(
                ErrorKind::Format,
                format!("{}: has no class", data.name(picture)),
            )),
        }
    }

    /// The same, but pictures may have no class.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_any(path: &Path, split: Split<'_>) -> Result<Self> {
        let data = if path.is_dir() {
            folder::open(path, split)?
        } else {
            let files = pattern::expand(path)?;
            let all = |ending: &str| files.iter().all(|file| walk::has_ending(file, &[ending]));
            let mut builder = Builder::new(path);
            if all("tar") {
                if let Split::Named(_) = split {
                    return Err(Error::new(
                        ErrorKind::Option,
                        format!(
                            "{}: archives are taken whole: leave --split out, and name those that you mean",
                            path.display()
                        ),
                    ));
                }
                archive::open(&files, &mut builder)?;
            } else if all("parquet") {
                rows::open(&rows::of_split(files, split, path)?, &mut builder)?;
            } else {
                return Err(Error::new(
                    ErrorKind::Option,
                    format!(
                        "{}: is neither a folder nor .tar nor .parquet files (a compressed archive must be unpacked)",
                        path.display()
                    ),
                ));
            }
            builder.finish()
        };
        if data.samples.is_empty() {
            // By the folder that was looked at, which may be the split's.
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{}: holds no picture; a folder must have a folder of pictures for each class",
                    data.path
                ),
            ));
        }
        Ok(data)
    }

    /// What it was opened by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How many pictures there are.
    pub const fn len(&self) -> usize {
        self.samples.len()
    }

    /// The classes, in their order: that of their names, of their numbers, or the data set's own.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Finds its classes among a model's.
    ///
    /// # Errors
    /// As [`classes::map`]; if they are numbers, kind `Option` for one that the model does not have.
    pub fn classes_in(&self, labels: &Labels) -> Result<Mapping> {
        let mapping = if self.is_numbered {
            classes::by_number(&self.classes, labels)
        } else {
            classes::map(&self.classes, labels)
        };
        mapping.map_err(|error| error.at(&self.path))
    }

    /// What a person may want to know of it.
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The number of the class of a picture, from 0; of one without a class it is none of [`classes`](Self::classes).
    pub fn class(&self, picture: usize) -> usize {
        self.samples[picture].class as usize
    }

    /// The name of the class of a picture, if it has one.
    pub fn label(&self, picture: usize) -> Option<&str> {
        let class = self.classes.get(self.class(picture))?;
        Some(&class.name)
    }

    /// What a picture is called: its path; of an archive's, behind the archive's and a slash; of a table's, the
    /// number of its group of rows and of the row in it.
    pub fn name(&self, picture: usize) -> Cow<'_, str> {
        let file = |file: usize| text(self.files[file].0.as_os_str().as_encoded_bytes());
        match &self.samples[picture].location {
            Location::File(path) => path_text(path),
            Location::Archive { file: of, path, .. } => format!("{}/{path}", file(*of)).into(),
            Location::Row {
                file: of,
                group,
                row,
            } => format!("{}#{group}.{row}", file(*of)).into(),
        }
    }

    /// Reads and decodes a picture.
    ///
    /// # Errors
    /// Kind `Image`, `NotFound` or `Format`, with the name of the picture, if that can't be done.
    pub fn read(&self, picture: usize, exif: Exif) -> Result<Picture> {
        let sample = &self.samples[picture];
        let decoded = match &sample.location {
            Location::File(path) => return pictures::read(path, exif),
            Location::Archive { file, offset, .. } => {
                archive::read(&self.files[*file].0, *offset, sample.len)
                    .and_then(|bytes| pictures::decode(&bytes, exif))
            }
            &Location::Row { file, group, row } => self
                .rows
                .read(&self.files[file].0, [file, group, row])
                .and_then(|bytes| pictures::decode(bytes.data(), exif)),
        };
        decoded.map_err(|error| error.at(self.name(picture)))
    }

    /// Tells this data set from others: of the classes, of each file, and of each picture its name below the data set's
    /// path, its class and its length. What is in the pictures is not looked at.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &[u8]| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        for class in &self.classes {
            add(class.name.as_bytes());
        }
        for (path, len) in &self.files {
            add(path.file_name().unwrap_or_default().as_encoded_bytes());
            add(&len.to_le_bytes());
        }
        for sample in &self.samples {
            match &sample.location {
                Location::File(path) => {
                    let below = path.strip_prefix(&self.path).unwrap_or(path);
                    add(below.as_os_str().as_encoded_bytes());
                }
                Location::Archive { path, .. } => add(path.as_bytes()),
                Location::Row { row, .. } => add(&row.to_le_bytes()),
            }
            add(&sample.class.to_le_bytes());
            add(&sample.len.to_le_bytes());
        }
        to_hex(&hash.finalize())
    }
}

/// The error of a split that is not there.
fn no_split(path: &Path, split: &str, there: &[String]) -> Error {
    let there = if there.is_empty() {
        "it has none, leave --split out".to_owned()
    } else {
        format!("it has {}", output::some(there.iter()))
    };
    Error::new(
        ErrorKind::NotFound,
        format!("{}: has no split {split:?}: {there}", path.display()),
    )
}

/// A data set that is being listed.
struct Builder {
    path: PathBuf,
    files: Vec<(PathBuf, u64)>,
    /// The classes by name, in the order in which they came; sorted in the end unless that is their order.
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    is_numbered: bool,
    is_in_order: bool,
    samples: Vec<Sample>,
    hidden: u64,
}

impl Builder {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: Vec::new(),
            names: Vec::new(),
            numbers: HashMap::new(),
            is_numbered: false,
            is_in_order: false,
            samples: Vec::new(),
            hidden: 0,
        }
    }

    /// Notes a file that pictures are in: its number.
    fn file(&mut self, path: &Path) -> Result<usize> {
        let meta = path
            .metadata()
            .map_err(|error| walk::unreadable(path, &error))?;
        check_regular(path, &meta)?;
        self.files.push((path.to_owned(), meta.len()));
        Ok(self.files.len() - 1)
    }

    /// The classes in their order, whether there are pictures of them or not. `ImageNet` has two cranes.
    fn classes(&mut self, names: &[String]) {
        self.is_in_order = true;
        for name in names {
            let mut own = name.clone();
            let mut copy = 1;
            while self.numbers.contains_key(&own) {
                copy += 1;
                own = format!("{name} ({copy})");
            }
            self.class(&own);
        }
    }

    /// If all classes are called by numbers, they are those of the model.
    fn are_numbers<'a>(&mut self, mut names: impl Iterator<Item = &'a str>) {
        self.is_numbered = names.all(|name| name.parse::<u32>().is_ok());
    }

    fn class(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(NO_CLASS);
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn add(&mut self, location: Location, class: Option<u32>, len: u64) {
        let class = class.unwrap_or(NO_CLASS);
        let is_hidden = match &location {
            Location::File(path) => walk::is_hidden(path),
            Location::Archive { path, .. } => walk::is_hidden(Path::new(path)),
            Location::Row { .. } => false,
        };
        self.hidden += u64::from(is_hidden);
        self.samples.push(Sample {
            location,
            class,
            len,
        });
    }

    fn finish(mut self) -> DataSet {
        if !self.is_in_order {
            self.sort_classes();
        }
        let mut classes: Vec<Class> = self
            .names
            .into_iter()
            .map(|name| Class { name, pictures: 0 })
            .collect();
        for sample in &self.samples {
            if let Some(class) = classes.get_mut(sample.class as usize) {
                class.pictures += 1;
            }
        }
        let empty_classes = classes
            .iter()
            .filter(|class| class.pictures == 0)
            .map(|class| class.name.clone())
            .collect();
        DataSet {
            path: path_text(&self.path).into_owned(),
            files: self.files,
            classes,
            is_numbered: self.is_numbered,
            samples: self.samples,
            seen: Seen {
                hidden: self.hidden,
                empty_classes,
            },
            rows: Rows::default(),
        }
    }

    /// Numbers the classes by their names; numbers by what they are.
    fn sort_classes(&mut self) {
        let key = |name: &str| {
            (
                name.parse::<u32>().ok().filter(|_| self.is_numbered),
                name.to_owned(),
            )
        };
        let sorted: BTreeSet<_> = self.names.iter().map(|name| key(name)).collect();
        let names: Vec<String> = sorted.into_iter().map(|(_, name)| name).collect();
        let order: HashMap<&str, u32> = names
            .iter()
            .zip(0..)
            .map(|(name, number)| (name.as_str(), number))
            .collect();
        let renumbered: Vec<u32> = self
            .names
            .iter()
            .map(|name| order.get(name.as_str()).copied().unwrap_or(NO_CLASS))
            .collect();
        for sample in &mut self.samples {
            if let Some(&number) = renumbered.get(sample.class as usize) {
                sample.class = number;
            }
        }
        self.names = names;
    }
}

/// A path as a text. What is no UTF-8 is spelt out, so that two paths are two texts.
pub fn path_text(path: &Path) -> Cow<'_, str> {
    path.to_str().map_or_else(
        || text(path.as_os_str().as_encoded_bytes()).into(),
        Cow::Borrowed,
    )
}

/// The name of a file as a text. What is no UTF-8 is spelt out.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_text_stay_apart() {
        assert_eq!(text("дом\n".as_bytes()), "дом\n");
        assert_eq!(text(b"a\xff\xfeb"), "a\\xff\\xfeb");
    }

    #[test]
    fn classes_are_sorted_by_name_or_number() {
        let built = |names: &[&str], is_numbered: bool| {
            let mut builder = Builder::new("x".as_ref());
            builder.is_numbered = is_numbered;
            for name in names {
                let class = builder.class(name);
                builder.add(Location::File("a.jpg".into()), Some(class), 1);
            }
            let data = builder.finish();
            let labels: Vec<String> = (0..data.len())
                .map(|picture| data.label(picture).unwrap().to_owned())
                .collect();
            assert_eq!(labels, names);
            let classes: Vec<String> = data.classes().iter().map(|c| c.name.clone()).collect();
            classes
        };
        assert_eq!(
            built(&["b", "a", "b", "10", "9"], false),
            ["10", "9", "a", "b"]
        );
        assert_eq!(built(&["10", "9", "10", "0"], true), ["0", "9", "10"]);
    }
}
