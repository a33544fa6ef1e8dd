//! Values on their way: they go over the lane for what is big under a name of their own, and take
//! their own name later.

use super::commands::{self, Condition, Ttl};
use super::errors::{Failure, Fate};
use super::lane::Lane;
use super::{deadline_in, names};
use crate::error::ErrorKind;
use crate::expiry::Lifetime;
use crate::runtime::spawn_background;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A value under a name of its own. If it is not taken, it is removed; if that fails too, it ends
/// by itself.
pub(super) struct Staged {
    /// `None` once it was taken.
    name: Option<String>,
    lane: Arc<Lane>,
    op_timeout: Duration,
}

impl Staged {
    /// Stores bytes under a new name that begins with `prefix`, for as long as a call may take.
    pub(super) async fn store(
        lane: &Arc<Lane>,
        prefix: &str,
        stored: Bytes,
        op_timeout: Duration,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let name = names::staged(prefix);
        // Made first: a caller that goes away in the middle leaves nothing behind.
        let staged = Self { name: Some(name.clone()), lane: lane.clone(), op_timeout };
        let ttl = Lifetime::from(op_timeout).as_millis_ceil().map_or(Ttl::Never, Ttl::Millis);
        let lane = lane.clone();
        // Putting the command together takes the thread for a while as well.
        let storing = spawn_background(async move {
            lane.run(|| commands::set(&name, &stored, ttl, Condition::None), deadline).await
        });
        let panicked = |_| Failure::new(ErrorKind::Unavailable, "the driver panicked", Fate::Keep);
        storing.await.map_err(panicked)??;
        Ok(staged)
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// A script has given it its own name, or removed it.
    pub(super) fn take_over(mut self) {
        self.name = None;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let (lane, deadline) = (self.lane.clone(), deadline_in(self.op_timeout));
        drop(spawn_background(async move {
            // Should it fail, the name ends by itself.
            let _ = lane.run(|| commands::discard(&name), deadline).await;
        }));
    }
}
