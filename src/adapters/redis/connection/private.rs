//! A connection for one caller alone.

use super::connection::Connection;
use crate::adapters::redis::commands::Command;
use crate::adapters::redis::errors::{Code, Failure};
use tokio::time::Instant;

/// A connection that no other caller uses, for commands between which no command of another caller
/// may come: `WATCH` and the transaction after it. It is closed when it is dropped.
pub(in crate::adapters::redis) struct PrivateConnection(Connection);

impl PrivateConnection {
    pub(super) fn new(connection: Connection) -> Self {
        Self(connection)
    }

    pub(in crate::adapters::redis) async fn run<T>(
        &self,
        command: Command<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        match self.0.exchange(&command.raw, deadline).await {
            Ok(answer) => (command.read)(answer).ok_or_else(Failure::desynchronized),
            Err(failure) if failure.code == Code::Late => Err(Failure::timeout()),
            Err(failure) => Err(failure),
        }
    }
}
