//! The methods of the contract. Each is one call through the breaker; a write is also registered as
//! in flight, and noted if it fails.

use super::call::{Clock, Verb, batch};
use super::in_flight::{Effect, Write};
use super::journal::{Draft, Subject};
use super::{Resilient, Shared};
use crate::adapter::{
    AsyncCacheAdapter, Claim, ClaimedEntry, Entry, Follower, FoundOrClaimed, KeyCursor, KeyPage,
    NearEntry, Presence, StoreSize,
};
use crate::error::{Error, Result};
use crate::expiry::{Expiry, Lifetime};
use crate::key;
use crate::observers::EventSink;
use crate::stats::NearStats;
use crate::value::CacheValue;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// The name of all reads of several values.
const GET_MANY: &str = "get_many";

/// For verbs that are not recovered after an outage.
const NO_DRAFT: Option<fn(Instant) -> Draft> = None;

impl<A: AsyncCacheAdapter> Resilient<A> {
    fn begin(&self, key: &str) -> Write<'_> {
        self.0.state.in_flight.begin(key)
    }

    fn begin_all<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Vec<Write<'_>> {
        let begun = Instant::now();
        keys.map(|key| self.0.state.in_flight.begin_at(key, begun)).collect()
    }

    /// Registers the writes of a batch that may be sent, and returns the errors of the others, if
    /// any.
    async fn send_all(
        &self,
        verb: Verb,
        clock: Clock,
        keys: &[&str],
        writes: &mut [Write<'_>],
    ) -> Option<Vec<Option<Error>>> {
        loop {
            let held = self.held_back(verb, clock, keys).await;
            let is_held = |at: usize| held.as_ref().is_some_and(|held| held[at].is_some());
            let free = || (0..keys.len()).filter(|at| !is_held(*at));
            // Register the writes before checking the journal a second time, as in `ask`.
            free().for_each(|at| writes[at].send());
            if free().all(|at| self.0.state.journal.is_free(Subject::Key(keys[at]))) {
                return held;
            }
            writes.iter_mut().for_each(Write::recall);
        }
    }

    async fn set_all(
        &self,
        entries: &[Entry<'_>],
        writes: &mut [Write<'_>],
    ) -> Result<Vec<Result<()>>> {
        let verb = Verb::idempotent("set_many");
        let clock = self.clock(verb);
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key).collect();
        self.check(verb, &keys).await?;
        let inner = &self.0.inner;
        let Some(held) = self.send_all(verb, clock, &keys, writes).await else {
            let attempt = || inner.set_many(entries);
            return self.attempt(verb, Subject::Nothing, clock, batch, attempt).await;
        };
        let free: Vec<Entry<'_>> = pick(&held, entries);
        let attempt = || inner.set_many(&free);
        let answers = self.attempt(verb, Subject::Nothing, clock, batch, attempt).await?;
        Ok(fill_in(held, answers))
    }

    async fn remove_all(
        &self,
        keys: &[&str],
        writes: &mut [Write<'_>],
    ) -> Result<Vec<Result<bool>>> {
        let verb = Verb::once("remove_many");
        let clock = self.clock(verb);
        self.check(verb, keys).await?;
        let inner = &self.0.inner;
        let Some(held) = self.send_all(verb, clock, keys, writes).await else {
            let attempt = || inner.remove_many(keys);
            return self.attempt(verb, Subject::Nothing, clock, batch, attempt).await;
        };
        let free: Vec<&str> = pick(&held, keys);
        let attempt = || inner.remove_many(&free);
        let answers = self.attempt(verb, Subject::Nothing, clock, batch, attempt).await?;
        Ok(fill_in(held, answers))
    }

    /// Reads several keys by a verb of the adapter.
    async fn get_all<T: Send>(
        &self,
        op: &'static str,
        keys: &[&str],
        read: impl for<'f> Fn(&'f A, &'f [&'f str]) -> BoxFuture<'f, Result<Vec<Result<T>>>>
        + Send
        + Sync,
    ) -> Result<Vec<Result<T>>> {
        let verb = Verb::idempotent(op);
        let clock = self.clock(verb);
        self.check(verb, keys).await?;
        let inner = &self.0.inner;
        let Some(held) = self.held_back(verb, clock, keys).await else {
            return self.attempt(verb, Subject::Nothing, clock, batch, || read(inner, keys)).await;
        };
        let free: Vec<&str> = pick(&held, keys);
        let attempt = || read(inner, &free);
        let answers = self.attempt(verb, Subject::Nothing, clock, batch, attempt).await?;
        Ok(fill_in(held, answers))
    }

    /// [`get_all`](Self::get_all). With fail-open a key that fails is what its note says.
    async fn read_all<T: Send>(
        &self,
        op: &'static str,
        keys: &[&str],
        read: impl for<'f> Fn(&'f A, &'f [&'f str]) -> BoxFuture<'f, Result<Vec<Result<T>>>>
        + Send
        + Sync,
        noted: impl Fn(&str) -> T + Send + Sync,
    ) -> Result<Vec<Result<T>>> {
        let found = self.get_all(op, keys, read).await;
        let found = self.read(found, || keys.iter().map(|key| Ok(noted(key))).collect())?;
        let each = found.into_iter().zip(keys);
        Ok(each.map(|(found, key)| self.read(found, || noted(key))).collect())
    }

    async fn set_all_claimed(
        &self,
        entries: &[ClaimedEntry<'_>],
        writes: &mut [Write<'_>],
    ) -> Result<Vec<Result<bool>>> {
        let verb = Verb::once("set_claimed_many");
        let clock = self.clock(verb);
        let keys: Vec<&str> = entries.iter().map(|claimed| claimed.entry.key).collect();
        self.check(verb, &keys).await?;
        let inner = &self.0.inner;
        let Some(held) = self.send_all(verb, clock, &keys, writes).await else {
            let attempt = || inner.set_claimed_many(entries);
            return self.attempt(verb, Subject::Nothing, clock, batch, attempt).await;
        };
        let free: Vec<ClaimedEntry<'_>> = pick(&held, entries);
        let attempt = || inner.set_claimed_many(&free);
        let answers = self.attempt(verb, Subject::Nothing, clock, batch, attempt).await?;
        Ok(fill_in(held, answers))
    }

    /// Checks the batch itself, and then whether the backend may be asked.
    async fn check(&self, verb: Verb, keys: &[&str]) -> Result<()> {
        key::check_all(keys.iter().copied())?;
        match self.0.state.breaker.pass() {
            Some(_) => Ok(()),
            None => Err(self.refuse(verb, Subject::Nothing).await),
        }
    }

    /// Ends the writes of a batch, each with its own answer, or all with the batch's error.
    fn all_ended<'k, T, D: FnOnce(Instant) -> Draft>(
        &self,
        writes: Vec<Write<'_>>,
        outcome: &Result<Vec<Result<T>>>,
        effect: impl Fn(&T) -> Effect,
        drafts: impl Iterator<Item = (&'k str, Option<D>)>,
    ) {
        for (at, (write, (key, draft))) in writes.into_iter().zip(drafts).enumerate() {
            let failed;
            let answer = match outcome {
                Ok(answers) => answers.get(at),
                Err(error) => {
                    failed = Err(error.clone());
                    Some(&failed)
                }
            };
            if let Some(answer) = answer {
                self.ended(write, key, answer, &effect, draft);
            }
        }
    }

    /// The value in the note of a key, for calls with fail-open.
    fn noted(&self, key: &str) -> Option<CacheValue> {
        self.0.state.journal.look(key).flatten().map(|(value, _)| value)
    }

    fn noted_expiry(&self, key: &str) -> Option<Expiry> {
        let (_, until) = self.0.state.journal.look(key).flatten()?;
        Some(until.map_or(Expiry::Never, |until| {
            Expiry::After(until.saturating_duration_since(Instant::now()))
        }))
    }
}

/// The items of a batch that may be sent.
fn pick<I: Clone>(held: &[Option<Error>], items: &[I]) -> Vec<I> {
    held.iter()
        .zip(items)
        .filter(|(held, _)| held.is_none())
        .map(|(_, item)| item.clone())
        .collect()
}

fn fill_in<T>(held: Vec<Option<Error>>, answers: Vec<Result<T>>) -> Vec<Result<T>> {
    let mut answers = answers.into_iter();
    held.into_iter().filter_map(|held| held.map(Err).or_else(|| answers.next())).collect()
}

/// The effect of a verb that answers whether it changed anything.
fn if_true(effect: Effect) -> impl FnOnce(&bool) -> Effect {
    move |is_changed| if *is_changed { effect } else { Effect::None }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<A: AsyncCacheAdapter> AsyncCacheAdapter for Resilient<A> {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        let attempt = || self.0.inner.get(key);
        let found = self.ask(Verb::idempotent("get"), Subject::Key(key), &mut (), attempt).await;
        self.read(found, || self.noted(key))
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        let mut write = self.begin(key);
        let attempt = || self.0.inner.set(key, value.clone(), expiry);
        let stored =
            self.ask(Verb::idempotent("set"), Subject::Key(key), &mut write, attempt).await;
        let draft = |begun| self.0.state.journal.draft(&value, expiry, begun);
        self.ended(write, key, &stored, |()| Effect::Decided, Some(draft));
        self.apply_fail_open(stored, || ())
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        let mut write = self.begin(key);
        let attempt = || self.0.inner.remove(key);
        let removed = self.ask(Verb::once("remove"), Subject::Key(key), &mut write, attempt).await;
        self.ended(write, key, &removed, |_| Effect::Decided, Some(Draft::removal));
        self.apply_fail_open(removed, || false)
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        let mut write = self.begin(key);
        let attempt = || self.0.inner.update_timeout(key, expiry);
        let verb = Verb::once("update_timeout");
        let found = self.ask(verb, Subject::Key(key), &mut write, attempt).await;
        let effect = |found: &Option<_>| if_true(Effect::Uncertain)(&found.is_some());
        self.ended(write, key, &found, effect, NO_DRAFT);
        self.apply_fail_open(found, || None)
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        let state = &*self.0.state;
        let mut clear = state.in_flight.begin_clear();
        let attempt = || self.0.inner.clear(prefix);
        let verb = Verb::untimed("clear");
        let cleared = self.ask(verb, Subject::Prefix(prefix), &mut clear, attempt).await;
        match &cleared {
            Ok(()) => {
                if let Some(ticket) = clear.acknowledged() {
                    state.journal.superseded_under(prefix, ticket);
                }
            }
            Err(error) => self.note_clear(clear, prefix, error),
        }
        self.apply_fail_open(cleared, || ())
    }

    async fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let mut write = self.begin(key);
        let attempt = || self.0.inner.add(key, value.clone(), expiry);
        let added = self.ask(Verb::once("add"), Subject::Key(key), &mut write, attempt).await;
        self.ended(write, key, &added, if_true(Effect::Decided), NO_DRAFT);
        self.apply_fail_open(added, || false)
    }

    async fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        let mut write = self.begin(key);
        let attempt = || self.0.inner.replace(key, value.clone(), expiry);
        let replaced =
            self.ask(Verb::once("replace"), Subject::Key(key), &mut write, attempt).await;
        self.ended(write, key, &replaced, if_true(Effect::Decided), NO_DRAFT);
        self.apply_fail_open(replaced, || false)
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        let mut write = self.begin(key);
        let attempt = || self.0.inner.incr(key, by, expiry);
        let sum = self.ask(Verb::once("incr"), Subject::Key(key), &mut write, attempt).await;
        self.ended(write, key, &sum, |_| Effect::Decided, NO_DRAFT);
        sum
    }

    async fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        let mut write = self.begin(key);
        let attempt = || self.0.inner.take(key);
        let taken = self.ask(Verb::once("take"), Subject::Key(key), &mut write, attempt).await;
        self.ended(write, key, &taken, |_| Effect::Decided, NO_DRAFT);
        self.apply_fail_open(taken, || None)
    }

    async fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        let attempt = || self.0.inner.expiry(key);
        let verb = Verb::idempotent("expiry");
        let expiry = self.ask(verb, Subject::Key(key), &mut (), attempt).await;
        self.read(expiry, || self.noted_expiry(key))
    }

    async fn contains(&self, key: &str) -> Result<bool> {
        let attempt = || self.0.inner.contains(key);
        let verb = Verb::idempotent("contains");
        let contains = self.ask(verb, Subject::Key(key), &mut (), attempt).await;
        self.read(contains, || self.noted(key).is_some())
    }

    async fn presence(&self, key: &str) -> Result<Presence> {
        let attempt = || self.0.inner.presence(key);
        let verb = Verb::idempotent("presence");
        let presence = self.ask(verb, Subject::Key(key), &mut (), attempt).await;
        self.read(presence, || Presence::of_found(self.noted(key).as_ref()))
    }

    async fn presence_many(&self, keys: &[&str]) -> Result<Vec<Result<Presence>>> {
        let noted = |key: &str| Presence::of_found(self.noted(key).as_ref());
        let op = "presence_many";
        self.read_all(op, keys, |inner, keys| inner.presence_many(keys), noted).await
    }

    fn has_logical_ends(&self) -> bool {
        self.0.inner.has_logical_ends()
    }

    async fn touch(&self, key: &str, expiry: Expiry) -> Result<bool> {
        let mut write = self.begin(key);
        let attempt = || self.0.inner.touch(key, expiry);
        let touched = self.ask(Verb::once("touch"), Subject::Key(key), &mut write, attempt).await;
        self.ended(write, key, &touched, if_true(Effect::Uncertain), NO_DRAFT);
        self.apply_fail_open(touched, || false)
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        self.read_all(GET_MANY, keys, |inner, keys| inner.get_many(keys), |key| self.noted(key))
            .await
    }

    async fn set_many(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        let mut writes = self.begin_all(entries.iter().map(|entry| entry.key));
        let stored = self.set_all(entries, &mut writes).await;
        let journal = &self.0.state.journal;
        let drafts = entries.iter().map(|entry| {
            (entry.key, Some(|begun| journal.draft(&entry.value, entry.expiry, begun)))
        });
        self.all_ended(writes, &stored, |()| Effect::Decided, drafts);
        let stored = self.apply_fail_open(stored, || entries.iter().map(|_| Ok(())).collect())?;
        Ok(stored.into_iter().map(|stored| self.apply_fail_open(stored, || ())).collect())
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        let mut writes = self.begin_all(keys.iter().copied());
        let removed = self.remove_all(keys, &mut writes).await;
        let drafts = keys.iter().map(|key| (*key, Some(Draft::removal)));
        self.all_ended(writes, &removed, |_| Effect::Decided, drafts);
        let removed = self.apply_fail_open(removed, || keys.iter().map(|_| Ok(false)).collect())?;
        Ok(removed.into_iter().map(|removed| self.apply_fail_open(removed, || false)).collect())
    }

    /// Waits for the writes below the prefix that are still to be made up for, as a read of a key
    /// waits for its own.
    async fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        let attempt = || self.0.inner.keys(prefix, after);
        let verb = Verb::idempotent("keys");
        let page = self.ask(verb, Subject::Prefix(prefix), &mut (), attempt).await;
        self.apply_fail_open(page, KeyPage::default)
    }

    fn get_if_ready(&self, key: &str, look: &mut dyn FnMut(&CacheValue)) -> Poll<Result<()>> {
        let state = &*self.0.state;
        if state.is_calm() { self.0.inner.get_if_ready(key, look) } else { Poll::Pending }
    }

    /// A value from a note is not kept near: the store does not have it.
    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        let attempt = || self.0.inner.get_near(key);
        let found = self.ask(Verb::idempotent("get"), Subject::Key(key), &mut (), attempt).await;
        self.read(found, || self.noted(key).map(NearEntry::not_kept))
    }

    async fn get_many_near(&self, keys: &[&str]) -> Result<Vec<Result<Option<NearEntry>>>> {
        let noted = |key: &str| self.noted(key).map(NearEntry::not_kept);
        self.read_all(GET_MANY, keys, |inner, keys| inner.get_many_near(keys), noted).await
    }

    async fn get_far(&self, key: &str) -> Result<Option<CacheValue>> {
        let attempt = || self.0.inner.get_far(key);
        let found = self.ask(Verb::idempotent("get"), Subject::Key(key), &mut (), attempt).await;
        self.read(found, || self.noted(key))
    }

    async fn get_many_far(&self, keys: &[&str]) -> Result<Vec<Result<Option<CacheValue>>>> {
        let noted = |key: &str| self.noted(key);
        self.read_all(GET_MANY, keys, |inner, keys| inner.get_many_far(keys), noted).await
    }

    fn get_unproven(&self, key: &str, stale_for: Duration) -> Option<CacheValue> {
        self.0.inner.get_unproven(key, stale_for)
    }

    fn follow(&self, follower: Follower) -> bool {
        self.0.inner.follow(follower)
    }

    fn near_stats(&self) -> Option<NearStats> {
        self.0.inner.near_stats()
    }

    fn enforces_claims(&self) -> bool {
        self.0.inner.enforces_claims()
    }

    fn is_shared(&self) -> bool {
        self.0.inner.is_shared()
    }

    async fn claim(&self, key: &str, lease: Option<Duration>) -> Result<Option<Claim>> {
        let attempt = || self.0.inner.claim(key, lease);
        self.ask(Verb::once("claim"), Subject::Key(key), &mut (), attempt).await
    }

    /// A loaded value that could not be stored is not noted: it can be loaded again. A loaded value
    /// that was stored may be older than a write in flight, because its claim was made before the
    /// load.
    async fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        claim: &Claim,
    ) -> Result<bool> {
        let mut write = self.begin(key);
        let attempt = || self.0.inner.set_claimed(key, value.clone(), expiry, claim);
        let verb = Verb::once("set_claimed");
        let stored = self.ask(verb, Subject::Key(key), &mut write, attempt).await;
        self.ended(write, key, &stored, if_true(Effect::Uncertain), NO_DRAFT);
        self.apply_fail_open(stored, || false)
    }

    /// Pending: a write is noted while it is in flight.
    fn claim_if_ready(&self, _key: &str) -> Poll<Result<Claim>> {
        Poll::Pending
    }

    fn set_claimed_if_ready(
        &self,
        _key: &str,
        _value: &CacheValue,
        _expiry: Expiry,
        _claim: &Claim,
    ) -> Poll<Result<bool>> {
        Poll::Pending
    }

    async fn get_or_claim_many(&self, keys: &[&str]) -> Result<Vec<Result<FoundOrClaimed>>> {
        let noted = |key: &str| FoundOrClaimed::unclaimed(self.noted(key));
        let op = "get_or_claim_many";
        self.read_all(op, keys, |inner, keys| inner.get_or_claim_many(keys), noted).await
    }

    /// As [`set_claimed`](AsyncCacheAdapter::set_claimed), for each entry.
    async fn set_claimed_many(&self, entries: &[ClaimedEntry<'_>]) -> Result<Vec<Result<bool>>> {
        let keys = || entries.iter().map(|claimed| claimed.entry.key);
        let mut writes = self.begin_all(keys());
        let stored = self.set_all_claimed(entries, &mut writes).await;
        let effect = |held: &bool| if_true(Effect::Uncertain)(held);
        self.all_ended(writes, &stored, effect, keys().map(|key| (key, NO_DRAFT)));
        let stored = self.apply_fail_open(stored, || keys().map(|_| Ok(false)).collect())?;
        Ok(stored.into_iter().map(|stored| self.apply_fail_open(stored, || false)).collect())
    }

    async fn release(&self, key: &str, claim: &Claim) -> Result<()> {
        let attempt = || self.0.inner.release(key, claim);
        let released = self.ask(Verb::once("release"), Subject::Key(key), &mut (), attempt).await;
        self.apply_fail_open(released, || ())
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

    /// The same layer around a new adapter. It takes over the notes and the breaker, because the
    /// backend is the same.
    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        let shared = Shared { inner: self.0.inner.rebuild()?, state: self.0.state.clone() };
        Ok(Arc::new(Resilient(Arc::new(shared))))
    }

    fn size(&self) -> StoreSize {
        self.0.inner.size()
    }

    fn default_ttl(&self) -> Lifetime {
        self.0.inner.default_ttl()
    }

    fn backend(&self) -> &str {
        self.0.inner.backend()
    }
}
