//! The directory of a zip archive, from the end of its file.
//!
//! Only what lies in the directory counts: local headers say where data begin and nothing else. What an
//! honest archive never has is refused: several parts, overlapping records, two of one name. Source:
//! APPNOTE.TXT of PKWARE, sections 4.3 and 4.4, and `caffe2/serialize/inline_container.cc` of PyTorch, which always
//! writes the ZIP64 records.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::weights::checkpoint::contents::{Opening, Stop};
use crate::weights::checkpoint::record::LOCAL_HEADER;
use crate::weights::checkpoint::safetensors::MAX_TENSORS;

/// The end record, without its comment.
const END: u64 = 22;
/// The record before it that says where the ZIP64 end record is.
const LOCATOR: u64 = 20;
/// The ZIP64 end record, without extensions.
const END_64: u64 = 56;
/// How much of a file's end is looked at: all that the three can take with the longest comment.
const TAIL: u64 = END + 0xffff + LOCATOR + END_64;

/// An entry of the directory, before its name.
const ENTRY: usize = 46;
/// The longest directory, in bytes. That of the largest AIM takes 40 KB.
const MAX_DIRECTORY: u64 = 32 << 20;
/// More records than tensors: the pickle, the version, and what later versions of PyTorch add.
const MAX_ENTRIES: u64 = MAX_TENSORS as u64 + 100;

/// A record of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as bytes: zip names have no sure encoding.
    pub name: Vec<u8>,
    /// How it is compressed: 0 not at all, 8 by deflate.
    pub method: u16,
    /// Whether it is encrypted.
    pub is_encrypted: bool,
    /// The CRC-32 of its data.
    pub crc: u32,
    /// Bytes in the file.
    pub packed: u64,
    /// Bytes of its data.
    pub size: u64,
    /// Where its local header begins.
    pub start: u64,
    /// Where the next one, or the directory, begins.
    pub limit: u64,
}

/// Reads the directory.
///
/// # Errors
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if the archive is cut or damaged;
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it is one of several parts.
pub fn directory(file: &Opening<'_>) -> Result<Vec<Entry>, Stop> {
    let Directory { start, size, count } = find(file)?;
    if size > MAX_DIRECTORY || count > MAX_ENTRIES {
        return Err(Error::format(format!(
            "a zip archive with a directory of {count} records in {size} bytes, too many for a checkpoint"
        ))
        .into());
    }
    let end = start
        .checked_add(size)
        .ok_or_else(|| damaged("its directory passes its end"))?;
    let bytes = file.get(start..end)?;
    let mut rest = Fields(&bytes);
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(entry(&mut rest).ok_or_else(|| damaged("its directory is broken"))?);
    }
    if !rest.0.is_empty() {
        return Err(damaged("its directory holds more than its records").into());
    }
    place(&mut entries, start)?;
    Ok(entries)
}

/// Finds out where each record ends, at the latest.
fn place(entries: &mut [Entry], directory: u64) -> Result<()> {
    let starts = entries.iter().enumerate();
    // The type that `plan::passes` sorts too: each other one would be a sort of its own to download.
    let mut order: Vec<(u64, u64, usize)> = starts.map(|(i, entry)| (entry.start, 0, i)).collect();
    order.sort_unstable();
    let mut limit = directory;
    for &(_, _, i) in order.iter().rev() {
        let entry = &mut entries[i];
        entry.limit = limit;
        let least = entry
            .start
            .checked_add(LOCAL_HEADER)
            .and_then(|at| at.checked_add(entry.packed));
        if least.is_none_or(|least| least > limit) {
            return Err(Error::format(format!(
                "record {} passes the end of the file or overlaps another: the file is damaged",
                crate::error::printable(&String::from_utf8_lossy(&entry.name))
            )));
        }
        limit = entry.start;
    }
    let mut names = HashSet::new();
    if entries.iter().all(|entry| names.insert(&entry.name[..])) {
        return Ok(());
    }
    Err(Error::format(
        "the zip archive has two records of one name: download it again",
    ))
}

/// Where the directory is.
struct Directory {
    start: u64,
    size: u64,
    count: u64,
}

/// Reads the end of the archive.
fn find(file: &Opening<'_>) -> Result<Directory, Stop> {
    let len = file.len();
    let tail_start = len.saturating_sub(TAIL);
    let tail = file.get(tail_start..len)?;
    // The comment ends with the file, so a signature within one is not taken for the end record.
    let at = (0..=tail.len().saturating_sub(END as usize))
        .rev()
        .find(|&at| {
            let comment = tail.get(at + 20..).and_then(<[u8]>::first_chunk);
            tail[at..].starts_with(b"PK\x05\x06")
                && comment.is_some_and(|n| {
                    at + END as usize + usize::from(u16::from_le_bytes(*n)) == tail.len()
                })
        })
        .ok_or_else(|| damaged("its end is missing"))?;
    let broken = || damaged("its end is broken");
    let mut end = Fields(&tail[at + 4..]);
    let [disk, directory_disk, disk_count, count] = [end.u16(), end.u16(), end.u16(), end.u16()];
    let (size, start) = (end.u32(), end.u32());
    let (Some(disk), Some(directory_disk), Some(disk_count), Some(count), Some(size), Some(start)) =
        (disk, directory_disk, disk_count, count, size, start)
    else {
        return Err(broken().into());
    };
    let directory = Directory {
        start: start.into(),
        size: size.into(),
        count: count.into(),
    };
    let before = tail_start.saturating_add(at as u64);
    let locator = at
        .checked_sub(LOCATOR as usize)
        .map(|at| &tail[at..])
        .filter(|bytes| bytes.starts_with(b"PK\x06\x07"));
    let Some(locator) = locator else {
        let is_partial = disk != 0 || directory_disk != 0 || disk_count != count;
        // These stand for numbers that don't fit, which are elsewhere.
        if count == u16::MAX || size == u32::MAX || start == u32::MAX {
            return Err(damaged("the end of a large archive is missing").into());
        }
        return whole(directory, is_partial, before);
    };
    let mut locator = Fields(&locator[4..]);
    let (_, Some(end_64), Some(disks)) = (locator.u32(), locator.u64(), locator.u32()) else {
        return Err(broken().into());
    };
    let after = end_64.checked_add(END_64).filter(|end| *end <= before);
    let bytes = file.get(end_64..after.ok_or_else(broken)?)?;
    if !bytes.starts_with(b"PK\x06\x06") {
        return Err(broken().into());
    }
    let mut end = Fields(&bytes[12..]);
    let _versions = end.u32();
    let (Some(disk), Some(directory_disk)) = (end.u32(), end.u32()) else {
        return Err(broken().into());
    };
    let (Some(disk_count), Some(count_64), Some(size_64), Some(start_64)) =
        (end.u64(), end.u64(), end.u64(), end.u64())
    else {
        return Err(broken().into());
    };
    // The short record has the same numbers, as far as they fit.
    let agrees = |short: u64, most: u64, long: u64| short == most || short == long;
    if !agrees(directory.count, u16::MAX.into(), count_64)
        || !agrees(directory.size, u32::MAX.into(), size_64)
        || !agrees(directory.start, u32::MAX.into(), start_64)
    {
        return Err(broken().into());
    }
    let is_partial = disks > 1 || disk != 0 || directory_disk != 0 || disk_count != count_64;
    let directory = Directory {
        start: start_64,
        size: size_64,
        count: count_64,
    };
    whole(directory, is_partial, end_64)
}

/// Checks that the directory lies in this file, before what says where it is.
fn whole(directory: Directory, is_partial: bool, before: u64) -> Result<Directory, Stop> {
    if is_partial {
        return Err(Error::unsupported(
            "a zip archive of several parts: save it again with torch.save",
        )
        .into());
    }
    match directory.start.checked_add(directory.size) {
        Some(end) if end <= before => Ok(directory),
        _ => Err(damaged("its directory passes its end").into()),
    }
}

/// Reads an entry of the directory; `limit` is not known yet.
fn entry(rest: &mut Fields<'_>) -> Option<Entry> {
    let mut fixed = Fields(rest.take(ENTRY)?);
    if fixed.take(4)? != b"PK\x01\x02" {
        return None;
    }
    fixed.take(4)?; // versions
    let flags = fixed.u16()?;
    let method = fixed.u16()?;
    fixed.take(4)?; // time and date
    let crc = fixed.u32()?;
    let (packed, size) = (fixed.u32()?, fixed.u32()?);
    let (name, extra, comment) = (fixed.u16()?, fixed.u16()?, fixed.u16()?);
    let disk = fixed.u16()?;
    fixed.take(6)?; // attributes
    let start = fixed.u32()?;
    let name = rest.take(name.into())?;
    let mut extra = Fields(rest.take(extra.into())?);
    rest.take(comment.into())?;

    // The ZIP64 field has the numbers that don't fit above, in this order.
    let mut long = Fields(&[]);
    while let (Some(id), Some(len)) = (extra.u16(), extra.u16()) {
        let field = extra.take(len.into())?;
        if id == 1 {
            long = Fields(field);
        }
    }
    let mut widen = |short: u32| {
        if short == u32::MAX {
            long.u64()
        } else {
            Some(short.into())
        }
    };
    let size = widen(size)?;
    let packed = widen(packed)?;
    let start = widen(start)?;
    let disk = if disk == u16::MAX {
        long.u32()?
    } else {
        disk.into()
    };
    (disk == 0).then(|| Entry {
        name: name.to_vec(),
        method,
        is_encrypted: flags & 1 != 0,
        crc,
        packed,
        size,
        start,
        limit: 0,
    })
}

/// Bytes that are read from the front, little-endian.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

fn damaged(what: &str) -> Error {
    Error::format(format!(
        "a zip archive that is cut or damaged ({what}): download it again"
    ))
}
