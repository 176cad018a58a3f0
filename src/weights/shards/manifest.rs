//! `aim.manifest.json`: the SHA-256 of every chunk of a model's files.
//!
//! ```json
//! {
//!   "version": 1,
//!   "chunk_size": 8388608,
//!   "files": {
//!     "model-00001-of-00001.safetensors": { "size": 9000000, "sha256": ["6e34…", "a8c1…"] }
//!   }
//! }
//! ```

use std::collections::BTreeMap;
use std::io::Read as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result, printable};
use crate::hex::{from_hex, to_hex};

/// The size of a chunk: what is fetched, verified and cached as one.
pub const CHUNK: u64 = 8 << 20;

/// The manifest's name in a model's folder.
pub const MANIFEST_FILE: &str = "aim.manifest.json";

/// Bounds on what a manifest may list; AIM-7B in 32 bits has 3300 chunks in 110 files.
mod limit {
    pub(super) const FILES: usize = 10_000;
    pub(super) const CHUNKS: usize = 1 << 17;
}

/// The manifest of a model: what its files hold, chunk by chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, FileHashes>,
}

/// The length of a file and the SHA-256 of its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHashes {
    /// Its length in bytes.
    pub size: u64,
    /// The hash of each chunk of [`CHUNK`] bytes, the last one shorter: none for an empty file.
    pub chunks: Vec<[u8; 32]>,
}

impl FileHashes {
    /// Reads a file to its end and hashes its chunks.
    ///
    /// # Errors
    /// What the reader returns.
    pub fn of(mut reader: impl std::io::Read) -> std::io::Result<Self> {
        let mut hashes = Self {
            size: 0,
            chunks: Vec::new(),
        };
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            std::io::Read::take(&mut reader, CHUNK).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                return Ok(hashes);
            }
            hashes.size = hashes.size.saturating_add(chunk.len() as u64);
            hashes.chunks.push(Sha256::digest(&chunk).into());
        }
    }

    /// A hash of all of it: files with equal chunks have equal ones.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.size.to_le_bytes());
        for chunk in &self.chunks {
            hasher.update(chunk);
        }
        hasher.finalize().into()
    }
}

#[derive(Deserialize, Serialize)]
struct Raw {
    version: u64,
    chunk_size: u64,
    files: BTreeMap<String, RawFile>,
}

#[derive(Deserialize, Serialize)]
struct RawFile {
    size: u64,
    sha256: Vec<String>,
}

impl Manifest {
    /// Reads the text of a manifest. Keys it does not know are left alone.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if it is no manifest, if a file has more or
    /// fewer hashes than its size needs, or a hash is not 64 lower-case hexadecimal digits;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for another version or size of
    /// chunk.
    pub fn from_json(text: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_str(text).map_err(|error| {
            Error::format(format!("is no manifest: {}", printable(&error.to_string())))
        })?;
        if raw.version != 1 || raw.chunk_size != CHUNK {
            return Err(Error::unsupported(format!(
                "has version {} and chunks of {} bytes, but version 1 and {CHUNK} bytes are supported",
                raw.version, raw.chunk_size
            )));
        }
        if raw.files.len() > limit::FILES {
            return Err(Error::format(format!(
                "lists {} files, over the limit of {}",
                raw.files.len(),
                limit::FILES
            )));
        }
        let mut total = 0_usize;
        let mut files = BTreeMap::new();
        for (name, file) in raw.files {
            let wrong = |what: String| Error::format(format!("{}: {what}", printable(&name)));
            let needed = file.size.div_ceil(CHUNK);
            if file.sha256.len() as u64 != needed {
                return Err(wrong(format!(
                    "{} hashes for {} bytes, which are {needed} chunks",
                    file.sha256.len(),
                    file.size
                )));
            }
            total = total.saturating_add(file.sha256.len());
            if total > limit::CHUNKS {
                return Err(wrong(format!("over {} chunks in all", limit::CHUNKS)));
            }
            let chunks = file
                .sha256
                .iter()
                .map(|hash| {
                    from_hex(hash).ok_or_else(|| {
                        wrong(format!(
                            "{:?} is no SHA-256 in lower-case hexadecimal digits",
                            printable(hash)
                        ))
                    })
                })
                .collect::<Result<_>>()?;
            let size = file.size;
            files.insert(name, FileHashes { size, chunks });
        }
        Ok(Self { files })
    }

    /// The text of the manifest, as [`from_json`](Self::from_json) reads it.
    pub fn to_json(&self) -> String {
        let raw = Raw {
            version: 1,
            chunk_size: CHUNK,
            files: self
                .files
                .iter()
                .map(|(name, file)| {
                    let sha256 = file.chunks.iter().map(|hash| to_hex(hash)).collect();
                    let size = file.size;
                    (name.clone(), RawFile { size, sha256 })
                })
                .collect(),
        };
        // Numbers, lists and strings always have a JSON form.
        serde_json::to_string_pretty(&raw).unwrap_or_default()
    }

    /// What it says about a file.
    pub fn file(&self, name: &str) -> Option<&FileHashes> {
        self.files.get(name)
    }

    /// The files it lists.
    pub fn files(&self) -> impl Iterator<Item = (&str, &FileHashes)> {
        self.files.iter().map(|(name, file)| (name.as_str(), file))
    }

    /// Adds a file, or replaces what was known of it.
    pub fn insert(&mut self, name: impl Into<String>, file: FileHashes) {
        self.files.insert(name.into(), file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn manifest(files: &str) -> Result<Manifest> {
        Manifest::from_json(&format!(
            r#"{{"version": 1, "chunk_size": 8388608, "files": {files}}}"#
        ))
    }

    #[test]
    fn a_manifest_survives_its_text() {
        let bytes = vec![7; CHUNK as usize + 5];
        let mut written = Manifest::default();
        written.insert("a.safetensors", FileHashes::of(&bytes[..]).unwrap());
        written.insert("empty", FileHashes::of(&b""[..]).unwrap());
        let read = Manifest::from_json(&written.to_json()).unwrap();
        assert_eq!(read, written);
        let file = read.file("a.safetensors").unwrap();
        assert_eq!((file.size, file.chunks.len()), (CHUNK + 5, 2));
        assert_eq!(file.chunks[1], <[u8; 32]>::from(Sha256::digest([7; 5])));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let hash = "0".repeat(64);
        let upper = "A".repeat(64);
        for files in [
            r#"{"a": {"size": 1, "sha256": []}}"#.to_owned(),
            format!(r#"{{"a": {{"size": 1, "sha256": ["{hash}", "{hash}"]}}}}"#),
            format!(r#"{{"a": {{"size": 0, "sha256": ["{hash}"]}}}}"#),
            format!(r#"{{"a": {{"size": 1, "sha256": ["{upper}"]}}}}"#),
            r#"{"a": {"size": 1, "sha256": ["00"]}}"#.to_owned(),
            r#"{"a": {"size": -1, "sha256": []}}"#.to_owned(),
            r#"{"a": {"size": 18446744073709551615, "sha256": []}}"#.to_owned(),
            "[]".to_owned(),
        ] {
            let error = manifest(&files).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{files}");
        }
        let other = r#"{"version": 2, "chunk_size": 8388608, "files": {}}"#;
        let error = Manifest::from_json(other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let other = r#"{"version": 1, "chunk_size": 4096, "files": {}}"#;
        let error = Manifest::from_json(other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
