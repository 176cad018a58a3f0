//! Opens a checkpoint by its content, whatever it is called.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::content::{CONTENT_BYTES, Content};
use super::pth::Pth;
use super::safetensors::Safetensors;
use super::{Checkpoint, unreadable};
use crate::error::{At as _, Error, Result, printable};

/// Opens a checkpoint file: safetensors, or what `torch.save` writes. Reads headers only.
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
/// [`ErrorKind::Format`](crate::ErrorKind::Format) if it is no checkpoint or breaks the format;
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it is well formed but of a kind
/// that isn't read; [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if reading fails or a
/// checksum is wrong.
pub fn open_reader<R>(mut reader: R, name: &str) -> Result<Box<dyn Checkpoint>>
where
    R: Read + Seek + Send + 'static,
{
    let first = (|| -> io::Result<_> {
        let len = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        let mut first = Vec::new();
        (&mut reader)
            .take(CONTENT_BYTES as u64)
            .read_to_end(&mut first)?;
        Ok((first, len))
    })();
    let (first, len) = first.map_err(|error| unreadable(&error)).at(name)?;
    match Content::of(&first, len) {
        Content::Zip => Ok(Box::new(Pth::new(reader, name)?)),
        Content::Unknown | Content::Safetensors => Ok(Box::new(Safetensors::new(reader, name)?)),
        Content::Other(what) => Err(Error::format(format!("{name}: {what}"))),
    }
}
