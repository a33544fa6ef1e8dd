//! The database file, as far as it is handled without SQLite.
//!
//! While a file is in use, only its name and length are read: if the process opened and closed the
//! file outside SQLite, the system would release SQLite's locks on it.

use super::schema;
use crate::error::{Error, ErrorKind};
use crate::runtime;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Error>;

/// The first bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The position of the application id in SQLite's header, big endian.
const APPLICATION_ID: std::ops::Range<usize> = 68..72;

/// The smallest page, in bytes.
const SMALLEST: u64 = 512;

/// How many damaged files are kept; after that, the last one is replaced.
const KEPT_ASIDE: usize = 10;

#[cfg(unix)]
/// The longest chain of links that is followed.
const MOST_LINKS: usize = 32;

/// The pause before another attempt to lock the folder.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

/// The files of a database. They belong together: SQLite applies the log that it finds under the
/// expected name to the file, by the index that it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) main: Option<Identity>,
    pub(super) log: Option<Identity>,
    pub(super) index: Option<Identity>,
}

impl Files {
    /// Whether the log or its index was replaced or deleted. SQLite removes them only when the last
    /// connection closes, and creates them only when they are missing.
    pub(super) fn has_lost_its_log(self, now: Self) -> bool {
        let lost = |then: Option<Identity>, now| then.is_some() && then != now;
        lost(self.log, now.log) || lost(self.index, now.index)
    }
}

/// Runs file system calls on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    runtime::spawn_blocking(work)
        .await
        .map_err(|lost| Error::new(ErrorKind::Unavailable).with_source(lost))?
}

/// The state of the files, as the file system shows it.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) files: Files,
    /// Whether the file is too short to be a database.
    pub(super) is_cut_off: bool,
    pub(super) bytes: u64,
    pub(super) log_bytes: u64,
}

/// Reads the state of the files.
///
/// # Errors
///
/// If the file system does not say whether they exist.
pub(super) fn look(path: &Path) -> io::Result<Look> {
    let main = metadata(path)?;
    let log = metadata(&log_of(path))?;
    let index = metadata(&index_of(path))?;
    Ok(Look {
        files: Files {
            main: main.as_ref().map(identity),
            log: log.as_ref().map(identity),
            index: index.as_ref().map(identity),
        },
        is_cut_off: main.as_ref().is_some_and(|main| main.len() < SMALLEST),
        bytes: main.map_or(0, |main| main.len()),
        log_bytes: log.map_or(0, |log| log.len()),
    })
}

fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Resolves all links of `path`, because SQLite names the log after the resolved file. Missing
/// folders are created, accessible to their owner only.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    resolve_with(path, make_folder).map_err(|cause| {
        Error::new(ErrorKind::Unavailable)
            .with_message("the folder of the database cannot be created")
            .with_source(cause)
    })
}

/// [`resolve`] without creating folders; `None` if a folder is missing.
pub(super) fn resolve_existing(path: &Path) -> Result<Option<PathBuf>> {
    match resolve_with(path, |_| Ok(())) {
        Ok(path) => Ok(Some(path)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::new(ErrorKind::Unavailable).with_source(cause)),
    }
}

#[cfg(not(unix))]
fn resolve_with(path: &Path, make_folder: impl Fn(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    folder_of(path).map_or(Ok(()), make_folder)?;
    Ok(path.to_owned())
}

#[cfg(unix)]
fn resolve_with(path: &Path, make_folder: impl Fn(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let (Some(folder), Some(name)) = (folder_of(&path), path.file_name()) else {
            return Ok(path);
        };
        make_folder(folder)?;
        let real = folder.canonicalize()?.join(name);
        match fs::read_link(&real) {
            // A link to a file that does not exist yet is resolved as well.
            Ok(target) => path = folder_of(&real).unwrap_or(&real).join(target),
            Err(_) => return Ok(real),
        }
    }
    Err(io::Error::other("too many links"))
}

fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

#[cfg(unix)]
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(folder)
}

/// Creates the file, readable by its owner only, if it is missing. A log beside a missing file
/// belongs to another file, and SQLite would apply it to the new one: it is removed.
///
/// # Errors
///
/// [`ErrorKind::Config`] if the path holds something that cannot be a database.
pub(super) fn make_ready(path: &Path, deadline: Instant) -> Result<()> {
    if let Some(there) = metadata(path).map_err(cannot_make)? {
        // SQLite treats a file of one byte as empty and would overwrite it.
        return match (there.is_file(), there.len()) {
            (true, 1) => Err(not_a_database()),
            (true, _) => Ok(()),
            (false, _) => Err(not_a_file()),
        };
    }
    // Under the lock, no other larder process can create the file between the check and the
    // removal, which would delete that process's log.
    let _locked = FolderLock::take(path, deadline)?;
    if metadata(path).map_err(cannot_make)?.is_none() {
        remove_log(path)?;
        create(path).map_err(cannot_make)?;
    }
    Ok(())
}

fn not_a_database() -> Error {
    Error::new(ErrorKind::Config).with_message("the file is not a database; it is not changed")
}

fn not_a_file() -> Error {
    Error::new(ErrorKind::Config)
        .with_message("the path of the database is a folder, or something else that is not a file")
}

fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => Err(cause),
        _ => Ok(()),
    }
}

fn cannot_make(cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable)
        .with_message("the file of the database cannot be created")
        .with_source(cause)
}

/// The lock on a folder, which every larder process takes before it creates or removes a database
/// in it. The operating system releases it when a process ends.
struct FolderLock(
    #[allow(dead_code, reason = "the lock lasts as long as it is open")] Option<File>,
);

impl FolderLock {
    #[cfg(unix)]
    fn take(path: &Path, deadline: Instant) -> Result<Self> {
        // A folder that cannot be opened cannot be locked either.
        let Ok(folder) = File::open(folder_of(path).unwrap_or(Path::new("/"))) else {
            return Ok(Self(None));
        };
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Self(Some(folder))),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(LOCK_PAUSE);
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(Error::new(ErrorKind::Timeout).with_message(
                        "another process held the lock of the folder until the \
                                       deadline",
                    ));
                }
                // A file system without such locks. Programs on it cannot share a database in any
                // case.
                Err(fs::TryLockError::Error(_)) => return Ok(Self(None)),
            }
        }
    }

    /// On other systems an open file cannot be deleted, so a stale log is never found.
    #[cfg(not(unix))]
    fn take(_path: &Path, _deadline: Instant) -> Result<Self> {
        Ok(Self(None))
    }
}

/// Removes the log of a file that no longer exists. SQLite leaves such a log behind, and would
/// apply it to the next file at the path.
pub(super) fn remove_stale_log(path: &Path, stale: Identity, deadline: Instant) -> Result<()> {
    let _locked = FolderLock::take(path, deadline)?;
    let log = metadata(&log_of(path)).map_err(cannot_remove)?;
    if log.as_ref().map(identity) == Some(stale) { remove_log(path) } else { Ok(()) }
}

fn remove_log(path: &Path) -> Result<()> {
    for beside in [log_of(path), index_of(path)] {
        match fs::remove_file(beside) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(cannot_remove(cause));
            }
            _ => {}
        }
    }
    Ok(())
}

fn cannot_remove(cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable)
        .with_message("the log of the former file cannot be removed")
        .with_source(cause)
}

fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn index_of(path: &Path) -> PathBuf {
    beside(path, "-shm")
}

/// A file that the cache cannot use any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damaged {
    pub(super) file: Option<Identity>,
    /// Whether it was an undamaged larder cache when it was opened.
    pub(super) was_ours: bool,
}

/// Moves a damaged file out of the way, so that a new one can be created. Only a file that was a
/// larder cache is moved.
///
/// # Errors
///
/// [`ErrorKind::Config`] for a file that never was a larder cache. It is not changed.
pub(super) fn move_aside(path: &Path, damaged: Damaged) -> Result<()> {
    let Some(there) = metadata(path).map_err(cannot_move)? else { return Ok(()) };
    if damaged.file != Some(identity(&there)) {
        // Another file has been put in its place.
        return Ok(());
    }
    let header = header(path).map_err(cannot_move)?;
    if header.starts_with(MAGIC) {
        match header.get(APPLICATION_ID) {
            Some([0, 0, 0, 0]) => return Ok(()),
            Some(owner) if owner != schema::APPLICATION_ID.to_be_bytes() => {
                return Err(schema::foreign().with_message(
                    "the file is damaged, and it is not a larder cache; it is not changed",
                ));
            }
            _ => {}
        }
    } else if !damaged.was_ours {
        return Err(not_a_database());
    }
    let aside = (0..KEPT_ASIDE)
        .map(|nth| aside(path, nth))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| aside(path, KEPT_ASIDE - 1));
    fs::rename(path, aside).map_err(cannot_move)?;
    remove_log(path)
}

/// Removes a larder cache that fills its disk, so that it can start again. Any other file is left
/// alone.
pub(super) fn remove(path: &Path, full: Damaged, deadline: Instant) -> Result<()> {
    let _locked = FolderLock::take(path, deadline)?;
    let Some(there) = metadata(path).map_err(cannot_move)? else { return Ok(()) };
    let is_the_one = full.file == Some(identity(&there));
    let is_ours = full.was_ours || there.len() == 0 || {
        let header = header(path).map_err(cannot_move)?;
        header.get(APPLICATION_ID) == Some(&schema::APPLICATION_ID.to_be_bytes()[..])
    };
    if !(is_the_one && is_ours) {
        return Ok(());
    }
    // Remove the file before its log. A process that opens the path in between takes a log without
    // its file for stale and removes it; it would take a file without its log for a complete
    // database.
    fs::remove_file(path).map_err(cannot_move)?;
    remove_log(path)
}

/// Names the process that reads the database, from the operating system's table of locks: SQLite's
/// readers lock one of a few bytes of the log's index.
#[cfg(target_os = "linux")]
pub(super) fn reader_of(index: Identity) -> Option<String> {
    const READERS: std::ops::RangeInclusive<u64> = 123..=127;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        // `1: POSIX ADVISORY READ 4242 fd:01:1234567 124 124`
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX", _, "READ", pid, file, from, _] = fields[..] else { return None };
        let inode: u64 = file.rsplit(':').next()?.parse().ok()?;
        let is_reader = inode == index.1 && READERS.contains(&from.parse().ok()?);
        is_reader.then(|| pid.parse::<u32>().ok()).flatten()
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(match name.trim() {
        "" => format!("process {pid}"),
        name => format!("process {pid} ({name})"),
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reader_of(_index: Identity) -> Option<String> {
    None
}

fn cannot_move(cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable)
        .with_message("the unusable file cannot be moved out of the way")
        .with_source(cause)
}

fn aside(path: &Path, nth: usize) -> PathBuf {
    beside(path, &if nth == 0 { ".corrupt".to_owned() } else { format!(".corrupt.{nth}") })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn header(path: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(100);
    File::open(path)?.take(100).read_to_end(&mut header)?;
    Ok(header)
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    Identity(metadata.dev(), metadata.ino())
}

/// On other systems an open file cannot be replaced, and the time of creation distinguishes files
/// that were replaced while they were closed.
#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> Identity {
    let born = metadata
        .created()
        .ok()
        .and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok())
        .unwrap_or_default();
    Identity(born.as_secs(), u64::from(born.subsec_nanos()))
}
