//! Chunks that stay on this machine, so that a model comes from a server once.
//!
//! Where they are kept is a [`Cache`]'s affair: a folder, or a browser's Cache API. What is put
//! there carries a seal, its SHA-256, and what comes back broken counts as not there.

use std::cell::Cell;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use sha2::{Digest as _, Sha256};

/// Names one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The repository's name or the folder's URL.
    pub repository: String,
    /// Its content, of which all entries go together: safe as the name of a folder.
    pub content: String,
    /// The entry, safe as the name of a file.
    pub entry: String,
}

/// An entry's bytes, and their SHA-256 when they were put there.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What their SHA-256 has to be.
    pub seal: [u8; 32],
}

/// What comes of asking to be the one who fetches an entry.
#[cfg(not(target_family = "wasm"))]
pub enum Claim {
    /// Others wait until this is dropped.
    Taken(Box<dyn Turn>),
    /// Somebody else fetches it; the number changes for as long as that gets on.
    Busy(u64),
    /// Nothing tells who fetches it, so everybody may.
    Open,
}

/// The right to fetch an entry.
#[cfg(not(target_family = "wasm"))]
pub trait Turn {
    /// Tells those who wait that something came.
    fn goes_on(&self);
}

/// A place where entries are kept. It may be emptied at any time.
///
/// Several processes or pages may share it: a `put` has to be seen whole or not at all.
pub trait Cache {
    /// An entry, or `None` if it isn't there or can't be read.
    fn get<'a>(&'a self, key: &'a Key) -> LocalBoxFuture<'a, Option<Sealed>>;

    /// Keeps an entry, in place of an older one. On failure the reason, for a person.
    fn put<'a>(
        &'a self,
        key: &'a Key,
        bytes: &'a [u8],
        seal: [u8; 32],
    ) -> LocalBoxFuture<'a, Result<(), String>>;

    /// Asks to be the one who fetches an entry, without waiting.
    #[cfg(not(target_family = "wasm"))]
    fn claim(&self, _key: &Key) -> Claim {
        Claim::Open
    }

    /// Drops the entries of a content.
    fn remove<'a>(&'a self, repository: &'a str, content: &'a str) -> LocalBoxFuture<'a, ()>;
}

/// A cache, and what to do when it is full.
#[derive(Clone)]
pub struct Store {
    cache: Rc<dyn Cache>,
    warn: Rc<dyn Fn(&str)>,
    is_full: Rc<Cell<bool>>,
}

impl Store {
    /// Keeps entries in `cache`. If one can't be kept, `warn` is called once and none is kept after that.
    pub fn new(cache: Rc<dyn Cache>, warn: Rc<dyn Fn(&str)>) -> Self {
        Self {
            cache,
            warn,
            is_full: Rc::default(),
        }
    }

    pub(super) async fn get(&self, key: &Key) -> Option<Sealed> {
        self.cache.get(key).await
    }

    pub(super) async fn put(&self, key: &Key, bytes: &[u8], seal: [u8; 32]) {
        if self.is_full.get() {
            return;
        }
        if let Err(reason) = self.cache.put(key, bytes, seal).await {
            self.is_full.set(true);
            (self.warn)(&format!(
                "{} is not kept on this machine: {reason}",
                key.repository
            ));
        }
    }

    /// As [`Cache::claim`]; where nothing is kept, waiting for others brings nothing.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn claim(&self, key: &Key) -> Claim {
        if self.is_full.get() {
            return Claim::Open;
        }
        self.cache.claim(key)
    }

    pub(super) async fn remove(&self, repository: &str, content: &str) {
        self.cache.remove(repository, content).await;
    }

    /// Drops one entry of a content: without bytes it counts as not there. Where not even that can
    /// be kept, the others go with it.
    pub(super) async fn blank(&self, key: &Key) {
        let seal = Sha256::digest(b"").into();
        if self.cache.put(key, b"", seal).await.is_err() {
            self.remove(&key.repository, &key.content).await;
        }
    }
}
