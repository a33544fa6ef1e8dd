//! One adapter's access to its database.

use super::database::{Connection, Database, Role, Wanted};
use super::epoch::Session;
use super::file::{self, blocking};
use super::members::Member;
use super::present::Present;
use crate::adapters::sqlite::errors::Failure;
use crate::error::Error;
use crate::runtime::lock;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// The place of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Site {
    Memory,
    File(PathBuf),
}

/// The settings of one adapter's connections, and its open connections.
pub(in super::super) struct Source {
    site: Site,
    max_bytes: u64,
    busy_timeout: Duration,
    session: Mutex<Arc<Session>>,
    /// The database in memory; for a file, the database that was opened last.
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

    /// How large the file may become: the configured size, or the size that the disk has room for.
    pub(in super::super) fn bound(&self) -> u64 {
        lock(&self.database)
            .as_ref()
            .map_or(self.max_bytes, |database| database.bound(self.max_bytes))
    }

    /// Lets a file grow again that a full disk has made smaller.
    pub(in super::super) fn relax(&self) {
        if let Some(database) = lock(&self.database).as_ref() {
            database.relax();
        }
    }

    /// Opens a connection, and the database if it is not open.
    pub(in super::super) async fn open(
        &self,
        role: Role,
        deadline: Instant,
        member: Weak<dyn Member>,
    ) -> Result<Connection, Failure> {
        // Take the session before resolving the path. `close` may end the session in between, and
        // waits for the connections of the ended session only: a connection must not be counted in
        // a session that `close` does not wait for.
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

    /// Ends the session. The holders of its connections have to close them. The database is kept: it
    /// knows which file was the cache, and a cache that is damaged while it is closed can heal.
    pub(in super::super) fn end_session(&self) -> EndedSession {
        let past = std::mem::take(&mut *lock(&self.session));
        past.end();
        EndedSession(past)
    }

    /// Whether links on the path lead to another file than the one of this database.
    async fn leads_elsewhere(&self, database: &Database) -> bool {
        let Site::File(path) = self.site.clone() else { return false };
        let resolved = blocking(move || file::resolve_existing(&path)).await;
        matches!(resolved, Ok(Some(now)) if !database.is_at(&now))
    }

    /// The file that is open, if it is in place.
    pub(in super::super) async fn present(&self) -> Option<Present> {
        let database = lock(&self.database).clone()?;
        if self.leads_elsewhere(&database).await {
            None
        } else {
            Present::in_place(&database).await
        }
    }

    /// Whether that file has been open since. Asks the file system nothing.
    pub(in super::super) fn is_still(&self, present: &Present) -> bool {
        lock(&self.database).as_ref().is_some_and(|database| present.is_open_in(database))
    }

    /// Checks whether the file is still the one that this connection has open.
    pub(in super::super) async fn look_again(&self, connection: &Connection) -> bool {
        let database = connection.database().clone();
        if self.is_memory() {
            return true;
        }
        if self.leads_elsewhere(&database).await {
            // A link on the path leads elsewhere now. Only this adapter ends its session: other
            // adapters may have opened the same file by another path.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

    use super::*;

    struct NoConnections;

    impl Member for NoConnections {
        fn recall(self: Arc<Self>) {}
    }

    #[tokio::test]
    async fn a_reader_that_opens_the_file_first_keeps_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::File(folder.path().join("cache.db"));
        let source = Source::new(site, 64 << 20, Duration::from_secs(5));
        let member: Arc<dyn Member> = Arc::new(NoConnections);
        for round in 0..3 {
            let deadline = Instant::now() + Duration::from_secs(30);
            let member = Arc::downgrade(&member);
            let reader = source.open(Role::Read, deadline, member).await.unwrap();
            assert!(source.look_again(&reader).await, "round {round}: the log is gone");
            reader.close().await;
        }
    }
}
