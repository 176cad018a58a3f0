//! A range of a checkpoint file that holds the elements of a tensor or of a storage, as it is read.

use std::ops::Range;

use crc32fast::Hasher;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of a zip archive's local header before the name.
pub(in crate::weights) const LOCAL_HEADER: u64 = 30;

/// The most bytes of the name and the extra fields after that.
pub(in crate::weights) const LOCAL_NAMES: u64 = 2 * 0xffff;

/// Bytes that belong together in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::weights) struct Record {
    /// What of the file has to be read to have its data.
    pub(in crate::weights) range: Range<u64>,
    /// Bytes of the data.
    pub(in crate::weights) size: u64,
    /// How the data lie in `range`.
    pub(in crate::weights) frame: Frame,
}

/// How data lie in their range of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::weights) enum Frame {
    /// They are all of it.
    Bare,
    /// Behind a local header of a zip archive.
    Zip {
        /// The checksum of the data; none where the writer left them out.
        crc: Option<u32>,
        /// Bytes in the file.
        packed: u64,
        /// Compressed, by deflate.
        is_deflated: bool,
    },
}

impl Record {
    /// Where the data begin, from a local header.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it is none, or the data don't end where they must.
    pub(in crate::weights) fn data_start(&self, header: &[u8]) -> Result<u64> {
        let Frame::Zip { packed, .. } = self.frame else {
            return Ok(self.range.start);
        };
        let short = |at: usize| {
            header
                .get(at..)?
                .first_chunk()
                .map(|n| u64::from(u16::from_le_bytes(*n)))
        };
        let (Some(name), Some(extra), true) =
            (short(26), short(28), header.starts_with(b"PK\x03\x04"))
        else {
            return Err(Error::format(
                "its record has no header where the archive's directory says: the file is damaged",
            ));
        };
        // Sums of a file's length and three small numbers.
        let start = self
            .range
            .start
            .saturating_add(LOCAL_HEADER)
            .saturating_add(name)
            .saturating_add(extra);
        if start.saturating_add(packed) > self.range.end {
            return Err(Error::format(
                "its record passes the end of the file or overlaps another: the file is damaged",
            ));
        }
        Ok(start)
    }

    /// Compares a checksum of the data with what the archive says.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] if it is another.
    pub(in crate::weights) fn check(&self, hasher: Hasher) -> Result<()> {
        let Frame::Zip { crc: Some(crc), .. } = self.frame else {
            return Ok(());
        };
        let own = hasher.finalize();
        if own == crc {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Integrity,
            format!(
                "its record can't be read (its checksum is {own:08x}, the archive says {crc:08x}): download the file again"
            ),
        ))
    }

    /// True if damage shows by a checksum.
    pub(in crate::weights) const fn has_checksum(&self) -> bool {
        matches!(self.frame, Frame::Zip { crc: Some(_), .. })
    }
}

/// Takes the bytes of a record's range in order, and hands on the data.
pub(in crate::weights) struct RecordReader<'a> {
    record: &'a Record,
    header: Vec<u8>,
    /// Bytes that came.
    came: u64,
    /// Where the data begin, once that is known, counted from the start of the range.
    start: Option<u64>,
    hasher: Hasher,
}

impl<'a> RecordReader<'a> {
    /// Nothing came yet.
    pub(in crate::weights) fn new(record: &'a Record) -> Self {
        Self {
            record,
            header: Vec::new(),
            came: 0,
            start: matches!(record.frame, Frame::Bare).then_some(0),
            hasher: Hasher::new(),
        }
    }

    /// Takes the next bytes, and passes each piece of data to `sink` with its place among the data.
    ///
    /// # Errors
    /// As [`Record::data_start`], and what `sink` returns.
    pub(in crate::weights) fn push(
        &mut self,
        bytes: &[u8],
        sink: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.start.is_none() {
            let lacking = LOCAL_HEADER as usize - self.header.len();
            self.header
                .extend_from_slice(&bytes[..bytes.len().min(lacking)]);
            if self.header.len() == LOCAL_HEADER as usize {
                let start = self.record.data_start(&self.header)?;
                self.start = Some(start.saturating_sub(self.record.range.start));
            }
        }
        let from = self.came;
        self.came = from.saturating_add(bytes.len() as u64);
        let Some(start) = self.start else {
            return Ok(());
        };
        // Both are inside `bytes`.
        let begin = start.clamp(from, self.came);
        let end = start
            .saturating_add(self.record.size)
            .clamp(from, self.came);
        let data = &bytes[(begin - from) as usize..(end - from) as usize];
        if data.is_empty() {
            return Ok(());
        }
        if self.record.has_checksum() {
            self.hasher.update(data);
        }
        sink(begin - start, data)
    }

    /// The bytes end here.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] if they end early or their checksum is wrong.
    pub(in crate::weights) fn finish(self) -> Result<()> {
        let Self { record, .. } = self;
        let data = self.start.map(|start| self.came.saturating_sub(start));
        match data {
            Some(data) if data >= record.size => record.check(self.hasher),
            _ => Err(cut(data.unwrap_or(0))),
        }
    }
}

/// The error of a record whose data ended early or went on.
pub(in crate::weights) fn cut(came: u64) -> Error {
    Error::new(
        ErrorKind::Integrity,
        format!(
            "its record does not hold the bytes it promises ({came} arrived): download the file again"
        ),
    )
}
