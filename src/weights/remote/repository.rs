//! The files of a model on a server: from the cache where they are there, from the server where
//! not, and checked against whatever says what they have to be.
//!
//! What a file's bytes have to be is known, in this order, from the model's own manifest (each
//! chunk), from the hub (the whole of a large file), or from nothing but its `ETag`. The same names
//! its entries in the cache, so that bytes of another state are never taken for it.

use std::cell::{Cell, RefCell};

use sha2::{Digest as _, Sha256};

use super::cache::{Key, Sealed, Store};
use super::client::{Client, Pinned, RemoteFile};
use super::listing::{Listed, Listing, is_commit};
use super::plan::{CHUNK, Chunk};
use super::transport::Transport;
use crate::error::{At as _, Error, ErrorKind, Result};
use crate::weights::manifest::{FileHashes, MANIFEST_FILE, Manifest, from_hex, to_hex};

/// The cache entries of files whose content nothing names: the newest that came.
const NEWEST: &str = "newest";

/// The files of a model on a server.
pub struct Repository<T> {
    client: Client<T>,
    store: Option<Store>,
    listing: Option<Listing>,
    manifest: Option<Manifest>,
    /// The server could not be reached: ask the cache first.
    is_offline: Cell<bool>,
    cached: Cell<u64>,
}

/// A file of weights.
pub struct WeightFile {
    remote: RemoteFile,
    hashes: Option<FileHashes>,
    /// The SHA-256 of all of it, if the hub says it.
    sha256: Option<[u8; 32]>,
    /// What names its content.
    identity: RefCell<Option<String>>,
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
}

impl<T: Transport> Repository<T> {
    /// Asks the hub what the repository holds, and reads the model's manifest, if there are such.
    ///
    /// Where the server can't be reached, what the `store` knows of the revision is taken.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the server can't be reached and the cache knows nothing of the
    /// model; the errors of [`Manifest::from_json`]; those of an abort.
    pub async fn open(mut client: Client<T>, store: Option<Store>) -> Result<Self> {
        let is_offline = Cell::new(false);
        let listing = listing(&client, store.as_ref(), &is_offline).await?;
        if let Some(listing) = &listing {
            client.at_commit(&listing.commit);
        }
        let mut repository = Self {
            client,
            store,
            listing,
            manifest: None,
            is_offline,
            cached: Cell::new(0),
        };
        if let Some(text) = repository.text(MANIFEST_FILE).await? {
            let manifest = Manifest::from_json(&text);
            if manifest.is_err() {
                repository.forget_text(MANIFEST_FILE).await;
            }
            repository.manifest = Some(manifest.at(repository.url(MANIFEST_FILE))?);
        }
        Ok(repository)
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

    /// False if the repository is known not to have the file.
    pub fn may_have(&self, file: &str) -> bool {
        self.listing
            .as_ref()
            .is_none_or(|listing| listing.file(file).is_some())
    }

    /// Reads a small text file; `None` if there is none.
    ///
    /// # Errors
    /// Those of [`Client::text`]; [`ErrorKind::Integrity`] if it is not what the manifest or the
    /// hub says.
    pub async fn text(&self, file: &str) -> Result<Option<String>> {
        if !self.may_have(file) {
            return Ok(None);
        }
        let identity = self.text_identity(file);
        if (identity.is_some() || self.is_offline.get())
            && let Some(text) = self.cached_text(file, identity.as_deref()).await
        {
            return Ok(text);
        }
        let mut fetched = self.client.text(file).await;
        if let Ok(Some(text)) = &fetched
            && self.check_text(file, text).is_err()
        {
            fetched = self.client.text(file).await;
        }
        let text = match fetched {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::Network => {
                let cached = self.cached_text(file, identity.as_deref()).await;
                self.is_offline.set(cached.is_some());
                return cached.ok_or(error);
            }
            Err(error) => return Err(error),
        };
        match &text {
            Some(text) => self.check_text(file, text)?,
            None if identity.is_some() => {
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
        if let Some(store) = &self.store {
            // The first byte says whether there is such a file.
            let mut bytes = vec![u8::from(text.is_some())];
            bytes.extend(text.iter().flat_map(|text| text.bytes()));
            let key = self.text_key(file, identity.as_deref());
            let seal = self.client.transport().sha256(&bytes).await;
            store.put(&key, &bytes, seal).await;
        }
        Ok(text)
    }

    /// A text turned out to be broken: it is not taken from the cache again.
    pub async fn forget_text(&self, file: &str) {
        if let Some(store) = &self.store {
            let key = self.text_key(file, self.text_identity(file).as_deref());
            store.remove(&key.repository, &key.content).await;
        }
    }

    async fn cached_text(&self, file: &str, identity: Option<&str>) -> Option<Option<String>> {
        let key = self.text_key(file, identity);
        let bytes = self.cached(&key).await?;
        let (exists, text) = bytes.split_first()?;
        if *exists == 0 {
            return Some(None);
        }
        let text = String::from_utf8(text.to_vec()).ok()?;
        self.check_text(file, &text).ok()?;
        Some(Some(text))
    }

    /// Checks a text against what is known of it.
    fn check_text(&self, file: &str, text: &str) -> Result<()> {
        let wrong = || {
            let place = self.url(file);
            let by = if self.hashes(file).is_some() {
                MANIFEST_FILE
            } else {
                "the hub"
            };
            Error::new(
                ErrorKind::Integrity,
                format!("{place}: is not the file that {by} describes; load the model again"),
            )
        };
        if let Some(hashes) = self.hashes(file) {
            let own = FileHashes::of(text.as_bytes()).map_err(|_| wrong())?;
            return if own == *hashes { Ok(()) } else { Err(wrong()) };
        }
        let size = self.listed(file).and_then(|listed| listed.size);
        if size.is_some_and(|size| size != text.len() as u64) {
            return Err(wrong());
        }
        Ok(())
    }

    fn hashes(&self, file: &str) -> Option<&FileHashes> {
        self.manifest.as_ref()?.file(file)
    }

    fn listed(&self, file: &str) -> Option<&Listed> {
        self.listing.as_ref()?.file(file)
    }

    /// What names the content of a small file, if something does.
    fn text_identity(&self, file: &str) -> Option<String> {
        let known = match (self.hashes(file), self.listed(file)) {
            (Some(hashes), _) => to_hex(&hashes.digest()),
            (None, Some(listed)) => listed.oid.clone()?,
            (None, None) => return None,
        };
        Some(identity("text", file, &known))
    }

    fn text_key(&self, file: &str, identity: Option<&str>) -> Key {
        let newest = || self::identity(NEWEST, file, &self.client.location().revision);
        self.key(
            identity.map_or_else(newest, str::to_owned),
            "text".to_owned(),
        )
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
        let known = match (&hashes, listed) {
            (Some(hashes), _) => Some(to_hex(&hashes.digest())),
            (None, Some(listed)) => listed.oid.clone(),
            (None, None) => None,
        };
        let file = WeightFile {
            remote: RemoteFile::new(name).with_len(len),
            hashes,
            sha256: listed
                .and_then(|listed| listed.sha256.as_deref())
                .and_then(from_hex),
            identity: RefCell::new(known.map(|known| identity("file", name, &known))),
        };
        if file.identity.borrow().is_none() {
            self.recall(&file).await?;
        }
        Ok(file)
    }

    /// If the cache knows a file that nothing but its `ETag` names, asks the server whether it is
    /// still that, by one byte.
    async fn recall(&self, file: &WeightFile) -> Result<()> {
        let Some(known) = self.cached(&self.pin_key(file)).await else {
            return Ok(());
        };
        let Ok(known) = serde_json::from_slice::<Pinned>(&known) else {
            return Ok(());
        };
        if !self.is_offline.get() {
            match self.client.range(&file.remote, 0..1, &|_| {}).await {
                Ok(_) => {}
                // It knows no ranges.
                Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Network => self.is_offline.set(true),
                Err(error) => return Err(error),
            }
        }
        if self.is_offline.get() {
            file.remote.pin(known);
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
        if let Some(Pinned {
            len,
            etag: Some(etag),
        }) = file.remote.pinned()
        {
            *own = Some(identity(
                "etag",
                &file.remote.name,
                &format!("{len} {etag}"),
            ));
        }
    }

    /// The first `count` bytes of a file, or fewer if it has no more, and its length. They are not
    /// kept.
    pub(super) async fn start(&self, name: &str, count: u64) -> Result<(Vec<u8>, u64)> {
        let file = self.file(name).await?;
        let start = self.client.range(&file.remote, 0..count, &|_| {}).await?;
        let len = file.known_len().unwrap_or(start.len() as u64);
        Ok((start, len))
    }

    /// A chunk; shorter where the file ends inside it. `arrived` is told of bytes as they come.
    ///
    /// # Errors
    /// Those of [`Client::range`]; [`ErrorKind::Integrity`] if it is twice not what the manifest
    /// says.
    pub async fn chunk(
        &self,
        file: &WeightFile,
        chunk: &Chunk,
        arrived: &dyn Fn(u64),
    ) -> Result<Vec<u8>> {
        let hash = match &file.hashes {
            None => None,
            Some(hashes) => Some(
                usize::try_from(chunk.number)
                    .ok()
                    .and_then(|number| hashes.chunks.get(number).copied())
                    .ok_or_else(|| self.wrong_chunk(file, chunk))?,
            ),
        };
        let expected = |bytes: &[u8]| match file.known_len() {
            Some(len) => {
                chunk.range.end.min(len).saturating_sub(chunk.range.start) == bytes.len() as u64
            }
            None => true,
        };
        let key = self.chunk_key(file, chunk.number);
        if let Some(key) = &key
            && let Some(store) = &self.store
            && let Some(Sealed { bytes, seal }) = store.get(key).await
            && expected(&bytes)
            && hash.is_none_or(|hash| hash == seal)
            && self.client.transport().sha256(&bytes).await == seal
        {
            let count = bytes.len() as u64;
            self.cached.set(self.cached.get().saturating_add(count));
            arrived(count);
            return Ok(bytes);
        }

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
            if file.hashes.is_none()
                && let Some(pinned) = file.remote.pinned()
                && chunk.number == 0
            {
                // Numbers and strings always have a JSON form.
                let pin = serde_json::to_vec(&pinned).unwrap_or_default();
                let seal = self.client.transport().sha256(&pin).await;
                store.put(&self.pin_key(file), &pin, seal).await;
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

    /// A file turned out to be broken: none of it is taken from the cache again.
    pub async fn forget(&self, file: &WeightFile) {
        if let Some(store) = &self.store
            && let Some(key) = self.chunk_key(file, 0)
        {
            store.remove(&key.repository, &key.content).await;
        }
    }

    /// The error of a file that as a whole is not what the hub says.
    pub(super) fn wrong_file(&self, file: &WeightFile) -> Error {
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
        Some(self.key(content, format!("{number:08}")))
    }

    fn pin_key(&self, file: &WeightFile) -> Key {
        let revision = &self.client.location().revision;
        self.key(
            identity(NEWEST, &file.remote.name, revision),
            "pin".to_owned(),
        )
    }

    fn key(&self, content: String, entry: String) -> Key {
        Key {
            repository: self.client.location().name.clone(),
            content,
            entry,
        }
    }

    async fn cached(&self, key: &Key) -> Option<Vec<u8>> {
        sealed(&self.client, self.store.as_ref()?, key).await
    }
}

/// What the repository holds: from the hub, or from the cache if it can't be reached or the
/// revision is a commit, which never changes.
async fn listing<T: Transport>(
    client: &Client<T>,
    store: Option<&Store>,
    is_offline: &Cell<bool>,
) -> Result<Option<Listing>> {
    let location = client.location();
    if location.listing_url().is_none() {
        return Ok(None);
    }
    let key = Key {
        repository: location.name.clone(),
        content: identity("revision", "", &location.revision),
        entry: "listing".to_owned(),
    };
    let cached = async || {
        let text = sealed(client, store?, &key).await?;
        Listing::from_json(&text)
    };
    if is_commit(&location.revision)
        && let Some(listing) = cached().await
    {
        return Ok(Some(listing));
    }
    let listing = match client.listing().await {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::Network && store.is_some() => {
            is_offline.set(true);
            return Ok(cached().await);
        }
        Err(error) => return Err(error),
    };
    if let (Some(listing), Some(store)) = (&listing, store) {
        let text = listing.to_json();
        let seal = client.transport().sha256(&text).await;
        store.put(&key, &text, seal).await;
    }
    Ok(listing)
}

/// An entry whose seal holds.
async fn sealed<T: Transport>(client: &Client<T>, store: &Store, key: &Key) -> Option<Vec<u8>> {
    let Sealed { bytes, seal } = store.get(key).await?;
    (client.transport().sha256(&bytes).await == seal).then_some(bytes)
}

/// The name of a content in the cache.
fn identity(kind: &str, file: &str, known: &str) -> String {
    let hash = Sha256::digest(format!("{kind}\n{file}\n{known}"));
    to_hex(&hash[..16])
}
