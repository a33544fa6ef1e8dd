//! The file beneath the database: what can be said of it without SQLite.

use super::schema;
use crate::{Error, ErrorKind, Result};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The first bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Where the application id stands in SQLite's header, big endian.
const APPLICATION_ID: std::ops::Range<usize> = 68..72;

/// One page of the smallest kind.
const SMALLEST: u64 = 512;

/// Under how many names damaged files are kept; then the last is written over.
const KEPT_ASIDE: usize = 10;

/// Which file it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

/// A look at the file from outside: by name and length only, for to open and close a database behind SQLite's back loses its locks.
#[derive(Debug)]
pub(super) struct Look {
    /// `None` where there is no file.
    pub(super) identity: Option<Identity>,
    /// It is too short to be a database.
    pub(super) is_cut_off: bool,
    /// The write-ahead log beside it, and its length.
    pub(super) log: Option<Identity>,
    pub(super) log_bytes: u64,
}

/// Looks at the file.
///
/// # Errors
///
/// When it cannot be said whether there is one.
pub(super) fn look(path: &Path) -> io::Result<Look> {
    let file = metadata(path)?;
    let log = metadata(&log_of(path))?;
    Ok(Look {
        identity: file.as_ref().map(identity),
        is_cut_off: file.is_some_and(|file| file.len() < SMALLEST),
        log: log.as_ref().map(identity),
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

/// Takes away the log of a file that is not there any more. SQLite leaves it behind, and would lay it over whatever file has come since.
pub(super) fn remove_stale_log(path: &Path, stale: Identity) -> Result<()> {
    let log = metadata(&log_of(path)).map_err(cannot_remove)?;
    if log.as_ref().map(identity) == Some(stale) { remove_log(path) } else { Ok(()) }
}

fn remove_log(path: &Path) -> Result<()> {
    for beside in [log_of(path), beside(path, "-shm")] {
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

/// Makes the folders that the file is to be in.
pub(super) fn make_parents(path: &Path) -> Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    fs::create_dir_all(parent).map_err(|cause| {
        Error::new(ErrorKind::Unavailable)
            .with_message("the folder of the database cannot be made")
            .with_source(cause)
    })
}

/// Moves a damaged file out of the way, so that a new one can be made: a cache can always be made again. What looks like a database
/// of somebody else's is left alone; where the header names nobody, opening it will tell.
pub(super) fn move_aside(path: &Path) -> Result<()> {
    let header = match header(path) {
        Ok(header) => header,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(cannot_move(cause)),
    };
    let owner = header.get(APPLICATION_ID).filter(|_| header.starts_with(MAGIC));
    match owner {
        Some([0, 0, 0, 0]) => return Ok(()),
        Some(owner) if owner != schema::APPLICATION_ID.to_be_bytes() => {
            return Err(schema::foreign().with_message(
                "the file is damaged, and it is not a cache of larder's; it is left as it is",
            ));
        }
        _ => {}
    }
    let aside = (0..KEPT_ASIDE)
        .map(|nth| aside(path, nth))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| aside(path, KEPT_ASIDE - 1));
    fs::rename(path, aside).map_err(cannot_move)?;
    remove_log(path)
}

fn cannot_move(cause: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable)
        .with_message("the damaged file cannot be moved aside")
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

/// Elsewhere a file that is open cannot be replaced, and its time of birth tells those apart that were replaced while it was not.
#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> Identity {
    let born = metadata
        .created()
        .ok()
        .and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok())
        .unwrap_or_default();
    Identity(born.as_secs(), u64::from(born.subsec_nanos()))
}
