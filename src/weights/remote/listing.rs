//! What the hub says a repository holds: `api/models/REPO/revision/REVISION?blobs=true`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::weights::manifest::from_hex;

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
        let raw: Raw = serde_json::from_str(text)
            .map_err(|error| Error::format(format!("the hub's answer is no listing: {error}")))?;
        if !is_commit(&raw.sha) {
            return Err(Error::format("the hub's answer names no commit"));
        }
        if raw.siblings.len() > MAX_FILES {
            return Err(Error::format("the repository has too many files"));
        }
        let files = raw.siblings.into_iter().map(|file| {
            let lfs = file.lfs.unwrap_or(RawLfs {
                sha256: None,
                size: None,
            });
            let sha256 = lfs.sha256.filter(|hash| from_hex(hash).is_some());
            let listed = Listed {
                size: lfs.size.or(file.size),
                oid: sha256.clone().or(file.blob_id),
                sha256,
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
        assert!(listing.file("labels.json").is_none());
        assert_eq!(Listing::from_json(&listing.to_json()), Some(listing));
    }

    #[test]
    fn other_answers_are_refused() {
        for text in ["", "<html>", "{}", r#"{"sha": "main", "siblings": []}"#] {
            Listing::from_hub(text).unwrap_err();
        }
    }
}
