//! Pictures that a command line names: files, folders, patterns, standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aim_web::image::{self, Orientation, RgbImage};
use aim_web::{Error, ErrorKind, Result};

use crate::args::Exif;
use crate::data::walk::{Visited, in_folders};

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
pub const MAX_FILE: u64 = 1 << 30;

/// A picture, and how its EXIF data say that it has to be turned.
pub struct Picture {
    pub pixels: RgbImage,
    /// What was not heeded, if it was to be ignored.
    pub ignored: Option<Orientation>,
}

/// Reads and decodes a picture; `-` is standard input.
pub fn read(path: &Path, exif: Exif) -> Result<Picture> {
    let read = || decode(&bytes(path)?, exif);
    read().map_err(|error| error.at(path.display()))
}

/// Decodes a picture.
pub fn decode(bytes: &[u8], exif: Exif) -> Result<Picture> {
    match exif {
        Exif::Respect => Ok(Picture {
            pixels: image::decode_upright(bytes)?,
            ignored: None,
        }),
        Exif::Ignore => Ok(Picture {
            pixels: image::decode(bytes)?,
            ignored: Some(image::orientation(bytes))
                .filter(|orientation| *orientation != Orientation::NoTransforms),
        }),
    }
}

/// A file of more than [`MAX_FILE`] bytes.
pub fn too_large() -> Error {
    Error::new(
        ErrorKind::Image,
        format!("has over {MAX_FILE} bytes, too many for a picture"),
    )
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
    if path == Path::new(STANDARD_INPUT) {
        let input = io::stdin().lock();
        input.take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).map_err(error)?;
        // Of a pipe the length is not known: it is 0.
        if file.metadata().is_ok_and(|meta| meta.len() > MAX_FILE) {
            return Err(too_large());
        }
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)
    }
    .map_err(error)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_large());
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
    let mut pictures = pictures.pop().unwrap_or_default();
    pictures.sort();
    Ok(pictures)
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
    // A pipe is read only where it is named outright: nobody may write to it.
    let is_special = |path: &PathBuf| {
        let meta = path.metadata();
        meta.is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
    };
    let paths = paths.map(|mut paths| {
        paths.retain(|path| !is_special(path));
        paths
    });
    Some(match paths {
        Ok(paths) if paths.is_empty() => Err(error("no file is called so".to_owned())),
        Ok(paths) => Ok(paths),
        Err(reason) => Err(error(reason.to_string())),
    })
}
