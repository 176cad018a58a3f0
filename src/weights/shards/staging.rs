//! A folder that appears whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::index::{INDEX_FILE, TORCH_INDEX_FILE};
use super::manifest::MANIFEST_FILE;
use super::write::PREPROCESSOR_FILE;
use crate::error::{Error, ErrorKind, Result};
use crate::labels::LABELS_FILE;
use crate::weights::files::is_checkpoint;

/// What lies beside the checkpoints of a model that was written here.
const OURS: [&str; 7] = [
    "config.json",
    LABELS_FILE,
    PREPROCESSOR_FILE,
    MANIFEST_FILE,
    INDEX_FILE,
    TORCH_INDEX_FILE,
    // What training shows of itself.
    "curve.svg",
];

/// A folder being written beside the place where it will be. Dropped before it is complete, it
/// leaves nothing.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    target: PathBuf,
    overwrite: bool,
    is_complete: bool,
}

impl Staging {
    /// Begins a folder that will be `target`. If there is one already it is replaced in the end,
    /// provided `overwrite` is true and it holds nothing but a model's files.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if `target` exists and may not be replaced, or can't be written.
    pub fn new(target: &Path, overwrite: bool) -> Result<Self> {
        let target = std::path::absolute(target).map_err(|error| unwritable(target, &error))?;
        check(&target, overwrite)?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Error::option(format!(
                "{}: is no name for a folder",
                target.display()
            )));
        };
        let dir = parent.join(format!(
            ".{}.{}.tmp",
            name.to_string_lossy(),
            std::process::id()
        ));
        fs::create_dir_all(parent).map_err(|error| unwritable(parent, &error))?;
        fs::create_dir(&dir).map_err(|error| unwritable(&dir, &error))?;
        Ok(Self {
            dir,
            target,
            overwrite,
            is_complete: false,
        })
    }

    /// Where the files go meanwhile.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a small file.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if it can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(|error| unwritable(&path, &error))
    }

    /// Puts the folder in its place. Where that can't be done, as where something else appeared there meanwhile, the folder
    /// stays where it is, and the error says where.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if it can't be put there.
    pub fn finish(mut self) -> Result<()> {
        let placed = self.place();
        // It may have taken hours: even what has no place is kept.
        self.is_complete = true;
        let replaced = placed.map_err(|error| {
            let kept = format!("{error}; what was written is in {}", self.dir.display());
            Error::new(error.kind(), kept)
        })?;
        match replaced {
            Some(old) => fs::remove_dir_all(&old).map_err(|error| unwritable(&old, &error)),
            None => Ok(()),
        }
    }

    /// Gives the folder its name: where the one is that had it.
    fn place(&self) -> Result<Option<PathBuf>> {
        check(&self.target, self.overwrite)?;
        let error = |error: io::Error| unwritable(&self.target, &error);
        if !self.target.exists() {
            fs::rename(&self.dir, &self.target).map_err(error)?;
            return Ok(None);
        }
        let old = self.dir.with_extension("old");
        fs::rename(&self.target, &old).map_err(error)?;
        if let Err(broken) = fs::rename(&self.dir, &self.target) {
            let _ = fs::rename(&old, &self.target);
            return Err(error(broken));
        }
        Ok(Some(old))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_complete {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Refuses a place where something is that is not asked for or not ours to replace.
fn check(target: &Path, overwrite: bool) -> Result<()> {
    if !target.exists() {
        return Ok(());
    }
    if !overwrite {
        return Err(Error::option(format!(
            "{}: is there already; choose another place, or say --overwrite",
            target.display()
        )));
    }
    let entries = fs::read_dir(target).map_err(|error| unwritable(target, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unwritable(target, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = entry.file_type().is_ok_and(|kind| kind.is_file())
            && (is_checkpoint(&name) || OURS.contains(&name.as_str()));
        if !is_ours {
            return Err(Error::option(format!(
                "{}: also holds {name}, so it is not replaced; move it away first",
                target.display()
            )));
        }
    }
    Ok(())
}

pub fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Option,
        format!("{}: can't be written: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let work = tempfile::tempdir().unwrap();
        let target = work.path().join("model");
        let staging = Staging::new(&target, false).unwrap();
        staging.write("config.json", "{}").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);

        for text in ["1", "2"] {
            let staging = Staging::new(&target, true).unwrap();
            staging.write("config.json", text).unwrap();
            staging.finish().unwrap();
            assert_eq!(
                fs::read_to_string(target.join("config.json")).unwrap(),
                text
            );
            assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
        }
        Staging::new(&target, false).unwrap_err();
    }

    #[test]
    fn what_appears_meanwhile_is_not_replaced_unasked() {
        let work = tempfile::tempdir().unwrap();
        let target = work.path().join("model");
        let begin = |text: &str| {
            let staging = Staging::new(&target, false).unwrap();
            staging.write("config.json", text).unwrap();
            staging
        };
        let late = begin("late");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("config.json"), "first").unwrap();
        let kept = late.dir().to_owned();
        let error = late.finish().unwrap_err();
        assert!(
            error.to_string().contains(&kept.display().to_string()),
            "{error}"
        );
        let text = |dir: &Path| fs::read_to_string(dir.join("config.json")).unwrap();
        assert_eq!(
            (text(&target), text(&kept)),
            ("first".into(), "late".into())
        );
    }

    #[test]
    fn what_can_not_be_put_in_its_place_is_kept() {
        let work = tempfile::tempdir().unwrap();
        let target = work.path().join("model");
        fs::create_dir(&target).unwrap();
        let staging = Staging::new(&target, true).unwrap();
        staging.write("config.json", "{}").unwrap();
        let kept = staging.dir().to_owned();
        // What is in the way of the folder that is replaced.
        let way = kept.with_extension("old");
        fs::create_dir_all(way.join("thesis")).unwrap();
        let error = staging.finish().unwrap_err();
        assert!(error.to_string().contains("what was written is in"));
        assert!(kept.join("config.json").is_file() && target.is_dir());
    }

    #[test]
    fn what_is_no_model_is_never_replaced() {
        let work = tempfile::tempdir().unwrap();
        for name in ["thesis.tex", "thesis.json"] {
            let path = work.path().join(name);
            fs::write(&path, "").unwrap();
            let error = Staging::new(work.path(), true).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            fs::remove_file(&path).unwrap();
        }
    }
}
