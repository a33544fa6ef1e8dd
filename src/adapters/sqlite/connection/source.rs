//! One adapter's way to its database.

use super::database::{Connection, Database, Role, Wanted};
use super::epoch::Session;
use super::file::{self, blocking};
use super::members::Member;
use crate::adapters::sqlite::errors::Failure;
use crate::error::Error;
use crate::runtime::lock;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Site {
    Memory,
    File(PathBuf),
}

/// The settings of one adapter's connections, and which of them are open.
pub(in super::super) struct Source {
    site: Site,
    max_bytes: u64,
    busy_timeout: Duration,
    session: Mutex<Arc<Session>>,
    /// The database in memory; of a file, the one that was opened last.
    database: Mutex<Option<Arc<Database>>>,
}

impl Source {
    pub(in super::super) fn new(site: Site, max_bytes: u64, busy_timeout: Duration) -> Self {
        Self {
            site,
            max_bytes,
            busy_timeout,
            session: Mutex::default(),
            database: Mutex::new(None),
        }
    }

    pub(in super::super) fn is_memory(&self) -> bool {
        self.site == Site::Memory
    }

    pub(in super::super) fn site(&self) -> &Site {
        &self.site
    }

    /// How large the file may become: as large as it was set to, or as the disk has room for.
    pub(in super::super) fn bound(&self) -> u64 {
        lock(&self.database)
            .as_ref()
            .map_or(self.max_bytes, |database| database.bound(self.max_bytes))
    }

    /// Lets a file that was made smaller by a full disk grow again.
    pub(in super::super) fn relax(&self) {
        if let Some(database) = lock(&self.database).as_ref() {
            database.relax();
        }
    }

    /// Opens a connection, and the database if that has not been done.
    pub(in super::super) async fn open(
        &self,
        role: Role,
        deadline: Instant,
        member: Weak<dyn Member>,
    ) -> Result<Connection, Failure> {
        // Before the path is resolved: a session that is ended meanwhile must not gain a connection
        // that nobody counts.
        let session = lock(&self.session).clone();
        let database = self.database().await?;
        database.admit(member);
        let (max_bytes, busy_timeout) = (self.max_bytes, self.busy_timeout);
        database.open(Wanted { role, deadline, session, max_bytes, busy_timeout }).await
    }

    async fn database(&self) -> Result<Arc<Database>, Error> {
        let Site::File(path) = self.site.clone() else {
            let mut database = lock(&self.database);
            return Ok(database.get_or_insert_with(|| Arc::new(Database::in_memory())).clone());
        };
        let database =
            blocking(move || file::resolve(&path).map(|path| Database::in_file(&path))).await?;
        *lock(&self.database) = Some(database.clone());
        Ok(database)
    }

    /// Leaves the session, and a database in memory, to the process that this one was forked from.
    pub(in super::super) fn forget(&self) {
        std::mem::forget(std::mem::take(&mut *lock(&self.session)));
        if self.is_memory() {
            std::mem::forget(lock(&self.database).take());
        }
    }

    /// Ends the session: its connections have to be closed by whoever holds them.
    pub(in super::super) fn end_session(&self) -> EndedSession {
        let past = std::mem::take(&mut *lock(&self.session));
        past.end();
        if !self.is_memory() {
            *lock(&self.database) = None;
        }
        EndedSession(past)
    }

    /// Looks whether the file is still the one that this connection has before it.
    pub(in super::super) async fn look_again(&self, connection: &Connection) -> bool {
        let database = connection.database().clone();
        let Site::File(path) = self.site.clone() else { return true };
        let resolved = blocking(move || file::resolve_existing(&path)).await;
        if let Ok(Some(now)) = resolved
            && !database.is_at(&now)
        {
            // A link on the way to the file leads elsewhere now. That is this adapter's affair:
            // others may have come by another way.
            let _ended = self.end_session();
            return false;
        }
        database.is_in_place(connection).await
    }
}

/// A session whose connections are being closed.
pub(in super::super) struct EndedSession(Arc<Session>);

impl EndedSession {
    pub(in super::super) async fn wait_until_closed(&self, deadline: Instant) -> Result<(), Error> {
        self.0.wait_until_closed(deadline).await
    }
}
