//! From a job to its answer: a connection that can be used, and what is done when the statement fails.

use super::connection::database::{Connection, Member as _, Role};
use super::connection::epoch::EpochEnd;
use super::connection::schema;
use super::engine::Engine;
use super::errors::Failure;
use super::job::Work;
use super::lane::Ran;
use super::maintenance;
use super::statements::Ping;
use crate::error::{Error, Result};
use crate::runtime;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often one job makes a connection anew, or room in a full file, before its caller is told.
const RENEWALS: u32 = 2;
const EVICTIONS: u32 = 24;

/// A pause before a locked database is asked again, beyond the busy timeout it has waited already.
const LOCKED_PAUSE: Duration = Duration::from_millis(1);

/// What is to be done next about a job.
pub(super) enum Next {
    Try(Option<Connection>),
    Repair(Option<Connection>, Failure),
}

/// What has been done for one job already.
#[derive(Default)]
struct Repairs {
    renewals: u32,
    evictions: u32,
    has_cut_log: bool,
    has_begun_anew: bool,
}

impl Engine {
    /// Finishes what a caller began.
    pub(super) async fn settle(self: &Arc<Self>, role: Role, ran: Ran) -> Option<Connection> {
        match ran.result {
            Ok(()) => Some(ran.connection),
            Err(error) => {
                self.serve(role, Next::Repair(Some(ran.connection), Failure::of(error)), ran.work)
                    .await
            }
        }
    }

    /// Runs one job to its answer, renewing what needs to be renewed. Gives back the connection, if there still is one.
    pub(super) async fn serve(
        self: &Arc<Self>,
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

    /// Does what can be done about a failure, so that the job can be tried again; or gives the error for its caller.
    async fn repair(
        self: &Arc<Self>,
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
            ) => {
                if let Some(on) = connection {
                    match failure {
                        Failure::Corrupt(_) => on.end_epoch(EpochEnd::Corrupt),
                        Failure::Moved(_) => on.end_epoch(EpochEnd::Moved),
                        Failure::Unprepared(_) => on.end_epoch(EpochEnd::Closed),
                        // Why did it break? If the file is gone, nobody needs to find out again.
                        _ => {
                            self.source.look_again(&on).await;
                        }
                    }
                    on.close().await;
                }
                self.clone().recall();
                repairs.renewals += 1;
                if repairs.renewals <= RENEWALS {
                    Ok(None)
                } else {
                    Err((failure.into_error(), None))
                }
            }
            (failure, connection) => Err((failure.into_error(), connection)),
        }
    }

    /// Makes room in a full file. On a full disk there may be none for that either: then the log is
    /// written back, and if that is not enough the cache begins anew, as a cache always can.
    async fn find_room(
        self: &Arc<Self>,
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

    /// A connection that can be used: the given one, or a new one in place of one whose time is over.
    async fn ready(
        self: &Arc<Self>,
        role: Role,
        connection: Option<Connection>,
    ) -> Result<Connection, (Failure, Option<Connection>)> {
        if let Some(mut connection) = connection {
            if !connection.is_retired()
                && connection.is_due_for_a_look()
                && !self.source.look_again(&connection).await
            {
                self.clone().recall();
            }
            if !connection.is_retired() {
                return match self.prepare(&mut connection).await {
                    Ok(()) => Ok(connection),
                    Err(failure) => Err((failure, Some(connection))),
                };
            }
            connection.close().await;
        }
        let mut opened = self
            .source
            .open(role, Instant::now() + self.op_timeout(), self.as_member())
            .await
            .map_err(|failure| (failure, None))?;
        if role == Role::Write {
            self.start_sweeping();
        }
        match self.prepare(&mut opened).await {
            Ok(()) => Ok(opened),
            Err(failure) => Err((failure, Some(opened))),
        }
    }

    /// What has to be done before the next statement.
    async fn prepare(self: &Arc<Self>, connection: &mut Connection) -> Result<(), Failure> {
        connection.keep_log_short().await?;
        connection.note_time().await?;
        if connection.waits_for_the_clock() {
            // A write of any kind notes the time.
            Box::pin(self.call(Role::Write, Ping)).await?;
        }
        Ok(())
    }
}
