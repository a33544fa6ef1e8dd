//! Opens connections for the lanes of one runtime.

use super::backoff::ReconnectBackoff;
use super::calls::Drive;
use super::connection::{Connection, Orphans};
use super::open::{Opening, Progress};
use super::resp::Bounds;
use super::source::Source;
use crate::adapters::redis::builder::Config;
use crate::adapters::redis::deadline_in;
use crate::adapters::redis::errors::{Code, Failure, Fate};
use crate::adapters::redis::refusals::Refusals;
use crate::error::ErrorKind;
use deadpool_redis::Pool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::timeout_at;

/// What the lanes of one runtime share, or the one for what is big.
pub(in crate::adapters::redis) struct ConnectionFactory {
    pub(in crate::adapters::redis) source: Source,
    pool: OnceLock<Pool>,
    pub(in crate::adapters::redis) backoff: ReconnectBackoff,
    pub(in crate::adapters::redis) orphans: Arc<Orphans>,
    pub(in crate::adapters::redis) refusals: Arc<Refusals>,
    pub(in crate::adapters::redis) progress: Progress,
    /// The deadline of a call.
    pub(in crate::adapters::redis) timeout: Duration,
    max_value_bytes: usize,
}

impl ConnectionFactory {
    pub(in crate::adapters::redis) fn new(
        source: Source,
        orphans: Arc<Orphans>,
        refusals: Arc<Refusals>,
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
            timeout,
            max_value_bytes,
        }
    }

    /// Connects. This may take longer than a call may wait: then the calls time out, and a later
    /// one finds it done.
    pub(in crate::adapters::redis) async fn open(
        &self,
        drive: Drive,
    ) -> Result<Connection, Failure> {
        let limit = self.timeout.saturating_mul(4).max(Duration::from_secs(1));
        let bounds = Bounds::new(self.max_value_bytes, limit);
        let deadline = deadline_in(limit);
        let opening = async {
            let opening = Opening { bounds, drive, deadline, progress: &self.progress };
            let link = self.source.connect(&self.pool, opening).await?;
            Connection::identified(link, self.orphans.clone(), deadline).await
        };
        match timeout_at(deadline, opening).await {
            Ok(Err(failure)) if failure.code == Code::Late => Err(self.late(limit)),
            Ok(opened) => opened,
            Err(_) => Err(self.late(limit)),
        }
    }

    fn late(&self, limit: Duration) -> Failure {
        let message = format!("no connection within {limit:?}");
        let failure = Failure::new(ErrorKind::Unavailable, message, Fate::Drop);
        let error = failure.error.clone().with_source(self.progress.reason());
        Failure { error, ..failure }
    }
}
