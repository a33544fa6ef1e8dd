//! The removals of `#[evicts]` and the writes of `#[puts]`, beside the body of their function.

use super::key::KeyBuf;
use crate::blocking::{BlockingView, wait};
use crate::error::Result;
use crate::observers::inherit;
use crate::runtime;
use crate::wrapper::{AsyncCacheWrapper, Cacheable, View};
use futures_util::future::join;

/// The removals of `#[evicts]`. If the function ends midway, by a panic or because its caller goes
/// away, it is not known what the body has changed, so the removals run in a task.
#[derive(Debug)]
#[must_use]
pub struct Evictions {
    cache: AsyncCacheWrapper,
    keys: Vec<String>,
    tags: Option<TagsOf>,
}

/// The tags whose entries are removed, and a cache in their namespace.
#[derive(Clone, Debug)]
struct TagsOf {
    cache: AsyncCacheWrapper,
    names: Vec<String>,
}

impl Evictions {
    pub fn new(cache: &AsyncCacheWrapper, keys: impl IntoIterator<Item = String>) -> Self {
        Self { cache: cache.clone(), keys: present(keys), tags: None }
    }

    /// Removes the entries with these tags, too.
    pub fn with_tags(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.tags = Some(TagsOf { cache: self.cache.clone(), names: present(names) });
        self
    }

    /// [`with_tags`](Self::with_tags) for tags of a namespace.
    pub fn with_tags_in(
        mut self,
        namespace: impl AsRef<str>,
        names: impl IntoIterator<Item = String>,
    ) -> Self {
        let cache = self.cache.namespace(namespace);
        self.tags = Some(TagsOf { cache, names: present(names) });
        self
    }

    /// The function failed: it changed nothing.
    pub fn give_up(mut self) {
        self.clear();
    }

    /// Removes the entries.
    pub async fn run(mut self) {
        remove(&self.cache, &self.keys, self.tags.as_ref()).await;
        self.clear();
    }

    /// Removes the entries, from blocking code.
    pub fn run_blocking(self) {
        wait(self.run());
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.tags = None;
    }
}

/// An argument that cannot be part of a key leaves the key empty: there is no such entry. Nor has
/// an entry an empty tag.
fn present(all: impl IntoIterator<Item = String>) -> Vec<String> {
    all.into_iter().filter(|name| !name.is_empty()).collect()
}

/// Removes entries by their keys, and by their tags. The function has its own result; an event says
/// why a removal failed.
async fn remove(cache: &AsyncCacheWrapper, keys: &[String], tags: Option<&TagsOf>) {
    let by_keys = async {
        if !keys.is_empty() {
            let _ = cache.remove_many(keys).await;
        }
    };
    let by_tags = async {
        if let Some(TagsOf { cache, names }) = tags {
            let _ = cache.remove_tags(names).await;
        }
    };
    join(by_keys, by_tags).await;
}

impl Drop for Evictions {
    fn drop(&mut self) {
        let (keys, tags) = (std::mem::take(&mut self.keys), self.tags.take());
        if (keys.is_empty() && tags.is_none()) || runtime::is_gone() {
            return;
        }
        let cache = self.cache.clone();
        runtime::current().spawn(inherit(Box::pin(async move {
            remove(&cache, &keys, tags.as_ref()).await;
        })));
    }
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
