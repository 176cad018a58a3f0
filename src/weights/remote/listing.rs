//! What the hub says a repository holds: `api/models/REPO/revision/REVISION?blobs=true`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result, printable};
use crate::hex::{from_hex, to_hex};

/// The most files of a repository.
const MAX_FILES: usize = 100_000;

/// The files of a repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Listing {
    /// The commit: 40 hexadecimal digits.
    pub commit: String,
    files: BTreeMap<String, Listed>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Listed {
    /// Its length in bytes, if the hub says it.
    pub size: Option<u64>,
    /// The SHA-256 of a large file, in hexadecimal digits.
    pub sha256: Option<String>,
    /// What names its content: the hash of a large file, the git object of a small one.
    pub oid: Option<String>,
    /// The git object of a small file, if it is a SHA-1 in hexadecimal digits.
    pub blob: Option<String>,
}

impl Listed {
    /// True if it says what bytes the file has to have; `by_blob` if the git object counts.
    pub(super) const fn is_proof(&self, by_blob: bool) -> bool {
        self.sha256.is_some() || by_blob && self.blob.is_some()
    }

    /// False if it says that these are not the bytes of the file.
    pub(super) fn allows(&self, bytes: &[u8], by_blob: bool) -> bool {
        let sha256 = || to_hex(&Sha256::digest(bytes));
        self.size.is_none_or(|size| size == bytes.len() as u64)
            && self.sha256.as_ref().is_none_or(|hash| *hash == sha256())
            && (!by_blob || self.blob.as_ref().is_none_or(|hash| *hash == blob(bytes)))
    }
}

/// The name that git gives a file's content.
pub fn blob(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    to_hex(&hasher.finalize())
}

#[derive(Deserialize)]
struct Raw {
    sha: String,
    siblings: Vec<RawFile>,
}

#[derive(Deserialize)]
struct RawFile {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<RawLfs>,
}

#[derive(Deserialize)]
struct RawLfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// Reads the hub's answer.
    ///
    /// # Errors
    /// [`ErrorKind::Format`](crate::ErrorKind::Format) if it is none, or names no commit.
    pub fn from_hub(text: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_str(text).map_err(|error| {
            Error::format(format!(
                "the hub's answer is no listing: {}",
                printable(&error.to_string())
            ))
        })?;
        if !is_commit(&raw.sha) {
            return Err(Error::format("the hub's answer names no commit"));
        }
        if raw.siblings.len() > MAX_FILES {
            return Err(Error::format("the repository has too many files"));
        }
        let files = raw.siblings.into_iter().map(|file| {
            // What git has of a large file is a pointer.
            let blob = file
                .blob_id
                .clone()
                .filter(|id| file.lfs.is_none() && is_sha1(id));
            let lfs = file.lfs.unwrap_or(RawLfs {
                sha256: None,
                size: None,
            });
            let sha256 = lfs.sha256.filter(|hash| from_hex(hash).is_some());
            let listed = Listed {
                size: lfs.size.or(file.size),
                oid: sha256.clone().or(file.blob_id),
                sha256,
                blob,
            };
            (file.rfilename, listed)
        });
        Ok(Self {
            commit: raw.sha,
            files: files.collect(),
        })
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    pub(super) fn from_json(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text)
            .ok()
            .filter(|listing: &Self| is_commit(&listing.commit))
    }

    /// A text for the cache.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // Maps of strings and numbers always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A file, if the repository has it.
    pub fn file(&self, name: &str) -> Option<&Listed> {
        self.files.get(name)
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Listed)> {
        self.files.iter().map(|(name, file)| (name.as_str(), file))
    }
}

/// True for a commit's full name.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// True for what [`blob`] writes.
fn is_sha1(text: &str) -> bool {
    is_commit(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_answer_is_read() {
        let hash = "ab".repeat(32);
        let text = format!(
            r#"{{"_id": "x", "sha": "{}", "siblings": [
                {{"rfilename": "config.json", "size": 12, "blobId": "c0ffee"}},
                {{"rfilename": "m.safetensors", "size": 134, "blobId": "beef",
                  "lfs": {{"sha256": "{hash}", "size": 5000000000, "pointerSize": 134}}}}]}}"#,
            "1".repeat(40)
        );
        let listing = Listing::from_hub(&text).unwrap();
        assert_eq!(listing.file("config.json").unwrap().size, Some(12));
        let weights = listing.file("m.safetensors").unwrap();
        assert_eq!(weights.size, Some(5_000_000_000));
        assert_eq!(weights.oid.as_ref(), Some(&hash));
        assert!(weights.is_proof(true) && weights.blob.is_none());
        // Nothing that is known here says what its bytes have to be.
        assert!(!listing.file("config.json").unwrap().is_proof(true));
        assert!(listing.file("labels.json").is_none());
        assert_eq!(Listing::from_json(&listing.to_json()), Some(listing));
    }

    #[test]
    fn a_small_file_is_known_by_its_git_object() {
        // `printf 'hello\n' | git hash-object --stdin`
        let hello = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert_eq!(blob(b"hello\n"), hello);
        assert_eq!(blob(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        let listing = |more: &str| {
            let commit = "1".repeat(40);
            let text = format!(
                r#"{{"sha": "{commit}", "siblings": [{{"rfilename": "a", "blobId": "{hello}"{more}}}]}}"#
            );
            Listing::from_hub(&text).unwrap()
        };
        let small = listing("");
        let small = small.file("a").unwrap();
        assert!(small.is_proof(true));
        assert!(small.allows(b"hello\n", true) && !small.allows(b"hellO\n", true));
        assert!(small.allows(b"hellO\n", false) && !small.is_proof(false));
        // The object of a large file is that of its pointer.
        let large = listing(r#", "lfs": {"sha256": "broken"}"#);
        let large = large.file("a").unwrap();
        assert!(!large.is_proof(true) && large.allows(b"other bytes", true));
    }

    #[test]
    fn other_answers_are_refused() {
        for text in ["", "<html>", "{}", r#"{"sha": "main", "siblings": []}"#] {
            Listing::from_hub(text).unwrap_err();
        }
    }
}
