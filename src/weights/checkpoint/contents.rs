//! What a checkpoint file holds and where, from a few ranges of its bytes, whoever reads them.
//!
//! [`read`] does no I/O: it asks for the range that it needs next, and starts over with that in
//! hand, so that a file on a disk, one on a server and one in a browser are opened by the same code.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use super::content::{CONTENT_BYTES, Content};
use super::record::Record;
use super::safetensors::Header;
use super::tensor_info::TensorInfo;
use super::torch;
use super::view::View;
use crate::error::{Error, Result};

/// The tensors of a checkpoint file, and where their bytes are.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The tensors: in the order of their data in safetensors, of the state dict in what
    /// `torch.save` wrote.
    pub(super) tensors: Vec<TensorInfo>,
    /// Where each lies.
    pub(super) views: Vec<View>,
    /// What they lie in.
    pub(super) records: Vec<Record>,
    /// The ranges that say all this.
    pub(super) front: Vec<Range<u64>>,
}

/// How far the reading of a file's contents came.
#[derive(Debug)]
pub enum Step {
    /// These bytes are needed, counted from the start of the file.
    Need(Range<u64>),
    /// All is known.
    Done(Contents),
}

/// What a reader can do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It lies here: records may be inflated while they are read.
    Local,
    /// It is read by ranges: records have to be stored as they are.
    Ranges,
}

impl Contents {
    /// The tensors.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The bytes of the file that have to be read for the tensor at `index` of
    /// [`tensors`](Self::tensors): all of its storage, and what belongs to that.
    pub fn range(&self, index: usize) -> Option<Range<u64>> {
        Some(self.record_of(index)?.range.clone())
    }

    /// Where the tensor at `index` lies in its record.
    pub(in crate::weights) fn view(&self, index: usize) -> Option<&View> {
        self.views.get(index)
    }

    /// What the tensor at `index` lies in.
    pub(in crate::weights) fn record_of(&self, index: usize) -> Option<&Record> {
        self.records.get(self.view(index)?.record)
    }

    /// The ranges of the file that were read to know all this.
    pub fn front(&self) -> &[Range<u64>] {
        &self.front
    }
}

/// The ranges of a file that are here.
#[derive(Clone, Debug)]
pub struct Parts {
    len: u64,
    parts: BTreeMap<u64, Vec<u8>>,
}

impl Parts {
    /// Nothing yet of a file of `len` bytes.
    pub const fn new(len: u64) -> Self {
        Self {
            len,
            parts: BTreeMap::new(),
        }
    }

    /// Adds the bytes that begin at `start`, in place of others that do.
    pub fn insert(&mut self, start: u64, bytes: Vec<u8>) {
        self.parts.insert(start, bytes);
    }

    /// True if the file begins as a page of HTML does.
    pub fn begins_with_markup(&self) -> bool {
        let first = self.parts.get(&0).map(|bytes| bytes.trim_ascii_start());
        first.is_some_and(|first| first.starts_with(b"<"))
    }

    /// The ranges, by where they begin.
    pub fn into_inner(self) -> BTreeMap<u64, Vec<u8>> {
        self.parts
    }

    /// The bytes of a range, from one range or several that meet.
    fn get(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, Stop> {
        if range.start > range.end || range.end > self.len {
            return Err(Stop::Error(Error::format(format!(
                "bytes {} to {} are needed, but the file has {}: download it again",
                range.start, range.end, self.len
            ))));
        }
        let mut joined = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let before = self.parts.range(..=at).rev();
            let mut found = before.filter_map(|(start, bytes)| {
                let rest = bytes.get(usize::try_from(at - start).ok()?..)?;
                (!rest.is_empty()).then_some(rest)
            });
            let Some(rest) = found.next() else {
                return Err(Stop::Need(at..range.end));
            };
            let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let rest = &rest[..rest.len().min(wanted)];
            if at == range.start && rest.len() == wanted {
                return Ok(Cow::Borrowed(rest));
            }
            joined.extend_from_slice(rest);
            at += rest.len() as u64;
        }
        Ok(Cow::Owned(joined))
    }
}

/// A file that is being opened: what is here of it, and what was asked for.
pub(super) struct Opening<'a> {
    parts: &'a Parts,
    /// What a reader can do with the file.
    pub(super) access: Access,
    asked: RefCell<Vec<Range<u64>>>,
}

/// Why a reader of a format did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// These bytes are needed.
    Need(Range<u64>),
    /// The file is no good.
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl<'a> Opening<'a> {
    /// The bytes of a range.
    pub(super) fn get(&self, range: Range<u64>) -> Result<Cow<'a, [u8]>, Stop> {
        self.asked.borrow_mut().push(range.clone());
        self.parts.get(range)
    }

    /// The length of the file in bytes.
    pub(super) const fn len(&self) -> u64 {
        self.parts.len
    }
}

/// Reads what a file holds from the ranges that are here.
///
/// # Errors
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if it is no checkpoint or breaks the format;
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it is well formed but of a kind that
/// isn't read; [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if a checksum is wrong.
pub fn read(parts: &Parts, access: Access) -> Result<Step> {
    let opening = Opening {
        parts,
        access,
        asked: RefCell::default(),
    };
    match contents(&opening) {
        Ok(mut contents) => {
            contents.front = opening.asked.into_inner();
            Ok(Step::Done(contents))
        }
        Err(Stop::Need(range)) => Ok(Step::Need(range)),
        Err(Stop::Error(error)) => Err(error),
    }
}

fn contents(file: &Opening<'_>) -> Result<Contents, Stop> {
    let len = file.len();
    let first = file.get(0..len.min(CONTENT_BYTES as u64))?;
    match Content::of(&first, len) {
        Content::Other(what) => Err(Error::format(what).into()),
        Content::Zip => torch::contents(file),
        Content::Unknown | Content::Safetensors => {
            // Not more than the limit of a header, and within the file.
            let needed = Header::needed(&first, len)? as u64;
            let start = file.get(0..needed.min(len))?;
            Ok(Header::parse(&start, len)?.into_contents())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_joined_from_what_is_here() {
        let mut parts = Parts::new(12);
        parts.insert(0, vec![0, 1, 2, 3]);
        parts.insert(2, vec![2, 3, 4, 5, 6]);
        parts.insert(9, vec![9, 10, 11]);
        let get = |range: Range<u64>| match parts.get(range) {
            Ok(bytes) => Ok(bytes.into_owned()),
            Err(Stop::Need(range)) => Err(range),
            Err(Stop::Error(error)) => panic!("{error}"),
        };
        assert_eq!(get(1..3), Ok(vec![1, 2]));
        assert_eq!(get(0..7), Ok((0..7).collect()));
        assert_eq!(get(5..5), Ok(vec![]));
        assert_eq!(get(5..10), Err(7..10));
        assert_eq!(get(10..12), Ok(vec![10, 11]));
        assert!(matches!(parts.get(10..13), Err(Stop::Error(_))));
    }
}
