//! The folder that clip-retrieval writes: `img_emb/img_emb_0.npy` and `metadata/metadata_0.parquet`, a pair a partition.
//!
//! Source: `clip_retrieval/clip_inference/writer.py`. Numbers have leading zeros, one digit more than the logarithm of
//! their count.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aim_web::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::args::{Exif, FeatureDtype, FeatureFormat, Pool};
use crate::data::walk;
use crate::files::{Lock, make_folder, remove_stale, unwritable, write_whole};
use crate::output;

/// The most partitions that features are cut into.
pub const MAX_PARTITIONS: u32 = 1_000_000;

/// The folders in it.
const INNER: [&str; 2] = ["img_emb", "metadata"];

/// What the features are of: partitions of other ones have no place in a folder.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The model's hash, and in what precision it ran.
    pub model: String,
    pub dtype: String,
    /// The data's hash.
    pub data: String,
    pub pictures: u64,
    pub exif: Exif,
    /// The blocks whose outputs are averaged.
    pub layers: Vec<usize>,
    pub pool: Pool,
    pub format: FeatureFormat,
    pub output_dtype: FeatureDtype,
    /// Of a row.
    pub shape: Vec<usize>,
    pub partitions: u64,
}

/// The folder.
pub struct Layout {
    folder: PathBuf,
    partitions: u64,
    ending: &'static str,
    /// Says that the folder is in use: what is in it stays of one kind. Some file systems have no locks.
    _in_use: Option<File>,
}

impl Layout {
    /// Opens the folder, which is for these features alone.
    ///
    /// # Errors
    /// Kind `Option` if it holds others or files that aim-bench did not write, or can't be written.
    pub fn open(folder: &Path, identity: &Identity) -> Result<Self> {
        let own = folder.join("features.json");
        for inner in INNER {
            make_folder(&folder.join(inner))?;
        }
        // Several processes may begin at once, and all write the same.
        let _lock = Lock::waiting(&folder.join(".features.lock"))?;
        let in_use = folder.join(".in-use.lock");
        let in_use = File::create(&in_use).map_err(|error| unwritable(&in_use, &error))?;
        let layout = Self::at(folder, identity);
        match fs::read(&own) {
            Ok(text) => {
                let there: Option<Identity> = serde_json::from_slice(&text).ok();
                if there.as_ref() != Some(identity) {
                    // Features that nobody finished, or is making, need no other folder. Without locks nobody knows.
                    let is_free = in_use.try_lock().is_ok();
                    let begun = there
                        .filter(|there| (1..=MAX_PARTITIONS.into()).contains(&there.partitions))
                        .map(|there| Self::at(folder, &there));
                    match begun.filter(|begun| is_free && !begun.has_any()) {
                        Some(begun) => begun.remove_halves(),
                        None => {
                            return Err(Error::new(
                                ErrorKind::Option,
                                format!(
                                    "{}: the features there are of another model, data or form: take another folder",
                                    own.display()
                                ),
                            ));
                        }
                    }
                    write_whole(&own, (output::to_json(identity)? + "\n").as_bytes())?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                layout.check_unused()?;
                write_whole(&own, (output::to_json(identity)? + "\n").as_bytes())?;
            }
            Err(error) => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("{}: {error}", own.display()),
                ));
            }
        }
        for inner in INNER {
            remove_stale(&folder.join(inner));
        }
        // Nobody comes between: `.features.lock` is still held.
        let _ = in_use.unlock();
        let is_locked = in_use.try_lock_shared().is_ok();
        Ok(Self {
            _in_use: is_locked.then_some(in_use),
            ..layout
        })
    }

    fn at(folder: &Path, identity: &Identity) -> Self {
        Self {
            folder: folder.to_owned(),
            partitions: identity.partitions,
            ending: match identity.format {
                FeatureFormat::Npy => "npy",
                FeatureFormat::Safetensors => "safetensors",
            },
            _in_use: None,
        }
    }

    /// Of files that are there and nobody knows of, none is replaced.
    fn check_unused(&self) -> Result<()> {
        let mut paths = Vec::new();
        if self.partitions == 1 {
            paths.extend(self.plain_names().map(|(_, name)| name));
        }
        for inner in INNER {
            let entries = walk::entries(&self.folder.join(inner))?;
            paths.extend(entries.into_iter().map(|entry| entry.path));
        }
        let is_there = |path: &&PathBuf| !walk::is_hidden(path) && path.symlink_metadata().is_ok();
        match paths.iter().find(is_there) {
            None => Ok(()),
            Some(path) => Err(Error::new(
                ErrorKind::Option,
                format!(
                    "{}: is there already, and no features.json says that aim-bench wrote it: take another folder",
                    path.display()
                ),
            )),
        }
    }

    /// True if any partition is complete.
    fn has_any(&self) -> bool {
        (0..self.partitions).any(|partition| self.is_complete(partition))
    }

    /// Removes what there is of partitions that are not complete.
    fn remove_halves(&self) {
        for partition in 0..self.partitions {
            for path in [self.features(partition), self.metadata(partition)] {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn number(&self, partition: u64) -> String {
        let width = self.partitions.max(1).ilog10() as usize + 1;
        format!("{partition:0width$}")
    }

    /// The file of a partition's features.
    pub fn features(&self, partition: u64) -> PathBuf {
        let name = format!("img_emb_{}.{}", self.number(partition), self.ending);
        self.folder.join("img_emb").join(name)
    }

    /// The file of what they are of. It is written last: where it is, its features are too.
    pub fn metadata(&self, partition: u64) -> PathBuf {
        let name = format!("metadata_{}.parquet", self.number(partition));
        self.folder.join("metadata").join(name)
    }

    /// True if a partition is complete.
    pub fn is_complete(&self, partition: u64) -> bool {
        self.metadata(partition).is_file() && self.features(partition).is_file()
    }

    /// Keeps other processes away from a partition.
    ///
    /// # Errors
    /// Kind `Option` if one is writing it.
    pub fn lock(&self, partition: u64) -> Result<Lock> {
        let path = self.folder.join(format!(".partition-{partition}.lock"));
        Lock::new(&path, &format!("partition {partition}"))
    }

    /// Of a single partition, its files under the names that one looks for first.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn name_the_only_one(&self) -> Result<()> {
        if self.partitions != 1 {
            return Ok(());
        }
        for (file, link) in self.plain_names() {
            let _ = fs::remove_file(&link);
            // Not every file system has links.
            fs::hard_link(&file, &link)
                .or_else(|_| fs::copy(&file, &link).map(drop))
                .map_err(|error| unwritable(&link, &error))?;
        }
        Ok(())
    }

    /// The files of a single partition, each with its other name.
    fn plain_names(&self) -> [(PathBuf, PathBuf); 2] {
        let features = format!("features.{}", self.ending);
        [
            (self.features(0), self.folder.join(features)),
            (self.metadata(0), self.folder.join("metadata.parquet")),
        ]
    }
}
