//! A file whose chunks are held to the hashes of a manifest as they are read.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::manifest::{CHUNK, FileHashes, MANIFEST_FILE};
use crate::error::{At as _, Result};
use crate::weights::checkpoint::local::{open_file, open_reader};
use crate::weights::checkpoint::{Checkpoint, unreadable};

/// Opens a checkpoint file that a manifest lists, and holds what is read of it to its hashes.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such file, [`ErrorKind::Format`](crate::ErrorKind::Format) if it is no checkpoint or a broken one,
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it is of a type that is not read, [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) for bytes that the manifest does not describe.
pub fn open(path: &Path, hashes: FileHashes) -> Result<Box<dyn Checkpoint>> {
    let (file, name) = open_file(path)?;
    let verified = Verified::new(file, hashes)
        .map_err(|error| unreadable(&error))
        .at(&name)?;
    open_reader(verified, &name)
}

/// A reader that gives no byte of a chunk with another hash. It keeps one chunk in memory.
struct Verified<R> {
    reader: R,
    hashes: FileHashes,
    position: u64,
    /// The number of the chunk that is in `bytes`.
    chunk: Option<u64>,
    bytes: Vec<u8>,
}

impl<R: Read + Seek> Verified<R> {
    /// # Errors
    /// What the reader returns, and one if the file has another length.
    fn new(mut reader: R, hashes: FileHashes) -> io::Result<Self> {
        let len = reader.seek(SeekFrom::End(0))?;
        if len != hashes.size {
            return Err(io::Error::other(format!(
                "{len} bytes are there where {MANIFEST_FILE} says {}: download the file again",
                hashes.size
            )));
        }
        Ok(Self {
            reader,
            hashes,
            position: 0,
            chunk: None,
            bytes: Vec::new(),
        })
    }

    fn load(&mut self, number: u64) -> io::Result<()> {
        self.chunk = None;
        self.bytes.clear();
        self.reader.seek(SeekFrom::Start(number * CHUNK))?;
        Read::take(&mut self.reader, CHUNK).read_to_end(&mut self.bytes)?;
        let hash = usize::try_from(number)
            .ok()
            .and_then(|number| self.hashes.chunks.get(number));
        if hash != Some(&Sha256::digest(&self.bytes).into()) {
            return Err(io::Error::other(format!(
                "chunk {number} is not what {MANIFEST_FILE} says: download the file again"
            )));
        }
        self.chunk = Some(number);
        Ok(())
    }
}

impl<R: Read + Seek> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.hashes.size {
            return Ok(0);
        }
        let number = self.position / CHUNK;
        if self.chunk != Some(number) {
            self.load(number)?;
        }
        // Less than a chunk.
        let start = (self.position % CHUNK) as usize;
        let mut rest = self.bytes.get(start..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R> Seek for Verified<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.hashes.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn file() -> Vec<u8> {
        (0..2 * CHUNK + 1000).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn what_is_right_is_read_in_any_order() {
        let file = file();
        let hashes = FileHashes::of(&file[..]).unwrap();
        let mut verified = Verified::new(Cursor::new(&file), hashes).unwrap();
        for start in [2 * CHUNK - 10, 0, CHUNK - 3, 2 * CHUNK + 990] {
            verified.seek(SeekFrom::Start(start)).unwrap();
            let mut bytes = Vec::new();
            Read::take(&mut verified, 20)
                .read_to_end(&mut bytes)
                .unwrap();
            let start = start as usize;
            assert_eq!(bytes, file[start..file.len().min(start + 20)]);
        }
        assert_eq!(verified.seek(SeekFrom::End(5)).unwrap(), 2 * CHUNK + 1005);
        assert_eq!(verified.read(&mut [0; 5]).unwrap(), 0);
        assert!(verified.seek(SeekFrom::Current(i64::MIN)).is_err());
    }

    #[test]
    fn a_flipped_bit_is_found_in_its_chunk() {
        let mut file = file();
        let hashes = FileHashes::of(&file[..]).unwrap();
        file[CHUNK as usize + 5] ^= 1;
        let mut verified = Verified::new(Cursor::new(&file), hashes.clone()).unwrap();
        let mut bytes = vec![0; CHUNK as usize];
        verified.read_exact(&mut bytes).unwrap();
        let error = verified.read(&mut bytes).unwrap_err();
        assert!(error.to_string().contains("chunk 1"), "{error}");
        file.pop();
        assert!(Verified::new(Cursor::new(&file), hashes).is_err());
    }
}
