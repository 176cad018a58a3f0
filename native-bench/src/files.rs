//! Files that are there whole or not at all, and files of one process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use aim_web::{Error, ErrorKind, Result};

use crate::output;

/// Writes a file in one go: whoever looks sees what was there before or all of it, whatever happens meanwhile.
///
/// # Errors
/// Kind `Option` if it can't be written, as on a full disk; what was there before stays.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    Unfinished::new(path)?.finish_with(bytes)
}

/// Links that lead to a file one after the other: more are a circle, as for the system.
const MOST_LINKS: usize = 40;

/// Tells the temporary files of this process apart.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A file under another name until it is complete. Dropped before that, it leaves nothing.
pub struct Unfinished {
    file: File,
    /// The other name, while it has it; a device or a pipe never has one.
    path: Option<PathBuf>,
    target: PathBuf,
}

impl Unfinished {
    /// Begins a file that will be `target`. Of two at once the last one to be finished stays, whole.
    ///
    /// # Errors
    /// Kind `Option` if it can't be written.
    pub fn new(target: &Path) -> Result<Self> {
        let error = |error: io::Error| unwritable(target, &error);
        let is_folder = target.to_string_lossy().ends_with(std::path::is_separator);
        if is_folder {
            return Err(error(io::ErrorKind::IsADirectory.into()));
        }
        if let Some(file) = standard_output(target) {
            return Ok(Self {
                file: file.map_err(error)?,
                path: None,
                target: target.to_owned(),
            });
        }
        // A link stays: what it leads to is replaced, or made.
        let (file, path, real) = match fs::metadata(target) {
            Ok(there) if there.is_dir() => return Err(error(io::ErrorKind::IsADirectory.into())),
            Ok(there) if !there.is_file() => {
                let file = File::create(target).map_err(error)?;
                (file, None, target.to_owned())
            }
            Ok(there) => {
                // One that is protected against writing stays.
                OpenOptions::new().write(true).open(target).map_err(error)?;
                let real = fs::canonicalize(target).map_err(error)?;
                let (file, path) = temporary(&real).map_err(error)?;
                let is_owned = keep_owner(&file, &there).is_ok();
                // Of another owner it would keep out whom it let in. Not every file system has modes.
                if is_owned {
                    let _ = file.set_permissions(there.permissions());
                }
                (file, Some(path), real)
            }
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => {
                let real = destination(target).map_err(error)?;
                let (file, path) = temporary(&real).map_err(error)?;
                (file, Some(path), real)
            }
            Err(broken) => return Err(error(broken)),
        };
        Ok(Self {
            file,
            path,
            target: real,
        })
    }

    /// True of a pipe, a device or standard output, which is written to as it is.
    pub const fn is_pipe(&self) -> bool {
        self.path.is_none()
    }

    /// True if both will be one file, so that the second one would replace the first. A device or a pipe takes both.
    pub fn is_same_as(&self, other: &Self) -> bool {
        // However their folder is spelt.
        let place = |file: &Self| {
            let folder = fs::canonicalize(folder_of(&file.target)).ok();
            (folder, file.target.file_name().map(ToOwned::to_owned))
        };
        !self.is_pipe() && !other.is_pipe() && place(self) == place(other)
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
        let _ = File::open(folder_of(&self.target)).and_then(|folder| folder.sync_all());
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

/// Gives a file the owner and the group of the one that it will replace; where this process may not, the group alone.
#[cfg(unix)]
fn keep_owner(file: &File, there: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};

    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (there.uid(), there.gid()) {
        return Ok(());
    }
    fchown(file, Some(there.uid()), Some(there.gid()))
        .or_else(|_| fchown(file, None, Some(there.gid())))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
const fn keep_owner(_: &File, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

/// What a path at which nothing is leads to if it is a link.
fn destination(target: &Path) -> io::Result<PathBuf> {
    let mut path = target.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(next) = fs::read_link(&path) else {
            return Ok(path);
        };
        path = folder_of(&path).join(next);
    }
    Err(io::Error::other("its links lead in a circle"))
}

/// The folder that a file lies in.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// A new file beside another one. Its name is short: that of the other may be as long as a name can be.
fn temporary(target: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = folder_of(target).join(format!("{BEFORE}{}-{n}{AFTER}", process::id()));
        let file = match File::create_new(&path) {
            // A process of another machine or an earlier one of this number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            file => file?,
        };
        // Until it ends this process has the lock, which says that the file is in use.
        let is_taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        // Somebody who cleans up was faster.
        if !is_taken && path.exists() {
            return Ok((file, path));
        }
    }
}

/// What the names of temporary files begin and end with.
const BEFORE: &str = ".aim-bench-";
const AFTER: &str = ".tmp";

/// Removes the temporary files in a folder whose processes were ended before they were complete.
pub fn remove_stale(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_temporary = name
            .to_str()
            .is_some_and(|name| name.starts_with(BEFORE) && name.ends_with(AFTER))
            && entry.file_type().is_ok_and(|own| own.is_file());
        if !is_temporary {
            continue;
        }
        // Whoever is still writing it has it locked. Without locks nobody knows: it stays.
        let path = entry.path();
        let file = OpenOptions::new().write(true).open(&path);
        if let Ok(file) = file
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(&path);
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

/// Sees whether a file can be written, and leaves it as it is.
///
/// # Errors
/// Kind `Option` if not.
pub fn try_out(target: &Path) -> Result<()> {
    Unfinished::new(target).map(drop)
}

/// Whether something lies at a path.
///
/// # Errors
/// Kind `NotFound` if that can't be known, as in a folder that may not be read, or if it is a link that leads nowhere.
pub fn is_there(path: &Path) -> Result<bool> {
    let wrong =
        |what: String| Error::new(ErrorKind::NotFound, format!("{}: {what}", path.display()));
    match path.metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            Err(wrong("is a link to what is not there".to_owned()))
        }
        // A file with the name of the folder is no folder, and a name that none can have is none's.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::InvalidFilename
                    | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(wrong(format!("can't be read: {error}"))),
    }
}

/// Refuses what is no regular file: opening a pipe would wait for ever, and what is in a file is read where it lies.
///
/// # Errors
/// Kind `NotFound`.
pub fn check_regular(path: &Path, meta: &fs::Metadata) -> Result<()> {
    if meta.is_file() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!("{}: is not a regular file", path.display()),
    ))
}

/// Makes a folder and those it lies in, if they are not there.
///
/// # Errors
/// Kind `Option` if that can't be done.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| unwritable(path, &error))
}

/// Whether a path leads to this process's standard output, whatever that is: `-`, `/dev/stdout`, or the file that a shell put
/// there. What people are told must not be mixed with data then, nor the file be replaced below it.
pub fn is_standard_output(path: &Path) -> bool {
    if path == Path::new("-") {
        return true;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

        let names = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
        if names.iter().any(|name| path == Path::new(name)) {
            return true;
        }
        let own = duplicate().and_then(|file| file.metadata());
        let (Ok(there), Ok(own)) = (fs::metadata(path), own) else {
            return false;
        };
        // Two users of one device, such as /dev/null, need not know of each other.
        let is_device = there.file_type().is_char_device() || there.file_type().is_block_device();
        !is_device && (there.dev(), there.ino()) == (own.dev(), own.ino())
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// Standard output, if that is where a path leads: what is written goes behind what is there.
pub fn standard_output(path: &Path) -> Option<io::Result<File>> {
    is_standard_output(path).then(duplicate)
}

#[cfg(unix)]
fn duplicate() -> io::Result<File> {
    use std::os::fd::AsFd as _;
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(windows)]
fn duplicate() -> io::Result<File> {
    use std::os::windows::io::AsHandle as _;
    io::stdout()
        .as_handle()
        .try_clone_to_owned()
        .map(File::from)
}

#[cfg(not(any(unix, windows)))]
fn duplicate() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The error of a file that can't be written.
pub fn unwritable(path: &Path, error: &io::Error) -> Error {
    // Who stops reading ends the program quietly, by whatever name.
    if error.kind() == io::ErrorKind::BrokenPipe && is_standard_output(path) {
        return output::unwritten(error);
    }
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

        // What is not there yet is made where the link leads.
        let [dangling, made] = ["dangling", "made"].map(|name| work.path().join(name));
        std::os::unix::fs::symlink("made", &dangling).unwrap();
        write_whole(&dangling, b"four").unwrap();
        assert!(dangling.is_symlink() && !made.is_symlink());
        assert_eq!(fs::read(&made).unwrap(), b"four");
        let circle = work.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        let error = write_whole(&circle, b"").unwrap_err();
        assert!(error.to_string().contains("links"), "{error}");
        assert!(circle.is_symlink());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_keeps_its_owner_and_its_mode() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("file");
        write_whole(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // Where this is root, a file of somebody else.
        let _ = chown(&path, Some(65534), Some(65534));
        let of = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.uid(), meta.gid(), meta.mode())
        };
        let before = of(&path);
        write_whole(&path, b"two").unwrap();
        assert_eq!(of(&path), before);
    }

    #[test]
    fn two_at_once_do_not_get_in_each_others_way() {
        let work = tempfile::tempdir().unwrap();
        // As long as a name may be.
        let path = work.path().join("n".repeat(255));
        let begun = [0, 1].map(|_| Unfinished::new(&path).unwrap());
        assert!(begun[0].is_same_as(&begun[1]));
        let other = Unfinished::new(&work.path().join("other")).unwrap();
        assert!(!begun[0].is_same_as(&other));
        // What is being written is not stale.
        remove_stale(work.path());
        let [first, second] = begun;
        second.finish_with(b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        first.finish_with(b"first").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        other.finish_with(b"").unwrap();

        let left = work.path().join(".aim-bench-1-0.tmp");
        let own = work.path().join(".own.tmp");
        for file in [&left, &own] {
            fs::write(file, b"half").unwrap();
        }
        remove_stale(work.path());
        assert!(!left.exists() && own.exists());
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
