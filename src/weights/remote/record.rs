//! What a complete load read, where nothing else names it: all that is used without a server.
//!
//! It is written when a model is loaded, and read only by loads that never reached the server. So
//! labels of one state of a repository are never put to the weights of another, however a load ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::cache::Key;
use super::client::Pinned;
use super::entries::CacheEntries;
use super::listing::Listing;
use super::transport::Transport;
use crate::error::{Error, ErrorKind};
use crate::hex::to_hex;

/// What a complete load read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Record {
    /// The commit, if the hub said it.
    pub(super) commit: Option<String>,
    /// The SHA-256 of small files in hexadecimal digits; none of those that are not there.
    pub(super) texts: BTreeMap<String, Option<String>>,
    /// The files of weights that nothing but their `ETag` names.
    pub(super) pins: BTreeMap<String, Pinned>,
}

impl Record {
    /// What the last complete load read.
    pub(super) async fn read<T: Transport>(entries: &CacheEntries<'_, T>) -> Option<Self> {
        let text = entries.sealed(&record_key(entries)).await?;
        serde_json::from_slice(&text.bytes).ok()
    }

    /// Adds what an earlier load read beyond this one, if both saw the same state of the repository.
    fn join(mut self, before: &Self) -> Self {
        if self.commit == before.commit
            && agree(&self.texts, &before.texts)
            && agree(&self.pins, &before.pins)
        {
            for (file, text) in &before.texts {
                self.texts
                    .entry(file.clone())
                    .or_insert_with(|| text.clone());
            }
            for (file, pin) in &before.pins {
                self.pins.entry(file.clone()).or_insert_with(|| pin.clone());
            }
        }
        self
    }
}

/// What there is without a server.
pub(super) struct Offline {
    pub(super) record: Record,
    /// Why the server was not reached.
    pub(super) reason: String,
}

impl Offline {
    /// The error of what the last complete load did not read.
    pub(super) fn lacks(&self, url: &str) -> Error {
        Error::new(
            ErrorKind::Network,
            format!(
                "{url}: is not in the cache, and the server can't be reached ({})",
                self.reason
            ),
        )
    }
}

/// Keeps what a complete load read: the small files, what the hub said, and the record of both.
pub(super) async fn keep<T: Transport>(
    entries: &CacheEntries<'_, T>,
    listing: Option<&Listing>,
    texts: &BTreeMap<String, Option<String>>,
    pins: BTreeMap<String, Pinned>,
) {
    let mut record = Record {
        commit: listing.map(|listing| listing.commit.clone()),
        texts: texts
            .iter()
            .map(|(file, text)| {
                let hash = text.as_ref().map(|text| to_hex(&Sha256::digest(text)));
                (file.clone(), hash)
            })
            .collect(),
        pins,
    };
    if let Some(before) = Record::read(entries).await {
        record = record.join(&before);
        if record == before {
            return;
        }
    }
    for (file, text) in texts {
        if let Some(text) = text {
            let key = entries.newest_key(file, "text");
            entries.keep(&key, text.as_bytes()).await;
        }
    }
    if let Some(listing) = listing {
        let key = listing_key(entries, &listing.commit);
        entries.keep(&key, &listing.to_json()).await;
    }
    // Written last: the other entries are found through it. Numbers and strings always have a JSON form.
    let text = serde_json::to_vec(&record).unwrap_or_default();
    entries.keep(&record_key(entries), &text).await;
}

/// What the hub said of a commit, which never changes.
pub(super) async fn kept_listing<T: Transport>(
    entries: &CacheEntries<'_, T>,
    commit: &str,
) -> Option<Listing> {
    let text = entries.sealed(&listing_key(entries, commit)).await?;
    Listing::from_json(&text.bytes).filter(|listing| listing.commit == commit)
}

fn record_key<T: Transport>(entries: &CacheEntries<'_, T>) -> Key {
    entries.newest_key("", "record")
}

fn listing_key<T: Transport>(entries: &CacheEntries<'_, T>, commit: &str) -> Key {
    entries.key(entries.own_identity("listing", "", commit), "listing")
}

/// True if two maps have the same for what is in both.
fn agree<V: PartialEq>(a: &BTreeMap<String, V>, b: &BTreeMap<String, V>) -> bool {
    a.iter()
        .all(|(key, value)| b.get(key).is_none_or(|other| other == value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(texts: &[(&str, &str)]) -> Record {
        Record {
            texts: texts
                .iter()
                .map(|(file, hash)| ((*file).to_owned(), Some((*hash).to_owned())))
                .collect(),
            ..Record::default()
        }
    }

    #[test]
    fn only_the_same_state_is_joined() {
        let before = record(&[("config.json", "a"), ("labels.json", "b")]);
        let same = record(&[("config.json", "a")]);
        assert_eq!(same.join(&before), before);
        let other = record(&[("config.json", "c")]);
        assert_eq!(other.clone().join(&before), other);
        let commit = Record {
            commit: Some("1".repeat(40)),
            ..Record::default()
        };
        assert_eq!(commit.clone().join(&before), commit);
    }
}
