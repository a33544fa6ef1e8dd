//! Opens connections for the lanes of one runtime.

use super::backoff::ReconnectBackoff;
use super::connection::{Connection, Orphans, identify};
use super::driver::Progress;
use super::replies::Bounds;
use super::source::Source;
use crate::adapters::redis::builder::Config;
use crate::adapters::redis::errors::{Failure, Fate};
use crate::adapters::redis::refusals::Refusals;
use crate::error::ErrorKind;
use deadpool_redis::Pool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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
    pub(in crate::adapters::redis) async fn open(&self) -> Result<Connection, Failure> {
        let limit = self.timeout.saturating_mul(4).max(Duration::from_secs(1));
        let bounds = Bounds::new(self.max_value_bytes, limit);
        let opening = async {
            let mut driver = self.source.connect(&self.pool, bounds, &self.progress).await?;
            match identify(&mut driver.connection).await {
                Ok(client) => Ok(Connection::new(driver, client, self.orphans.clone())),
                Err(failure) => Err(driver.explained(failure)),
            }
        };
        match tokio::time::timeout(limit, opening).await {
            Ok(opened) => opened,
            Err(_) => {
                let message = format!("no connection within {limit:?}");
                let failure = Failure::new(ErrorKind::Unavailable, message, Fate::Drop);
                let error = failure.error.clone().with_source(self.progress.reason());
                Err(Failure { error, ..failure })
            }
        }
    }
}
