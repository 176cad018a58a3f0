//! A checkpoint file that can be read and sought.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::contents::{self, Access, Contents, Parts, Step};
use super::inflate::inflate;
use super::record::{Frame, LOCAL_HEADER, Record};
use super::tensor_info::TensorInfo;
use super::view::ViewReader;
use super::{Checkpoint, PIECE, no_such_tensor, place, unreadable};
use crate::error::{At as _, Error, Result, printable};

/// Opens a checkpoint file by its content, whatever it is called: safetensors, or what `torch.save`
/// writes. Reads headers only.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the file can't be opened; otherwise those
/// of [`open_reader`].
pub fn open(path: &Path) -> Result<Box<dyn Checkpoint>> {
    let (file, name) = open_file(path)?;
    open_reader(BufReader::with_capacity(1 << 16, file), &name)
}

/// A file, and its name for messages.
pub fn open_file(path: &Path) -> Result<(File, String)> {
    let name = printable(&path.display().to_string());
    let file = File::open(path).map_err(|error| {
        Error::not_found(format!("{name}: can't be opened: {error}")).with_source(error)
    })?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(Error::not_found(format!(
            "{name}: is a directory: name the checkpoint file in it"
        )));
    }
    Ok((file, name))
}

/// Opens a checkpoint from anything that can be read and sought; `name` is for messages.
///
/// # Errors
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if it is no checkpoint or a broken one, [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it is of a type that is not read,
/// [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if reading fails.
pub fn open_reader<R>(mut reader: R, name: &str) -> Result<Box<dyn Checkpoint>>
where
    R: Read + Seek + Send + 'static,
{
    let name = printable(name);
    let contents = read_contents(&mut reader).at(&name)?;
    Ok(Box::new(Local {
        verified: vec![false; contents.records.len()],
        reader,
        name,
        contents,
    }))
}

fn read_contents<R: Read + Seek>(reader: &mut R) -> Result<Contents> {
    let len = reader
        .seek(SeekFrom::End(0))
        .map_err(|error| unreadable(&error))?;
    let mut parts = Parts::new(len);
    loop {
        match contents::read(&parts, Access::Local)? {
            Step::Done(contents) => return Ok(contents),
            Step::Need(range) => {
                let bytes = read_range(reader, &range).map_err(|error| unreadable(&error))?;
                parts.insert(range.start, bytes);
            }
        }
    }
}

/// The bytes of a range that lies in the file.
fn read_range<R: Read + Seek>(reader: &mut R, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let len = range.end - range.start;
    reader.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    Read::take(&mut *reader, len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == len {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// An open file.
struct Local<R> {
    reader: R,
    name: String,
    contents: Contents,
    /// Which records' checksums have been found right.
    verified: Vec<bool>,
}

impl<R: Read + Seek + Send> Checkpoint for Local<R> {
    fn tensors(&self) -> &[TensorInfo] {
        &self.contents.tensors
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, index: usize, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (Some(info), Some(view)) = (
            self.contents.tensors.get(index),
            self.contents.views.get(index),
        ) else {
            return Err(no_such_tensor(&self.name, index));
        };
        // What the sink returns is passed on as it is.
        let mut from_sink = None;
        let mut guarded = |bytes: &[u8]| {
            sink(bytes).map_err(|error| {
                from_sink = Some(error);
                Error::format("the reader stopped")
            })
        };
        let record = &self.contents.records[view.record];
        let is_verified = self.verified[view.record];
        let read = ViewReader::new(view).and_then(|mut own| {
            let window = is_verified.then_some(view.begin..view.end);
            data(&mut self.reader, record, window, &mut |at, bytes| {
                own.push(at, bytes, &mut guarded)
            })?;
            own.finish(&mut guarded)
        });
        match (read, from_sink) {
            (Ok(()), _) => {
                self.verified[view.record] = true;
                Ok(())
            }
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(error.at(place(&self.name, &info.name))),
        }
    }
}

/// Reads the data of a record: all of them, so that their checksum is known, or the bytes in `window`
/// of one whose checksum has been right. A storage that all tensors share would else be read once for
/// each.
fn data<R: Read + Seek>(
    reader: &mut R,
    record: &Record,
    window: Option<Range<u64>>,
    sink: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let failed = |error: io::Error| unreadable(&error);
    let start = match record.frame {
        Frame::Bare => record.range.start,
        Frame::Zip { .. } => {
            let header = record.range.start..record.range.start + LOCAL_HEADER;
            let header = read_range(reader, &header).map_err(failed)?;
            record.data_start(&header)?
        }
    };
    if let Frame::Zip {
        is_deflated: true, ..
    } = record.frame
    {
        reader.seek(SeekFrom::Start(start)).map_err(failed)?;
        return inflate(record, reader, sink);
    }
    let has_checksum = record.has_checksum() && window.is_none();
    let range = match window {
        Some(window) => window,
        None => 0..record.size,
    };
    let from = start.saturating_add(range.start);
    reader.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut at = range.start;
    let mut piece = vec![0; usize::try_from(record.size).unwrap_or(PIECE).min(PIECE)];
    while at < range.end {
        let take = usize::try_from(range.end - at)
            .unwrap_or(PIECE)
            .min(piece.len());
        let piece = &mut piece[..take];
        reader.read_exact(piece).map_err(failed)?;
        if has_checksum {
            hasher.update(piece);
        }
        sink(at, piece)?;
        at += take as u64;
    }
    if has_checksum {
        record.check(hasher)?;
    }
    Ok(())
}
