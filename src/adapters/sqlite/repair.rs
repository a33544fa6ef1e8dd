//! From a job to its answer: a connection that can be used, and what is done when the statement fails.

use super::connection::database::{Connection, Member as _, Role};
use super::connection::epoch::EpochEnd;
use super::engine::Engine;
use super::errors::Failure;
use super::job::Work;
use super::lane::Ran;
use super::maintenance;
use crate::{Error, Result, runtime};
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
                Err(failure) => Next::Repair(None, failure),
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
                runtime::alarm(Instant::now() + LOCKED_PAUSE).await;
                Ok(connection)
            }
            (Failure::Full(error), Some(mut on)) => {
                repairs.evictions += 1;
                let room = match repairs.evictions {
                    ..=EVICTIONS => {
                        maintenance::make_room(on.raw(), self.source.max_bytes(), repairs.evictions)
                            .await
                    }
                    _ => Ok(false),
                };
                match room {
                    Ok(true) => Ok(Some(on)),
                    Ok(false) => Err((Failure::Full(error).into_error(), Some(on))),
                    Err(failure) => Err((failure.into_error(), Some(on))),
                }
            }
            (
                failure @ (Failure::Corrupt(_)
                | Failure::Moved(_)
                | Failure::Unprepared(_)
                | Failure::Stale
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

    /// A connection that can be used: the given one, or a new one in place of one whose time is over.
    async fn ready(
        self: &Arc<Self>,
        role: Role,
        connection: Option<Connection>,
    ) -> Result<Connection, Failure> {
        if let Some(mut connection) = connection {
            if !connection.is_retired()
                && connection.is_due_for_a_look()
                && !self.source.look_again(&connection).await
            {
                self.clone().recall();
            }
            if !connection.is_retired() {
                if connection.has_long_log() {
                    // Whatever comes of it: whether to try again is for the next look to say.
                    connection.forget_long_log();
                    maintenance::write_log_back(connection.raw()).await?;
                }
                return Ok(connection);
            }
            connection.close().await;
        }
        let opened =
            self.source.open(role, Instant::now() + self.op_timeout(), self.as_member()).await?;
        if role == Role::Write {
            self.start_sweeping();
        }
        Ok(opened)
    }
}
