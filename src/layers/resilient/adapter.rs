//! The contract, kept by a layer.

use super::call::{Verb, batch, one};
use super::journal::About;
use super::{Resilient, Shared};
use crate::adapter::Presence;
use crate::event::EventSink;
use crate::{AsyncCacheAdapter, CacheValue, Claim, Entry, Expiry, Lifetime, Result, key};
use async_trait::async_trait;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

impl<A: AsyncCacheAdapter> Resilient<A> {
    /// The answers of a batch, and for the keys about which something is still to be written, errors.
    ///
    /// `None` where no key is such a key, and the batch can go as it is.
    async fn held_back<T>(
        &self,
        verb: Verb,
        keys: impl Iterator<Item = &str> + Clone,
    ) -> Result<Option<Vec<Option<Result<T>>>>> {
        key::check_all(keys.clone())?;
        if self.0.state.journal.is_empty() {
            return Ok(None);
        }
        let mut held = Vec::new();
        for key in keys {
            held.push(self.settle(verb, About::Key(key)).await.err().map(Err));
        }
        Ok(held.iter().any(Option::is_some).then_some(held))
    }

    fn note_entry(&self, entry: &Entry<'_>, outcome: &Result<()>) {
        if let Err(error) = outcome {
            self.note(error, |journal, tried| {
                journal.set(entry.key, entry.value.clone(), entry.expiry, tried)
            });
        }
    }

    fn note_removal(&self, key: &str, outcome: &Result<bool>) {
        if let Err(error) = outcome {
            self.note(error, |journal, tried| journal.remove(key, tried));
        }
    }

    async fn set_all(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        let verb = Verb::again("set_many");
        let inner = &self.0.inner;
        let Some(mut held) = self.held_back(verb, entries.iter().map(|entry| entry.key)).await?
        else {
            return self.ask(verb, About::Nothing, batch, || inner.set_many(entries)).await;
        };
        let free: Vec<Entry<'_>> = pick(&held, entries);
        let answers = self.ask(verb, About::Nothing, batch, || inner.set_many(&free)).await?;
        Ok(fill_in(&mut held, answers))
    }

    async fn remove_all(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        let verb = Verb::once("remove_many");
        let inner = &self.0.inner;
        let Some(mut held) = self.held_back(verb, keys.iter().copied()).await? else {
            return self.ask(verb, About::Nothing, batch, || inner.remove_many(keys)).await;
        };
        let free: Vec<&str> = pick(&held, keys);
        let answers = self.ask(verb, About::Nothing, batch, || inner.remove_many(&free)).await?;
        Ok(fill_in(&mut held, answers))
    }

    async fn get_all(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        let verb = Verb::again("get_many");
        let inner = &self.0.inner;
        let Some(mut held) = self.held_back(verb, keys.iter().copied()).await? else {
            return self.ask(verb, About::Nothing, batch, || inner.get_many(keys)).await;
        };
        let free: Vec<&str> = pick(&held, keys);
        let answers = self.ask(verb, About::Nothing, batch, || inner.get_many(&free)).await?;
        Ok(fill_in(&mut held, answers))
    }

    /// What is noted as a key's value, for those who are not to know that the backend is away.
    fn noted(&self, key: &str) -> Option<CacheValue> {
        self.0.state.journal.look(key).flatten()
    }
}

/// Those of the items that are not held back.
fn pick<I: Clone, T>(held: &[Option<Result<T>>], items: &[I]) -> Vec<I> {
    held.iter()
        .zip(items)
        .filter(|(held, _)| held.is_none())
        .map(|(_, item)| item.clone())
        .collect()
}

fn fill_in<T>(held: &mut [Option<Result<T>>], answers: Vec<Result<T>>) -> Vec<Result<T>> {
    let mut answers = answers.into_iter();
    held.iter_mut().filter_map(|held| held.take().or_else(|| answers.next())).collect()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<A: AsyncCacheAdapter> AsyncCacheAdapter for Resilient<A> {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        let found =
            self.ask(Verb::again("get"), About::Key(key), one, || self.0.inner.get(key)).await;
        self.open(found, || self.noted(key))
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        let attempt = || self.0.inner.set(key, value.clone(), expiry);
        let stored = self.ask(Verb::again("set"), About::Key(key), one, attempt).await;
        if let Err(error) = &stored {
            self.note(error, |journal, tried| journal.set(key, value, expiry, tried));
        }
        self.open(stored, || ())
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        let removed =
            self.ask(Verb::once("remove"), About::Key(key), one, || self.0.inner.remove(key)).await;
        self.note_removal(key, &removed);
        self.open(removed, || false)
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        let attempt = || self.0.inner.update_timeout(key, expiry);
        let found = self.ask(Verb::once("update_timeout"), About::Key(key), one, attempt).await;
        self.open(found, || None)
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        let cleared = self
            .ask(Verb::steps("clear"), About::Prefix(prefix), one, || self.0.inner.clear(prefix))
            .await;
        if let Err(error) = &cleared {
            self.note(error, |journal, tried| {
                journal.clear(prefix, tried);
                Vec::new()
            });
        }
        self.open(cleared, || ())
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let attempt = || self.0.inner.add(key, value.clone(), expiry);
        let added = self.ask(Verb::once("add"), About::Key(key), one, attempt).await;
        self.open(added, || false)
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let attempt = || self.0.inner.replace(key, value.clone(), expiry);
        let replaced = self.ask(Verb::once("replace"), About::Key(key), one, attempt).await;
        self.open(replaced, || false)
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        self.ask(Verb::once("incr"), About::Key(key), one, || self.0.inner.incr(key, by, expiry))
            .await
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        let taken =
            self.ask(Verb::once("take"), About::Key(key), one, || self.0.inner.take(key)).await;
        self.open(taken, || None)
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        let expiry = self
            .ask(Verb::again("expiry"), About::Key(key), one, || self.0.inner.expiry(key))
            .await;
        self.open(expiry, || None)
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        let contains = self
            .ask(Verb::again("contains"), About::Key(key), one, || self.0.inner.contains(key))
            .await;
        self.open(contains, || self.noted(key).is_some())
    }

    async fn presence(&self, key: &str) -> Result<Presence> {
        let presence = self
            .ask(Verb::again("presence"), About::Key(key), one, || self.0.inner.presence(key))
            .await;
        self.open(presence, || self.noted(key).as_ref().map_or(Presence::Missing, Presence::of))
    }

    fn has_logical_ends(&self) -> bool {
        self.0.inner.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        let touched = self
            .ask(Verb::once("touch"), About::Key(key), one, || self.0.inner.touch(key, expiry))
            .await;
        self.open(touched, || false)
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        let found = self.get_all(keys).await;
        let found = self.open(found, || keys.iter().map(|key| Ok(self.noted(key))).collect())?;
        Ok(found
            .into_iter()
            .zip(keys)
            .map(|(found, key)| self.open(found, || self.noted(key)))
            .collect())
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        let stored = self.set_all(entries).await;
        match &stored {
            Err(error) => {
                entries.iter().for_each(|entry| self.note_entry(entry, &Err(error.clone())))
            }
            Ok(stored) => entries
                .iter()
                .zip(stored)
                .for_each(|(entry, stored)| self.note_entry(entry, stored)),
        }
        let stored = self.open(stored, || entries.iter().map(|_| Ok(())).collect())?;
        Ok(stored.into_iter().map(|stored| self.open(stored, || ())).collect())
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        let removed = self.remove_all(keys).await;
        match &removed {
            Err(error) => keys.iter().for_each(|key| self.note_removal(key, &Err(error.clone()))),
            Ok(removed) => {
                keys.iter().zip(removed).for_each(|(key, removed)| self.note_removal(key, removed))
            }
        }
        let removed = self.open(removed, || keys.iter().map(|_| Ok(false)).collect())?;
        Ok(removed.into_iter().map(|removed| self.open(removed, || false)).collect())
    }

    fn get_if_ready(&self, key: &str, look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        let state = &*self.0.state;
        if state.is_calm() { self.0.inner.get_if_ready(key, look) } else { Poll::Pending }
    }

    fn enforces_claims(&self) -> bool {
        self.0.inner.enforces_claims()
    }

    fn is_shared(&self) -> bool {
        self.0.inner.is_shared()
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        self.ask(Verb::once("claim"), About::Key(key), one, || self.0.inner.claim(key, lease)).await
    }

    /// A fill that fails is not noted: what was loaded can be loaded again.
    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        let attempt = || self.0.inner.set_claimed(key, value.clone(), expiry, claim);
        let filled = self.ask(Verb::once("set_claimed"), About::Key(key), one, attempt).await;
        self.open(filled, || false)
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        let released = self
            .ask(Verb::once("release"), About::Key(key), one, || self.0.inner.release(key, claim))
            .await;
        self.open(released, || ())
    }

    fn subscribe(&self, sink: EventSink) {
        self.0.inner.subscribe(sink.clone());
        self.0.state.sinks.add(sink);
    }

    async fn connect(&self) -> Result<()> {
        self.0.inner.connect().await?;
        self.0.closed();
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        self.0.inner.ping().await?;
        self.0.closed();
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.0.inner.close().await
    }

    async fn reconnect(&self) -> Result<()> {
        self.0.inner.reconnect().await?;
        self.0.closed();
        Ok(())
    }

    /// The same layer around a new adapter. What is noted goes along, and the breaker: the backend is the same.
    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        let shared = Shared { inner: self.0.inner.rebuild()?, state: self.0.state.clone() };
        Ok(Arc::new(Resilient(Arc::new(shared))))
    }

    fn default_ttl(&self) -> Lifetime {
        self.0.inner.default_ttl()
    }

    fn backend(&self) -> &str {
        self.0.inner.backend()
    }
}
