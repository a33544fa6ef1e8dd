//! Staging of large values: a value is sent over the lane for large values under a temporary key,
//! and is renamed later on the lane of its own key.

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

/// A value under a temporary key. If the value is not renamed, it is removed; if that fails too, it
/// expires.
pub(super) struct Staged {
    /// The temporary key; `None` after the value was renamed.
    name: Option<String>,
    lane: Arc<Lane>,
    op_timeout: Duration,
}

impl Staged {
    /// Stores bytes under a new temporary key that begins with `prefix`, for as long as a call may
    /// take.
    pub(super) async fn store(
        lane: &Arc<Lane>,
        prefix: &str,
        stored: Bytes,
        op_timeout: Duration,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let name = names::staged(prefix);
        // Made before the store, so that a caller that is dropped during the store leaves nothing
        // behind.
        let staged = Self { name: Some(name.clone()), lane: lane.clone(), op_timeout };
        let ttl = Lifetime::from(op_timeout).as_millis_ceil().map_or(Ttl::Never, Ttl::Millis);
        let lane = lane.clone();
        // In a task, because building the command also occupies the thread for some time.
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

    /// Records that a script has renamed or removed the value.
    pub(super) fn take_over(mut self) {
        self.name = None;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let (lane, deadline) = (self.lane.clone(), deadline_in(self.op_timeout));
        drop(spawn_background(async move {
            // If this fails, the temporary key expires.
            let _ = lane.run(|| commands::discard(&name), deadline).await;
        }));
    }
}
