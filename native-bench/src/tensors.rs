//! Tensor files: the inputs and outputs of `run`, `preprocess` and `parity`.

use std::collections::HashMap;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use aim_web::engine::HostTensor;
use aim_web::weights;
use aim_web::weights::checkpoint::Checkpoint;
use aim_web::weights::checkpoint::dtype::Dtype;
use aim_web::weights::checkpoint::safetensors::write_header;
use aim_web::weights::checkpoint::tensor_info::TensorInfo;
use aim_web::{Error, ErrorKind, Result};

use crate::files::{Unfinished, check_regular, unwritable};

/// A safetensors file open for reading.
pub struct TensorFile {
    file: Box<dyn Checkpoint>,
    index: HashMap<String, usize>,
}

impl TensorFile {
    pub fn open(path: &Path) -> Result<Self> {
        if let Ok(meta) = path.metadata() {
            check_regular(path, &meta)?;
        }
        let file = weights::open(path)?;
        let index = file
            .tensors()
            .iter()
            .enumerate()
            .map(|(index, info)| (info.name.clone(), index))
            .collect();
        Ok(Self { file, index })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.file.tensors().iter().map(|info| info.name.as_str())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// A float tensor.
    pub fn f32(&mut self, name: &str) -> Result<HostTensor> {
        let index = self.find(name)?;
        Ok(HostTensor {
            shape: self.file.tensors()[index].shape.clone(),
            values: self.file.read_f32(index)?,
        })
    }

    /// The little-endian bytes of a tensor of the given type.
    pub fn bytes(&mut self, name: &str, dtype: Dtype) -> Result<Vec<u8>> {
        let index = self.find(name)?;
        let info = &self.file.tensors()[index];
        if info.dtype != dtype {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{}: tensor {name} has type {}, but must be {dtype}",
                    self.file.name(),
                    info.dtype
                ),
            ));
        }
        let mut bytes = Vec::new();
        self.file.read(index, &mut |piece| {
            bytes
                .try_reserve(piece.len())
                .map_err(|_| Error::new(ErrorKind::OutOfMemory, "does not fit in memory"))?;
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn find(&self, name: &str) -> Result<usize> {
        self.index.get(name).copied().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("{}: holds no tensor `{name}`", self.file.name()),
            )
        })
    }
}

/// Writes tensors as a safetensors file, in one go.
pub fn write(path: &Path, tensors: &[(String, HostTensor)]) -> Result<()> {
    let infos: Vec<TensorInfo> = tensors
        .iter()
        .map(|(name, tensor)| TensorInfo {
            name: name.clone(),
            dtype: Dtype::F32,
            shape: tensor.shape.clone(),
        })
        .collect();
    let (front, _) = write_header(&infos, &[]).map_err(|error| error.at(path.display()))?;
    let unfinished = Unfinished::new(path)?;
    let mut file = BufWriter::with_capacity(1 << 20, unfinished.file());
    // Value by value: a copy of what may be gigabytes is too much.
    let mut write = || {
        file.write_all(&front)?;
        for value in tensors.iter().flat_map(|(_, tensor)| &tensor.values) {
            file.write_all(&value.to_le_bytes())?;
        }
        file.flush()
    };
    write().map_err(|error| unwritable(path, &error))?;
    drop(file);
    unfinished.finish()
}
