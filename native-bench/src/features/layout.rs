//! The folder that clip-retrieval writes: `img_emb/img_emb_0.npy` and `metadata/metadata_0.parquet`, a pair a partition.
//!
//! Source: `clip_retrieval/clip_inference/writer.py`. Numbers have leading zeros, one digit more than the logarithm of
//! their count.

use std::fs;
use std::path::{Path, PathBuf};

use aim_web::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::args::{Exif, FeatureDtype, FeatureFormat, Pool};
use crate::files::{Lock, make_folder, write_whole};
use crate::output;

/// What the features are of: partitions of other ones have no place in a folder.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
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
}

impl Layout {
    /// Opens the folder, which is for these features alone.
    ///
    /// # Errors
    /// Kind `Option` if it holds others, or can't be written.
    pub fn open(folder: &Path, of: &Of) -> Result<Self> {
        let own = folder.join("features.json");
        for inner in ["img_emb", "metadata"] {
            make_folder(&folder.join(inner))?;
        }
        // Several processes may begin at once, and all write the same.
        let _lock = Lock::waiting(&folder.join(".features.lock"))?;
        match fs::read(&own) {
            Ok(text) => {
                let is_same = serde_json::from_slice(&text).is_ok_and(|there: Of| there == *of);
                if !is_same {
                    return Err(Error::new(
                        ErrorKind::Option,
                        format!(
                            "{}: the features there are of another model, data or form: take another folder",
                            own.display()
                        ),
                    ));
                }
            }
            Err(_) => write_whole(&own, (output::to_json(of)? + "\n").as_bytes())?,
        }
        Ok(Self {
            folder: folder.to_owned(),
            partitions: of.partitions,
            ending: match of.format {
                FeatureFormat::Npy => "npy",
                FeatureFormat::Safetensors => "safetensors",
            },
        })
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
        for (file, name) in [
            (self.features(0), format!("features.{}", self.ending)),
            (self.metadata(0), "metadata.parquet".to_owned()),
        ] {
            let link = self.folder.join(name);
            let _ = fs::remove_file(&link);
            // Not every file system has links.
            fs::hard_link(&file, &link)
                .or_else(|_| fs::copy(&file, &link).map(drop))
                .map_err(|error| crate::files::unwritable(&link, &error))?;
        }
        Ok(())
    }
}
