//! A model in files on this machine: a directory, one checkpoint, or Apple's backbone and head.

use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::index::{INDEX_FILE, Index};
use super::inventory::Located;
use super::load;
use super::open;
use crate::config::Config;
use crate::device::Device;
use crate::engine::{self, Engine};
use crate::error::{At as _, Error, Result};
use crate::labels::Labels;
use crate::precision::Precision;

/// The largest configuration or label file that is read.
const JSON_LIMIT: u64 = 16 << 20;

/// A model whose headers have been read; its weights still lie in their files.
pub struct LocalModel {
    /// The model's shape.
    pub config: Config,
    /// The model's classes.
    pub labels: Labels,
    files: Vec<Box<dyn Checkpoint>>,
}

impl LocalModel {
    /// Opens a directory with `config.json`, perhaps `labels.json`, and a checkpoint:
    /// `model.safetensors`, or shards with their `model.safetensors.index.json`, or `model.pth`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if one of them is not there; the errors
    /// of [`Config::from_json`], [`Labels::from_json`], [`Index`] and [`open`], with the file's
    /// name.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let config = dir.join("config.json");
        let [single, index, pth] =
            ["model.safetensors", INDEX_FILE, "model.pth"].map(|name| dir.join(name));
        if single.is_file() {
            return Self::from_files(&[single], &config);
        }
        if index.is_file() {
            return Self::from_index(&index, &config);
        }
        if pth.is_file() {
            return Self::from_files(&[pth], &config);
        }
        Err(Error::not_found(format!(
            "{}: holds no model.safetensors, {INDEX_FILE} or model.pth",
            dir.display()
        )))
    }

    /// Opens the shards of an index, which lie beside it.
    fn from_index(index: &Path, config: &Path) -> Result<Self> {
        let parsed = Index::from_json(&read_json(index)?).at(index.display())?;
        let files: Vec<_> = parsed
            .files()
            .iter()
            .map(|name| index.with_file_name(name))
            .collect();
        let model = Self::from_files(&files, config)?;
        for (name, file) in parsed.files().iter().zip(&model.files) {
            parsed.check(name, file.tensors()).at(file.name())?;
        }
        Ok(model)
    }

    /// Opens checkpoint files that together hold a model, with its `config.json`; labels come from
    /// a `labels.json` beside it or from the configuration itself.
    ///
    /// # Errors
    /// As [`from_dir`](Self::from_dir).
    pub fn from_files(checkpoints: &[PathBuf], config: &Path) -> Result<Self> {
        let text = read_json(config)?;
        let parsed = Config::from_json(&text).at(config.display())?;

        let beside = config.with_file_name("labels.json");
        let (labels, place) = if beside.is_file() {
            (read_json(&beside)?, beside.as_path())
        } else {
            (text, config)
        };
        let labels = Labels::from_json(&labels, parsed.num_classes).at(place.display())?;
        Self::with_config(checkpoints, parsed, labels)
    }

    /// Opens checkpoint files of a model whose configuration is known.
    ///
    /// # Errors
    /// As [`from_dir`](Self::from_dir).
    pub fn with_config(
        checkpoints: &[PathBuf],
        config: Config,
        labels: Option<Labels>,
    ) -> Result<Self> {
        let files = checkpoints
            .iter()
            .map(|path| open(path))
            .collect::<Result<_>>()?;
        Ok(Self::new(files, config, labels))
    }

    /// Joins open checkpoints with what is known about their model. Without labels its classes are
    /// [unnamed](Labels::unnamed).
    pub fn new(files: Vec<Box<dyn Checkpoint>>, config: Config, labels: Option<Labels>) -> Self {
        let labels = labels.unwrap_or_else(|| Labels::unnamed(config.num_classes));
        Self {
            config,
            labels,
            files,
        }
    }

    /// The files, to read them.
    pub fn into_files(self) -> Vec<Box<dyn Checkpoint>> {
        self.files
    }

    /// The files, in the order given.
    pub fn files(&self) -> &[Box<dyn Checkpoint>] {
        &self.files
    }

    /// Finds every tensor of the model, from the headers alone: for each file, what its tensors are.
    ///
    /// # Errors
    /// As [`load::locate`].
    pub fn locate(&self) -> Result<Vec<Vec<Located>>> {
        load::locate(&self.files, &self.config)
    }

    /// Loads the blocks that the probe layers need.
    ///
    /// # Errors
    /// As [`engine::load`].
    pub async fn load(self, device: &Device, precision: Precision) -> Result<Box<dyn Engine>> {
        let blocks = self.config.blocks_to_run();
        self.load_blocks(blocks, device, precision).await
    }

    /// Loads the first `blocks` blocks.
    ///
    /// # Errors
    /// As [`engine::load`].
    pub async fn load_blocks(
        mut self,
        blocks: usize,
        device: &Device,
        precision: Precision,
    ) -> Result<Box<dyn Engine>> {
        engine::load(&mut self.files, self.config, blocks, precision, device).await
    }
}

/// Reads a small text file.
fn read_json(path: &Path) -> Result<String> {
    let error = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound {
            crate::ErrorKind::NotFound
        } else {
            crate::ErrorKind::Format
        };
        Error::new(kind, format!("{}: {error}", path.display())).with_source(error)
    };
    let size = std::fs::metadata(path).map_err(error)?.len();
    if size > JSON_LIMIT {
        return Err(Error::format(format!(
            "{}: has {size} bytes, too many for a configuration",
            path.display()
        )));
    }
    std::fs::read_to_string(path).map_err(error)
}
