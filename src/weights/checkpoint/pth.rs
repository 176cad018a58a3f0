//! What `torch.save` writes since PyTorch 1.6: a zip archive with a pickled state dict
//! (`ROOT/data.pkl`) and one record of raw elements for each storage (`ROOT/data/KEY`).
//!
//! Every size that the pickle claims is held against the archive's directory before anything is
//! read, and nothing is inflated whose size is not the one claimed. Names in the archive are only
//! looked up: nothing is ever unpacked to disk. Source: `torch/serialization.py` and
//! `caffe2/serialize/inline_container.cc` of PyTorch.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::dtype::Dtype;
use super::pickle::{self, MAX_PICKLE, TensorRef};
use super::tensor_info::{TensorInfo, numel};
use super::{Checkpoint, PIECE, no_such_tensor, place, unreadable};
use crate::error::{At, Error, ErrorKind, Result, printable};

/// How far a view's size may differ from that of its data for free: 16 MiB.
///
/// A view can be larger than its storage (stride 0) or reach over far more than it takes; an
/// archive can be deflated. All are legal, and all are ways to turn a small file into much memory
/// or time, so what goes beyond is bounded by the tensor's or the file's own size.
const SLACK: u64 = 16 << 20;

/// How many times its file an archive may inflate to, beyond [`SLACK`]. Weights hardly compress.
const MAX_INFLATION: u64 = 32;

/// A `.pth` file that can be read and sought.
#[derive(Debug)]
pub struct Pth<R> {
    archive: ZipArchive<R>,
    name: String,
    tensors: Vec<TensorInfo>,
    views: Vec<View>,
    records: Vec<Record>,
}

/// Where a tensor lies in its record.
#[derive(Debug)]
struct View {
    record: usize,
    /// First byte.
    begin: u64,
    /// After the last byte.
    end: u64,
    /// Sizes and strides in elements if the elements don't lie there row-major without gaps. A
    /// dimension of size 1 has stride 0 here.
    strided: Option<Vec<(usize, u64)>>,
}

/// A storage's record in the archive.
#[derive(Debug)]
struct Record {
    /// Index in the archive.
    entry: usize,
    dtype: Dtype,
    numel: u64,
    /// Bytes, inflated.
    size: u64,
    stored: bool,
    /// Whether its checksum has been found right.
    verified: bool,
}

impl<R: Read + Seek> Pth<R> {
    /// Reads the archive's directory and the pickle; `name` is for messages.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the archive, the pickle or a tensor breaks the format;
    /// [`ErrorKind::Unsupported`] for a pickle that calls anything beyond a state dict's needs,
    /// TorchScript, encryption, big-endian data, or a view far larger than its data;
    /// [`ErrorKind::Integrity`] if reading fails or the pickle's checksum is wrong.
    pub fn new(reader: R, name: &str) -> Result<Self> {
        let name = printable(name);
        Self::open(reader, &name).at(&name)
    }

    fn open(mut reader: R, name: &str) -> Result<Self> {
        let file_len = reader
            .seek(SeekFrom::End(0))
            .map_err(|error| unreadable(&error))?;
        // torch.save puts nothing before the archive, so offsets count from the file's start.
        let config = zip::read::Config {
            archive_offset: zip::read::ArchiveOffset::Known(0),
        };
        let mut archive = ZipArchive::with_config(config, reader).map_err(|error| match error {
            ZipError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                unreadable(&error)
            }
            error => Error::format(printable(&format!(
                "a zip archive that is cut or damaged ({error}): download it again"
            )))
            .with_source(error),
        })?;
        if archive.has_duplicate_names() {
            return Err(Error::format(
                "the zip archive has two records of one name: download it again",
            ));
        }

        let root = find_root(&archive)?;
        let record = |name: &str| [&root[..], b"/", name.as_bytes()].concat();
        if archive
            .index_for_name_raw(&record("constants.pkl"))
            .is_some()
        {
            return Err(Error::unsupported(
                "a TorchScript archive: in Python, save model.state_dict() with torch.save",
            ));
        }
        // PyTorch before 2.1 doesn't write this record, and ran on little-endian machines.
        if let Some(entry) = archive.index_for_name_raw(&record("byteorder")) {
            let order = read_small(&mut archive, entry, 16).at("byteorder")?;
            if order != b"little" {
                return Err(Error::unsupported(format!(
                    "its byte order is {}, not little: save it again on a little-endian machine",
                    printable(&String::from_utf8_lossy(&order))
                )));
            }
        }
        let Some(entry) = archive.index_for_name_raw(&record("data.pkl")) else {
            return Err(no_pickle());
        };
        let pickle = read_small(&mut archive, entry, MAX_PICKLE).at("data.pkl")?;
        let state_dict = pickle::state_dict(&pickle)?;
        drop(pickle);

        let mut this = Self {
            archive,
            name: name.to_owned(),
            tensors: Vec::with_capacity(state_dict.len()),
            views: Vec::with_capacity(state_dict.len()),
            records: Vec::new(),
        };
        let mut plan = Plan {
            root,
            by_key: HashMap::new(),
            packed: 0,
            inflated: 0,
            file_len,
        };
        for (name, tensor) in state_dict {
            let view = this
                .view(&tensor, &mut plan)
                .map_err(|error| error.at(format!("tensor {}", printable(&name))))?;
            this.views.push(view);
            this.tensors.push(TensorInfo {
                name,
                dtype: tensor.dtype,
                shape: tensor.shape,
            });
        }
        Ok(this)
    }

    /// Holds a tensor of the pickle against the archive.
    fn view(&mut self, tensor: &TensorRef, plan: &mut Plan) -> Result<View> {
        let impossible = || {
            Error::format(format!(
                "{} of shape {:?}, strides {:?} has an impossible size: the file is damaged",
                tensor.dtype, tensor.shape, tensor.strides
            ))
        };
        let count = numel(&tensor.shape).ok_or_else(impossible)?;
        let bytes = tensor.dtype.bytes_of(count).ok_or_else(impossible)?;
        let record = self.record(tensor, plan)?;
        let Record { size, stored, .. } = self.records[record];
        if !stored {
            plan.inflated = plan.inflated.saturating_add(size);
            let most = plan
                .file_len
                .saturating_mul(MAX_INFLATION)
                .saturating_add(SLACK);
            if plan.inflated > most {
                return Err(Error::unsupported(
                    "compressed records inflate to far more than the file: save it again with torch.save",
                ));
            }
        }
        if count == 0 {
            return Ok(View {
                record,
                begin: 0,
                end: 0,
                strided: None,
            });
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
            return Ok(View {
                record,
                begin,
                end,
                strided: None,
            });
        }
        if bytes > size.max(SLACK) || end - begin > bytes.saturating_mul(4).saturating_add(SLACK) {
            return Err(Error::unsupported(format!(
                "a view of {bytes} bytes over {} of a storage: in Python, call .contiguous() on it before torch.save",
                end - begin
            )));
        }
        Ok(View {
            record,
            begin,
            end,
            strided: Some(dims),
        })
    }

    /// The record of a tensor's storage; checked when it is met first.
    fn record(&mut self, tensor: &TensorRef, plan: &mut Plan) -> Result<usize> {
        let key = printable(&tensor.key);
        if let Some(&index) = plan.by_key.get(&tensor.key) {
            let record = &self.records[index];
            if (record.dtype, record.numel) != (tensor.dtype, tensor.storage_numel) {
                return Err(Error::format(format!(
                    "storage {key} is both {} {} and {} {}: the file is damaged",
                    record.numel, record.dtype, tensor.storage_numel, tensor.dtype
                )));
            }
            return Ok(index);
        }
        let path = [&plan.root[..], b"/data/", tensor.key.as_bytes()].concat();
        let found = self.archive.index_for_name_raw(&path).and_then(|entry| {
            let data = self.archive.by_index_data(entry).ok()?;
            Some((entry, data))
        });
        let Some((entry, data)) = found else {
            return Err(Error::format(format!(
                "its storage, record data/{key}, is missing: download the file again"
            )));
        };
        let stored = is_stored(&data).at(format_args!("record data/{key}"))?;
        let (size, packed) = (data.size(), data.compressed_size());
        if tensor.dtype.bytes_of(tensor.storage_numel) != Some(size) {
            return Err(Error::format(format!(
                "record data/{key} holds {size} bytes, its storage is {} {}: the file is damaged",
                tensor.storage_numel, tensor.dtype
            )));
        }
        plan.packed = plan.packed.saturating_add(packed);
        if stored && packed != size || plan.packed > plan.file_len {
            return Err(Error::format(format!(
                "record data/{key} passes the end of the file or overlaps another: the file is damaged"
            )));
        }
        let index = self.records.len();
        self.records.push(Record {
            entry,
            dtype: tensor.dtype,
            numel: tensor.storage_numel,
            size,
            stored,
            verified: false,
        });
        plan.by_key.insert(tensor.key.clone(), index);
        Ok(index)
    }

    /// Passes bytes `begin..end` of a record to `sink`; [`Failure::Sink`] is its own error.
    ///
    /// The first time, the whole record is read, so that its checksum is known; later, views of a
    /// stored one are sought, or a storage shared by all tensors would be read once for each.
    fn window(
        &mut self,
        record: usize,
        (begin, end): (u64, u64),
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<(), Failure> {
        let Record {
            entry,
            size,
            stored,
            verified,
            ..
        } = self.records[record];
        let mut piece = vec![0; usize::try_from(size).unwrap_or(PIECE).clamp(1, PIECE)];
        if stored && verified {
            let mut file = self.archive.by_index_seek(entry)?;
            file.seek(SeekFrom::Start(begin))?;
            let mut left = end - begin;
            while left > 0 {
                let take = usize::try_from(left).unwrap_or(PIECE).min(piece.len());
                file.read_exact(&mut piece[..take])?;
                sink(&piece[..take]).map_err(Failure::Sink)?;
                left -= take as u64;
            }
            return Ok(());
        }
        let mut file = self.archive.by_index(entry)?;
        let mut at = 0_u64;
        while !verified || at < end {
            let read = match file.read(&mut piece) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            // The zip reader compares the checksum before it reports the end.
            if read == 0 {
                break;
            }
            let next = at.saturating_add(read as u64);
            if next > size {
                return Err(Failure::Length(next));
            }
            // Both differences are at most `read`.
            let from = usize::try_from(begin.clamp(at, next) - at).unwrap_or(0);
            let to = usize::try_from(end.clamp(at, next) - at).unwrap_or(0);
            if from < to {
                sink(&piece[from..to]).map_err(Failure::Sink)?;
            }
            at = next;
        }
        if at < end || !verified && at != size {
            return Err(Failure::Length(at));
        }
        self.records[record].verified = true;
        Ok(())
    }

    /// Copies a view that isn't contiguous element by element into row-major order.
    fn gather(
        &mut self,
        index: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<(), Failure> {
        let view = &self.views[index];
        let Some(dims) = view.strided.clone() else {
            return Ok(());
        };
        let (record, range) = (view.record, (view.begin, view.end));
        let size = usize::from(self.records[record].dtype.bits() / 8);
        let count = numel(&self.tensors[index].shape).unwrap_or(0);

        let mut window = Vec::new();
        usize::try_from(range.1 - range.0)
            .ok()
            .and_then(|len| window.try_reserve_exact(len).ok())
            .ok_or(Failure::Memory)?;
        self.window(record, range, &mut |piece| {
            window.extend_from_slice(piece);
            Ok(())
        })?;

        let mut piece = Vec::with_capacity(PIECE);
        let mut position = vec![0_usize; dims.len()];
        // In elements. It ends below the window's length, and a step adds one stride at most,
        // which is below it too: no overflow.
        let mut at = 0_u64;
        for _ in 0..count {
            let element = usize::try_from(at)
                .ok()
                .and_then(|at| at.checked_mul(size))
                .and_then(|at| window.get(at..at.checked_add(size)?))
                .ok_or(Failure::Length(window.len() as u64))?;
            piece.extend_from_slice(element);
            if piece.len() + size > PIECE {
                sink(&piece).map_err(Failure::Sink)?;
                piece.clear();
            }
            for (i, &(d, stride)) in position.iter_mut().zip(&dims).rev() {
                *i += 1;
                at += stride;
                if *i < d {
                    break;
                }
                at -= stride * d as u64;
                *i = 0;
            }
        }
        if !piece.is_empty() {
            sink(&piece).map_err(Failure::Sink)?;
        }
        Ok(())
    }
}

impl<R: Read + Seek + Send> Checkpoint for Pth<R> {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, index: usize, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some(view) = self.views.get(index) else {
            return Err(no_such_tensor(&self.name, index));
        };
        let done = if view.strided.is_some() {
            self.gather(index, sink)
        } else {
            let (record, range) = (view.record, (view.begin, view.end));
            self.window(record, range, sink)
        };
        done.map_err(|failure| {
            let error = match failure {
                Failure::Sink(error) => return error,
                Failure::Zip(error) => record_error(error),
                Failure::Length(at) => Error::new(
                    ErrorKind::Integrity,
                    format!("its record does not hold the bytes it promises ({at} arrived): download the file again"),
                ),
                Failure::Memory => Error::new(ErrorKind::OutOfMemory, "does not fit in memory"),
            };
            error.at(place(&self.name, &self.tensors[index].name))
        })
    }
}

/// What is known about the archive while its tensors are placed.
struct Plan {
    /// The archive's folder, as bytes: zip names have no sure encoding.
    root: Vec<u8>,
    by_key: HashMap<String, usize>,
    /// Bytes of all records so far, as they lie in the file.
    packed: u64,
    /// Bytes that reading all tensors so far inflates.
    inflated: u64,
    file_len: u64,
}

/// Why bytes of a record did not arrive.
enum Failure {
    Sink(Error),
    Zip(ZipError),
    /// Another length than the archive's directory says.
    Length(u64),
    Memory,
}

impl From<ZipError> for Failure {
    fn from(error: ZipError) -> Self {
        Self::Zip(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Zip(ZipError::Io(error))
    }
}

fn record_error(error: ZipError) -> Error {
    Error::new(
        ErrorKind::Integrity,
        printable(&format!(
            "its record can't be read ({error}): download the file again"
        )),
    )
    .with_source(error)
}

fn no_pickle() -> Error {
    Error::format(
        "a zip archive without ROOT/data.pkl, so torch.save did not write it: name the checkpoint itself",
    )
}

/// The one folder that holds `data.pkl`.
fn find_root<R>(archive: &ZipArchive<R>) -> Result<Vec<u8>>
where
    R: Read + Seek,
{
    let mut roots = archive.file_names_raw().filter_map(|name| {
        let root = name.strip_suffix(b"/data.pkl")?;
        (!root.is_empty() && !root.contains(&b'/')).then_some(root)
    });
    let root = roots.next().ok_or_else(no_pickle)?;
    if roots.next().is_some() {
        return Err(Error::format(
            "the zip archive holds several checkpoints: unpack it and name one",
        ));
    }
    Ok(root.to_owned())
}

/// Whether a record is stored as it is; false if it is deflated.
fn is_stored(data: &zip::read::ZipFileEntry<'_>) -> Result<bool> {
    if data.encrypted() {
        return Err(Error::unsupported(
            "it is encrypted: save it again with torch.save",
        ));
    }
    match data.compression() {
        CompressionMethod::Stored => Ok(true),
        CompressionMethod::Deflated => Ok(false),
        other => Err(Error::unsupported(printable(&format!(
            "it is compressed by {other}: save it again with torch.save"
        )))),
    }
}

/// Reads a whole record of at most `most` bytes and checks its checksum.
fn read_small<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    entry: usize,
    most: usize,
) -> Result<Vec<u8>> {
    let data = archive.by_index_data(entry).map_err(record_error)?;
    is_stored(&data)?;
    let size = data.size();
    if size > most as u64 {
        return Err(Error::format(format!(
            "{size} bytes, over the limit of {most}: no state dict needs that"
        )));
    }
    let mut bytes = Vec::new();
    let mut file = archive.by_index(entry).map_err(record_error)?;
    // One byte more than promised, so that the end, and with it the checksum, is seen.
    Read::take(&mut file, size + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| record_error(error.into()))?;
    if bytes.len() as u64 != size {
        return Err(Error::new(
            ErrorKind::Integrity,
            "its record does not hold the bytes it promises: download the file again",
        ));
    }
    Ok(bytes)
}
