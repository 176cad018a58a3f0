//! Tar archives: in `WebDataset`'s layout (`key.jpg` with `key.cls` beside it), or of a folder of classes.
//!
//! An archive is gone through once, header by header; its pictures are then read where they lie.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use aim_web::{Error, ErrorKind, Result};
use tar::Archive;

use super::walk::has_ending;
use super::{Builder, Location};
use crate::pictures::IMAGE_FOLDER;

/// Headers, contents and the end of an archive come in blocks of so many bytes.
const BLOCK: u64 = 512;

/// The longest class that is read.
const MOST_CLASS: u64 = 4096;

/// A picture in an archive.
struct Entry {
    file: usize,
    /// Its path in the archive.
    path: String,
    offset: u64,
    len: u64,
    class: Option<String>,
}

/// The pictures of some archives, in their order.
pub(super) fn open(files: &[PathBuf], builder: &mut Builder) -> Result<()> {
    let mut entries = Vec::new();
    for path in files {
        let file = builder.file(path)?;
        list(path, file, &mut entries).map_err(|error| error.at(path.display()))?;
    }
    // Classes by files of their own; without any, by the folders.
    if entries.iter().all(|entry| entry.class.is_none()) {
        let shared = shared_folders(&entries);
        for entry in &mut entries {
            entry.class = class_folder(&entry.path, shared);
        }
    } else {
        builder.are_numbers(entries.iter().filter_map(|entry| entry.class.as_deref()));
    }
    for entry in entries {
        let class = entry.class.as_deref().map(|name| builder.class(name));
        builder.add(
            Location::Archive {
                file: entry.file,
                offset: entry.offset,
                path: entry.path,
            },
            class,
            entry.len,
        );
    }
    Ok(())
}

/// Goes through an archive.
fn list(path: &Path, file: usize, entries: &mut Vec<Entry>) -> Result<()> {
    let opened = File::open(path).map_err(|error| broken(&error))?;
    let len = opened.metadata().map_err(|error| broken(&error))?.len();
    let mut archive = Archive::new(opened);
    let first = entries.len();
    let mut classes = HashMap::new();
    let mut end = 0;
    for entry in archive
        .entries_with_seek()
        .map_err(|error| broken(&error))?
    {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let (offset, size) = (entry.raw_file_position(), entry.size());
        end = offset.saturating_add(size);
        if end > len {
            return Err(cut());
        }
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = super::text(&entry.path_bytes());
        let (key, ending) = key(&name);
        if ending == "cls" {
            let mut class = String::new();
            (&mut entry)
                .take(MOST_CLASS)
                .read_to_string(&mut class)
                .map_err(|error| broken(&error))?;
            classes.insert(key.to_owned(), class.trim().to_owned());
        } else if has_ending(Path::new(&name), IMAGE_FOLDER) {
            entries.push(Entry {
                file,
                offset,
                len: size,
                class: None,
                path: name,
            });
        }
    }
    // An archive ends with two blocks of zeros; without, nobody knows whether this is all.
    if end
        .div_ceil(BLOCK)
        .saturating_mul(BLOCK)
        .saturating_add(BLOCK)
        > len
    {
        return Err(cut());
    }
    for entry in entries.iter_mut().skip(first) {
        entry.class = classes.get(key(&entry.path).0).cloned();
    }
    Ok(())
}

/// `WebDataset`'s key and ending of a path: the name's first dot parts them.
fn key(path: &str) -> (&str, &str) {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    match path.get(name..).and_then(|name| name.find('.')) {
        Some(dot) => (&path[..name + dot], &path[name + dot + 1..]),
        None => (path, ""),
    }
}

fn folders(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    parts.pop();
    parts
}

/// How many folders all pictures share, such as `val`: below them are the classes.
fn shared_folders(entries: &[Entry]) -> usize {
    let mut all = entries.iter().map(|entry| folders(&entry.path));
    let Some(first) = all.next() else {
        return 0;
    };
    let shared = all.fold(first.len(), |shared, other| {
        let same = first.iter().zip(&other).take_while(|(a, b)| a == b);
        shared.min(same.count())
    });
    // Of a single class its own folder is shared too.
    shared.min(first.len().saturating_sub(1))
}

fn class_folder(path: &str, shared: usize) -> Option<String> {
    folders(path).get(shared).map(|&class| class.to_owned())
}

fn cut() -> Error {
    Error::new(
        ErrorKind::Integrity,
        "the archive is cut short: fetch or pack it again",
    )
}

fn broken(error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => ErrorKind::NotFound,
        _ => ErrorKind::Format,
    };
    Error::new(
        kind,
        format!("is no tar archive, or a broken one (compressed ones must be unpacked): {error}"),
    )
}

/// Reads a picture where it lies.
pub(super) fn read(path: &Path, offset: u64, len: u64) -> Result<Vec<u8>> {
    let error = |error: &io::Error| Error::new(ErrorKind::Image, error.to_string());
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        // Reading to the end is an error where there is no memory.
        file.take(len).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|reason| error(&reason))?;
    if bytes.len() as u64 != len {
        return Err(Error::new(
            ErrorKind::Image,
            "the archive has become shorter",
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_dot_of_the_name() {
        assert_eq!(key("a.b/000.jpg"), ("a.b/000", "jpg"));
        assert_eq!(key("000.seg.png"), ("000", "seg.png"));
        assert_eq!(key("a/none"), ("a/none", ""));
    }

    #[test]
    fn classes_are_below_what_all_share() {
        let entry = |path: &str| Entry {
            file: 0,
            path: path.to_owned(),
            offset: 0,
            len: 0,
            class: None,
        };
        let class = |paths: &[&str]| {
            let entries: Vec<Entry> = paths.iter().map(|path| entry(path)).collect();
            let shared = shared_folders(&entries);
            class_folder(paths[0], shared)
        };
        assert_eq!(
            class(&["./val/a/1.jpg", "./val/b/x/2.jpg"]).as_deref(),
            Some("a")
        );
        assert_eq!(class(&["a/x/1.jpg", "b/2.jpg"]).as_deref(), Some("a"));
        assert_eq!(class(&["val/a/1.jpg", "val/a/2.jpg"]).as_deref(), Some("a"));
        assert_eq!(class(&["1.jpg", "2.jpg"]), None);
    }
}
