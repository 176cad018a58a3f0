//! The files of a model on a server: from the cache where they are there, from the server where
//! not, and checked against whatever says what they have to be.
//!
//! What a file's bytes have to be is known, in this order, from the model's own manifest (each
//! chunk), from the hub (the whole of a file), or from nothing but its `ETag`. The same names its
//! entries in the cache, so that bytes of another state are never taken for it. Small files that have
//! no name are kept with the rest of a complete load, for times without a server.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
#[cfg(not(target_family = "wasm"))]
use std::time::Duration;

use super::cache::{Key, Sealed, Store};
use super::client::{Client, Pinned, RemoteFile, check_len};
use super::entries::{CacheEntries, identity};
use super::listing::{Listed, Listing, is_commit};
use super::plan::Chunk;
use super::record::{self, Offline, Record};
use super::transport::Transport;
#[cfg(not(target_family = "wasm"))]
use super::{
    cache::{Claim, Turn},
    transport::Failure,
};
use crate::error::{At as _, Error, ErrorKind, Result};
use crate::hex::{from_hex, to_hex};
use crate::weights::shards::manifest::{CHUNK, FileHashes, MANIFEST_FILE, Manifest};

/// How often it is looked whether another process has fetched an entry, and how often in vain: for half a minute, as long as
/// a server may take to send anything.
#[cfg(not(target_family = "wasm"))]
const LOOK: Duration = Duration::from_millis(100);
#[cfg(not(target_family = "wasm"))]
const PATIENCE: u32 = 300;

/// The files of a model on a server.
pub struct Repository<T> {
    client: Client<T>,
    store: Option<Store>,
    listing: Option<Listing>,
    manifest: Option<Manifest>,
    /// The server could not be reached: what is not named otherwise is as it was then.
    offline: OnceCell<Offline>,
    cached: Cell<u64>,
    /// Whether the hub's names of small files are git's, as far as is known.
    names_as_git: Cell<Option<bool>>,
    /// The small files that came and that nothing names.
    texts: RefCell<BTreeMap<String, Option<String>>>,
    /// The files of weights that nothing but their `ETag` names.
    pins: RefCell<BTreeMap<String, Pinned>>,
    /// Takes warnings: what a person should know of a model that loads all the same.
    warn: Rc<dyn Fn(&str)>,
}

/// A file of weights.
pub struct WeightFile {
    remote: RemoteFile,
    hashes: Option<FileHashes>,
    /// The SHA-256 of all of it, if the hub says it.
    sha256: Option<[u8; 32]>,
    /// What names its content.
    identity: RefCell<Option<String>>,
    /// The chunks that this load fetched and kept.
    fresh: RefCell<Vec<u64>>,
    /// Its bytes can't be those of a checkpoint.
    is_broken: Cell<bool>,
}

impl WeightFile {
    /// Its length, once something has said it.
    pub fn known_len(&self) -> Option<u64> {
        self.remote.known_len()
    }

    /// The SHA-256 that all of it has to have, where no manifest says it of each chunk.
    pub const fn whole_hash(&self) -> Option<[u8; 32]> {
        match self.hashes {
            Some(_) => None,
            None => self.sha256,
        }
    }

    /// Notes an error that its bytes caused, whatever they were held to.
    pub(super) fn blame(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::Format {
            self.is_broken.set(true);
        }
        error
    }
}

impl<T: Transport> Repository<T> {
    /// Asks the hub what the repository holds, and reads the model's manifest, if there are such.
    ///
    /// Where the server can't be reached, the last complete load that `store` holds is used.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the server can't be reached and the cache knows nothing of the
    /// model; the errors of [`Manifest::from_json`]; those of an abort.
    pub async fn open(client: Client<T>, store: Option<Store>) -> Result<Self> {
        let mut repository = Self {
            client,
            store,
            listing: None,
            manifest: None,
            offline: OnceCell::new(),
            cached: Cell::new(0),
            names_as_git: Cell::new(None),
            texts: RefCell::default(),
            pins: RefCell::default(),
            warn: Rc::new(|_| {}),
        };
        repository.listing = repository.read_listing().await?;
        if let Some(listing) = &repository.listing {
            repository.client.at_commit(&listing.commit);
        }
        if let Some(text) = repository.text(MANIFEST_FILE).await? {
            let manifest = Manifest::from_json(&text);
            if manifest.is_err() {
                repository.forget_text(MANIFEST_FILE).await;
            }
            repository.manifest = Some(manifest.at(repository.url(MANIFEST_FILE))?);
        }
        Ok(repository)
    }

    /// What the repository holds: from the hub, or from the cache if it can't be reached or the
    /// revision is a commit.
    async fn read_listing(&self) -> Result<Option<Listing>> {
        let location = self.client.location();
        if location.listing_url().is_none() {
            return Ok(None);
        }
        if is_commit(&location.revision)
            && let Some(listing) = record::kept_listing(&self.entries(), &location.revision).await
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
        let Some(record) = Record::read(&self.entries()).await else {
            return Err(error);
        };
        let listing = match &record.commit {
            None => None,
            Some(commit) => match record::kept_listing(&self.entries(), commit).await {
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

    /// The server was never reached, so the last complete load is all there is: every part of it, or
    /// none. Once it has answered, what is kept may be older than what has come, and the two together
    /// are no model that anybody made.
    async fn fall_back(&self, error: &Error) -> Option<&Offline> {
        if error.kind() != ErrorKind::Network || self.client.is_reached() {
            return None;
        }
        if self.offline.get().is_none() {
            let record = Record::read(&self.entries()).await?;
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

    /// The model is loaded: from here on, what was read of it is used where the server can't be
    /// reached.
    pub async fn complete(&self) {
        if self.store.is_some() && self.offline.get().is_none() {
            let texts = self.texts.take();
            let pins = self.pins.borrow().clone();
            record::keep(&self.entries(), self.listing.as_ref(), &texts, pins).await;
        }
    }

    const fn entries(&self) -> CacheEntries<'_, T> {
        CacheEntries::new(self.store.as_ref(), &self.client)
    }

    /// From here on, calls `warn` with what a person should know of a model that loads all the same.
    #[must_use]
    pub fn warning(mut self, warn: Rc<dyn Fn(&str)>) -> Self {
        self.warn = warn;
        self
    }

    /// Passes a warning on.
    pub(super) fn warn(&self, message: &str) {
        (self.warn)(message);
    }

    /// What carries out the requests.
    pub const fn client(&self) -> &Client<T> {
        &self.client
    }

    /// The URL of a file, for messages.
    pub fn url(&self, file: &str) -> String {
        self.client.url(file)
    }

    /// The commit, if the hub said it.
    pub fn commit(&self) -> Option<&str> {
        self.listing.as_ref().map(|listing| listing.commit.as_str())
    }

    /// Bytes that came from the server, and bytes that came from the cache.
    pub const fn traffic(&self) -> (u64, u64) {
        (self.client.fetched(), self.cached.get())
    }

    /// True if the hub said what the repository holds.
    pub(super) const fn has_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// True if the repository is known to have the file.
    pub(super) fn is_listed(&self, file: &str) -> bool {
        self.listed(file).is_some()
    }

    /// Whether a file of weights that was asked for certainly is not there, or `None` if it is. Without the
    /// server it is not there if the last complete load read others.
    pub(super) fn absence(&self, file: &str) -> Option<bool> {
        let is_other = |offline: &Offline| {
            let pins = &offline.record.pins;
            !pins.is_empty() && !pins.contains_key(file)
        };
        let offline = self.offline.get().is_some_and(is_other);
        self.client.absence(file).or(offline.then_some(true))
    }

    /// True if the manifest lists the file.
    pub(super) fn is_in_manifest(&self, file: &str) -> bool {
        self.hashes(file).is_some()
    }

    /// False if the repository is known not to have the file.
    pub fn may_have(&self, file: &str) -> bool {
        self.listing
            .as_ref()
            .is_none_or(|listing| listing.file(file).is_some())
    }

    /// Reads a small text file; `None` if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the server can't be reached or keeps failing, [`ErrorKind::Format`] if the file is too large or no text,
    /// [`ErrorKind::Integrity`] if it is not what the manifest or the hub says, and [`ErrorKind::Aborted`].
    pub async fn text(&self, file: &str) -> Result<Option<String>> {
        if !self.may_have(file) {
            return Ok(None);
        }
        let key = self.text_key(file);
        match &key {
            Some(key) => {
                if let Some(text) = self.cached_text(file, key).await {
                    return Ok(Some(text));
                }
            }
            None => {
                if let Some(offline) = self.offline.get() {
                    return self.recorded_text(file, offline).await;
                }
            }
        }
        let mut fetched = self.client.text(file).await;
        if let Ok(Some(text)) = &fetched
            && self.check_text(file, text).is_err()
        {
            let again = self.client.text(file).await;
            // The same bytes twice: this hub's blob ids are probably not git's, so from here on they prove nothing.
            if let (Ok(again), Ok(first)) = (&again, &fetched)
                && again == first
                && self.names_as_git.get().is_none()
            {
                self.names_as_git.set(Some(false));
            }
            fetched = again;
        }
        if let Err(error) = &fetched
            && let Some(offline) = self.fall_back(error).await
        {
            return self.recorded_text(file, offline).await;
        }
        let text = fetched?;
        match &text {
            Some(text) => self.check_text(file, text)?,
            None if self.hashes(file).is_some() || self.listed(file).is_some() => {
                return Err(Error::new(
                    ErrorKind::Network,
                    format!(
                        "{}: the server does not send this file, which the model has; try again later",
                        self.url(file)
                    ),
                ));
            }
            None => {}
        }
        match (self.text_key(file), &text) {
            (Some(key), Some(text)) => {
                self.entries().keep(&key, text.as_bytes()).await;
            }
            // What nothing names is kept when the whole model is here.
            (None, text) if self.store.is_some() => {
                let mut texts = self.texts.borrow_mut();
                texts.insert(file.to_owned(), (*text).clone());
            }
            _ => {}
        }
        Ok(text)
    }

    /// A text turned out to be broken: it is not taken from the cache again.
    pub async fn forget_text(&self, file: &str) {
        self.texts.borrow_mut().remove(file);
        if let Some(store) = &self.store
            && let Some(key) = self.text_key(file)
        {
            store.remove(&key.repository, &key.content).await;
        }
    }

    async fn cached_text(&self, file: &str, key: &Key) -> Option<String> {
        let text = String::from_utf8(self.entries().sealed(key).await?.bytes).ok()?;
        self.check_text(file, &text).ok()?;
        Some(text)
    }

    /// A text as the last complete load read it.
    async fn recorded_text(&self, file: &str, offline: &Offline) -> Result<Option<String>> {
        let seal = match offline.record.texts.get(file) {
            Some(Some(seal)) => seal,
            Some(None) => return Ok(None),
            None => return Err(offline.lacks(&self.url(file))),
        };
        let entries = self.entries();
        let text = entries.sealed(&entries.newest_key(file, "text")).await;
        text.filter(|text| to_hex(&text.seal) == *seal)
            .and_then(|text| String::from_utf8(text.bytes).ok())
            .map(Some)
            .ok_or_else(|| offline.lacks(&self.url(file)))
    }

    /// Checks a text against what is known of it.
    fn check_text(&self, file: &str, text: &str) -> Result<()> {
        let wrong = |by: &str| {
            let place = self.url(file);
            Err(Error::new(
                ErrorKind::Integrity,
                format!("{place}: is not the file that {by} describes; load the model again"),
            ))
        };
        if let Some(hashes) = self.hashes(file) {
            return match FileHashes::of(text.as_bytes()) {
                Ok(own) if own == *hashes => Ok(()),
                _ => wrong(MANIFEST_FILE),
            };
        }
        let Some(listed) = self.listed(file) else {
            return Ok(());
        };
        let by_blob = self.names_as_git.get() != Some(false);
        if !listed.allows(text.as_bytes(), by_blob) {
            return wrong("the hub");
        }
        if by_blob && listed.blob.is_some() {
            self.names_as_git.set(Some(true));
        }
        Ok(())
    }

    fn hashes(&self, file: &str) -> Option<&FileHashes> {
        self.manifest.as_ref()?.file(file)
    }

    fn listed(&self, file: &str) -> Option<&Listed> {
        self.listing.as_ref()?.file(file)
    }

    /// Where a small file is kept, if something says what its bytes have to be.
    fn text_key(&self, file: &str) -> Option<Key> {
        let content = match (self.hashes(file), self.listed(file)) {
            (Some(hashes), _) => identity("text", file, &to_hex(&hashes.digest())),
            (None, Some(listed)) if listed.is_proof(self.names_as_git.get() != Some(false)) => self
                .entries()
                .own_identity("text", file, listed.oid.as_deref()?),
            _ => return None,
        };
        Some(self.entries().key(content, "text"))
    }

    /// A file of weights, and what is known of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the repository has no such file; [`ErrorKind::Integrity`] if the
    /// manifest and the hub differ in its length.
    pub async fn file(&self, name: &str) -> Result<WeightFile> {
        if !self.may_have(name) {
            return Err(Error::not_found(format!(
                "{}: there is no such file",
                self.url(name)
            )));
        }
        let hashes = self.hashes(name).cloned();
        let listed = self.listed(name);
        let listed_len = listed.and_then(|listed| listed.size);
        let len = hashes.as_ref().map(|hashes| hashes.size).or(listed_len);
        if let (Some(len), Some(listed)) = (len, listed_len)
            && len != listed
        {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!(
                    "{}: has {listed} bytes, but {MANIFEST_FILE} says {len}: upload both again",
                    self.url(name)
                ),
            ));
        }
        if let Some(len) = len {
            check_len(&self.url(name), len)?;
        }
        let identity = match (&hashes, listed.and_then(|listed| listed.oid.as_deref())) {
            // Each chunk is checked, so it is the same wherever it comes from.
            (Some(hashes), _) => Some(identity("file", name, &to_hex(&hashes.digest()))),
            (None, Some(oid)) => Some(self.entries().own_identity("file", name, oid)),
            (None, None) => None,
        };
        let file = WeightFile {
            remote: RemoteFile::new(name).with_len(len),
            hashes,
            sha256: listed
                .and_then(|listed| listed.sha256.as_deref())
                .and_then(from_hex),
            identity: RefCell::new(identity),
            fresh: RefCell::default(),
            is_broken: Cell::new(false),
        };
        if file.identity.borrow().is_none() {
            self.recall(&file).await?;
        }
        Ok(file)
    }

    /// If the cache may hold something of a file that nothing but its `ETag` names, asks the server
    /// for that, by one byte.
    async fn recall(&self, file: &WeightFile) -> Result<()> {
        let name = &file.remote.name;
        if self.offline.get().is_none() {
            let entries = self.entries();
            let pin = entries.sealed(&entries.newest_key(name, "pin")).await;
            if pin.is_none() {
                return Ok(());
            }
            match self.client.range(&file.remote, 0..1, &|_| {}).await {
                Ok(_) => {}
                // It knows no ranges.
                Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
                Err(error) => {
                    if self.fall_back(&error).await.is_none() {
                        return Err(error);
                    }
                }
            }
        }
        if let Some(offline) = self.offline.get() {
            match offline.record.pins.get(name) {
                Some(pinned) => file.remote.pin(pinned.clone()),
                None => return Err(offline.lacks(&self.url(name))),
            }
        }
        self.identify(file);
        Ok(())
    }

    /// Names the content of a file by the `ETag` that its server gave.
    fn identify(&self, file: &WeightFile) {
        let mut own = file.identity.borrow_mut();
        if own.is_some() {
            return;
        }
        if let Some(pinned) = file.remote.pinned()
            && let Some(etag) = &pinned.etag
        {
            let name = &file.remote.name;
            let known = format!("{} {etag}", pinned.len);
            *own = Some(self.entries().own_identity("etag", name, &known));
            self.pins.borrow_mut().insert(name.clone(), pinned);
        }
    }

    /// Bytes of a file that are not kept; fewer where the file ends.
    pub(super) async fn peek(&self, file: &WeightFile, range: Range<u64>) -> Result<Vec<u8>> {
        self.client.range(&file.remote, range, &|_| {}).await
    }

    /// A chunk; shorter where the file ends inside it. `arrived` is called with the number of bytes as they come.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the server can't be reached or keeps failing; [`ErrorKind::NotFound`] if there is no such file or it may not
    /// be read; [`ErrorKind::Integrity`] if the file changed since its first range, or the chunk is twice not what the manifest says;
    /// [`ErrorKind::Unsupported`] if the server sends no ranges; and [`ErrorKind::Aborted`].
    pub async fn chunk(
        &self,
        file: &WeightFile,
        chunk: &Chunk,
        arrived: &dyn Fn(u64),
    ) -> Result<Vec<u8>> {
        let hash = self.chunk_hash(file, chunk)?;
        let expected = |bytes: &[u8]| match file.known_len() {
            Some(len) => {
                chunk.range.end.min(len).saturating_sub(chunk.range.start) == bytes.len() as u64
            }
            None => !bytes.is_empty(),
        };
        let key = self.chunk_key(file, chunk.number);
        let kept = async || {
            let Sealed { bytes, seal } = self.store.as_ref()?.get(key.as_ref()?).await?;
            let is_right = expected(&bytes)
                && hash.is_none_or(|hash| hash == seal)
                && self.client.transport().sha256(&bytes).await == seal;
            is_right.then(|| {
                let count = bytes.len() as u64;
                self.cached.set(self.cached.get().saturating_add(count));
                arrived(count);
                bytes
            })
        };
        if let Some(bytes) = kept().await {
            return Ok(bytes);
        }

        // Of several processes that need it one fetches it, and the others find it here.
        #[cfg(not(target_family = "wasm"))]
        let turn = self.turn(key.as_ref()).await?;
        #[cfg(not(target_family = "wasm"))]
        let arrived = &|bytes| {
            if let Some(turn) = &turn {
                turn.goes_on();
            }
            arrived(bytes);
        };
        #[cfg(not(target_family = "wasm"))]
        if turn.is_some()
            && let Some(bytes) = kept().await
        {
            return Ok(bytes);
        }

        self.fetch_and_keep(file, chunk, hash, arrived).await
    }

    /// Waits while another process fetches an entry and gets on; `None` if it does not, or if nobody can tell.
    #[cfg(not(target_family = "wasm"))]
    async fn turn(&self, key: Option<&Key>) -> Result<Option<Box<dyn Turn>>> {
        let (Some(store), Some(key)) = (&self.store, key) else {
            return Ok(None);
        };
        let mut seen = None;
        let mut idle = 0;
        while idle < PATIENCE {
            match store.claim(key) {
                Claim::Taken(turn) => return Ok(Some(turn)),
                Claim::Open => return Ok(None),
                Claim::Busy(now) if seen == Some(now) => idle += 1,
                Claim::Busy(now) => (seen, idle) = (Some(now), 0),
            }
            if let Err(Failure::Aborted) = self.client.transport().sleep(LOOK).await {
                return Err(Error::aborted());
            }
        }
        Ok(None)
    }

    /// A chunk from the server, in place of what is in the cache.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk).
    pub(super) async fn refetch(&self, file: &WeightFile, chunk: &Chunk) -> Result<Vec<u8>> {
        let hash = self.chunk_hash(file, chunk)?;
        self.fetch_and_keep(file, chunk, hash, &|_| {}).await
    }

    /// Drops some chunks of what is kept of a file.
    pub(super) async fn blank(&self, file: &WeightFile, chunks: &[Chunk]) {
        if let Some(store) = &self.store {
            for chunk in chunks {
                if let Some(key) = self.chunk_key(file, chunk.number) {
                    store.blank(&key).await;
                }
            }
        }
    }

    /// The SHA-256 that a chunk has to have, if the manifest says it.
    fn chunk_hash(&self, file: &WeightFile, chunk: &Chunk) -> Result<Option<[u8; 32]>> {
        let Some(hashes) = &file.hashes else {
            return Ok(None);
        };
        usize::try_from(chunk.number)
            .ok()
            .and_then(|number| hashes.chunks.get(number).copied())
            .map(Some)
            .ok_or_else(|| self.wrong_chunk(file, chunk))
    }

    async fn fetch_and_keep(
        &self,
        file: &WeightFile,
        chunk: &Chunk,
        hash: Option<[u8; 32]>,
        arrived: &dyn Fn(u64),
    ) -> Result<Vec<u8>> {
        let mut bytes = self.fetch(file, chunk, arrived).await?;
        let mut seal = None;
        if let Some(hash) = hash {
            if self.client.transport().sha256(&bytes).await != hash {
                bytes = self.fetch(file, chunk, &|_| {}).await?;
                if self.client.transport().sha256(&bytes).await != hash {
                    return Err(self.wrong_chunk(file, chunk));
                }
            }
            seal = Some(hash);
        }
        self.identify(file);
        if let Some(store) = &self.store
            && let Some(key) = self.chunk_key(file, chunk.number)
        {
            let seal = match seal {
                Some(seal) => seal,
                None => self.client.transport().sha256(&bytes).await,
            };
            store.put(&key, &bytes, seal).await;
            file.fresh.borrow_mut().push(chunk.number);
            let pinned = self.pins.borrow().get(&file.remote.name).cloned();
            if chunk.number == 0
                && let Some(pinned) = pinned
            {
                // Numbers and strings always have a JSON form.
                let pin = serde_json::to_vec(&pinned).unwrap_or_default();
                let entries = self.entries();
                entries
                    .keep(&entries.newest_key(&file.remote.name, "pin"), &pin)
                    .await;
            }
        }
        Ok(bytes)
    }

    /// Fetches a chunk; a large file's in two halves at once.
    async fn fetch(
        &self,
        file: &WeightFile,
        chunk: &Chunk,
        arrived: &dyn Fn(u64),
    ) -> Result<Vec<u8>> {
        let range = chunk.range.clone();
        let middle = range.start + CHUNK / 2;
        // A server that knows no ranges can still send a small file whole.
        let is_small = file.known_len().is_none_or(|len| len <= CHUNK);
        if is_small || middle >= range.end {
            return self.client.range(&file.remote, range, arrived).await;
        }
        let (mut first, second) = futures_util::future::try_join(
            self.client
                .range(&file.remote, range.start..middle, arrived),
            self.client.range(&file.remote, middle..range.end, arrived),
        )
        .await?;
        first.extend(second);
        Ok(first)
    }

    /// A load failed: drops from the cache what may be at fault. Never bytes that a manifest describes, and nothing after
    /// an error of the server.
    pub async fn forget(&self, file: &WeightFile, error: &Error) {
        let Some(store) = self.store.as_ref().filter(|_| file.hashes.is_none()) else {
            return;
        };
        let fresh = file.fresh.take();
        if file.is_broken.get() {
            // Nothing says which of its chunks is wrong.
            if let Some(key) = self.chunk_key(file, 0) {
                store.remove(&key.repository, &key.content).await;
            }
        } else if error.kind() == ErrorKind::Format {
            // A header that does not fit the configuration. Chunks of earlier loads have been used before; those of
            // this load may be as wrong as the configuration.
            for key in fresh.iter().filter_map(|&n| self.chunk_key(file, n)) {
                store.blank(&key).await;
            }
        }
    }

    /// The error of a file that as a whole is not what the hub says.
    pub(super) fn wrong_file(&self, file: &WeightFile) -> Error {
        file.is_broken.set(true);
        Error::new(
            ErrorKind::Integrity,
            format!(
                "{}: its SHA-256 is not the one that the hub says; load the model again",
                self.url(&file.remote.name)
            ),
        )
    }

    fn wrong_chunk(&self, file: &WeightFile, chunk: &Chunk) -> Error {
        Error::new(
            ErrorKind::Integrity,
            format!(
                "{}: chunk {} (bytes {}-{}) is not the one that {MANIFEST_FILE} describes; the upload may be damaged",
                self.url(&file.remote.name),
                chunk.number,
                chunk.range.start,
                chunk.range.end.saturating_sub(1)
            ),
        )
    }

    fn chunk_key(&self, file: &WeightFile, number: u64) -> Option<Key> {
        let content = file.identity.borrow().clone()?;
        Some(self.entries().key(content, format!("{number:08}")))
    }
}
