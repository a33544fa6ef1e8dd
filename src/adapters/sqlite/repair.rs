//! Runs a job until its caller has an answer: opens a connection, runs the statement, and repairs
//! the database or the connection when the statement fails.
//!
//! A [`Repairer`] belongs to one adapter. It opens connections through the adapter's [`Source`] and
//! knows the engine as a [`Host`] only: the engine uses this module, never the other way round.

use super::connection::database::{Connection, Role};
use super::connection::epoch::EpochEnd;
use super::connection::members::Member;
use super::connection::schema;
use super::connection::source::Source;
use super::errors::Failure;
use super::job::Work;
use super::lane::Ran;
use super::maintenance;
use crate::error::{Error, Result};
use crate::runtime;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How many times one job may replace its connection before its caller gets the error.
const RENEWALS: u32 = 2;

/// How many times one job may evict rows from a full file before its caller gets the error.
const EVICTIONS: u32 = 24;

/// The pause before a locked database is tried again, after SQLite's own busy timeout.
const LOCKED_PAUSE: Duration = Duration::from_millis(1);

/// The engine as a repair sees it: the owner of the connections, which can recall all of them
/// (see [`Member`]).
pub(super) trait Host: Member + 'static {
    /// A connection that writes has been opened, so expired rows can be swept from now on.
    fn writer_opened(self: &Arc<Self>);

    /// Writes the present time into the database, on the connection that writes.
    fn note_time(self: &Arc<Self>) -> BoxFuture<'_, Result<()>>;
}

/// What to do next with a job.
pub(super) enum Next {
    Try(Option<Connection>),
    Repair(Option<Connection>, Failure),
}

/// The repairs that one job has had already.
#[derive(Default)]
struct Repairs {
    renewals: u32,
    evictions: u32,
    has_cut_log: bool,
    has_begun_anew: bool,
}

/// Runs the jobs of one adapter.
pub(super) struct Repairer<'e, H> {
    pub(super) host: &'e Arc<H>,
    pub(super) source: &'e Source,
    pub(super) op_timeout: Duration,
}

impl<H: Host> Repairer<'_, H> {
    /// Finishes a job whose statement a caller has run, and returns the connection if it is still
    /// usable.
    pub(super) async fn settle(&self, role: Role, ran: Ran) -> Option<Connection> {
        match ran.result {
            Ok(()) => Some(ran.connection),
            Err(error) => {
                let failure = Failure::of(error);
                self.serve(role, Next::Repair(Some(ran.connection), failure), ran.work).await
            }
        }
    }

    /// Runs a job until its caller has an answer, and returns the connection if it is still usable.
    pub(super) async fn serve(
        &self,
        role: Role,
        start: Next,
        mut work: Box<dyn Work>,
    ) -> Option<Connection> {
        let mut repairs = Repairs::default();
        let mut next = start;
        loop {
            let connection = match next {
                Next::Try(connection) => connection,
                Next::Repair(connection, error) => {
                    match self.repair(connection, error, &mut repairs).await {
                        Ok(connection) => connection,
                        Err((error, connection)) => {
                            work.fail(&error);
                            return connection;
                        }
                    }
                }
            };
            if work.is_over(Instant::now()) {
                return connection;
            }
            next = match self.ready(role, connection).await {
                Ok(mut ready) => match work.run(ready.raw()).await {
                    Ok(()) => return Some(ready),
                    Err(error) => Next::Repair(Some(ready), Failure::of(error)),
                },
                Err((failure, connection)) => Next::Repair(connection, failure),
            };
        }
    }

    /// Repairs what caused a failure, so that the job can be tried again.
    ///
    /// # Errors
    ///
    /// The error for the job's caller, where nothing can be repaired or the job has used up its
    /// repairs.
    async fn repair(
        &self,
        connection: Option<Connection>,
        failure: Failure,
        repairs: &mut Repairs,
    ) -> Result<Option<Connection>, (Error, Option<Connection>)> {
        match (failure, connection) {
            (Failure::Locked(_), connection) => {
                runtime::background_sleep_until(Instant::now() + LOCKED_PAUSE).await;
                Ok(connection)
            }
            (Failure::Full(error), Some(on)) => self.find_room(on, error, repairs).await,
            (
                failure @ (Failure::Corrupt(_)
                | Failure::Moved(_)
                | Failure::Unprepared(_)
                | Failure::Stale
                // The disk was full when the file was opened.
                | Failure::Full(_)
                | Failure::Broken(_)),
                connection,
            ) => self.renew(connection, failure, repairs).await,
            (failure, connection) => Err((failure.into_error(), connection)),
        }
    }

    /// Closes a connection that is no longer usable, so that the next attempt opens another.
    async fn renew(
        &self,
        connection: Option<Connection>,
        failure: Failure,
        repairs: &mut Repairs,
    ) -> Result<Option<Connection>, (Error, Option<Connection>)> {
        if let Some(on) = connection {
            // End the epoch before this connection closes. Another adapter of this process could
            // otherwise open a connection to the bad file in between, and report the same failure.
            match failure {
                Failure::Corrupt(_) => on.end_epoch(EpochEnd::Corrupt),
                Failure::Moved(_) => on.end_epoch(EpochEnd::Moved),
                Failure::Unprepared(_) => on.end_epoch(EpochEnd::Closed),
                // The file may be gone: one check here spares all other connections the failure.
                _ => {
                    self.source.look_again(&on).await;
                }
            }
            on.close().await;
        }
        self.host.clone().recall();
        repairs.renewals += 1;
        if repairs.renewals <= RENEWALS { Ok(None) } else { Err((failure.into_error(), None)) }
    }

    /// Makes room in a full file by evicting rows. Eviction fails where the whole disk is full and
    /// deleting needs room, too: then the log is written back, and if that is not enough the cache
    /// starts again with an empty file.
    async fn find_room(
        &self,
        mut on: Connection,
        error: sqlx::Error,
        repairs: &mut Repairs,
    ) -> Result<Option<Connection>, (Error, Option<Connection>)> {
        repairs.evictions += 1;
        if repairs.evictions <= EVICTIONS {
            let bound = on.bound();
            match maintenance::make_room(on.raw(), bound, repairs.evictions).await {
                Ok(true) => return Ok(Some(on)),
                Ok(false) | Err(Failure::Full(_)) => {}
                Err(failure) => return Err((failure.into_error(), Some(on))),
            }
        }
        if self.source.is_memory() || repairs.has_begun_anew {
            return Err((Failure::Full(error).into_error(), Some(on)));
        }
        if !std::mem::replace(&mut repairs.has_cut_log, true)
            && schema::write_log_back(on.raw()).await.is_ok_and(|is_cut| is_cut)
        {
            return Ok(Some(on));
        }
        repairs.has_begun_anew = true;
        on.end_epoch(EpochEnd::DiskFull);
        on.close().await;
        Ok(None)
    }

    /// Returns a connection that is ready for a statement: the given one, or a new one where the
    /// given one is retired or missing.
    async fn ready(
        &self,
        role: Role,
        connection: Option<Connection>,
    ) -> Result<Connection, (Failure, Option<Connection>)> {
        if let Some(connection) = connection {
            // Check the file before asking whether the connection is retired: the check is what
            // retires the connections of a file that another program has replaced.
            if !connection.is_retired()
                && connection.is_due_for_a_look()
                && !self.source.look_again(&connection).await
            {
                self.host.clone().recall();
            }
            if !connection.is_retired() {
                return self.prepare(connection).await;
            }
            // Close before opening. The opener waits until all connections of the old epoch are
            // closed, so it would wait for this one until its deadline.
            connection.close().await;
        }
        let deadline = Instant::now() + self.op_timeout;
        let member: Weak<H> = Arc::downgrade(self.host);
        let opened =
            self.source.open(role, deadline, member).await.map_err(|failure| (failure, None))?;
        if role == Role::Write {
            self.host.writer_opened();
        }
        self.prepare(opened).await
    }

    /// Does what must be done on a connection before the next statement.
    async fn prepare(
        &self,
        mut connection: Connection,
    ) -> Result<Connection, (Failure, Option<Connection>)> {
        match self.prepared(&mut connection).await {
            Ok(()) => Ok(connection),
            Err(failure) => Err((failure, Some(connection))),
        }
    }

    async fn prepared(&self, connection: &mut Connection) -> Result<(), Failure> {
        connection.keep_log_short().await?;
        connection.note_time().await?;
        if connection.waits_for_the_clock() {
            // A reader cannot adjust the expiry times after the clock was set back: the writer does
            // it, and the reader waits, or it would serve rows that have expired.
            self.host.note_time().await?;
        }
        Ok(())
    }
}
