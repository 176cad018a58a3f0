//! What `torch.save` writes since PyTorch 1.6: a zip archive with a pickled state dict
//! (`ROOT/data.pkl`) and one record of raw elements for each storage (`ROOT/data/KEY`).
//!
//! | file | idea |
//! |---|---|
//! | `zip` | the archive's directory |
//! | `pickle` | the state dict, without running any of it |
//! | `write` | natively: the same, written |
//!
//! Every size that the pickle claims is held against the archive's directory before anything is
//! read, and nothing is inflated whose size is not the one claimed. Names in the archive are only
//! looked up: nothing is ever unpacked to disk. Source: `torch/serialization.py` and
//! `caffe2/serialize/inline_container.cc` of PyTorch.

mod pickle;
#[cfg(not(target_family = "wasm"))]
pub mod write;
mod zip;

use std::collections::HashMap;

use self::pickle::{MAX_PICKLE, TensorRef};
use self::zip::Entry;
use super::contents::{Access, Contents, Opening, Stop};
use super::dtype::Dtype;
use super::record::{Frame, LOCAL_HEADER, LOCAL_NAMES, Record, RecordReader};
use super::tensor_info::{TensorInfo, numel};
use super::view::{Strides, View};
use crate::error::{At as _, Error, Result, printable};

/// How far a view's size may differ from that of its data for free: 16 MiB.
///
/// A view can be larger than its storage (stride 0) or reach over far more than it takes; an
/// archive can be deflated. All are legal, and all are ways to turn a small file into much memory
/// or time, so what goes beyond is bounded by the tensor's or the file's own size.
const SLACK: u64 = 16 << 20;

/// How many times its file an archive may inflate to, beyond [`SLACK`]. Weights hardly compress.
const MAX_INFLATION: u64 = 32;

/// Reads the archive's directory and the pickle.
///
/// # Errors
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if the archive, the pickle or a tensor breaks the
/// format; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a pickle that calls anything
/// beyond a state dict's needs, `TorchScript`, encryption, big-endian data, or a view far larger than
/// its data; [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if the pickle's checksum is wrong.
pub(super) fn contents(file: &Opening<'_>) -> Result<Contents, Stop> {
    let entries = zip::directory(file)?;
    let root = find_root(&entries)?;
    let mut archive = Archive {
        by_name: entries
            .iter()
            .map(|entry| (entry.name.as_slice(), entry))
            .collect(),
        // A writer that leaves checksums out leaves out all of them.
        has_checksums: entries.iter().any(|entry| entry.crc != 0),
        root,
        access: file.access,
        file_len: file.len(),
        by_key: HashMap::new(),
        storages: Vec::new(),
        inflated: 0,
    };
    if archive.entry("constants.pkl").is_some() {
        return Err(Error::unsupported(
            "a TorchScript archive: in Python, save model.state_dict() with torch.save",
        )
        .into());
    }
    // PyTorch before 2.1 doesn't write this record, and ran on little-endian machines.
    if let Some(entry) = archive.entry("byteorder") {
        let order = archive.small(file, entry, 16, "byteorder")?;
        if order != b"little" {
            return Err(Error::unsupported(format!(
                "its byte order is {}, not little: save it again on a little-endian machine",
                printable(&String::from_utf8_lossy(&order))
            ))
            .into());
        }
    }
    let entry = archive.entry("data.pkl").ok_or_else(no_pickle)?;
    let pickle = archive.small(file, entry, MAX_PICKLE, "data.pkl")?;

    let mut tensors = Vec::new();
    let mut views = Vec::new();
    for (name, tensor) in pickle::state_dict(&pickle)? {
        let view = archive
            .view(&tensor)
            .map_err(|error| error.at(format!("tensor {}", printable(&name))))?;
        views.push(view);
        tensors.push(TensorInfo {
            name,
            dtype: tensor.dtype,
            shape: tensor.shape,
        });
    }
    Ok(Contents {
        tensors,
        views,
        records: archive
            .storages
            .into_iter()
            .map(|storage| storage.record)
            .collect(),
        front: Vec::new(),
    })
}

/// What is known about the archive while its tensors are placed.
struct Archive<'a> {
    by_name: HashMap<&'a [u8], &'a Entry>,
    has_checksums: bool,
    /// The archive's folder.
    root: &'a [u8],
    access: Access,
    file_len: u64,
    /// Where the storage of a key is in `storages`.
    by_key: HashMap<String, usize>,
    storages: Vec<Storage>,
    /// Bytes that reading all tensors so far inflates.
    inflated: u64,
}

/// A storage that the pickle names, and its record.
struct Storage {
    dtype: Dtype,
    numel: u64,
    record: Record,
}

impl<'a> Archive<'a> {
    /// A record of the archive's folder.
    fn entry(&self, name: &str) -> Option<&'a Entry> {
        let path = [self.root, b"/", name.as_bytes()].concat();
        self.by_name.get(path.as_slice()).copied()
    }

    /// How an entry is read.
    fn record(&self, entry: &Entry) -> Result<Record> {
        if entry.is_encrypted {
            return Err(Error::unsupported(
                "it is encrypted: save it again with torch.save",
            ));
        }
        let is_deflated = match entry.method {
            0 => false,
            // A page does not download what inflates.
            8 if cfg!(not(target_family = "wasm")) => true,
            other => {
                return Err(Error::unsupported(format!(
                    "it is compressed by method {other}: save it again with torch.save"
                )));
            }
        };
        if !is_deflated && entry.packed != entry.size {
            return Err(Error::format(
                "it passes the end of the file or overlaps another: the file is damaged",
            ));
        }
        // Names and extra fields may be longer than in the directory.
        let most = entry
            .start
            .saturating_add(LOCAL_HEADER + LOCAL_NAMES)
            .saturating_add(entry.packed);
        Ok(Record {
            range: entry.start..entry.limit.min(most),
            size: entry.size,
            frame: Frame::Zip {
                crc: self.has_checksums.then_some(entry.crc),
                packed: entry.packed,
                is_deflated,
            },
        })
    }

    /// A whole record of at most `most` bytes whose checksum is right.
    fn small(
        &self,
        file: &Opening<'_>,
        entry: &Entry,
        most: usize,
        name: &str,
    ) -> Result<Vec<u8>, Stop> {
        let record = self.record(entry).at(name)?;
        // What inflates is held whole as well, and says itself how long it is.
        let longest = record.size.max(entry.packed);
        if longest > most as u64 {
            return Err(Error::format(format!(
                "{name}: {longest} bytes, over the limit of {most}: no state dict needs that"
            ))
            .into());
        }
        let bytes = file.get(record.range.clone())?;
        Ok(whole(&record, &bytes).at(name)?)
    }

    /// Holds a tensor of the pickle against the archive.
    fn view(&mut self, tensor: &TensorRef) -> Result<View> {
        let impossible = || {
            Error::format(format!(
                "{} of shape {:?}, strides {:?} has an impossible size: the file is damaged",
                tensor.dtype, tensor.shape, tensor.strides
            ))
        };
        let count = numel(&tensor.shape).ok_or_else(impossible)?;
        let bytes = tensor.dtype.bytes_of(count).ok_or_else(impossible)?;
        let storage = self.storage(tensor)?;
        let record = &self.storages[storage].record;
        let size = record.size;
        if let Frame::Zip {
            is_deflated: true, ..
        } = record.frame
        {
            if self.access == Access::Ranges {
                return Err(Error::unsupported(
                    "its record is compressed, so it can't be read in parts: save the file again with torch.save, which compresses nothing, or download it first",
                ));
            }
            self.inflated = self.inflated.saturating_add(size);
            let most = self
                .file_len
                .saturating_mul(MAX_INFLATION)
                .saturating_add(SLACK);
            if self.inflated > most {
                return Err(Error::unsupported(
                    "compressed records inflate to far more than the file: save it again with torch.save",
                ));
            }
        }
        let view = |begin, end, strides| View {
            record: storage,
            begin,
            end,
            strides,
        };
        if count == 0 {
            return Ok(view(0, 0, None));
        }

        let dims: Vec<(usize, u64)> = tensor
            .shape
            .iter()
            .zip(&tensor.strides)
            .map(|(&d, &stride)| (d, if d == 1 { 0 } else { stride }))
            .collect();
        let last = dims
            .iter()
            .try_fold(tensor.offset, |last, &(d, stride)| {
                let steps = u64::try_from(d).ok()?.checked_sub(1)?;
                last.checked_add(steps.checked_mul(stride)?)
            })
            .filter(|last| *last < tensor.storage_numel);
        // Every index is below the storage's length, whose bytes fit, so these do too.
        let range = last.and_then(|last| {
            let begin = tensor.dtype.bytes_of(tensor.offset)?;
            let end = tensor.dtype.bytes_of(last.checked_add(1)?)?;
            Some((begin, end))
        });
        let Some((begin, end)) = range else {
            return Err(Error::format(format!(
                "shape {:?}, strides {:?} and offset {} reach past its storage of {} elements: the file is damaged",
                tensor.shape, tensor.strides, tensor.offset, tensor.storage_numel
            )));
        };

        let mut next = 1_u64;
        let contiguous = dims.iter().rev().all(|&(d, stride)| {
            let fits = d == 1 || stride == next;
            next = next.saturating_mul(d as u64);
            fits
        });
        if contiguous {
            return Ok(view(begin, end, None));
        }
        if bytes > size.max(SLACK) || end - begin > bytes.saturating_mul(4).saturating_add(SLACK) {
            return Err(Error::unsupported(format!(
                "a view of {bytes} bytes over {} of a storage: in Python, call .contiguous() on it before torch.save",
                end - begin
            )));
        }
        let element = usize::from(tensor.dtype.bits() / 8);
        Ok(view(begin, end, Some(Strides { element, dims })))
    }

    /// The storage of a tensor; checked when it is met first.
    fn storage(&mut self, tensor: &TensorRef) -> Result<usize> {
        let key = printable(&tensor.key);
        if let Some(&index) = self.by_key.get(&tensor.key) {
            let Storage { dtype, numel, .. } = self.storages[index];
            if (dtype, numel) != (tensor.dtype, tensor.storage_numel) {
                return Err(Error::format(format!(
                    "storage {key} is both {numel} {dtype} and {} {}: the file is damaged",
                    tensor.storage_numel, tensor.dtype
                )));
            }
            return Ok(index);
        }
        let Some(entry) = self.entry(&format!("data/{}", tensor.key)) else {
            return Err(Error::format(format!(
                "its storage, record data/{key}, is missing: download the file again"
            )));
        };
        if tensor.dtype.bytes_of(tensor.storage_numel) != Some(entry.size) {
            return Err(Error::format(format!(
                "record data/{key} holds {} bytes, its storage is {} {}: the file is damaged",
                entry.size, tensor.storage_numel, tensor.dtype
            )));
        }
        let index = self.storages.len();
        self.storages.push(Storage {
            dtype: tensor.dtype,
            numel: tensor.storage_numel,
            record: self.record(entry).at(format_args!("record data/{key}"))?,
        });
        self.by_key.insert(tensor.key.clone(), index);
        Ok(index)
    }
}

/// The data of a record whose bytes are all here.
fn whole(record: &Record, bytes: &[u8]) -> Result<Vec<u8>> {
    #[cfg(not(target_family = "wasm"))]
    if let Frame::Zip {
        is_deflated: true, ..
    } = record.frame
    {
        let start = record.data_start(bytes)? - record.range.start;
        let mut data = Vec::new();
        let packed = usize::try_from(start)
            .ok()
            .and_then(|start| bytes.get(start..))
            .unwrap_or_default();
        super::inflate::inflate(record, packed, &mut |_, piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        return Ok(data);
    }
    let mut data = Vec::new();
    let mut reader = RecordReader::new(record);
    reader.push(bytes, &mut |_, piece| {
        data.extend_from_slice(piece);
        Ok(())
    })?;
    reader.finish()?;
    Ok(data)
}

fn no_pickle() -> Error {
    Error::format(
        "a zip archive without ROOT/data.pkl, so torch.save did not write it: name the checkpoint itself",
    )
}

/// The one folder that holds `data.pkl`.
fn find_root(entries: &[Entry]) -> Result<&[u8]> {
    let mut roots = entries.iter().filter_map(|entry| {
        let root = entry.name.strip_suffix(b"/data.pkl")?;
        (!root.is_empty() && !root.contains(&b'/')).then_some(root)
    });
    let root = roots.next().ok_or_else(no_pickle)?;
    if roots.next().is_some() {
        return Err(Error::format(
            "the zip archive holds several checkpoints: unpack it and name one",
        ));
    }
    Ok(root)
}
