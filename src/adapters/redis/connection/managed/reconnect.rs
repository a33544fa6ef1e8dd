//! The task that connects.

use super::{ManagedConnection, State};
use crate::adapters::redis::connection::calls::Drive;
use crate::adapters::redis::connection::connection::Connection;
use crate::adapters::redis::connection::factory::Purpose;
use crate::adapters::redis::connection::source::Source;
use crate::adapters::redis::errors::{BACKEND, Failure};
use crate::error::{Error, ErrorKind};
use crate::runtime::{lock, spawn, spawn_background};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// After so long without a call it stops trying to connect.
const QUIET: Duration = Duration::from_secs(10);

impl ManagedConnection {
    pub(super) fn spawn_reconnect_task(self: &Arc<Self>) {
        let connecting = connect(ReconnectTask(Arc::downgrade(self)), self.drive);
        drop(match self.drive {
            Drive::ByCallers => spawn(connecting),
            Drive::ByWatchdog => spawn_background(connecting),
        });
    }

    fn take_into_use(&self, connection: Arc<Connection>) {
        self.state.send_modify(|state| {
            self.open.store(Some(connection.clone()));
            *state = State::Up(connection);
        });
    }

    fn fail(&self, error: Option<Error>) {
        if let Some(error) = error {
            self.state.send_replace(State::Down(error));
        }
    }

    fn is_quiet(&self) -> bool {
        lock(&self.asked).elapsed() > QUIET
    }
}

/// The task that connects, from the first attempt to the first success. Does not keep its lane
/// alive while it pauses.
struct ReconnectTask(Weak<ManagedConnection>);

impl Drop for ReconnectTask {
    /// It ends by a panic in a driver, or with its runtime: the next caller begins anew.
    fn drop(&mut self) {
        if let Some(managed) = self.0.upgrade() {
            managed.state.send_if_modified(|state| {
                let unfinished = matches!(state, State::Connecting | State::Down(_));
                if unfinished {
                    *state = State::Idle;
                }
                unfinished
            });
        }
    }
}

async fn connect(mut connector: ReconnectTask, drive: Drive) {
    while let Some(managed) = connector.0.upgrade() {
        let factory = managed.factory.clone();
        // What another lane found out meanwhile holds for this one: its callers need not wait for
        // the next attempt.
        managed.fail(factory.backoff.error());
        drop(managed);
        let turn = factory.backoff.turn().await;
        let Some(managed) = connector.0.upgrade() else { return };
        managed.fail(factory.backoff.error());
        match factory.open(drive, Purpose::Lane).await {
            Ok(connection) => {
                factory.backoff.succeeded();
                connector.0 = Weak::new();
                managed.take_into_use(Arc::new(connection));
                return;
            }
            Err(Failure { error, .. }) => {
                let error = away(error, &factory.source);
                factory.backoff.failed(error.clone());
                managed.fail(Some(error));
            }
        }
        drop(turn);
        if managed.is_quiet() {
            factory.backoff.forget();
            connector.0 = Weak::new();
            managed.state.send_replace(State::Idle);
            return;
        }
    }
}

/// Names the endpoint. A server that does not answer in time is away; what needs a person stays
/// what it is.
fn away(error: Error, source: &Source) -> Error {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            let message = format!("{source} cannot be reached");
            let away =
                Error::new(ErrorKind::Unavailable).with_backend(BACKEND).with_message(message);
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            away.with_source(cause.unwrap_or_else(|| error.to_string()))
        }
        _ => error,
    }
}
