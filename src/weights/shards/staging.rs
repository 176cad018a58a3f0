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

/// Links that lead to a folder one after the other: more are a circle, as for the system.
const MOST_LINKS: usize = 40;

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
    /// provided `overwrite` is true and it holds nothing but a model's files. A link stays: what it leads to
    /// is replaced, or made.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if `target` exists and may not be replaced, or can't be written.
    pub fn new(target: &Path, overwrite: bool) -> Result<Self> {
        let target = destination(target).map_err(|error| unwritable(target, &error))?;
        check(&target, overwrite)?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Error::option(format!(
                "{}: is no name for a folder",
                target.display()
            )));
        };
        fs::create_dir_all(parent).map_err(|error| unwritable(parent, &error))?;
        let mut count = 0_u32;
        loop {
            let dir = parent.join(format!(
                ".{}.{}-{count}.tmp",
                name.to_string_lossy(),
                std::process::id()
            ));
            match fs::create_dir(&dir) {
                Ok(()) => {
                    return Ok(Self {
                        dir,
                        target,
                        overwrite,
                        is_complete: false,
                    });
                }
                // Of another process of this number: in containers many have one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => count += 1,
                Err(error) => return Err(unwritable(&dir, &error)),
            }
        }
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
            Some(old) => fs::remove_dir_all(&old).map_err(|error| {
                Error::option(format!(
                    "{}: is written; what it replaced could not be removed, and is in {}: {error}",
                    self.target.display(),
                    old.display()
                ))
            }),
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
        let mut old = self.dir.with_extension("old");
        while old.exists() {
            old.as_mut_os_string().push("~");
        }
        fs::rename(&self.target, &old).map_err(error)?;
        let Err(broken) = fs::rename(&self.dir, &self.target) else {
            return Ok(Some(old));
        };
        let error = error(broken);
        match fs::rename(&old, &self.target) {
            Ok(()) => Err(error),
            Err(_) => Err(Error::option(format!(
                "{error}; what was there is in {}",
                old.display()
            ))),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_complete {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// What a path leads to if it is a link, whether anything is there or not.
fn destination(target: &Path) -> io::Result<PathBuf> {
    // A slash at its end would hide that it is a link.
    let plain = |path: PathBuf| path.components().collect::<PathBuf>();
    let mut path = plain(std::path::absolute(target)?);
    for _ in 0..MOST_LINKS {
        let (Ok(next), Some(parent)) = (fs::read_link(&path), path.parent()) else {
            return Ok(path);
        };
        path = plain(parent.join(next));
    }
    Err(io::Error::other("its links lead in a circle"))
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

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let work = tempfile::tempdir().unwrap();
        let disk = work.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let models = work.path().join("models");
        fs::create_dir(&models).unwrap();
        let link = models.join("model");
        std::os::unix::fs::symlink("second", &link).unwrap();
        std::os::unix::fs::symlink("../disk/model", models.join("second")).unwrap();
        // It leads to nothing yet, then to what was written; a slash at its end is no other name.
        for (text, target) in [
            ("1", link.clone()),
            ("2", link.clone()),
            ("3", link.join("")),
        ] {
            let staging = Staging::new(&target, true).unwrap();
            staging.write("config.json", text).unwrap();
            staging.finish().unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            let written = fs::read_to_string(disk.join("model/config.json")).unwrap();
            assert_eq!(written, text);
            assert_eq!(fs::read_dir(&disk).unwrap().count(), 1);
        }
        std::os::unix::fs::symlink("circle", models.join("circle")).unwrap();
        let error = Staging::new(&models.join("circle"), true).unwrap_err();
        assert!(error.to_string().contains("circle"), "{error}");
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
        // What can't be replaced any more.
        fs::write(target.join("thesis.tex"), "").unwrap();
        let kept = staging.dir().to_owned();
        let error = staging.finish().unwrap_err();
        assert!(error.to_string().contains("what was written is in"));
        assert!(kept.join("config.json").is_file() && target.join("thesis.tex").is_file());

        // Nor does it block the next one, whatever its process is called.
        fs::remove_file(target.join("thesis.tex")).unwrap();
        let next = Staging::new(&target, true).unwrap();
        fs::create_dir_all(next.dir().with_extension("old").join("thesis")).unwrap();
        next.write("config.json", "2").unwrap();
        next.finish().unwrap();
        let text = fs::read_to_string(target.join("config.json")).unwrap();
        assert_eq!((text.as_str(), kept.is_dir()), ("2", true));
    }

    #[test]
    fn what_could_not_be_replaced_is_back_in_its_place() {
        let work = tempfile::tempdir().unwrap();
        let target = work.path().join("model");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("config.json"), "first").unwrap();
        let staging = Staging::new(&target, true).unwrap();
        fs::remove_dir(staging.dir()).unwrap();
        staging.finish().unwrap_err();
        let text = fs::read_to_string(target.join("config.json")).unwrap();
        assert_eq!(text, "first");
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
