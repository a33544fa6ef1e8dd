//! A handle that does not keep its cache alive.

use super::max_batch::MaxBatch;
use super::slot::Core;
use super::tags::TagNames;
use crate::key::Scope;
use crate::options::Options;
use crate::wrapper::AsyncCacheWrapper;
use std::sync::{Arc, Weak};

/// A handle that does not keep the cache, its adapter and its connections alive: for observers, and
/// for values that refer to their cache.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let users = larder::AsyncCacheWrapper::new("memory")?.namespace("users");
/// let weak = users.downgrade();
/// users.set("7", "Ada").await?;
/// let strong = weak.upgrade().expect("the cache exists");
/// assert_eq!(strong.get::<String>("7").await?.as_deref(), Some("Ada"));
/// drop(strong);
/// drop(users);
/// assert!(weak.upgrade().is_none());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct WeakCache {
    core: Weak<Core>,
    scope: Scope,
    options: Options,
    max_batch: MaxBatch,
    tags: TagNames,
}

impl WeakCache {
    pub(super) fn new(cache: &AsyncCacheWrapper) -> Self {
        let AsyncCacheWrapper { core, scope, options, max_batch, tags } = cache;
        let (core, scope, tags) = (Arc::downgrade(core), scope.clone(), tags.clone());
        Self { core, scope, options: *options, max_batch: *max_batch, tags }
    }

    /// Returns the cache, with the namespace and options of the handle that was downgraded; `None`
    /// when the last strong handle is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<AsyncCacheWrapper> {
        let core = self.core.upgrade()?;
        let (scope, options, max_batch) = (self.scope.clone(), self.options, self.max_batch);
        Some(AsyncCacheWrapper { core, scope, options, max_batch, tags: self.tags.clone() })
    }
}
