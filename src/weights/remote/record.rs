//! What a complete load read, where nothing else names it: all that is used without a server.
//!
//! It is written when a model is loaded, and read only by loads that never reached the server. So
//! labels of one state of a repository are never put to the weights of another, however a load ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cache::Key;
use super::client::Pinned;
use super::listing::{Listing, is_commit};
use super::repository::Repository;
use super::transport::Transport;
use crate::error::{Error, ErrorKind, Result};
use crate::weights::manifest::to_hex;

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
    /// Adds what an earlier load read beyond this one, if both saw the same state of the repository.
    pub(super) fn join(mut self, before: &Self) -> Self {
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
    reason: String,
}

impl<T: Transport> Repository<T> {
    /// The server was never reached, so the last complete load is all there is: every part of it, or
    /// none. Once it has answered, what is kept may be older than what has come, and the two together
    /// are no model that anybody made.
    pub(super) async fn fall_back(&self, error: &Error) -> Option<&Offline> {
        if error.kind() != ErrorKind::Network || self.client.is_reached() {
            return None;
        }
        if self.offline.get().is_none() {
            let record = self.record().await?;
            if record.commit.as_deref() != self.commit() {
                return None;
            }
            // Nobody else sets it meanwhile.
            let _ = self.offline.set(Offline {
                record,
                reason: error.to_string(),
            });
        }
        self.offline.get()
    }

    /// The error of what the last complete load did not read.
    pub(super) fn out_of_reach(&self, file: &str, offline: &Offline) -> Error {
        Error::new(
            ErrorKind::Network,
            format!(
                "{}: is not in the cache, and the server can't be reached ({})",
                self.url(file),
                offline.reason
            ),
        )
    }

    /// The model is loaded: from here on, what was read of it is used where the server can't be
    /// reached.
    pub async fn complete(&self) {
        let Some(store) = self.store.as_ref().filter(|_| self.offline.get().is_none()) else {
            return;
        };
        let sha256 = async |bytes: &[u8]| self.client.transport().sha256(bytes).await;
        let texts = self.texts.take();
        let mut record = Record {
            commit: self.commit().map(str::to_owned),
            texts: BTreeMap::new(),
            pins: self.pins.borrow().clone(),
        };
        for (file, text) in &texts {
            let hash = match text {
                Some(text) => Some(to_hex(&sha256(text.as_bytes()).await)),
                None => None,
            };
            record.texts.insert(file.clone(), hash);
        }
        let before = self.record().await;
        if let Some(before) = &before {
            record = record.join(before);
            if record == *before {
                return;
            }
        }
        for (file, text) in &texts {
            if let Some(text) = text {
                let seal = sha256(text.as_bytes()).await;
                let key = self.newest_key(file, "text");
                store.put(&key, text.as_bytes(), seal).await;
            }
        }
        if let Some(listing) = &self.listing {
            let text = listing.to_json();
            let seal = sha256(&text).await;
            let key = self.listing_key(&listing.commit);
            store.put(&key, &text, seal).await;
        }
        // The last, since it is what the others are read by. Numbers and strings always have a JSON form.
        let text = serde_json::to_vec(&record).unwrap_or_default();
        let seal = sha256(&text).await;
        store.put(&self.record_key(), &text, seal).await;
    }

    /// What the last complete load read.
    async fn record(&self) -> Option<Record> {
        let text = self.sealed(&self.record_key()).await?;
        serde_json::from_slice(&text.bytes).ok()
    }

    /// What the hub said of a commit, which never changes.
    async fn kept_listing(&self, commit: &str) -> Option<Listing> {
        let text = self.sealed(&self.listing_key(commit)).await?;
        Listing::from_json(&text.bytes).filter(|listing| listing.commit == commit)
    }

    /// What the repository holds: from the hub, or from the cache if it can't be reached or the
    /// revision is a commit.
    pub(super) async fn read_listing(&self) -> Result<Option<Listing>> {
        let location = self.client.location();
        if location.listing_url().is_none() {
            return Ok(None);
        }
        if is_commit(&location.revision)
            && let Some(listing) = self.kept_listing(&location.revision).await
        {
            return Ok(Some(listing));
        }
        let error = match self.client.listing().await {
            Ok(listing) => return Ok(listing),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::Network || self.client.is_reached() {
            return Err(error);
        }
        let Some(record) = self.record().await else {
            return Err(error);
        };
        let listing = match &record.commit {
            None => None,
            Some(commit) => match self.kept_listing(commit).await {
                None => return Err(error),
                listing => listing,
            },
        };
        // It is the first thing that is asked for.
        let _ = self.offline.set(Offline {
            record,
            reason: error.to_string(),
        });
        Ok(listing)
    }

    fn record_key(&self) -> Key {
        self.newest_key("", "record")
    }

    fn listing_key(&self, commit: &str) -> Key {
        let content = self.own_identity("listing", "", commit);
        self.key(content, "listing".to_owned())
    }
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
