//! A folder of classes, as torchvision's `ImageFolder` reads it: each folder in it is a class, sorted by name, and has
//! the pictures in it and in the folders in it.
//!
//! Source: `torchvision/datasets/folder.py`, `make_dataset`. But here a folder of the disk is visited once, where links
//! lead in a circle `ImageFolder` does not end; and a class without pictures is reported, where it stops.

use std::fs;
use std::path::{Path, PathBuf};

use aim_web::Result;

use super::walk::{self, Visited};
use super::{Builder, DataSet, Location, Split, no_split, text};
use crate::pictures::IMAGE_FOLDER;

/// The folders of `root/split` or of `root`, each a class.
pub(super) fn open(root: &Path, split: Split<'_>) -> Result<DataSet> {
    let (Split::IfThere(name) | Split::Named(name)) = split;
    let inner = root.join(name);
    let root = match split {
        _ if inner.is_dir() => inner,
        Split::IfThere(_) => root.to_owned(),
        Split::Named(_) => {
            let folders = walk::entries(root)?.into_iter();
            let names: Vec<String> = folders
                .filter(walk::Entry::is_dir)
                .map(|folder| {
                    text(
                        folder
                            .path
                            .file_name()
                            .unwrap_or_default()
                            .as_encoded_bytes(),
                    )
                })
                .collect();
            return Err(no_split(root, name, &names));
        }
    };
    let entries = walk::entries(&root)?;
    let mut visited = Visited::default();
    visited.enter_above(&root)?;
    visited.enter(&root)?;
    // A folder before the links to it, so that its pictures are its own class's.
    let (links, folders): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .filter(walk::Entry::is_dir)
        .partition(walk::Entry::is_link);
    let mut classes = Vec::new();
    for folder in folders.into_iter().chain(links) {
        if visited.enter(&folder.path)? {
            classes.push(folder.path);
        }
    }
    classes.sort_by(|a, b| {
        let bytes = |path: &PathBuf| path.as_os_str().as_encoded_bytes().to_vec();
        bytes(a).cmp(&bytes(b))
    });
    let pictures = walk::in_folders(&classes, &mut visited, IMAGE_FOLDER)?;

    let mut builder = Builder::new(&root);
    // They are sorted by the bytes of their names.
    builder.is_in_order = true;
    for (folder, pictures) in classes.iter().zip(pictures) {
        // What tools leave behind, such as .ipynb_checkpoints.
        if pictures.is_empty() && walk::is_hidden(folder) {
            continue;
        }
        let name = text(folder.file_name().unwrap_or_default().as_encoded_bytes());
        let class = builder.class(&name);
        for path in pictures {
            // One that can't be looked at can't be read either, which is an error then.
            let len = fs::metadata(&path).map_or(0, |meta| meta.len());
            builder.add(Location::File(path), Some(class), len);
        }
    }
    Ok(builder.finish())
}
