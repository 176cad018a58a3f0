//! Pictures that a command line names: files, folders, patterns, standard input.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aim_web::image::{self, Orientation, RgbImage};
use aim_web::{Error, ErrorKind, Result};

use crate::args::Exif;
use crate::output;

/// The endings that torchvision's `ImageFolder` takes for pictures.
pub const IMAGE_FOLDER: &[&str] = &[
    "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp",
];

/// The endings of all formats that are read.
pub const ALL: &[&str] = &[
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm",
];

/// In place of a path: standard input.
const STANDARD_INPUT: &str = "-";

/// The largest file that is read: what a picture of more bytes holds would not be decoded either.
const MAX_FILE: u64 = 1 << 30;

/// A picture, and how its EXIF data say that it has to be turned.
pub struct Picture {
    pub pixels: RgbImage,
    /// What was not heeded, if it was to be ignored.
    pub ignored: Option<Orientation>,
}

/// Reads and decodes a picture; `-` is standard input.
pub fn read(path: &Path, exif: Exif) -> Result<Picture> {
    let read = || -> Result<Picture> {
        let bytes = bytes(path)?;
        match exif {
            Exif::Respect => Ok(Picture {
                pixels: image::decode_upright(&bytes)?,
                ignored: None,
            }),
            Exif::Ignore => Ok(Picture {
                pixels: image::decode(&bytes)?,
                ignored: Some(image::orientation(&bytes))
                    .filter(|orientation| *orientation != Orientation::NoTransforms),
            }),
        }
    };
    read().map_err(|error| error.at(path.display()))
}

/// What is in a file, or comes from standard input.
fn bytes(path: &Path) -> Result<Vec<u8>> {
    let error = |error: io::Error| {
        let kind = if error.kind() == io::ErrorKind::NotFound {
            ErrorKind::NotFound
        } else {
            ErrorKind::Image
        };
        Error::new(kind, error.to_string())
    };
    let mut bytes = Vec::new();
    // Reading to the end is an error where there is no memory.
    let read = if path == Path::new(STANDARD_INPUT) {
        let input = io::stdin().lock();
        input.take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    read.map_err(error)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::new(
            ErrorKind::Image,
            format!("has over {MAX_FILE} bytes, too many for a picture"),
        ));
    }
    Ok(bytes)
}

/// What a command line names, in its order: pictures, and what is none.
///
/// A folder stands for the pictures in it and in the folders in it. A name with `*`, `?` or `[` that no file has is a
/// pattern, for shells that leave these alone.
pub fn named(arguments: &[PathBuf]) -> Vec<(PathBuf, Result<()>)> {
    let mut list = Vec::new();
    let mut visited = Visited::default();
    for argument in arguments {
        let matches = match matches(argument) {
            None => vec![argument.clone()],
            Some(Ok(matches)) => matches,
            Some(Err(error)) => {
                list.push((argument.clone(), Err(error)));
                continue;
            }
        };
        for path in matches {
            if !path.is_dir() {
                list.push((path, Ok(())));
                continue;
            }
            // One that is named twice is taken twice.
            visited.clear();
            match in_folder(&path, &mut visited) {
                Ok(pictures) if pictures.is_empty() => {
                    let error = Error::new(
                        ErrorKind::NotFound,
                        format!("{}: no picture is in this folder", path.display()),
                    );
                    list.push((path, Err(error)));
                }
                Ok(pictures) => list.extend(pictures.into_iter().map(|path| (path, Ok(())))),
                Err(error) => list.push((path, Err(error))),
            }
        }
    }
    list
}

fn in_folder(folder: &Path, visited: &mut Visited) -> Result<Vec<PathBuf>> {
    visited.enter_above(folder)?;
    visited.enter(folder)?;
    let mut pictures = in_folders(&[folder.to_owned()], visited, ALL)?;
    Ok(pictures.pop().unwrap_or_default())
}

/// The files that a pattern means; `None` for what is no pattern.
fn matches(argument: &Path) -> Option<Result<Vec<PathBuf>>> {
    let text = argument.to_str()?;
    if !text.contains(['*', '?', '[']) || argument.symlink_metadata().is_ok() {
        return None;
    }
    let error = |what: String| Error::new(ErrorKind::NotFound, format!("{text}: {what}"));
    let paths = match glob::glob(text) {
        Ok(paths) => paths.collect::<Result<Vec<_>, _>>(),
        Err(reason) => {
            return Some(Err(error(format!(
                "is neither a file nor a pattern: {reason}"
            ))));
        }
    };
    Some(match paths {
        Ok(paths) if paths.is_empty() => Err(error("no file is called so".to_owned())),
        Ok(paths) => Ok(paths),
        Err(reason) => Err(error(reason.to_string())),
    })
}

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
    fn clear(&mut self) {
        self.0.clear();
    }

    /// Enters a folder. False if it was visited before, which a person is told.
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

/// The pictures in each of some folders and in the folders in them, sorted. No folder of the disk is visited twice:
/// links are followed after everything that is there by itself, to what is not visited by then.
pub fn in_folders(
    folders: &[PathBuf],
    visited: &mut Visited,
    endings: &[&str],
) -> Result<Vec<Vec<PathBuf>>> {
    let mut pictures = vec![Vec::new(); folders.len()];
    let mut to_visit: Vec<(usize, PathBuf)> = folders.iter().cloned().enumerate().collect();
    let mut links = Vec::new();
    loop {
        for (of, folder) in std::mem::take(&mut to_visit) {
            let mut inner = vec![folder];
            while let Some(folder) = inner.pop() {
                for path in entries(&folder)? {
                    let is_link = path.is_symlink();
                    if path.is_dir() {
                        if is_link {
                            links.push((of, path));
                        } else if visited.enter(&path)? {
                            inner.push(path);
                        }
                    } else if (path.is_file() || is_link) && has_ending(&path, endings) {
                        pictures[of].push(path);
                    }
                }
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
    for pictures in &mut pictures {
        pictures.sort();
    }
    Ok(pictures)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| endings.contains(&ending.to_ascii_lowercase().as_str()))
}

/// What is in a folder, sorted.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let error = |error: io::Error| unreadable(folder, &error);
    let mut paths = fs::read_dir(folder)
        .map_err(error)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(error))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::NotFound, format!("{}: {error}", path.display()))
}
