//! Tar archives: in `WebDataset`'s layout (`key.jpg` with `key.cls` beside it), or of a folder of classes.
//!
//! An archive is gone through once, header by header, or twice if it has links; its pictures are then read where they
//! lie.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use aim_web::{Error, ErrorKind, Result};
use tar::Archive;

use super::walk::has_ending;
use super::{Builder, Location};
use crate::output;
use crate::pictures::{IMAGE_FOLDER, MAX_FILE, too_large};

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
        entries = samples(entries, files)?;
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

/// The pictures of `WebDataset`'s samples. A sample is all fields of a key; its picture is the one that is called by a
/// picture's ending alone. Another, such as `key.seg.png`, is not what the class is of.
fn samples(entries: Vec<Entry>, files: &[PathBuf]) -> Result<Vec<Entry>> {
    let is_picture = |entry: &Entry| {
        let (_, field) = key(&entry.path);
        IMAGE_FOLDER.contains(&field.to_ascii_lowercase().as_str())
    };
    let (pictures, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_picture);
    let wrong = |file: usize, message: String| {
        let error = Error::new(ErrorKind::Format, message);
        match files.get(file) {
            Some(path) => error.at(path.display()),
            None => error,
        }
    };
    let mut keys: HashMap<(usize, &str), &str> = HashMap::new();
    for Entry { file, path, .. } in &pictures {
        let (key, _) = key(path);
        if let Some(before) = keys.insert((*file, key), path) {
            return Err(wrong(
                *file,
                format!(
                    "the sample {key:?} has two pictures, {before} and {path}, and nothing tells which its class is of: \
                     leave one, or give each a key of its own"
                ),
            ));
        }
    }
    for Entry { file, path, .. } in others.iter().filter(|entry| entry.class.is_some()) {
        let (key, field) = key(path);
        if !keys.contains_key(&(*file, key)) {
            return Err(wrong(
                *file,
                format!(
                    "the sample {key:?} has a class, but no picture that is called {key}.jpg or alike: is {path} its \
                     picture? WebDataset takes {field:?} for the name of a field of its own"
                ),
            ));
        }
    }
    Ok(pictures)
}

/// Goes through an archive.
fn list(path: &Path, file: usize, entries: &mut Vec<Entry>) -> Result<()> {
    let opened = File::open(path).map_err(|error| broken(&error))?;
    let len = opened.metadata().map_err(|error| broken(&error))?.len();
    let mut archive = Archive::new(opened);
    let first = entries.len();
    let mut classes = HashMap::new();
    let mut links = Vec::new();
    let mut left_out = LeftOut::default();
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
        let name = super::text(&entry.path_bytes());
        let (key, ending) = key(&name);
        let is_picture = has_ending(Path::new(&name), IMAGE_FOLDER);
        if entry.header().entry_type().is_dir() || !is_picture && ending != "cls" {
            continue;
        }
        let of = match target(&entry, &name) {
            Target::Itself => None,
            Target::Other(other) => Some(other),
            Target::Nothing => {
                left_out.add(&name);
                continue;
            }
        };
        let is_link = of.is_some();
        if let Some(of) = of {
            links.push(Link {
                of,
                name: name.clone(),
                entry: is_picture.then_some(entries.len()),
            });
        }
        if is_picture {
            entries.push(Entry {
                file,
                offset,
                len: size,
                class: None,
                path: name,
            });
        } else if !is_link {
            classes.insert(key.to_owned(), class(&mut entry)?);
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
    if !links.is_empty() {
        follow(path, links, entries, &mut classes, &mut left_out)?;
    }
    left_out.tell(path);
    for entry in entries.iter_mut().skip(first) {
        entry.class = classes.get(key(&entry.path).0).cloned();
    }
    Ok(())
}

/// A class in a file of its own.
fn class(file: &mut impl io::Read) -> Result<String> {
    let mut class = String::new();
    file.take(MOST_CLASS)
        .read_to_string(&mut class)
        .map_err(|error| broken(&error))?;
    Ok(class.trim().to_owned())
}

/// Where the bytes of an entry are.
enum Target {
    Itself,
    /// In another entry, of this path.
    Other(String),
    /// In none: of a device, or a file with holes.
    Nothing,
}

fn target<R: io::Read>(entry: &tar::Entry<'_, R>, name: &str) -> Target {
    let kind = entry.header().entry_type();
    if kind.is_file() || kind.is_contiguous() {
        return Target::Itself;
    }
    let link = entry.link_name_bytes().map(|link| super::text(&link));
    let of = match link {
        Some(link) if kind.is_hard_link() => inside("", &link),
        Some(link) if kind.is_symlink() => {
            let folder = name.rfind('/').map_or("", |slash| &name[..slash]);
            if link.starts_with('/') {
                None
            } else {
                inside(folder, &link)
            }
        }
        _ => None,
    };
    of.map_or(Target::Nothing, Target::Other)
}

/// A path in the archive, seen from a folder in it; `None` if it leads out.
fn inside(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// An entry whose bytes are in another one.
struct Link {
    /// The path of the other.
    of: String,
    name: String,
    /// Its number, if it is a picture; else it is a class.
    entry: Option<usize>,
}

/// What was not taken, for a warning.
#[derive(Default)]
struct LeftOut {
    count: u64,
    first: String,
}

impl LeftOut {
    fn add(&mut self, name: &str) {
        if self.count == 0 {
            name.clone_into(&mut self.first);
        }
        self.count += 1;
    }

    fn tell(&self, path: &Path) {
        if self.count > 0 {
            output::warn(&format!(
                "{}: {} files are left out whose bytes are not in the archive, or not in one piece, such as {}",
                path.display(),
                self.count,
                self.first
            ));
        }
    }
}

/// Finds what links lead to. The paths of all files are kept for it, which most archives can do without.
fn follow(
    path: &Path,
    links: Vec<Link>,
    entries: &mut Vec<Entry>,
    classes: &mut HashMap<String, String>,
    left_out: &mut LeftOut,
) -> Result<()> {
    let opened = File::open(path).map_err(|error| broken(&error))?;
    let mut archive = Archive::new(opened);
    let mut places: HashMap<String, Place> = HashMap::new();
    for entry in archive
        .entries_with_seek()
        .map_err(|error| broken(&error))?
    {
        let entry = entry.map_err(|error| broken(&error))?;
        let name = super::text(&entry.path_bytes());
        let place = match target(&entry, &name) {
            Target::Itself => Place::Bytes(entry.raw_file_position(), entry.size()),
            Target::Other(other) => Place::At(other),
            Target::Nothing => continue,
        };
        if let Some(name) = inside("", &name) {
            places.insert(name, place);
        }
    }
    let mut lost = HashSet::new();
    for link in links {
        let mut place = places.get(&link.of);
        for _ in 0..MOST_LINKS {
            let Some(Place::At(next)) = place else { break };
            place = places.get(next);
        }
        match (place, link.entry) {
            (Some(&Place::Bytes(offset, len)), Some(entry)) => {
                if let Some(entry) = entries.get_mut(entry) {
                    (entry.offset, entry.len) = (offset, len);
                }
            }
            (Some(&Place::Bytes(offset, len)), None) => {
                let bytes = read(path, offset, len.min(MOST_CLASS))?;
                classes.insert(key(&link.name).0.to_owned(), class(&mut bytes.as_slice())?);
            }
            (_, entry) => {
                left_out.add(&link.name);
                lost.extend(entry);
            }
        }
    }
    let mut number = 0;
    entries.retain(|_| {
        number += 1;
        !lost.contains(&(number - 1))
    });
    Ok(())
}

/// Links that lead to a file one after the other: more are a circle.
const MOST_LINKS: usize = 40;

/// What is at a path in an archive.
enum Place {
    /// Bytes: where, and how many.
    Bytes(u64, u64),
    /// What is at another path.
    At(String),
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
    if len > MAX_FILE {
        return Err(too_large());
    }
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
    fn a_sample_has_one_picture() {
        let samples = |paths: &[&str]| {
            let entry = |path: &&str| Entry {
                file: 0,
                path: (*path).to_owned(),
                offset: 0,
                len: 0,
                // Those of the key `none` have no class.
                class: (!path.contains("none")).then(|| "3".to_owned()),
            };
            let entries = paths.iter().map(entry).collect();
            let pictures = samples(entries, &["a.tar".into()])?;
            let paths = pictures.into_iter().map(|entry| entry.path);
            Ok::<_, Error>(paths.collect::<Vec<_>>())
        };
        let taken = samples(&[
            "000.seg.png",
            "000.jpg",
            "./x.y/000.JPG",
            "x.y/1.mask.png",
            "x.y/1.webp",
            "none.seg.png",
            "none.jpg",
            "none/._000.jpg",
        ]);
        assert_eq!(
            taken.unwrap(),
            ["000.jpg", "./x.y/000.JPG", "x.y/1.webp", "none.jpg"]
        );
        for (paths, part) in [
            (&["0.jpg", "0.png"][..], "0.jpg and 0.png"),
            (&["0.jpg", "1.jpg", "0.jpg"], "0.jpg and 0.jpg"),
            (&["0.jpg", "1.seg.png"], "is 1.seg.png its picture?"),
        ] {
            let error = samples(paths).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format);
            let error = error.to_string();
            assert!(
                error.starts_with("a.tar: ") && error.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn links_lead_to_what_is_inside() {
        let inside = |folder, path| inside(folder, path).unwrap_or_default();
        assert_eq!(inside("", "./val//a/1.jpg"), "val/a/1.jpg");
        assert_eq!(inside("./val/a", "../b/1.jpg"), "val/b/1.jpg");
        assert_eq!(inside("val", "../../1.jpg"), "");
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
