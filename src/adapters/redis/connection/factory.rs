//! Opens connections for the lanes of one runtime.

use super::backoff::ReconnectBackoff;
use super::calls::Drive;
use super::connection::{Connection, Orphans};
use super::open::{Opening, Progress};
use super::resp::Bounds;
use super::source::Source;
use super::tracking::Tracking;
use crate::adapters::redis::builder::Config;
use crate::adapters::redis::deadline_in;
use crate::adapters::redis::errors::{Code, Failure, Fate};
use crate::adapters::redis::following::Following;
use crate::adapters::redis::refusals::Refusals;
use crate::error::ErrorKind;
use crate::key::Scope;
use deadpool_redis::Pool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What a connection is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapters::redis) enum Purpose {
    /// The calls of a lane: reads for a near level are among them.
    Lane,
    /// A single caller, which writes.
    OneCaller,
}

/// What the lanes of one runtime share, or the one for what is big.
pub(in crate::adapters::redis) struct ConnectionFactory {
    pub(in crate::adapters::redis) source: Source,
    pool: OnceLock<Pool>,
    pub(in crate::adapters::redis) backoff: ReconnectBackoff,
    pub(in crate::adapters::redis) orphans: Arc<Orphans>,
    pub(in crate::adapters::redis) refusals: Arc<Refusals>,
    pub(in crate::adapters::redis) progress: Progress,
    following: Arc<Following>,
    scope: Scope,
    /// The deadline of a call.
    pub(in crate::adapters::redis) timeout: Duration,
    max_value_bytes: usize,
}

impl ConnectionFactory {
    pub(in crate::adapters::redis) fn new(
        source: Source,
        orphans: Arc<Orphans>,
        refusals: Arc<Refusals>,
        following: Arc<Following>,
        config: &Config,
    ) -> Self {
        let Config { op_timeout: timeout, max_value_bytes, .. } = *config;
        Self {
            source,
            pool: OnceLock::new(),
            backoff: ReconnectBackoff::default(),
            orphans,
            refusals,
            progress: Progress::default(),
            following,
            scope: config.settings.scope.clone(),
            timeout,
            max_value_bytes,
        }
    }

    /// Connects. This may take longer than a call may wait: then the calls time out, and a later
    /// one finds it done.
    pub(in crate::adapters::redis) async fn open(
        &self,
        drive: Drive,
        purpose: Purpose,
    ) -> Result<Connection, Failure> {
        let limit = self.timeout.saturating_mul(4).max(Duration::from_secs(1));
        let deadline = deadline_in(limit);
        match timeout_at(deadline, self.connect(drive, purpose, limit, deadline)).await {
            Ok(Err(failure)) if failure.code == Code::Late => Err(self.late(limit)),
            Ok(opened) => opened,
            Err(_) => Err(self.late(limit)),
        }
    }

    async fn connect(
        &self,
        drive: Drive,
        purpose: Purpose,
        limit: Duration,
        deadline: Instant,
    ) -> Result<Connection, Failure> {
        let (tracking, progress) = (Arc::new(Tracking::new(self.scope.clone())), &self.progress);
        let bounds = Bounds::new(self.max_value_bytes, limit);
        let opening = Opening { bounds, drive, tracking: &tracking, deadline, progress };
        let link = self.source.connect(&self.pool, opening).await?;
        let connection =
            Connection::identified(link, tracking, self.orphans.clone(), deadline).await?;
        if purpose == Purpose::Lane {
            self.following.begin(&connection, deadline, self.timeout).await?;
        }
        Ok(connection)
    }

    fn late(&self, limit: Duration) -> Failure {
        let message = format!("no connection within {limit:?}");
        let failure = Failure::new(ErrorKind::Unavailable, message, Fate::Drop);
        let error = failure.error.clone().with_source(self.progress.reason());
        Failure { error, ..failure }
    }
}
