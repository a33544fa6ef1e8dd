//! The verbs about several keys: each is one call of the adapter.
//!
//! Each reads the caller's iterator to its end before it makes a future, see [`KeyBatch`].

use super::View;
use crate::adapter::Entry;
use crate::error::Result;
use crate::event::EventKind;
use crate::expiry::Expiry;
use crate::key;
use crate::key::Scope;
use crate::options::Options;
use crate::value::CacheValue;
use crate::wrapper::events::CallInfo;
use crate::wrapper::keys::{KeyBatch, Keys, ManyKeys};
use crate::wrapper::slot::Slot;
use crate::wrapper::tags::TagNames;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::pin::pin;

/// The entries to be written, copied from the caller's iterator.
struct Batch<T> {
    keys: KeyBatch,
    values: Vec<(T, Expiry)>,
}

impl<T> Batch<T> {
    fn new<K: AsRef<str>>(
        scope: &Scope,
        entries: impl Iterator<Item = (K, T, Expiry)>,
    ) -> Result<Self> {
        let mut batch = Self { keys: KeyBatch::empty(scope), values: Vec::new() };
        for (key, value, expiry) in entries {
            key::check_write(key.as_ref())?;
            batch.keys.push(scope, key.as_ref())?;
            batch.values.push((value, expiry));
        }
        Ok(batch)
    }
}

/// # Several keys
impl View<'_> {
    /// See [`AsyncCacheWrapper::get_many`](crate::AsyncCacheWrapper::get_many).
    pub fn get_many<T, I>(self, keys: I) -> impl Future<Output = Result<Vec<Option<T>>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let keys = KeyBatch::new::<ManyKeys>(&self.cache.scope, keys);
        async move { Box::pin(self.read_batch(&keys?)).await }
    }

    /// See [`AsyncCacheWrapper::set_many`](crate::AsyncCacheWrapper::set_many).
    pub fn set_many<K, T, I>(self, entries: I) -> impl Future<Output = Result<()>>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
    {
        let entries = entries.into_iter().map(|(key, value)| (key, value, Expiry::Default));
        let batch = Batch::new(&self.cache.scope, entries);
        async move { Box::pin(self.write_batch(batch?)).await }
    }

    /// [`set_many`](View::set_many) with an expiry for each entry; [`Expiry::Default`] is the
    /// expiry of the view.
    ///
    /// ```
    /// use larder::{AsyncCacheWrapper, Expiry};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = AsyncCacheWrapper::new("memory")?;
    /// cache.view().set_each([("x", 1, Expiry::Default), ("y", 2, Expiry::Never)]).await?;
    /// assert_eq!(cache.expiry("y").await?, Some(Expiry::Never));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The first error of an entry; the entries without an error are stored.
    pub fn set_each<K, T, I>(self, entries: I) -> impl Future<Output = Result<()>>
    where
        K: AsRef<str>,
        T: Serialize + Send + Sync + 'static,
        I: IntoIterator<Item = (K, T, Expiry)>,
    {
        let batch = Batch::new(&self.cache.scope, entries.into_iter());
        async move { Box::pin(self.write_batch(batch?)).await }
    }

    /// See [`AsyncCacheWrapper::remove`](crate::AsyncCacheWrapper::remove).
    pub fn remove<By>(self, keys: impl Keys<By>) -> impl Future<Output = Result<bool>> {
        let keys = KeyBatch::new(&self.cache.scope, keys);
        async move {
            let keys = keys.and_then(KeyBatch::writable);
            let keys = keys.map_err(|error| error.with_op("remove"))?;
            match keys.single() {
                Some(key) => self.remove_one(key).await,
                None => Box::pin(self.remove_batch(&keys)).await,
            }
        }
    }

    /// See [`AsyncCacheWrapper::remove_many`](crate::AsyncCacheWrapper::remove_many).
    pub fn remove_many<I>(self, keys: I) -> impl Future<Output = Result<bool>>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.remove::<ManyKeys>(keys)
    }

    /// Removes all entries that were written with one of these tags, in this namespace: one removal
    /// for each tag, however many entries there are.
    ///
    /// A value that was being loaded or written when the call began is gone, too. See
    /// [`docs::tags`](crate::docs::tags).
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) for more than 16 tags, and for an empty one:
    /// nothing is removed. Otherwise the first error of a tag; the tags without an error are
    /// removed.
    pub fn remove_tags<I>(self, tags: I) -> impl Future<Output = Result<()>>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let names = TagNames::read(tags);
        async move {
            let names = names.map_err(|fault| fault.error().with_op("remove_tags"))?;
            Box::pin(self.cache.remove_records(&names)).await
        }
    }

    async fn read_batch<T>(self, keys: &KeyBatch) -> Result<Vec<Option<T>>>
    where
        T: DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let (cache, scoped) = (self.cache, keys.scoped());
        let slot = cache.begin_batch("get_many")?;
        let read = slot.read_many(&scoped, slot.options(&self.options).reads_from());
        let (found, took) = cache.call(&slot, CallInfo::new("get_many", ""), pin!(read)).await;
        let found = found.map_err(|error| cache.failed_whole(&slot, "get_many", took, error))?;
        // Emit the events of all keys, also of those after one that failed.
        let values = keys.named().zip(found).map(|(key, found)| {
            let info = CallInfo::new("get_many", key).took(took);
            let found = found.map_err(|error| cache.failed(&slot, info, error))?;
            cache.conclude(&slot, info, found, &self.options)
        });
        values.collect::<Vec<_>>().into_iter().collect()
    }

    async fn write_batch<T>(self, Batch { keys, values }: Batch<T>) -> Result<()>
    where
        T: Serialize + Send + Sync + 'static,
    {
        let (cache, scoped) = (self.cache, keys.scoped());
        let slot = cache.begin_batch("set_many")?;
        let said = slot.options(&self.options);
        let entries = scoped.iter().zip(values).map(|(key, (value, expiry))| {
            let mut options = said;
            options.expiry = expiry.or(options.expiry.get()).into();
            let plan = slot.plan_plain_write(&options)?;
            let value = options.written(CacheValue::known(value, plan.meta))?;
            Ok(Entry::new(key, value, plan.kept))
        });
        let mut entries = entries.collect::<Result<Vec<_>>>()?;
        let _writes = slot.flights.writes(&scoped).await;
        let storing = pin!(async {
            let tagged = self.tag_all(&slot, &mut entries, &said).await;
            slot.or_removed(&scoped, tagged).await?;
            slot.adapter.set_many(&entries).await
        });
        let (stored, took) = cache.call(&slot, CallInfo::new("set_many", ""), storing).await;
        let stored = stored.map_err(|error| cache.failed_whole(&slot, "set_many", took, error))?;
        let stored = keys.named().zip(stored).map(|(key, stored)| {
            let info = CallInfo::new("set_many", key).took(took);
            stored
                .inspect(|()| cache.emit(&slot, EventKind::Set, info))
                .map_err(|error| cache.failed(&slot, info, error))
        });
        // Emit the events of all keys, also of those after one that failed.
        stored.collect::<Vec<_>>().into_iter().collect()
    }

    /// Gives the tags of the cache to all entries of a batch. They are read once, and live as long as
    /// the entry that lives longest.
    async fn tag_all(self, slot: &Slot, entries: &mut [Entry<'_>], said: &Options) -> Result<()> {
        if self.cache.tags.is_empty() {
            return Ok(());
        }
        let lives = entries.iter().map(|entry| entry.expiry.resolve(slot.adapter.default_ttl()));
        let longest = lives.max_by_key(|life| life.as_millis_ceil().unwrap_or(u64::MAX));
        let Some(longest) = longest else { return Ok(()) };
        let tags = slot.tags_of(self.cache, longest, said).await?;
        for entry in entries {
            entry.value = entry.value.tagged(tags.clone());
        }
        Ok(())
    }

    async fn remove_one(self, key: &str) -> Result<bool> {
        let removed =
            self.cache.write("remove", key, async |slot, key| slot.remove(key).await).await?;
        Ok(self.cache.emit_if(|live| *live, EventKind::Remove, removed))
    }

    async fn remove_batch(self, keys: &KeyBatch) -> Result<bool> {
        let (cache, scoped) = (self.cache, keys.scoped());
        let slot = cache.begin_batch("remove")?;
        let _writes = slot.flights.writes(&scoped).await;
        let removing = slot.remove_many(&scoped);
        let (removed, took) = cache.call(&slot, CallInfo::new("remove", ""), pin!(removing)).await;
        let removed = removed.map_err(|error| cache.failed_whole(&slot, "remove", took, error))?;
        let removed = keys.named().zip(removed).map(|(key, live)| {
            let info = CallInfo::new("remove", key).took(took);
            live.inspect(|live| {
                if *live {
                    cache.emit(&slot, EventKind::Remove, info)
                }
            })
            .map_err(|error| cache.failed(&slot, info, error))
        });
        removed.collect::<Vec<_>>().into_iter().try_fold(true, |all, live| Ok(all && live?))
    }
}
