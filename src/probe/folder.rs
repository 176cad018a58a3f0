//! A trained head as a model's folder.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use super::file::{HEAD_FILE, HeadFile};
use crate::config::Config;
use crate::error::Result;
use crate::labels::LABELS_FILE;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::checkpoint::dtype::Dtype;
use crate::weights::checkpoint::safetensors::{Header, write_header};
use crate::weights::checkpoint::tensor_info::TensorInfo;
use crate::weights::layout;
use crate::weights::shards::{PREPROCESSOR_FILE, Staging, preprocessor_json, unwritable};

/// The checkpoint of a whole model.
const MODEL_FILE: &str = "model.safetensors";

/// A folder that appears once training has ended, and not at all if it fails.
pub struct HeadFolder {
    staging: Staging,
}

impl HeadFolder {
    /// Begins the folder `output`.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if there is such a folder and `overwrite` is false or it holds
    /// other things than a model, or if it can't be written.
    pub fn new(output: &Path, overwrite: bool) -> Result<Self> {
        let staging = Staging::new(output, overwrite)?;
        Ok(Self { staging })
    }

    /// Adds a text to it, such as a curve.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if it can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        self.staging.write(name, text)
    }

    /// Writes the head alone, with the name of its trunk, and puts the folder in its place: the bytes of the head.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if it can't be written.
    pub fn finish(self, file: &HeadFile) -> Result<u64> {
        let bytes = file.to_bytes()?;
        let path = self.staging.dir().join(HEAD_FILE);
        std::fs::write(&path, &bytes).map_err(|error| unwritable(&path, &error))?;
        self.close(&file.config, &file.config_json(), &file.labels_json())?;
        Ok(bytes.len() as u64)
    }

    /// Writes the head and a copy of its trunk, each tensor as it is in the trunk's files, and puts the folder in its
    /// place: the bytes of the model.
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if it can't be written; those of [`Checkpoint::read`].
    pub fn finish_whole(
        self,
        file: &HeadFile,
        trunk: &Config,
        mut files: Vec<Box<dyn Checkpoint>>,
    ) -> Result<u64> {
        let head = file.to_bytes()?;
        let header = Header::parse(&head, head.len() as u64)?;
        let mut infos = header.tensors().to_vec();
        let mut places = Vec::new();
        for (of, checkpoint) in files.iter().enumerate() {
            for (index, info) in checkpoint.tensors().iter().enumerate() {
                let name = layout::unwrapped(&info.name);
                // A count of training steps, and the head that this one replaces.
                if name.starts_with("head.") || !(info.dtype.is_float() || info.dtype == Dtype::U32)
                {
                    continue;
                }
                infos.push(TensorInfo {
                    name: name.to_owned(),
                    ..info.clone()
                });
                places.push((of, index));
            }
        }
        let (front, _) = write_header(&infos, &[("format", "pt")])?;
        let path = self.staging.dir().join(MODEL_FILE);
        let failed = |error: std::io::Error| unwritable(&path, &error);
        let mut out = BufWriter::with_capacity(1 << 20, File::create_new(&path).map_err(failed)?);
        let start = usize::try_from(header.data_start()).unwrap_or(head.len());
        let mut bytes = 0_u64;
        let mut write = |piece: &[u8]| -> Result<()> {
            bytes = bytes.saturating_add(piece.len() as u64);
            out.write_all(piece).map_err(failed)
        };
        write(&front)?;
        write(head.get(start..).unwrap_or_default())?;
        for (of, index) in places {
            files[of].read(index, &mut write)?;
        }
        out.flush().map_err(failed)?;
        // They may lie in the folder that this one replaces, and Windows replaces none that is in use.
        drop((out, files));
        let config = Config {
            quantization: trunk.quantization,
            ..file.config.clone()
        };
        self.close(&config, &config.to_json(), &file.labels_json())?;
        Ok(bytes)
    }

    fn close(self, config: &Config, config_json: &str, labels_json: &str) -> Result<()> {
        self.staging.write("config.json", config_json)?;
        self.staging.write(LABELS_FILE, labels_json)?;
        self.staging
            .write(PREPROCESSOR_FILE, &preprocessor_json(config))?;
        self.staging.finish()
    }
}
