//! The pictures in folders, each folder of the disk once, however many links lead to it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use aim_web::{Error, ErrorKind, Result};

use crate::output;

/// What tells a folder from others, however its path is spelt.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity(folder: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(folder)?;
    Ok((meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(folder: &Path) -> io::Result<Identity> {
    fs::canonicalize(folder)
}

/// The folders that were visited, and under which path.
#[derive(Default)]
pub struct Visited(HashMap<Identity, PathBuf>);

impl Visited {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Enters a folder. False, with a warning, if it was visited before.
    pub fn enter(&mut self, folder: &Path) -> Result<bool> {
        let identity = identity(folder).map_err(|error| unreadable(folder, &error))?;
        if let Some(before) = self.0.get(&identity) {
            output::warn(&format!(
                "{}: is {} by another name, and not visited again",
                folder.display(),
                before.display()
            ));
            return Ok(false);
        }
        self.0.insert(identity, folder.to_owned());
        Ok(true)
    }

    /// Counts the folders that a folder lies in as visited: a link to one of them leads in a circle.
    pub fn enter_above(&mut self, folder: &Path) -> Result<()> {
        let whole = fs::canonicalize(folder).map_err(|error| unreadable(folder, &error))?;
        for above in whole.ancestors().skip(1) {
            // One that can't be looked at can't be visited either.
            if let Ok(identity) = identity(above) {
                self.0.entry(identity).or_insert_with(|| above.to_owned());
            }
        }
        Ok(())
    }
}

/// The pictures in each of some folders and in the folders in them, in the order of Python's sorted `os.walk`: by the
/// name of their folder, then by their own. No folder of the disk is visited twice: links are followed after everything
/// that is there by itself, to what is not visited by then.
pub fn in_folders(
    folders: &[PathBuf],
    visited: &mut Visited,
    endings: &[&str],
) -> Result<Vec<Vec<PathBuf>>> {
    let mut found: Vec<Vec<Folder>> = folders.iter().map(|_| Vec::new()).collect();
    let mut to_visit: Vec<(usize, PathBuf)> = folders.iter().cloned().enumerate().collect();
    let mut links = Vec::new();
    loop {
        for (of, folder) in std::mem::take(&mut to_visit) {
            let mut inner = vec![folder];
            while let Some(folder) = inner.pop() {
                let mut pictures = Vec::new();
                for entry in entries(&folder)? {
                    if entry.is_dir() {
                        if entry.is_link() {
                            links.push((of, entry.path));
                        } else if visited.enter(&entry.path)? {
                            inner.push(entry.path);
                        }
                    } else if entry.may_be_file() && has_ending(&entry.path, endings) {
                        pictures.push(entry.path);
                    }
                }
                found[of].push(Folder {
                    path: folder,
                    pictures,
                });
            }
        }
        links.sort();
        for (of, link) in std::mem::take(&mut links) {
            if visited.enter(&link)? {
                to_visit.push((of, link));
            }
        }
        if to_visit.is_empty() {
            break;
        }
    }
    let in_order = |mut folders: Vec<Folder>| {
        folders.sort_by(|a, b| bytes(&a.path).cmp(bytes(&b.path)));
        folders
            .into_iter()
            .flat_map(|folder| folder.pictures)
            .collect()
    };
    Ok(found.into_iter().map(in_order).collect())
}

/// A folder, and the pictures right in it, sorted.
struct Folder {
    path: PathBuf,
    pictures: Vec<PathBuf>,
}

/// What is in a folder.
pub struct Entry {
    pub path: PathBuf,
    /// `None` if the system would not say.
    file_type: Option<FileType>,
}

impl Entry {
    /// True for a link to whatever.
    pub fn is_link(&self) -> bool {
        self.file_type
            .map_or_else(|| self.path.is_symlink(), |own| own.is_symlink())
    }

    /// True for a folder, or a link to one.
    pub fn is_dir(&self) -> bool {
        match self.file_type {
            // No further question to the system for each of a million files.
            Some(own) if !own.is_symlink() => own.is_dir(),
            _ => self.path.is_dir(),
        }
    }

    /// True for a file and a link to one, and for a link that leads nowhere: reading it says so. Reading a pipe would
    /// wait for ever.
    fn may_be_file(&self) -> bool {
        match self.file_type {
            Some(own) if !own.is_symlink() => own.is_file(),
            _ => fs::metadata(&self.path).map_or_else(|_| self.is_link(), |meta| meta.is_file()),
        }
    }
}

/// What is in a folder, sorted by name.
pub fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let error = |error: io::Error| unreadable(folder, &error);
    let mut entries = fs::read_dir(folder)
        .map_err(error)?
        .map(|entry| {
            let entry = entry.map_err(error)?;
            Ok(Entry {
                path: entry.path(),
                file_type: entry.file_type().ok(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    entries.sort_by(|a, b| bytes(&a.path).cmp(bytes(&b.path)));
    Ok(entries)
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// True if a file's name ends in one of these, in any case.
pub fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| endings.contains(&ending.to_ascii_lowercase().as_str()))
}

/// True if a file's name begins with a dot.
pub fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::as_encoded_bytes);
    name.is_some_and(|name| name.starts_with(b"."))
}

pub fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::NotFound, format!("{}: {error}", path.display()))
}
