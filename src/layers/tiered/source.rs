//! The sources of a near level, as the adapter of its far store sees them.

use super::core::Source;
use super::level::Level;
use crate::adapter::{AskedAt, OpensSources, SourceId, Vouches};
use crate::adapters::memory::near;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// A near level, for the adapter that follows.
pub(super) struct Home(Weak<Level>);

impl Home {
    pub(super) fn of(level: &Arc<Level>) -> Self {
        Self(Arc::downgrade(level))
    }
}

impl OpensSources for Home {
    fn open(&self) -> Option<Box<dyn Vouches>> {
        let level = self.0.upgrade()?;
        // In the child of a fork, too, which has connections of its own.
        level.start_sweep();
        let (source, renewal) = level.open()?;
        let (id, level) = (source.id(), self.0.clone());
        Some(Box::new(OpenSource { id, source: Some(source), level, renewal }))
    }

    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// A source, until it is dropped.
struct OpenSource {
    id: SourceId,
    /// `None` only while it is dropped.
    source: Option<Source>,
    level: Weak<Level>,
    renewal: Arc<Notify>,
}

impl Vouches for OpenSource {
    fn id(&self) -> SourceId {
        self.id
    }

    fn now(&self) -> AskedAt {
        AskedAt(near::now())
    }

    fn forget(&self, key: &str) {
        if let Some(level) = self.level.upgrade() {
            level.forget(key);
        }
    }

    fn forget_prefix(&self, prefix: &str) {
        if let Some(level) = self.level.upgrade() {
            level.forget_prefix(prefix);
        }
    }

    fn confirm(&self, AskedAt(asked_at): AskedAt) {
        if let (Some(level), Some(source)) = (self.level.upgrade(), &self.source) {
            level.core.confirm(source, asked_at);
        }
    }

    fn wanted(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            let is_there = || self.level.strong_count() > 0;
            // The level notifies when it goes, and this look finds a level that had gone before.
            if is_there() {
                self.renewal.notified().await;
            }
            is_there()
        })
    }
}

impl Drop for OpenSource {
    fn drop(&mut self) {
        if let (Some(level), Some(source)) = (self.level.upgrade(), self.source.take()) {
            level.end(source);
        }
    }
}
