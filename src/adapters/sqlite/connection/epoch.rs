//! Groups of connections: those of one file (epoch) and those of one adapter (session), and how
//! they end.

use super::file::{Damaged, Files, Identity};
use crate::adapters::sqlite::time;
use crate::adapters::sqlite::time::WallWatch;
use crate::error::{Error, ErrorKind};
use crate::runtime;
use crate::runtime::lock;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use tokio::sync::Notify;

/// A count of open connections that a task can wait for.
#[derive(Default)]
struct OpenSet {
    open: AtomicUsize,
    all_closed: Notify,
}

impl OpenSet {
    fn enter(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_closed.notify_waiters();
        }
    }

    fn is_empty(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    async fn wait_until_closed(&self, deadline: Instant) -> Result<(), Error> {
        let mut alarm = pin!(runtime::background_sleep_until(deadline));
        loop {
            let mut closed = pin!(self.all_closed.notified());
            closed.as_mut().enable();
            if self.is_empty() {
                return Ok(());
            }
            if let Either::Right(_) = select(closed, alarm.as_mut()).await {
                return Err(Error::new(ErrorKind::Timeout)
                    .with_message("a connection was still in use at the deadline"));
            }
        }
    }
}

/// The connections of one adapter, from its first use until `close`.
#[derive(Default)]
pub(super) struct Session {
    ended: AtomicBool,
    connections: OpenSet,
}

impl Session {
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) async fn wait_until_closed(&self, deadline: Instant) -> Result<(), Error> {
        self.connections.wait_until_closed(deadline).await
    }
}

/// Why an epoch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum EpochEnd {
    /// Its last connection was closed, or the file has to be prepared again.
    Closed,
    /// The file is damaged.
    Corrupt,
    /// The file was replaced or deleted.
    Moved,
    /// The disk is full, and there is no room for deleting rows.
    DiskFull,
    /// The file is unchanged, but its log or the log's index was replaced or deleted.
    LogLost,
}

/// The state of the write-ahead log.
#[derive(Default)]
pub(super) struct LogState {
    pub(super) bytes: u64,
    /// The time of the last attempt to write it back and truncate it.
    pub(super) tried: Option<Instant>,
}

/// The time that was last noted in the file.
pub(super) struct Clock {
    watch: WallWatch,
    noted: i64,
}

/// The time during which one file, with one log, is the database of a path. All connections of an
/// epoch have the same file open, in all adapters of the process.
pub(super) struct FileEpoch {
    /// The file that an epoch before this one had opened as a larder cache.
    was_cache: Option<Identity>,
    /// The process that the connections belong to. Connections do not survive a fork.
    process: u32,
    /// The former epoch, until its connections are known to be closed.
    pub(super) before: Mutex<Option<Arc<FileEpoch>>>,
    /// Why it ended; empty while it lasts.
    pub(super) end: OnceLock<EpochEnd>,
    /// The file that it began on, before that file was checked. An epoch that failed to begin is
    /// tried again, maybe on another file.
    pub(super) begun_on: Mutex<Option<Identity>>,
    /// Set once the file was found to be a larder cache; `None` for a database in memory.
    pub(super) files: OnceLock<Option<Files>>,
    pub(super) looked: Mutex<Instant>,
    pub(super) log: Mutex<LogState>,
    pub(super) clock: Mutex<Clock>,
    connections: OpenSet,
}

impl FileEpoch {
    pub(super) fn new(before: Option<Arc<FileEpoch>>) -> Arc<Self> {
        Arc::new(Self {
            process: std::process::id(),
            was_cache: before.as_ref().and_then(|before| before.cache_file()),
            before: Mutex::new(before),
            end: OnceLock::new(),
            begun_on: Mutex::default(),
            files: OnceLock::new(),
            looked: Mutex::new(Instant::now()),
            log: Mutex::default(),
            clock: Mutex::new(Clock { watch: WallWatch::begin(), noted: 0 }),
            connections: OpenSet::default(),
        })
    }

    pub(super) fn has_begun(&self) -> bool {
        self.files.get().is_some()
    }

    /// Whether the wall clock was set back since the time was last noted.
    pub(super) fn clock_was_set_back(&self) -> bool {
        lock(&self.clock).watch.was_set_back()
    }

    /// Whether the noted time must be advanced before the next write, or the clock was set back.
    pub(super) fn has_to_note_time(&self) -> bool {
        let clock = lock(&self.clock);
        time::now() > clock.noted || clock.watch.was_set_back()
    }

    pub(super) fn noted_time(&self, noted: i64) {
        *lock(&self.clock) = Clock { watch: WallWatch::begin(), noted };
    }

    pub(super) fn damaged(&self) -> Damaged {
        let file = *lock(&self.begun_on);
        Damaged { file, was_ours: file.is_some() && file == self.cache_file() }
    }

    /// The file that was last opened as an undamaged larder cache, by this epoch or by one before.
    /// Garbage may be noticed only when the next epoch opens the file, which then never begins.
    fn cache_file(&self) -> Option<Identity> {
        if self.has_begun() { *lock(&self.begun_on) } else { self.was_cache }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    pub(super) fn has_connections(&self) -> bool {
        !self.connections.is_empty()
    }

    pub(super) fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }

    /// Waits until no connection of this epoch is open.
    pub(super) async fn wait_until_closed(&self, deadline: Instant) -> Result<(), Error> {
        self.connections.wait_until_closed(deadline).await
    }
}

/// The error of a call in a child process, where SQLite still counts locks that its parent holds.
pub(super) fn forked() -> Error {
    Error::new(ErrorKind::Unavailable).with_message(
        "the database was open when this process was forked; close it before, or use another file",
    )
}

/// Counts a connection as open, in its epoch and in its adapter's session.
pub(super) struct OpenGuard {
    pub(super) epoch: Arc<FileEpoch>,
    session: Arc<Session>,
}

impl OpenGuard {
    pub(super) fn new(epoch: Arc<FileEpoch>, session: Arc<Session>) -> Self {
        epoch.connections.enter();
        session.connections.enter();
        Self { epoch, session }
    }

    /// Whether the connection must not be used any more.
    pub(super) fn is_retired(&self) -> bool {
        self.epoch.has_ended() || self.session.ended.load(Ordering::Acquire)
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.epoch.connections.leave();
        self.session.connections.leave();
    }
}
