//! The database that the lanes open connections to, and its ages.
//!
//! All connections of one age have the same file before them. When the file is deleted, replaced or damaged, or the adapter is closed,
//! the age ends: its connections close as soon as they can be had, and only when the last is closed does the next age begin. (SQLite
//! removes the log *by name* when a database closes: an old connection would take the log of the new file with it.)

use super::errors::Failure;
use super::file::{self, Identity, Look};
use super::lane::Role;
use super::schema;
use crate::runtime::{self, lock};
use crate::{Error, ErrorKind, Result};
use futures_util::future::{Either, select};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex as AsyncMutex, Notify};

/// How often the file is looked at while it is used.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A log of so many times the length at which it should have been written back is so although readers have to wait for it.
const LOG_TOO_LONG: u64 = 4;

/// How long nobody tries again after the database could not be opened: doubled each time, and up to half as long again.
const FIRST_REST: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_millis(300);

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Site {
    Memory,
    File(PathBuf),
}

pub(super) struct Database {
    site: Site,
    max_bytes: u64,
    busy_timeout: Duration,
    age: Mutex<Arc<Age>>,
    /// One opens at a time; and what happened last time, if it failed.
    opening: AsyncMutex<Option<Rest>>,
}

/// The time after a failure to open.
struct Rest {
    until: Instant,
    length: Duration,
    error: Error,
}

/// How an age ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Somebody asked for it, or the file has to be prepared again.
    Closed,
    /// The file is damaged.
    Corrupt,
    /// It is another file now, or none.
    Moved,
}

/// The time during which one file is the database.
pub(super) struct Age {
    /// The age before, until its connections are known to be closed.
    before: Mutex<Option<Arc<Age>>>,
    /// How it ended.
    end: OnceLock<End>,
    /// Set once the file is there and is ours.
    identity: OnceLock<Option<Identity>>,
    /// The log that goes with it.
    log: Mutex<Option<Identity>>,
    looked: Mutex<Instant>,
    log_is_long: AtomicBool,
    connections: AtomicUsize,
    all_closed: Notify,
}

impl Age {
    fn new(before: Option<Arc<Age>>) -> Arc<Self> {
        Arc::new(Self {
            before: Mutex::new(before),
            end: OnceLock::new(),
            identity: OnceLock::new(),
            log: Mutex::new(None),
            looked: Mutex::new(Instant::now()),
            log_is_long: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            all_closed: Notify::new(),
        })
    }

    /// Waits until no connection of this age is open.
    pub(super) async fn wait_until_closed(&self, deadline: Instant) -> Result<()> {
        let mut alarm = pin!(runtime::alarm(deadline));
        loop {
            let mut closed = pin!(self.all_closed.notified());
            closed.as_mut().enable();
            if self.connections.load(Ordering::Acquire) == 0 {
                return Ok(());
            }
            if let Either::Right(_) = select(closed, alarm.as_mut()).await {
                return Err(Error::new(ErrorKind::Timeout)
                    .with_message("a connection was still in use at the deadline"));
            }
        }
    }
}

impl Database {
    pub(super) fn new(site: Site, max_bytes: u64, busy_timeout: Duration) -> Self {
        Self {
            site,
            max_bytes,
            busy_timeout,
            age: Mutex::new(Age::new(None)),
            opening: AsyncMutex::new(None),
        }
    }

    pub(super) fn is_memory(&self) -> bool {
        self.site == Site::Memory
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Ends the present age, whatever it is.
    pub(super) fn retire_present(&self) -> Arc<Age> {
        let present = lock(&self.age).clone();
        self.retire(&present, End::Closed);
        present
    }

    /// Ends an age, unless it has ended.
    fn retire(&self, age: &Arc<Age>, end: End) {
        let mut present = lock(&self.age);
        if Arc::ptr_eq(&present, age) {
            // Only the present age can end, so it has not.
            let _ = age.end.set(end);
            *present = Age::new(Some(age.clone()));
        }
    }

    /// Opens a connection, and the database if that has not been done.
    pub(super) async fn open(&self, role: Role, deadline: Instant) -> Result<Connection, Failure> {
        let mut rest = self.opening.lock().await;
        if let Some(rest) = rest.as_ref().filter(|rest| Instant::now() < rest.until) {
            return Err(rest.error.clone().into());
        }
        match self.open_now(role, deadline).await {
            Err(
                failure @ (Failure::Locked(_)
                | Failure::Corrupt(_)
                | Failure::Moved(_)
                | Failure::Unprepared(_)
                | Failure::Stale),
            ) => Err(failure),
            Err(failure) => {
                let error = failure.into_error();
                let length =
                    rest.as_ref().map_or(FIRST_REST, |last| LONGEST_REST.min(last.length * 2));
                let until = Instant::now() + length.mul_f64(1.0 + fastrand::f64() / 2.0);
                *rest = Some(Rest { until, length, error: error.clone() });
                Err(error.into())
            }
            Ok(connection) => {
                *rest = None;
                Ok(connection)
            }
        }
    }

    async fn open_now(&self, role: Role, deadline: Instant) -> Result<Connection, Failure> {
        let age = lock(&self.age).clone();
        // One that was needed to prepare the file stays open until there is another: the last to close would take the log away.
        let first = if age.identity.get().is_none() {
            Some(self.begin(&age, deadline).await?)
        } else {
            None
        };
        let first = match (role, first) {
            (Role::Write, Some(first)) => return Ok(first),
            (_, first) => first,
        };
        // Something that is no database any more would be made one, in the midst of the connections that are open.
        let opened = if self.is_in_place(&age).await {
            self.open_another(&age, role).await
        } else {
            Err(Failure::Stale)
        };
        if let Some(first) = first {
            first.close().await;
        }
        opened
    }

    async fn open_another(&self, age: &Arc<Age>, role: Role) -> Result<Connection, Failure> {
        let mut connection = self.connect(age, role).await?;
        let set_up = match role {
            Role::Write => schema::set_up_writer(connection.raw(), self.max_bytes).await,
            Role::Read => schema::set_up_reader(connection.raw()).await,
        };
        match set_up {
            // Once more, for the log may be a new one.
            Ok(()) if self.is_in_place(age).await => Ok(connection),
            Ok(()) => {
                connection.close().await;
                Err(Failure::Stale)
            }
            Err(failure) => {
                if matches!(failure, Failure::Corrupt(_)) {
                    self.retire(age, End::Corrupt);
                }
                connection.close().await;
                Err(failure)
            }
        }
    }

    /// Clears away what the ages before left behind, once all their connections are closed.
    async fn clear_away(&self, age: &Age, deadline: Instant) -> Result<()> {
        let mut before = lock(&age.before).clone();
        while let Some(past) = before {
            past.wait_until_closed(deadline).await?;
            let log = *lock(&past.log);
            match (past.end.get(), log) {
                (Some(End::Corrupt), _) => self.on_file(file::move_aside).await?,
                (Some(End::Moved), Some(log)) => {
                    self.on_file(move |path| file::remove_stale_log(path, log)).await?
                }
                _ => {}
            }
            before = lock(&past.before).clone();
        }
        *lock(&age.before) = None;
        Ok(())
    }

    /// Begins an age: the one before is over, the file is there and is ours.
    async fn begin(&self, age: &Arc<Age>, deadline: Instant) -> Result<Connection, Failure> {
        self.clear_away(age, deadline).await?;
        self.on_file(file::make_parents).await?;
        let mut connection = self.connect(age, Role::Write).await?;
        if let Err(failure) = schema::prepare(connection.raw(), self.max_bytes).await {
            if matches!(failure, Failure::Corrupt(_)) {
                self.retire(age, End::Corrupt);
            }
            connection.close().await;
            return Err(failure);
        }
        let look = self.look().await;
        *lock(&age.looked) = Instant::now();
        *lock(&age.log) = look.as_ref().and_then(|look| look.log);
        // One opens at a time, so nobody else has set it.
        let _ = age.identity.set(look.and_then(|look| look.identity));
        Ok(connection)
    }

    async fn connect(&self, age: &Arc<Age>, role: Role) -> Result<Connection, Failure> {
        let options = SqliteConnectOptions::new()
            .create_if_missing(role == Role::Write)
            .busy_timeout(self.busy_timeout)
            .thread_name(|nth| format!("larder-sqlite-{nth}"))
            .disable_statement_logging();
        let options = match &self.site {
            Site::Memory => options.filename(":memory:"),
            Site::File(path) => options.filename(path),
        };
        let raw = options.connect().await?;
        Ok(Connection {
            raw,
            writes: role == Role::Write,
            watched: !self.is_memory(),
            presence: Presence::new(age.clone()),
        })
    }

    async fn on_file(
        &self,
        work: impl FnOnce(&std::path::Path) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let Site::File(path) = self.site.clone() else { return Ok(()) };
        runtime::spawn_blocking(move || work(&path))
            .await
            .map_err(|lost| Error::new(ErrorKind::Unavailable).with_source(lost))?
    }

    async fn look(&self) -> Option<Look> {
        let Site::File(path) = self.site.clone() else { return None };
        runtime::spawn_blocking(move || file::look(&path)).await.ok()?.ok()
    }

    /// Looks whether the file is still the one of this age, and ends the age if it is not.
    async fn is_in_place(&self, age: &Arc<Age>) -> bool {
        *lock(&age.looked) = Instant::now();
        // What cannot be looked at is taken for what it was: SQLite will say.
        let Some(look) = self.look().await else { return true };
        age.log_is_long.store(
            look.log_bytes > LOG_TOO_LONG * schema::log_bytes(self.max_bytes),
            Ordering::Release,
        );
        let is_same = age.identity.get().is_none_or(|identity| *identity == look.identity);
        match (is_same, look.is_cut_off) {
            (true, false) => *lock(&age.log) = look.log,
            (true, true) => self.retire(age, End::Corrupt),
            (false, _) => self.retire(age, End::Moved),
        }
        is_same && !look.is_cut_off
    }

    /// Looks whether the file is still the one that this connection has before it.
    pub(super) async fn look_again(&self, connection: &Connection) -> bool {
        self.is_in_place(&connection.presence.0).await
    }

    /// Ends the age of a connection on which the file turned out to be damaged, or not to be ours any more.
    pub(super) fn retire_with(&self, connection: &Connection, end: End) {
        self.retire(&connection.presence.0, end);
    }
}

/// A connection of an age.
pub(super) struct Connection {
    raw: SqliteConnection,
    writes: bool,
    watched: bool,
    /// Last, for what is dropped first must be closed first.
    presence: Presence,
}

/// Counts a connection as open.
struct Presence(Arc<Age>);

impl Presence {
    fn new(age: Arc<Age>) -> Self {
        age.connections.fetch_add(1, Ordering::AcqRel);
        Self(age)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.0.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.all_closed.notify_waiters();
        }
    }
}

impl Connection {
    pub(super) fn raw(&mut self) -> &mut SqliteConnection {
        &mut self.raw
    }

    /// Its age is over: it must not be used any more.
    pub(super) fn is_retired(&self) -> bool {
        self.presence.0.end.get().is_some()
    }

    /// Somebody should see whether the file is in place before it is used.
    pub(super) fn is_due_for_a_look(&self) -> bool {
        self.watched
            && (self.has_long_log() || lock(&self.presence.0.looked).elapsed() >= LOOK_EVERY)
    }

    /// It writes, and the write-ahead log has grown too long.
    pub(super) fn has_long_log(&self) -> bool {
        self.writes && self.presence.0.log_is_long.load(Ordering::Acquire)
    }

    pub(super) fn forget_long_log(&self) {
        self.presence.0.log_is_long.store(false, Ordering::Release);
    }

    /// Closes it for good, and returns when that is done.
    pub(super) async fn close(self) {
        let Self { raw, presence, .. } = self;
        // The one error is that the connection's thread has gone already.
        let _ = raw.close().await;
        drop(presence);
    }
}
