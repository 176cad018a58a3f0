//! Chunks on disk, inside the cache of the hub's own tools.
//!
//! `HF_HOME/hub/models--USER--NAME` is where those keep a repository. What they downloaded whole,
//! in `snapshots/COMMIT`, is used as it is; chunks of ours lie beside it, in `chunks`, each in a
//! file with its SHA-256 behind its bytes; while one is fetched, a locked file beside it says so to other processes. The chunks of models that are folders on other servers
//! lie in `HF_HOME/aim-web`.

use std::cell::Cell;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{FutureExt as _, LocalBoxFuture, ready};
use sha2::{Digest as _, Sha256};

use super::cache::{Cache, Claim, Key, Sealed, Turn};
use super::client::SMALL_FILE;
use super::hub::folder_name;
use super::listing::is_commit;
use crate::error::{Error, ErrorKind, Result};
use crate::hex::to_hex;
use crate::weights::shards::manifest::CHUNK;

/// Bytes of the seal behind an entry.
const SEAL: usize = 32;

/// The largest entry: a chunk, or a small file.
const MAX_ENTRY: u64 = if CHUNK > SMALL_FILE as u64 {
    CHUNK
} else {
    SMALL_FILE as u64
};

/// The file that says whose chunks a folder holds.
const NAME_FILE: &str = "name";

/// What the names of temporary files end with, and of those that are locked while an entry is fetched.
const TEMPORARY: &str = ".tmp";
const LOCK: &str = ".lock";

/// How often at most those who wait for an entry are told that it gets on.
const BEAT: Duration = Duration::from_millis(500);

/// A temporary file of this age was left by a process that ended.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Makes the names of temporary files differ.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// The cache of this user's account.
#[derive(Clone, Debug)]
pub struct DiskCache {
    /// `HF_HOME/hub`
    hub: PathBuf,
    /// `HF_HOME/aim-web`
    folders: PathBuf,
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedModel {
    /// Its name on the hub, or its URL.
    pub name: String,
    /// What its chunks take, in bytes.
    pub bytes: u64,
}

/// Where the hub's own tools keep their files: `HF_HOME`, else a folder in the user's home; `None` if there is neither.
pub fn home_from_env() -> Option<PathBuf> {
    path_from_env("HF_HOME").or_else(|| {
        let cache =
            path_from_env("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
        Some(cache?.join("huggingface"))
    })
}

/// A path of the environment, if there is one; `~` at its start is the user's home, as where no shell expands it.
pub fn path_from_env(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(name).filter(|value| !value.is_empty())?);
    match path.strip_prefix("~") {
        Ok(rest) => Some(std::env::home_dir()?.join(rest)),
        Err(_) => Some(path),
    }
}

impl DiskCache {
    /// A cache in `home`, laid out as in `HF_HOME`.
    pub fn new(home: &Path) -> Self {
        Self {
            hub: home.join("hub"),
            folders: home.join("aim-web"),
        }
    }

    /// The cache that `HF_HOME` and `HF_HUB_CACHE` name, else the one in the user's home; `None` if
    /// there is none of these.
    pub fn from_env() -> Option<Self> {
        let mut cache = Self::new(&home_from_env()?);
        // The second is what the first was called before.
        let hub = path_from_env("HF_HUB_CACHE").or_else(|| path_from_env("HUGGINGFACE_HUB_CACHE"));
        if let Some(hub) = hub {
            cache.hub = hub;
        }
        Some(cache)
    }

    /// Where the hub's own tools keep a commit of a repository, if they do.
    pub fn snapshot(&self, repository: &str, commit: &str) -> Option<PathBuf> {
        let dir = self.repository(repository).join("snapshots").join(commit);
        dir.is_dir().then_some(dir)
    }

    /// The commit that the hub's own tools noted for a branch or tag; a commit is its own.
    pub fn noted_commit(&self, repository: &str, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let note = self.repository(repository).join("refs").join(revision);
        let commit = fs::read_to_string(note).ok()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// The models of which there are chunks, by name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the cache can't be read.
    pub fn list(&self) -> Result<Vec<CachedModel>> {
        let mut models = Vec::new();
        for chunks in self.chunk_folders()? {
            let Ok(name) = fs::read_to_string(chunks.join(NAME_FILE)) else {
                continue;
            };
            models.push(CachedModel {
                name,
                bytes: bytes_in(&chunks),
            });
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Deletes the chunks of a model, of every revision; what other tools keep of it stays. The
    /// bytes that this freed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there are none, or they can't be deleted.
    pub fn delete(&self, name: &str) -> Result<u64> {
        let name = if name.contains("://") {
            folder_name(name)
        } else {
            name
        };
        let chunks = self.chunks(name);
        if !chunks.is_dir() {
            return Err(Error::not_found(format!("{name}: is not in the cache")));
        }
        let bytes = bytes_in(&chunks);
        fs::remove_dir_all(&chunks).map_err(|error| unusable(&chunks, &error))?;
        // What is left of its folder if it is empty.
        if let Some(repository) = chunks.parent() {
            let _ = fs::remove_dir(repository.join("snapshots"));
            let _ = fs::remove_dir(repository);
        }
        Ok(bytes)
    }

    fn chunk_folders(&self) -> Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for (dir, inner) in [(&self.hub, "chunks"), (&self.folders, "")] {
            let entries = match fs::read_dir(dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unusable(dir, &error)),
            };
            for entry in entries.flatten() {
                let chunks = if inner.is_empty() {
                    entry.path()
                } else {
                    entry.path().join(inner)
                };
                if chunks.join(NAME_FILE).is_file() {
                    folders.push(chunks);
                }
            }
        }
        Ok(folders)
    }

    /// The folder of a repository of the hub.
    fn repository(&self, name: &str) -> PathBuf {
        self.hub
            .join(format!("models--{}", name.replace('/', "--")))
    }

    /// The folder of a model's chunks.
    fn chunks(&self, name: &str) -> PathBuf {
        if name.contains("://") {
            self.folders.join(to_hex(&Sha256::digest(name)[..16]))
        } else {
            self.repository(name).join("chunks")
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.chunks(&key.repository)
            .join(&key.content)
            .join(&key.entry)
    }

    fn read(&self, key: &Key) -> Option<Sealed> {
        let file = File::open(self.path(key)).ok()?;
        let len = file.metadata().ok()?.len();
        if len > MAX_ENTRY + SEAL as u64 {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).ok()?);
        io::Read::read_to_end(
            &mut io::Read::take(file, MAX_ENTRY + SEAL as u64),
            &mut bytes,
        )
        .ok()?;
        let seal = bytes.split_off(bytes.len().checked_sub(SEAL)?);
        Some(Sealed {
            seal: seal.try_into().ok()?,
            bytes,
        })
    }

    /// The folder of an entry, made if it is not there.
    fn folder(&self, key: &Key) -> io::Result<PathBuf> {
        let chunks = self.chunks(&key.repository);
        // First the name: entries without one are in no list, whenever this process ends.
        let name = chunks.join(NAME_FILE);
        if !name.is_file() {
            fs::create_dir_all(&chunks)?;
            if !key.repository.contains("://") {
                // The hub's own tools take a repository without one for broken.
                fs::create_dir_all(self.repository(&key.repository).join("snapshots"))?;
            }
            replace(&name, &[key.repository.as_bytes()])?;
        }
        let dir = chunks.join(&key.content);
        if !dir.is_dir() {
            fs::create_dir_all(&dir)?;
        }
        Ok(dir)
    }

    fn write(&self, key: &Key, bytes: &[u8], seal: [u8; 32]) -> io::Result<()> {
        let dir = self.folder(key)?;
        if bytes.len() as u64 == CHUNK {
            remove_stale(&dir);
        }
        replace(&dir.join(&key.entry), &[bytes, &seal])
    }

    /// Locks the file that says that an entry is fetched, which ends with the process at the latest.
    fn lock(&self, key: &Key) -> io::Result<Claim> {
        let path = self.folder(key)?.join(format!(".{}{LOCK}", key.entry));
        let file = File::options().create(true).append(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Claim::Taken(Box::new(Lock {
                beats: Cell::new(file.metadata()?.len()),
                file,
                path,
                last: Cell::new(None),
            }))),
            // It grows while something comes.
            Err(TryLockError::WouldBlock) => Ok(Claim::Busy(file.metadata()?.len())),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A locked file.
struct Lock {
    file: File,
    path: PathBuf,
    /// Its length.
    beats: Cell<u64>,
    /// When it last grew.
    last: Cell<Option<Instant>>,
}

impl Turn for Lock {
    fn goes_on(&self) {
        if self.last.get().is_none_or(|last| last.elapsed() >= BEAT) {
            self.last.set(Some(Instant::now()));
            self.beats.set(self.beats.get().saturating_add(1));
            // Those who see nothing of it fetch for themselves.
            let _ = self.file.set_len(self.beats.get());
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock ends: whoever waits makes another file and finds the entry.
        let _ = fs::remove_file(&self.path);
    }
}

impl Cache for DiskCache {
    fn get<'a>(&'a self, key: &'a Key) -> LocalBoxFuture<'a, Option<Sealed>> {
        ready(self.read(key)).boxed_local()
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        bytes: &'a [u8],
        seal: [u8; 32],
    ) -> LocalBoxFuture<'a, Result<(), String>> {
        let written = self
            .write(key, bytes, seal)
            .map_err(|error| format!("{}: {error}", self.chunks(&key.repository).display()));
        ready(written).boxed_local()
    }

    fn claim(&self, key: &Key) -> Claim {
        // Where a file can't be made or locked, each process fetches for itself.
        self.lock(key).unwrap_or(Claim::Open)
    }

    fn remove<'a>(&'a self, repository: &'a str, content: &'a str) -> LocalBoxFuture<'a, ()> {
        // What can't be removed is found broken again next time.
        let _ = fs::remove_dir_all(self.chunks(repository).join(content));
        ready(()).boxed_local()
    }
}

/// Writes a file so that others see the old one or the new one, never a part.
fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = path.with_file_name(format!(
        ".{name}.{}.{}{TEMPORARY}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        for part in parts {
            file.write_all(part)?;
        }
        drop(file);
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Removes what processes left that ended in the middle of a write.
fn remove_stale(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_temporary = name.ends_with(TEMPORARY) || name.ends_with(LOCK);
        let age = || {
            let modified = entry.metadata().ok()?.modified().ok()?;
            SystemTime::now().duration_since(modified).ok()
        };
        if is_temporary && age().is_some_and(|age| age > STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The bytes of the files in a folder and its folders.
fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .fold(0, u64::saturating_add)
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::NotFound, format!("{}: {error}", path.display()))
}
