//! The removals of `#[evicts]` and the writes of `#[puts]`, beside the body of their function.

use super::key::KeyBuf;
use crate::blocking::{BlockingView, wait};
use crate::error::Result;
use crate::observers::inherit;
use crate::runtime;
use crate::wrapper::{AsyncCacheWrapper, Cacheable, View};

/// The removals of `#[evicts]`. If the function ends midway, by a panic or because its caller goes
/// away, it is not known what the body has changed, so the removals run in a task.
#[derive(Debug)]
#[must_use]
pub struct Evictions {
    cache: AsyncCacheWrapper,
    keys: Vec<String>,
}

impl Evictions {
    pub fn new(cache: &AsyncCacheWrapper, keys: impl IntoIterator<Item = String>) -> Self {
        // An argument that cannot be part of a key leaves the key empty: there is no such entry.
        let keys = keys.into_iter().filter(|key| !key.is_empty()).collect();
        Self { cache: cache.clone(), keys }
    }

    /// The function failed: it changed nothing.
    pub fn give_up(mut self) {
        self.keys.clear();
    }

    /// Removes the entries.
    pub async fn run(mut self) {
        // The function has its own result; an event says why a removal failed.
        let _ = self.cache.remove_many(&self.keys).await;
        self.keys.clear();
    }

    /// Removes the entries, from blocking code.
    pub fn run_blocking(self) {
        wait(self.run());
    }
}

impl Drop for Evictions {
    fn drop(&mut self) {
        if self.keys.is_empty() || runtime::is_gone() {
            return;
        }
        let (cache, keys) = (self.cache.clone(), std::mem::take(&mut self.keys));
        runtime::current().spawn(inherit(Box::pin(async move {
            let _ = cache.remove_many(keys).await;
        })));
    }
}

/// Stores a value.
///
/// # Errors
///
/// As [`View::set`].
pub async fn store<T: Cacheable>(view: View<'_>, key: &KeyBuf, value: T) -> Result<()> {
    view.set(key.checked()?, value).await
}

/// Stores a value, from blocking code.
///
/// # Errors
///
/// As [`View::set`].
pub fn store_blocking<T: Cacheable>(view: BlockingView<'_>, key: &KeyBuf, value: T) -> Result<()> {
    view.set(key.checked()?, value)
}

/// The write of `#[puts]`, in a task of its own: a caller that goes away leaves no older value.
pub async fn put<T: Cacheable>(view: View<'_>, key: &KeyBuf, value: &T) {
    let Ok(key) = key.checked() else { return };
    let (cache, key, value) = (view.into_cache(), key.to_owned(), value.clone());
    // The function has its own result; an event says why a write failed.
    let write = Box::pin(async move { drop(cache.set(key, value).await) });
    let _ = runtime::current().spawn(inherit(write)).await;
}

/// The write of `#[puts]`, from blocking code.
pub fn put_blocking<T: Cacheable>(view: BlockingView<'_>, key: &KeyBuf, value: &T) {
    if let Ok(key) = key.checked() {
        let _ = view.set(key, value.clone());
    }
}
