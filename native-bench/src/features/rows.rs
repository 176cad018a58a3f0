//! Rows of numbers, written one after the other: a header with room for their number comes first.
//!
//! Sources: the format of `.npy` files (`numpy/lib/format.py`, version 1.0) and safetensors' README.

use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use aim_web::{Error, ErrorKind, Result};
use half::f16;

use crate::args::{FeatureDtype, FeatureFormat};
use crate::files::{Unfinished, unwritable};

/// The bytes before the first row: numpy wants a multiple of 64, and more than a shape ever needs.
const HEADER: usize = 256;

/// The name of the tensor in a safetensors file.
pub const TENSOR: &str = "features";

/// A file of rows that are all of one shape.
pub struct RowFile {
    unfinished: Unfinished,
    out: BufWriter<File>,
    path: PathBuf,
    format: FeatureFormat,
    dtype: FeatureDtype,
    /// The shape of a row.
    shape: Vec<usize>,
    rows: usize,
}

impl RowFile {
    /// Begins a file of rows of this shape.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn new(
        path: &Path,
        format: FeatureFormat,
        dtype: FeatureDtype,
        shape: Vec<usize>,
    ) -> Result<Self> {
        let unfinished = Unfinished::new(path)?;
        let file = unfinished
            .file()
            .try_clone()
            .map_err(|error| unwritable(path, &error))?;
        let mut file = Self {
            unfinished,
            out: BufWriter::new(file),
            path: path.to_owned(),
            format,
            dtype,
            shape,
            rows: 0,
        };
        file.write(&[0; HEADER])?;
        Ok(file)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If it can't be written, has another shape, or a number that f16 has no room for.
    pub fn push(&mut self, row: &[f32]) -> Result<()> {
        if row.len() != self.shape.iter().product::<usize>() {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "a row of {} numbers does not fit {:?}",
                    row.len(),
                    self.shape
                ),
            ));
        }
        let bytes: Vec<u8> = match self.dtype {
            FeatureDtype::Fp32 => row.iter().flat_map(|v| v.to_le_bytes()).collect(),
            FeatureDtype::Fp16 => {
                let halves: Vec<f16> = row.iter().copied().map(f16::from_f32).collect();
                if halves.iter().any(|half| !half.is_finite()) {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "a feature is too large for fp16: write them as --output-dtype fp32",
                    ));
                }
                halves.iter().flat_map(|v| v.to_le_bytes()).collect()
            }
        };
        self.write(&bytes)?;
        self.rows += 1;
        Ok(())
    }

    /// Writes the header and gives the file its name: how many rows it has.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn finish(mut self) -> Result<usize> {
        let mut shape = vec![self.rows];
        shape.append(&mut self.shape);
        let header = match self.format {
            FeatureFormat::Npy => npy_header(self.dtype, &shape),
            FeatureFormat::Safetensors => safetensors_header(self.dtype, &shape),
        };
        let error = |error: std::io::Error| unwritable(&self.path, &error);
        self.out
            .flush()
            .and_then(|()| self.out.seek(SeekFrom::Start(0)))
            .map_err(error)?;
        self.out
            .write_all(&header)
            .and_then(|()| self.out.flush())
            .map_err(error)?;
        self.unfinished.finish()?;
        Ok(self.rows)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|error| unwritable(&self.path, &error))
    }
}

fn npy_header(dtype: FeatureDtype, shape: &[usize]) -> Vec<u8> {
    let descr = match dtype {
        FeatureDtype::Fp32 => "<f4",
        FeatureDtype::Fp16 => "<f2",
    };
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    let dict = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({},), }}",
        sides.join(", ")
    );
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((HEADER - 10) as u16).to_le_bytes());
    header.extend(dict.as_bytes());
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}

fn safetensors_header(dtype: FeatureDtype, shape: &[usize]) -> Vec<u8> {
    let (name, size) = match dtype {
        FeatureDtype::Fp32 => ("F32", 4),
        FeatureDtype::Fp16 => ("F16", 2),
    };
    let bytes = shape.iter().product::<usize>() * size;
    let json = serde_json::json!({
        TENSOR: { "dtype": name, "shape": shape, "data_offsets": [0, bytes] }
    });
    let mut header = ((HEADER - 8) as u64).to_le_bytes().to_vec();
    header.extend(json.to_string().as_bytes());
    header.resize(HEADER, b' ');
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(
        format: FeatureFormat,
        dtype: FeatureDtype,
        shape: &[usize],
        rows: usize,
    ) -> Vec<u8> {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("x");
        let mut file = RowFile::new(&path, format, dtype, shape.to_vec()).unwrap();
        let len: usize = shape.iter().product();
        for row in 0..rows {
            let values: Vec<f32> = (0..len).map(|i| (row * len + i) as f32 * 0.5).collect();
            file.push(&values).unwrap();
        }
        assert!(file.push(&[]).is_err());
        assert!(!path.exists());
        assert_eq!(file.finish().unwrap(), rows);
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn numpy_files_say_their_shape() {
        let bytes = written(FeatureFormat::Npy, FeatureDtype::Fp32, &[4], 3);
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let text = String::from_utf8(bytes[10..HEADER].to_vec()).unwrap();
        assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4,), }"));
        assert!(text.ends_with(" \n"));
        assert_eq!(bytes.len(), HEADER + 3 * 4 * 4);
        assert_eq!(bytes[HEADER + 4..HEADER + 8], 0.5_f32.to_le_bytes());
    }

    #[test]
    fn safetensors_files_are_read_by_their_library() {
        for rows in [0, 5] {
            let bytes = written(
                FeatureFormat::Safetensors,
                FeatureDtype::Fp16,
                &[2, 3],
                rows,
            );
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let tensor = file.tensor(TENSOR).unwrap();
            assert_eq!(tensor.shape(), [rows, 2, 3]);
            assert_eq!(tensor.dtype(), safetensors::Dtype::F16);
        }
    }
}
