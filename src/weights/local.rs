//! A model in files on this machine: a directory, one checkpoint, or Apple's backbone and head.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::checkpoint::open;
use super::files::{ApplePair, Candidate};
use super::inventory::Located;
use super::load;
use super::shards::index::Index;
use super::shards::manifest::{MANIFEST_FILE, Manifest};
use super::shards::verified;
use crate::config::{Config, Family, ProbeLayers};
use crate::device::Device;
use crate::engine::{self, Engine};
use crate::error::{At as _, Error, Result};
use crate::labels::{LABELS_FILE, Labels};
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
    /// Opens a directory with `config.json`, perhaps `labels.json`, and a checkpoint: the first of
    /// [`Candidate::ALL`] that is there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if one of them is not there; [`ErrorKind::Format`](crate::ErrorKind::Format) if a configuration, labels, an index or a checkpoint's
    /// header is broken; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it is of a model or a type that this library does not run. They name the
    /// file.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        Self::from_snapshot(dir, &dir.join("config.json"), "")
    }

    /// Opens a directory into which the hub's own tools have downloaded a repository, by its `config.json` or another one.
    ///
    /// # Errors
    /// As [`from_dir`](Self::from_dir).
    pub fn from_snapshot(dir: &Path, config: &Path, repository: &str) -> Result<Self> {
        for candidate in Candidate::ALL {
            let path = dir.join(candidate.name());
            match candidate {
                _ if !path.is_file() => {}
                Candidate::Index(_) => return Self::from_index(&path, config, repository),
                Candidate::Checkpoint(_) => return Self::read(&[path], config, repository),
            }
        }
        Err(Error::not_found(format!(
            "{}: holds none of {}",
            dir.display(),
            Candidate::names()
        )))
    }

    /// Opens a directory with the files that Apple published: those of `arch`, or of the one model
    /// whose backbone is there; `None` if there is none. The second part is what a user should know who
    /// asked for other layers than those that the probe was trained on.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if there are several models and `arch` does not
    /// choose one; [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if its probe is missing; those of
    /// [`open`].
    pub fn from_apple(
        dir: &Path,
        arch: Option<Family>,
        layers: Option<&ProbeLayers>,
    ) -> Result<Option<(Self, Option<String>)>> {
        let mut there = ApplePair::families(|name| dir.join(name).is_file());
        if let Some(arch) = arch {
            there.retain(|family| *family == arch);
        }
        let family = match there.as_slice() {
            [] => return Ok(None),
            [family] => *family,
            _ => {
                let names: Vec<&str> = there.iter().map(|family| family.name()).collect();
                return Err(Error::option(format!(
                    "{}: holds several models: choose one by --arch, of {}",
                    dir.display(),
                    names.join(", ")
                )));
            }
        };
        let pair = ApplePair::new(family, layers);
        let paths = [&pair.backbone, &pair.head].map(|name| dir.join(name));
        let model = Self::with_config(&paths, family.config(), None)?;
        Ok(Some((model, pair.warning())))
    }

    /// Opens the shards of an index, which lie beside it.
    fn from_index(index: &Path, config: &Path, repository: &str) -> Result<Self> {
        let parsed = Index::from_json(&read_text(index)?).at(index.display())?;
        let files: Vec<_> = parsed
            .files()
            .iter()
            .map(|name| index.with_file_name(name))
            .collect();
        let model = Self::read(&files, config, repository)?;
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
        Self::read(checkpoints, config, "")
    }

    fn read(checkpoints: &[PathBuf], config: &Path, repository: &str) -> Result<Self> {
        let text = read_text(config)?;
        let parsed = Config::of_repository(&text, repository).at(config.display())?;

        let beside = config.with_file_name(LABELS_FILE);
        let (labels, place) = if beside.is_file() {
            (read_text(&beside)?, beside.as_path())
        } else {
            (text, config)
        };
        let labels = Labels::from_json(&labels, parsed.num_classes).at(place.display())?;

        let listed = config.with_file_name(MANIFEST_FILE);
        let manifest = if listed.is_file() {
            Manifest::from_json(&read_text(&listed)?).at(listed.display())?
        } else {
            Manifest::default()
        };
        let open = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            let is_beside = path.parent() == config.parent();
            let hashes = name
                .filter(|_| is_beside)
                .and_then(|name| manifest.file(name));
            match hashes {
                Some(hashes) => verified::open(path, hashes.clone()),
                None => open(path),
            }
        };
        let files = checkpoints.iter().map(open).collect::<Result<_>>()?;
        Ok(Self::new(files, parsed, labels))
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
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if a tensor is in no file, [`ErrorKind::Format`](crate::ErrorKind::Format) if one is of no such model, is there twice, or has another
    /// shape.
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

/// Reads a small text file, such as a configuration.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not there, [`ErrorKind::Format`](crate::ErrorKind::Format)
/// if it can't be read, is no text or has over 16 MiB.
pub fn read_text(path: &Path) -> Result<String> {
    let error = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound {
            crate::ErrorKind::NotFound
        } else {
            crate::ErrorKind::Format
        };
        Error::new(kind, format!("{}: {error}", path.display())).with_source(error)
    };
    let mut text = String::new();
    // Some files have no length, and no end.
    File::open(path)
        .and_then(|file| file.take(JSON_LIMIT + 1).read_to_string(&mut text))
        .map_err(error)?;
    if text.len() as u64 > JSON_LIMIT {
        return Err(Error::format(format!(
            "{}: has over {JSON_LIMIT} bytes, too many for a configuration",
            path.display()
        )));
    }
    Ok(text)
}
