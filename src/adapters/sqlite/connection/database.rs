//! The database at a path, and its epochs.
//!
//! When the file or its log is deleted, replaced or damaged, the epoch ends: its connections close
//! as soon as they are free, and the next epoch begins only when the last of them is closed. This
//! order matters because SQLite removes the log *by name* when a database closes, and truncates a
//! log index on which it sees no lock: a connection to the old file and one to the new file would
//! destroy each other's log.

use super::change_log;
use super::epoch::{EpochEnd, FileEpoch, LogState, OpenGuard, Session, forked};
use super::file::{self, Files, Identity, Look, blocking};
use super::members::{Member, Members};
use super::open_pause::OpenPause;
use super::registry::Registry;
use super::schema;
use crate::adapters::sqlite::errors::Failure;
use crate::error::{Error, ErrorKind};
use crate::runtime::lock;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Mutex as AsyncMutex;

/// How often the file is checked while it is used.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A log that is this many times longer than the length at which it should have been written back
/// is written back although that has to wait for readers. At twice this length, writes are refused.
const LOG_TOO_LONG: u64 = 4;
const LOG_FULL: u64 = 2 * LOG_TOO_LONG;

/// A full disk does not lower the bound below this.
const LEAST_CEILING: u64 = 1 << 20;

/// The databases in files that this process uses, by path.
static DATABASES: Registry<Database> = Registry::new();

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Role {
    Write,
    Read,
}

/// A request for a connection.
pub(super) struct Wanted {
    pub(super) role: Role,
    pub(super) deadline: Instant,
    pub(super) session: Arc<Session>,
    pub(super) max_bytes: u64,
    pub(super) busy_timeout: Duration,
}

pub(in super::super) struct Database {
    /// The path with all links resolved; `None` in memory.
    path: Option<PathBuf>,
    pub(super) epoch: Mutex<Arc<FileEpoch>>,
    /// Held while a connection is opened: one opens at a time.
    opening: AsyncMutex<OpenPause>,
    /// Held while a connection is closed: one closes at a time.
    closing: AsyncMutex<()>,
    members: Members,
    /// The file size that the disk had room for when it was full. It bounds the file until it may
    /// grow again.
    ceiling: AtomicU64,
}

impl Database {
    pub(super) fn in_memory() -> Self {
        Self::at(None)
    }

    /// The database of a resolved path. Its adapters and its open connections keep it alive.
    pub(super) fn in_file(path: &Path) -> Arc<Self> {
        DATABASES.get_or_insert(path, || Self::at(Some(path.to_owned())))
    }

    fn at(path: Option<PathBuf>) -> Self {
        Self {
            path,
            epoch: Mutex::new(FileEpoch::new(None)),
            opening: AsyncMutex::default(),
            closing: AsyncMutex::default(),
            members: Members::default(),
            ceiling: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.path.as_deref() == Some(path)
    }

    /// The bound on the file's size, on this disk.
    pub(super) fn bound(&self, max_bytes: u64) -> u64 {
        max_bytes.min(self.ceiling.load(Ordering::Relaxed))
    }

    /// Lets the file grow again, as the disk may have room by now.
    pub(super) fn relax(&self) {
        let higher = |ceiling: u64| Some(ceiling.saturating_mul(2));
        let _ = self.ceiling.fetch_update(Ordering::Relaxed, Ordering::Relaxed, higher);
    }

    /// Adds an adapter that has to close its connections when an epoch ends.
    pub(super) fn admit(&self, member: Weak<dyn Member>) {
        self.members.admit(member);
    }

    /// Whether connections to this very file are open.
    fn has_open(&self, file: Identity) -> bool {
        let epoch = lock(&self.epoch).clone();
        epoch.has_connections()
            && epoch.files.get().copied().flatten().is_some_and(|files| files.main == Some(file))
    }

    /// Ends an epoch, unless it has ended, and recalls its connections.
    fn retire(&self, epoch: &Arc<FileEpoch>, end: EpochEnd) {
        {
            let mut present = lock(&self.epoch);
            if Arc::ptr_eq(&present, epoch) {
                // Only the present epoch can end, so this one has not ended before.
                let _ = epoch.end.set(end);
                *present = FileEpoch::new(Some(epoch.clone()));
            }
        }
        // Recall after the end is set: a lane closes only connections that it sees as retired.
        self.members.recall();
    }

    /// Opens a connection, and begins an epoch if there is none.
    pub(super) async fn open(self: &Arc<Self>, wanted: Wanted) -> Result<Connection, Failure> {
        let mut pause = self.opening.lock().await;
        if let Some(error) = pause.error() {
            return Err(error.into());
        }
        match self.open_now(&wanted).await {
            Err(
                failure @ (Failure::Locked(_)
                | Failure::Full(_)
                | Failure::Corrupt(_)
                | Failure::Moved(_)
                | Failure::Unprepared(_)
                | Failure::Stale),
            ) => Err(failure),
            Err(failure) => {
                let error = failure.into_error();
                pause.failed(&error);
                Err(error.into())
            }
            Ok(connection) => {
                pause.opened();
                Ok(connection)
            }
        }
    }

    /// Returns the present epoch. An epoch without open connections is ended first: no connection
    /// has watched its file since, which may have been replaced.
    ///
    /// # Errors
    ///
    /// If the process was forked while connections were open. In the child, SQLite still counts
    /// locks that only the parent holds.
    fn epoch_to_open(&self) -> Result<Arc<FileEpoch>, Error> {
        let epoch = lock(&self.epoch).clone();
        if epoch.has_connections() {
            return if epoch.is_of_this_process() { Ok(epoch) } else { Err(forked()) };
        }
        if !epoch.has_begun() && epoch.is_of_this_process() {
            return Ok(epoch);
        }
        self.retire(&epoch, EpochEnd::Closed);
        Ok(lock(&self.epoch).clone())
    }

    async fn open_now(self: &Arc<Self>, wanted: &Wanted) -> Result<Connection, Failure> {
        let epoch = self.epoch_to_open()?;
        // Keep the connection that began the epoch open until there is another one: when the last
        // connection closes, SQLite removes the log.
        let first = if epoch.has_begun() { None } else { Some(self.begin(&epoch, wanted).await?) };
        let first = match (wanted.role, first) {
            (Role::Write, Some(first)) => return Ok(first),
            (_, first) => first,
        };
        // Check the file before opening it: SQLite would turn an empty file that has replaced ours
        // into a database, beside the connections that are open to the old one.
        let opened = if self.look_at(&epoch).await {
            self.open_another(&epoch, wanted).await
        } else {
            Err(Failure::Stale)
        };
        if let Some(first) = first {
            first.close().await;
        }
        opened
    }

    async fn open_another(
        self: &Arc<Self>,
        epoch: &Arc<FileEpoch>,
        wanted: &Wanted,
    ) -> Result<Connection, Failure> {
        let mut connection = self.connect(epoch, wanted, wanted.role).await?;
        let set_up = match wanted.role {
            Role::Write => {
                schema::set_up_writer(connection.raw(), self.bound(wanted.max_bytes)).await
            }
            Role::Read => schema::set_up_reader(connection.raw()).await,
        };
        match set_up {
            // Check again: the log may have been created since.
            Ok(()) if self.look_at(epoch).await => Ok(connection),
            Ok(()) => {
                connection.close().await;
                Err(Failure::Stale)
            }
            Err(failure) => {
                if matches!(failure, Failure::Corrupt(_)) {
                    self.retire(epoch, EpochEnd::Corrupt);
                }
                connection.close().await;
                Err(failure)
            }
        }
    }

    /// Removes what the former epochs left behind, once all their connections are closed.
    async fn clear_away(&self, epoch: &FileEpoch, deadline: Instant) -> Result<(), Error> {
        let mut before = lock(&epoch.before).clone();
        while let Some(past) = before {
            past.wait_until_closed(deadline).await?;
            let files = past.files.get().copied().flatten();
            match (past.end.get(), files) {
                (Some(EpochEnd::Corrupt), _) => {
                    let damaged = past.damaged();
                    self.on_file(move |path| file::move_aside(path, damaged)).await?;
                }
                (Some(EpochEnd::DiskFull), _) => {
                    let full = past.damaged();
                    let bytes = self.look().await.map_or(0, |look| look.bytes + look.log_bytes);
                    self.ceiling.store(LEAST_CEILING.max(bytes / 2), Ordering::Relaxed);
                    self.on_file(move |path| file::remove(path, full, deadline)).await?;
                }
                (Some(EpochEnd::Moved), Some(Files { log: Some(log), .. })) => {
                    self.on_file(move |path| file::remove_stale_log(path, log, deadline)).await?;
                }
                _ => {}
            }
            before = lock(&past.before).clone();
        }
        *lock(&epoch.before) = None;
        Ok(())
    }

    /// Begins an epoch: waits for the end of the one before, creates the file if it is missing, and
    /// checks that it is a larder cache.
    async fn begin(
        self: &Arc<Self>,
        epoch: &Arc<FileEpoch>,
        wanted: &Wanted,
    ) -> Result<Connection, Failure> {
        self.clear_away(epoch, wanted.deadline).await?;
        let deadline = wanted.deadline;
        self.on_file(move |path| file::make_ready(path, deadline)).await?;
        let begun_on = self.look().await.and_then(|look| look.files.main);
        *lock(&epoch.begun_on) = begun_on;
        if let Some(file) = begun_on {
            self.part_from_others(file, deadline).await?;
        }
        let mut connection = self.connect(epoch, wanted, Role::Write).await?;
        if let Err(failure) = self.prepare(epoch, &mut connection).await {
            match failure {
                Failure::Corrupt(_) => self.retire(epoch, EpochEnd::Corrupt),
                Failure::Full(_) if self.path.is_some() => self.retire(epoch, EpochEnd::DiskFull),
                _ => {}
            }
            connection.close().await;
            return Err(failure);
        }
        let look = self.look().await;
        if look.as_ref().and_then(|look| look.files.main) != begun_on {
            // The file was replaced meanwhile: the connection may be to either.
            connection.close().await;
            return Err(Failure::Stale);
        }
        *lock(&epoch.looked) = Instant::now();
        // Set by one opener at a time, so it was not set before.
        let _ = epoch.files.set(look.map(|look| look.files));
        Ok(connection)
    }

    async fn prepare(&self, epoch: &FileEpoch, connection: &mut Connection) -> Result<(), Failure> {
        let max_bytes = connection.max_bytes;
        schema::prepare(connection.raw(), max_bytes).await?;
        change_log::heal(connection.raw()).await?;
        // Adjust the expiry times before any read, or expired rows could be served. Otherwise the
        // next write notes the time.
        if schema::clock_was_set_back(connection.raw()).await? {
            epoch.noted_time(schema::note_time(connection.raw()).await?);
        }
        Ok(())
    }

    /// If the database of another path has this very file open, the file was moved from that path
    /// to this one. Those connections use a log under the old name, so they must be closed first.
    async fn part_from_others(&self, file: Identity, deadline: Instant) -> Result<(), Error> {
        let mut others = DATABASES.all();
        others.retain(|other| !std::ptr::eq(&**other, self) && other.has_open(file));
        for other in others {
            let epoch = lock(&other.epoch).clone();
            other.retire(&epoch, EpochEnd::Moved);
            epoch.wait_until_closed(deadline).await?;
        }
        Ok(())
    }

    async fn connect(
        self: &Arc<Self>,
        epoch: &Arc<FileEpoch>,
        wanted: &Wanted,
        role: Role,
    ) -> Result<Connection, Failure> {
        let options = SqliteConnectOptions::new()
            .busy_timeout(wanted.busy_timeout)
            .thread_name(|nth| format!("larder-sqlite-{nth}"))
            .disable_statement_logging();
        let options = match &self.path {
            None => options.filename(":memory:").create_if_missing(true),
            // The file has been created before, under larder's own lock and readable by its owner
            // only.
            Some(path) => options.filename(path).create_if_missing(false),
        };
        // Count the connection before opening it. A task that waits for the end of this epoch could
        // otherwise find no connection, and move or remove the file while SQLite opens it.
        let guard = OpenGuard::new(epoch.clone(), wanted.session.clone());
        let raw = options.connect().await?;
        let (writes, max_bytes) = (role == Role::Write, self.bound(wanted.max_bytes));
        Ok(Connection { raw, writes, max_bytes, database: self.clone(), guard })
    }

    async fn on_file(
        &self,
        work: impl FnOnce(&Path) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        blocking(move || work(&path)).await
    }

    async fn look(&self) -> Option<Look> {
        let path = self.path.clone()?;
        blocking(move || file::look(&path).map_err(|_| Error::new(ErrorKind::Unavailable)))
            .await
            .ok()
    }

    /// Checks whether the files are still those of this epoch, and ends the epoch if they are not.
    pub(super) async fn look_at(&self, epoch: &Arc<FileEpoch>) -> bool {
        *lock(&epoch.looked) = Instant::now();
        // If the check itself fails, assume that nothing has changed: SQLite reports the failure.
        let Some(look) = self.look().await else { return true };
        lock(&epoch.log).bytes = look.log_bytes;
        let Some(known) = epoch.files.get().copied().flatten() else { return true };
        let end = if known.main != look.files.main {
            EpochEnd::Moved
        } else if look.is_cut_off {
            EpochEnd::Corrupt
        } else if known.has_lost_its_log(look.files) {
            EpochEnd::LogLost
        } else {
            return true;
        };
        self.retire(epoch, end);
        false
    }

    /// Checks whether the file is still the one that this connection has open.
    pub(super) async fn is_in_place(&self, connection: &Connection) -> bool {
        self.look_at(&connection.guard.epoch).await
    }
}

/// A connection of an epoch.
pub(in super::super) struct Connection {
    raw: SqliteConnection,
    writes: bool,
    max_bytes: u64,
    database: Arc<Database>,
    /// Declared last, because fields drop in order: the connection must be closed before it stops
    /// being counted as open.
    guard: OpenGuard,
}

impl Connection {
    pub(in super::super) fn raw(&mut self) -> &mut SqliteConnection {
        &mut self.raw
    }

    pub(super) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Whether the connection must not be used any more.
    pub(in super::super) fn is_retired(&self) -> bool {
        self.guard.is_retired()
    }

    /// Whether the file must be checked, or other work done, before the connection is used.
    pub(in super::super) fn is_due_for_a_look(&self) -> bool {
        let epoch = &self.guard.epoch;
        if if self.writes { epoch.has_to_note_time() } else { epoch.clock_was_set_back() } {
            return true;
        }
        self.database.path.is_some()
            && (self.has_long_log() || lock(&self.guard.epoch.looked).elapsed() >= LOOK_EVERY)
    }

    /// The bound on the size of its file.
    pub(in super::super) fn bound(&self) -> u64 {
        self.database.bound(self.max_bytes)
    }

    /// Whether the writer must adjust the expiry times before this reader may read.
    pub(in super::super) fn waits_for_the_clock(&self) -> bool {
        !self.writes && self.guard.epoch.clock_was_set_back()
    }

    /// Writes the present time into the file, if that is due.
    pub(in super::super) async fn note_time(&mut self) -> Result<(), Failure> {
        if self.writes && self.guard.epoch.has_to_note_time() {
            let noted = schema::note_time(&mut self.raw).await?;
            self.guard.epoch.noted_time(noted);
        }
        Ok(())
    }

    /// Whether this connection writes and the write-ahead log has grown too long.
    fn has_long_log(&self) -> bool {
        self.writes && self.log_is_over(LOG_TOO_LONG)
    }

    fn log_is_over(&self, times: u64) -> bool {
        lock(&self.guard.epoch.log).bytes > times * schema::log_bytes(self.max_bytes)
    }

    /// Truncates a log that has grown too long.
    ///
    /// # Errors
    ///
    /// If the log is at its bound and a reader prevents truncating it.
    pub(in super::super) async fn keep_log_short(&mut self) -> Result<(), Failure> {
        if !self.has_long_log() {
            return Ok(());
        }
        let now = Instant::now();
        let is_due = {
            let mut log = lock(&self.guard.epoch.log);
            let is_due = log.tried.is_none_or(|tried| now - tried >= LOOK_EVERY);
            log.tried = if is_due { Some(now) } else { log.tried };
            is_due
        };
        if is_due && schema::write_log_back(&mut self.raw).await? {
            *lock(&self.guard.epoch.log) = LogState::default();
        }
        if !self.log_is_over(LOG_FULL) {
            return Ok(());
        }
        let index = self.guard.epoch.files.get().copied().flatten().and_then(|files| files.index);
        let who = blocking(move || Ok(index.and_then(file::reader_of))).await?;
        let who = who.unwrap_or_else(|| "another program".to_owned());
        Err(Error::new(ErrorKind::Unavailable)
            .with_message(format!(
                "nothing can be written while {who} keeps its read transaction open: the log has \
                 reached its bound and cannot be written back"
            ))
            .into())
    }

    /// Ends the epoch of this connection, because the file is damaged or is no longer the cache.
    pub(in super::super) fn end_epoch(&self, end: EpochEnd) {
        self.database.retire(&self.guard.epoch, end);
    }

    /// Closes the connection, and returns when it is closed.
    pub(in super::super) async fn close(self) {
        let Self { raw, guard, database, .. } = self;
        // One after the other: SQLite writes the log back and removes it when a connection closes
        // and sees no lock of another. Two that close at once see each other's lock, and the log
        // stays for ever beside a file that no process has open.
        let closing = database.closing.lock().await;
        // The only possible error is that the connection's thread has ended already.
        let _ = raw.close().await;
        drop(guard);
        drop(closing);
        drop(database);
    }
}
