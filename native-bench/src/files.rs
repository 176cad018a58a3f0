//! Files that are there whole or not at all, and files of one process.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aim_web::{Error, ErrorKind, Result};

use crate::output;

/// Writes a file in one go: whoever looks sees what was there before or all of it, whatever happens meanwhile.
///
/// # Errors
/// Kind `Option` if it can't be written, as on a full disk; what was there before stays.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    Unfinished::new(path)?.finish_with(bytes)
}

/// A file under another name until it is complete. Dropped before that, it leaves nothing.
pub struct Unfinished {
    file: File,
    /// The other name, while it has it; a device or a pipe never has one.
    path: Option<PathBuf>,
    target: PathBuf,
}

impl Unfinished {
    /// Begins a file that will be `target`. What an earlier process left of it is overwritten: two at once have to be
    /// kept apart by a [`Lock`].
    ///
    /// # Errors
    /// Kind `Option` if it can't be written.
    pub fn new(target: &Path) -> Result<Self> {
        let error = |error: io::Error| unwritable(target, &error);
        // A link stays: what it leads to is replaced.
        let real = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let path = match fs::metadata(target) {
            Ok(there) if there.is_dir() => return Err(error(io::ErrorKind::IsADirectory.into())),
            Ok(there) if !there.is_file() => None,
            _ => {
                let name = real.file_name().unwrap_or_default().to_string_lossy();
                Some(real.with_file_name(format!(".{name}.tmp")))
            }
        };
        let file = File::create(path.as_deref().unwrap_or(target)).map_err(error)?;
        Ok(Self {
            file,
            path,
            target: real,
        })
    }

    /// What to write to.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, once it is on the disk.
    ///
    /// # Errors
    /// Kind `Option` if that can't be done.
    pub fn finish(mut self) -> Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let error = |error: io::Error| unwritable(&self.target, &error);
        self.file.sync_all().map_err(error)?;
        fs::rename(path, &self.target).map_err(error)?;
        self.path = None;
        // Not every file system has folders that can be synchronised.
        if let Some(folder) = self.target.parent().filter(|folder| folder.is_dir()) {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }

    /// Writes all that it holds, and gives it its name.
    ///
    /// # Errors
    /// Kind `Option` if that can't be done.
    pub fn finish_with(self, bytes: &[u8]) -> Result<()> {
        self.file()
            .write_all(bytes)
            .map_err(|error| unwritable(&self.target, &error))?;
        self.finish()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Keeps other processes away while it is there; however this one ends, it ends too.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks what `what` describes, by a file.
    ///
    /// # Errors
    /// Kind `Option` if another process has it, or the file can't be made.
    pub fn new(path: &Path, what: &str) -> Result<Self> {
        let file = File::create(path).map_err(|error| unwritable(path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorKind::Option,
                    format!("{what}: another process is writing it; each needs a rank of its own"),
                ));
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) => output::warn(&format!(
                "{}: can't be locked ({error}): see to it that no two processes have one rank",
                path.display()
            )),
        }
        Ok(Self { _file: file })
    }

    /// Waits for whoever has it.
    ///
    /// # Errors
    /// Kind `Option` if the file can't be made.
    pub fn waiting(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| unwritable(path, &error))?;
        // Where there are no locks nobody waits.
        let _ = file.lock();
        Ok(Self { _file: file })
    }
}

/// Makes a folder and those it lies in, if they are not there.
///
/// # Errors
/// Kind `Option` if that can't be done.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| unwritable(path, &error))
}

/// The error of a file that can't be written.
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
    fn a_file_is_whole_or_not_there() {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("counts.json");
        write_whole(&path, b"one").unwrap();
        let begun = Unfinished::new(&path).unwrap();
        begun.file().write_all(b"tw").unwrap();
        drop(begun);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
        for place in [work.path().join("no/folder"), work.path().to_owned()] {
            let error = write_whole(&place, b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Option);
            let place = place.display().to_string();
            assert!(error.to_string().starts_with(&place), "{error}");
        }
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        let work = tempfile::tempdir().unwrap();
        let [file, link, device] = ["file", "link", "device"].map(|name| work.path().join(name));
        write_whole(&file, b"one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        write_whole(&link, b"two").unwrap();
        write_whole(&device, b"three").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert!(link.is_symlink() && device.is_symlink());
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_lock_is_one_processes() {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join(".lock");
        let lock = Lock::new(&path, "part 3").unwrap();
        // Of an open file, so that another one of the same process is refused as well.
        let error = Lock::new(&path, "part 3").err().unwrap();
        assert!(
            error.to_string().contains("part 3: another process"),
            "{error}"
        );
        drop(lock);
        assert!(Lock::new(&path, "part 3").is_ok());
    }
}
