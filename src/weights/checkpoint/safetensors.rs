//! The safetensors format: eight bytes with the length of a JSON header, the header, the data.
//!
//! [`Header`] does no I/O: a stream hands it the first bytes of a file and asks how many more it
//! needs. Source: the format's description and the checks of the safetensors crate, which are all
//! made here too; whatever that crate refuses is refused.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::content::Content;
pub use super::content::MAX_HEADER;
use super::contents::Contents;
use super::dtype::Dtype;
use super::record::{Frame, Record};
use super::tensor_info::{TensorInfo, numel};
use super::view::View;
use crate::error::{Error, Result, printable};

/// The most tensors of one file. The largest AIM has 266; the header's length alone would allow
/// millions, which cost far more memory than the file has bytes.
pub const MAX_TENSORS: usize = 100_000;

/// The most dimensions of one tensor: torch's own limit.
const MAX_RANK: usize = 64;

/// Bytes of the length before the header.
const PREFIX: usize = 8;

/// The checked header of a safetensors file.
#[derive(Clone, Debug)]
pub struct Header {
    tensors: Vec<TensorInfo>,
    ranges: Vec<Range<u64>>,
    data_start: u64,
    metadata: BTreeMap<String, String>,
}

impl Header {
    /// How many of the file's first bytes [`parse`](Self::parse) needs: 8 while `start` is shorter
    /// than that, then 8 and the length of the header.
    ///
    /// `start` is what has arrived of them, `file_len` the length of the whole file. Nothing is
    /// allocated, so a caller may reserve as much as this returns.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if the file is something else (empty, HTML,
    /// a git-lfs pointer, a PyTorch zip, ...), or its header's length is 0, over [`MAX_HEADER`] or
    /// over the file's.
    pub fn needed(start: &[u8], file_len: u64) -> Result<usize> {
        match Content::of(start, file_len) {
            Content::Other(what) => return Err(Error::format(what)),
            Content::Zip => {
                return Err(Error::format(
                    "a zip archive, perhaps of PyTorch, not safetensors",
                ));
            }
            Content::Safetensors | Content::Unknown => {}
        }
        if file_len < PREFIX as u64 {
            return Err(Error::format(format!(
                "not a checkpoint: {file_len} bytes are too few for a safetensors header; download it again"
            )));
        }
        let Some(prefix) = start.first_chunk::<PREFIX>() else {
            return Ok(PREFIX);
        };
        let n = u64::from_le_bytes(*prefix);
        if n == 0 {
            return Err(Error::format(
                "the safetensors header has length 0: download the file again",
            ));
        }
        // Beside a brace, a length that can't be is a broken header; without one it is noise.
        let hint = if start.get(PREFIX).is_none_or(|b| *b == b'{') {
            "the file is damaged or cut: download it again"
        } else {
            "this is no safetensors file"
        };
        if n > MAX_HEADER {
            return Err(Error::format(format!(
                "a safetensors header of {n} bytes is over the limit of {MAX_HEADER}: {hint}"
            )));
        }
        if n > file_len - PREFIX as u64 {
            return Err(Error::format(format!(
                "a safetensors header of {n} bytes passes the end of the file ({file_len} bytes): {hint}"
            )));
        }
        // At most 100 MB, so it fits.
        usize::try_from(n)
            .ok()
            .and_then(|n| n.checked_add(PREFIX))
            .ok_or_else(|| Error::format("the safetensors header is too large"))
    }

    /// Reads the header from the file's first bytes; bytes after those that
    /// [`needed`](Self::needed) asks for are ignored.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format), naming the tensor where there is one:
    /// those of [`needed`](Self::needed); fewer bytes than that; JSON that isn't a map of tensors;
    /// an unknown dtype; a name that comes twice; offsets that overlap, leave holes, or don't end
    /// with the file; a shape that overflows or doesn't fit its byte range.
    pub fn parse(start: &[u8], file_len: u64) -> Result<Self> {
        let needed = Self::needed(start, file_len)?;
        let json = match start.get(PREFIX..needed) {
            Some(json) if !json.is_empty() => json,
            _ => {
                return Err(Error::format(format!(
                    "{} of the header's {needed} bytes arrived: download it again",
                    start.len()
                )));
            }
        };
        if json.first() != Some(&b'{') {
            return Err(Error::format(
                "no safetensors file: its header does not begin with `{`",
            ));
        }
        let broken = |message: &str| {
            let message = printable(message);
            Error::format(format!("the safetensors header is broken: {message}"))
        };
        // Of a slice, serde_json would not look at texts that nobody reads.
        let text = std::str::from_utf8(json)
            .map_err(|error| broken(&error.to_string()).with_source(error))?;
        let raw: RawHeader<'_> = serde_json::from_str(text)
            .map_err(|error| broken(&error.to_string()).with_source(error))?;
        Self::check(raw, needed as u64, file_len)
    }

    /// The tensors, in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The bytes of the tensor at `index` of [`tensors`](Self::tensors), counted from the start of
    /// the file; `None` if there is no such index.
    pub fn range(&self, index: usize) -> Option<Range<u64>> {
        self.ranges.get(index).cloned()
    }

    /// Where the data start: 8 and the length of the header, in bytes.
    pub const fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Who wrote the file: `format` of its `__metadata__`, such as `pt` or `mlx`.
    pub fn format(&self) -> Option<&str> {
        self.metadata("format")
    }

    /// A text of the file's `__metadata__`, as it stands there: fit for a message only after
    /// [`printable`].
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The same in the terms of any checkpoint.
    pub(super) fn into_contents(self) -> Contents {
        let views = self.ranges.iter().enumerate().map(|(record, range)| View {
            record,
            begin: 0,
            end: range.end - range.start,
            strides: None,
        });
        let records = self.ranges.iter().map(|range| Record {
            range: range.clone(),
            size: range.end - range.start,
            frame: Frame::Bare,
        });
        Contents {
            views: views.collect(),
            records: records.collect(),
            tensors: self.tensors,
            front: Vec::new(),
        }
    }

    /// Checks the offsets: the tensors must cover the data exactly once.
    fn check(raw: RawHeader<'_>, data_start: u64, file_len: u64) -> Result<Self> {
        let mut entries = raw.tensors;
        entries.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut tensors = Vec::with_capacity(entries.len());
        let mut ranges = Vec::with_capacity(entries.len());
        let mut covered = 0_u64;
        for (name, entry) in entries {
            let (begin, end) = entry.data_offsets;
            let wrong =
                |what: String| Error::format(format!("tensor {}: {what}", printable(&name)));
            let Some(dtype) = Dtype::from_name(&entry.dtype) else {
                return Err(wrong(format!(
                    "unknown dtype {}: convert it to F32",
                    printable(&entry.dtype)
                )));
            };
            let size = entry
                .shape
                .0
                .iter()
                .try_fold(1_u64, |product, &d| product.checked_mul(d))
                .and_then(|numel| dtype.bytes_of(numel));
            let shape = entry
                .shape
                .0
                .iter()
                .map(|&d| usize::try_from(d).ok())
                .collect::<Option<Vec<usize>>>();
            let (Some(size), Some(shape)) = (size, shape) else {
                return Err(wrong(format!(
                    "{dtype} of shape {:?} has an impossible size: the file is damaged",
                    entry.shape.0
                )));
            };
            if end < begin || end - begin != size {
                return Err(wrong(format!(
                    "{dtype} of shape {shape:?} takes {size} bytes, its offsets are {begin} to {end}: the file is damaged"
                )));
            }
            if begin != covered {
                return Err(wrong(format!(
                    "its offsets {begin} to {end} {} what comes before, which ends at {covered}: the file is damaged",
                    if begin < covered {
                        "overlap"
                    } else {
                        "leave a hole after"
                    }
                )));
            }
            covered = end;
            // The sum can't overflow if it is to be below the file's length.
            let range = data_start
                .checked_add(begin)
                .zip(data_start.checked_add(end));
            let Some((begin, end)) = range.filter(|(_, end)| *end <= file_len) else {
                return Err(wrong(format!(
                    "ends {end} bytes into the data, past the end of the file ({file_len} bytes): download it again"
                )));
            };
            ranges.push(begin..end);
            tensors.push(TensorInfo {
                name: name.into_owned(),
                dtype,
                shape,
            });
        }
        let after = file_len.saturating_sub(data_start.saturating_add(covered));
        if after > 0 {
            return Err(Error::format(format!(
                "{after} bytes after the last tensor belong to none: the file is damaged or holds something else"
            )));
        }
        Ok(Self {
            tensors,
            ranges,
            data_start,
            metadata: raw.metadata,
        })
    }
}

/// The bytes in front of the data of a file with such tensors, in this order: the header's length and the header, padded
/// to 8 bytes; and the offset of each tensor from the start of the file.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a tensor has over 2^64 bytes.
pub fn write_header(
    tensors: &[TensorInfo],
    metadata: &[(&str, &str)],
) -> Result<(Vec<u8>, Vec<u64>)> {
    // Written by hand so that the entries stay in the order of their data.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let texts: Vec<String> = metadata
        .iter()
        .map(|(key, text)| format!("{}:{}", quoted(key), quoted(text)))
        .collect();
    let mut text = format!("{{\"__metadata__\":{{{}}}", texts.join(","));
    let mut end = 0_u64;
    let mut starts = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let bytes = numel(&tensor.shape)
            .and_then(|numel| tensor.dtype.bytes_of(numel))
            .ok_or_else(|| Error::unsupported(format!("tensor {} is too large", tensor.name)))?;
        let start = end;
        end = end.saturating_add(bytes);
        starts.push(start);
        text.push_str(&format!(
            ",{}:{{\"data_offsets\":[{start},{end}],\"dtype\":\"{}\",\"shape\":[{}]}}",
            quoted(&tensor.name),
            tensor.dtype.name(),
            tensor
                .shape
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(",")
        ));
    }
    text.push('}');
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    let front = bytes.len() as u64;
    let starts = starts
        .into_iter()
        .map(|start| start.saturating_add(front))
        .collect();
    Ok((bytes, starts))
}

/// The header's JSON, names still borrowed from it.
struct RawHeader<'a> {
    tensors: Vec<(Cow<'a, str>, RawTensor<'a>)>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawTensor<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Dims,
    data_offsets: (u64, u64),
}

/// A string that borrows where it has no escapes. (`Cow` as a map's key would always own.)
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A shape; its own type so that a long list is refused before it is stored.
struct Dims(Vec<u64>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DimsVisitor;
        impl<'de> Visitor<'de> for DimsVisitor {
            type Value = Dims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sizes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::new();
                while let Some(d) = seq.next_element()? {
                    if dims.len() == MAX_RANK {
                        return Err(A::Error::custom(format!(
                            "a shape of more than {MAX_RANK} dimensions"
                        )));
                    }
                    dims.push(d);
                }
                Ok(Dims(dims))
            }
        }
        deserializer.deserialize_seq(DimsVisitor)
    }
}

/// `__metadata__`: a map of strings.
#[derive(Default)]
struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetadataVisitor;
        impl<'de> Visitor<'de> for MetadataVisitor {
            type Value = Metadata;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("__metadata__ as a map of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<Key<'de>, Key<'de>>()? {
                    if texts.len() == MAX_TENSORS {
                        return Err(A::Error::custom("__metadata__ has too many texts"));
                    }
                    texts.insert(key.0.into_owned(), value.0.into_owned());
                }
                Ok(Metadata(texts))
            }
        }
        deserializer.deserialize_map(MetadataVisitor)
    }
}

impl<'de> Deserialize<'de> for RawHeader<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader<'de>, A::Error> {
                let mut tensors = Vec::new();
                let mut metadata = Metadata::default();
                let mut names = HashSet::new();
                while let Some(Key(name)) = map.next_key()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{name} comes twice")));
                    }
                    if name == "__metadata__" {
                        metadata = map.next_value()?;
                        continue;
                    }
                    if tensors.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                    }
                    let entry = map
                        .next_value()
                        .map_err(|error| A::Error::custom(format!("tensor {name}: {error}")))?;
                    tensors.push((name, entry));
                }
                Ok(RawHeader {
                    tensors,
                    metadata: metadata.0,
                })
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}
