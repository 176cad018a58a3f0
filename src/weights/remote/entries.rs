//! What a model has in the cache, and under which names.

use sha2::{Digest as _, Sha256};

use super::cache::{Key, Sealed, Store};
use super::client::Client;
use super::hub::Location;
use super::transport::Transport;
use crate::hex::to_hex;

/// Stands in for a content's name where nothing names it.
const NEWEST: &str = "newest";

/// The entries of one model in a cache, which there may be none of.
pub(super) struct CacheEntries<'a, T> {
    store: Option<&'a Store>,
    location: &'a Location,
    /// It knows how to hash.
    transport: &'a T,
}

impl<'a, T: Transport> CacheEntries<'a, T> {
    pub(super) const fn new(store: Option<&'a Store>, client: &'a Client<T>) -> Self {
        Self {
            store,
            location: client.location(),
            transport: client.transport(),
        }
    }

    /// An entry of a content.
    pub(super) fn key(&self, content: String, entry: impl Into<String>) -> Key {
        Key {
            repository: self.location.name.clone(),
            content,
            entry: entry.into(),
        }
    }

    /// The key of an entry about a file's newest state, whose content nothing names.
    pub(super) fn newest_key(&self, file: &str, entry: &str) -> Key {
        let content = self.own_identity(NEWEST, file, &self.location.revision);
        self.key(content, entry)
    }

    /// The name of a content that is this hub's alone: another one's repository of the same name is
    /// another repository.
    pub(super) fn own_identity(&self, kind: &str, file: &str, known: &str) -> String {
        let endpoint = self.location.endpoint();
        identity(kind, file, &format!("{endpoint}\n{known}"))
    }

    /// An entry whose seal holds.
    pub(super) async fn sealed(&self, key: &Key) -> Option<Sealed> {
        let entry = self.store?.get(key).await?;
        let seal = self.transport.sha256(&entry.bytes).await;
        (seal == entry.seal).then_some(entry)
    }

    /// Keeps an entry, where there is a cache.
    pub(super) async fn keep(&self, key: &Key, bytes: &[u8]) {
        if let Some(store) = self.store {
            let seal = self.transport.sha256(bytes).await;
            store.put(key, bytes, seal).await;
        }
    }
}

/// The name of a content that is the same wherever it comes from.
pub(super) fn identity(kind: &str, file: &str, known: &str) -> String {
    let hash = Sha256::digest(format!("{kind}\n{file}\n{known}"));
    to_hex(&hash[..16])
}
