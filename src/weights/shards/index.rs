//! `model.safetensors.index.json`, `pytorch_model.bin.index.json`: which files a model is in.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result, printable};
use crate::weights::checkpoint::tensor_info::TensorInfo;
use crate::weights::files::is_checkpoint;

/// The name of the file.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// The name of the file where the files are those of `torch.save`.
pub const TORCH_INDEX_FILE: &str = "pytorch_model.bin.index.json";

/// The most files of one model.
const MAX_FILES: usize = 10_000;

/// Which file holds each tensor, as the hub's libraries write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    files: Vec<String>,
    /// Tensor to file.
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawIndex {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads the text of an index. Keys but `weight_map` are left alone.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if the text is no index, lists no file or
    /// too many, or names one that is no checkpoint beside it.
    pub fn from_json(text: &str) -> Result<Self> {
        let RawIndex { weight_map } = serde_json::from_str(text).map_err(|error| {
            Error::format(format!(
                "is no index of shards: {}",
                printable(&error.to_string())
            ))
        })?;
        let mut files: Vec<String> = weight_map.values().cloned().collect();
        files.sort_unstable();
        files.dedup();
        match files.iter().find(|file| !is_plain(file)) {
            Some(file) => Err(Error::format(format!(
                "names {}, which is no checkpoint beside it",
                printable(file)
            ))),
            None if files.is_empty() => Err(Error::format("lists no files")),
            None if files.len() > MAX_FILES => Err(Error::format(format!(
                "lists {} files, more than {MAX_FILES}",
                files.len()
            ))),
            None => Ok(Self { files, weight_map }),
        }
    }

    /// The files, each once, in the order of their names, which is the order of the model.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Each tensor and its file.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.weight_map
            .iter()
            .map(|(tensor, file)| (tensor.as_str(), file.as_str()))
    }

    /// The tensors of a file.
    pub fn tensors_of(&self, file: &str) -> impl Iterator<Item = &str> {
        self.weight_map
            .iter()
            .filter(move |(_, place)| *place == file)
            .map(|(tensor, _)| tensor.as_str())
    }

    /// Compares a file's own tensors with what the index says is in it.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) with the first tensor that the index has in
    /// another file or in none, or that is not there.
    pub fn check(&self, file: &str, tensors: &[TensorInfo]) -> Result<()> {
        for info in tensors {
            match self.weight_map.get(&info.name) {
                Some(place) if place == file => {}
                Some(place) => {
                    return Err(Error::format(format!(
                        "holds the tensor {}, which the index has in {place}",
                        printable(&info.name)
                    )));
                }
                None => {
                    return Err(Error::format(format!(
                        "holds the tensor {}, which the index does not list",
                        printable(&info.name)
                    )));
                }
            }
        }
        let own: std::collections::HashSet<&str> =
            tensors.iter().map(|info| info.name.as_str()).collect();
        let missing = self
            .weight_map
            .iter()
            .find(|(tensor, place)| *place == file && !own.contains(tensor.as_str()));
        match missing {
            Some((tensor, _)) => Err(Error::not_found(format!(
                "the tensor {} is missing, which the index has in it",
                printable(tensor)
            ))),
            None => Ok(()),
        }
    }
}

/// Whether a name can only be a checkpoint in the same folder.
fn is_plain(file: &str) -> bool {
    is_checkpoint(file)
        && file.len() <= 255
        && !file.starts_with('.')
        && file
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
