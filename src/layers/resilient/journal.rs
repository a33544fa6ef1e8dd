//! The writes that failed while the backend was away, to be replayed when it is back.

mod book;

pub(super) use book::Clear;

use super::builder::Config;
use crate::codec::Codec;
use crate::expiry::{Expiry, Lifetime};
use crate::runtime::{caller_timeout, lock};
use crate::value::CacheValue;
use book::{Book, Entry};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What an entry takes besides its key and its value.
const OVERHEAD: usize = 200;

/// The most prefixes, because each call checks all of them. Above the limit, two similar prefixes
/// are merged.
const MAX_CLEARS: usize = 128;

/// The latest write of each key, and the prefixes that were cleared, in the order in which they
/// failed.
///
/// While something is noted about a key, the backend holds what is out of date, so no call may ask
/// it: see [`settled`](Journal::settled).
#[derive(Debug)]
pub(super) struct Journal {
    max_entries: usize,
    max_bytes: usize,
    default_ttl: Lifetime,
    count: AtomicUsize,
    book: Mutex<Book>,
    changed: Notify,
    /// A call waits for a note that has not been tried yet.
    pub(super) wake: Notify,
}

/// What is to be written.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Set {
        value: CacheValue,
        /// `None` is never.
        until: Option<Instant>,
    },
    Remove,
}

/// A write that failed, ready to be noted.
#[derive(Debug)]
pub(super) struct Draft {
    write: Write,
    value_bytes: usize,
    at: SystemTime,
}

/// A note about a key, to be written.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) number: u64,
    pub(super) ticket: u64,
    pub(super) key: Arc<str>,
    pub(super) write: Write,
    /// When the caller wanted it written.
    pub(super) at: SystemTime,
}

/// What a call is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum About<'k> {
    Key(&'k str),
    /// Every key that begins with it.
    Prefix(&'k str),
    Nothing,
}

/// Whether the backend may be asked about a key, from the best answer to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nothing is noted about it.
    Free,
    /// It is to be written any moment.
    Pending,
    /// The backend answers, and takes no writes: the note is what the key holds.
    Refused,
    /// Writing it has failed.
    Failed,
}

/// What a new note pushed out. Values are dropped with it, outside all locks.
#[derive(Debug, Default)]
pub(super) struct Displaced {
    /// The keys whose writes are lost.
    pub(super) lost: Vec<Arc<str>>,
    replaced: Vec<Write>,
}

impl Write {
    /// Gives the end of the value's life, too: `Some(None)` is never.
    fn value(&self) -> Option<(&CacheValue, Option<Instant>)> {
        match self {
            Self::Set { value, until } => Some((value, *until)),
            Self::Remove => None,
        }
    }
}

impl Displaced {
    /// A note that is not made.
    pub(super) fn of(draft: Draft) -> Self {
        Self { lost: Vec::new(), replaced: vec![draft.write] }
    }
}

impl Draft {
    pub(super) fn removal(begun: Instant) -> Self {
        Self { write: Write::Remove, value_bytes: 0, at: wall(begun) }
    }

    /// Without the value: that what was there must go is known, and what is to take its place is
    /// not.
    fn into_removal(self) -> (Self, Option<Write>) {
        let replaced = Some(self.write);
        (Self { write: Write::Remove, value_bytes: 0, at: self.at }, replaced)
    }
}

/// A moment by the clock on the wall, which others write by.
fn wall(begun: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(begun.elapsed()).unwrap_or(now)
}

impl Journal {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            max_entries: config.recovery_entries,
            max_bytes: config.recovery_bytes,
            default_ttl: config.default_ttl,
            count: AtomicUsize::new(0),
            book: Mutex::default(),
            changed: Notify::new(),
            wake: Notify::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// A value that was to be stored at `begun`, and to live from then on.
    pub(super) fn draft(&self, value: &CacheValue, expiry: Expiry, begun: Instant) -> Draft {
        let until = match expiry.resolve(self.default_ttl) {
            lifetime if lifetime.is_zero() => return Draft::removal(begun),
            Lifetime::Never => None,
            // An end that no clock can show is none that anybody will see.
            Lifetime::For(lasting) => begun.checked_add(lasting),
        };
        // What cannot be encoded cannot be stored either.
        let value_bytes = value.encoded_len(Codec::MessagePack).unwrap_or_default();
        Draft { write: Write::Set { value: value.clone(), until }, value_bytes, at: wall(begun) }
    }

    /// Notes a write, unless what was sent later is noted already.
    pub(super) fn note(
        &self,
        key: &str,
        draft: Draft,
        ticket: u64,
        standing: Standing,
    ) -> Displaced {
        let mut displaced = Displaced::default();
        let mut book = lock(&self.book);
        if book.keys.get(key).is_some_and(|entry| entry.ticket > ticket)
            || book
                .clears
                .iter()
                .any(|clear| clear.ticket > ticket && clear.covers(About::Key(key)))
        {
            drop(book);
            displaced.replaced.push(draft.write);
            return displaced;
        }
        displaced.replaced.extend(book.forget(key));
        let Draft { write, value_bytes, at } = draft;
        let number = book.next();
        let key: Arc<str> = key.into();
        let bytes = key.len() + value_bytes + OVERHEAD;
        book.bytes += bytes;
        book.order.insert(number, key.clone());
        if write.value().is_some() {
            book.values.insert(number);
        }
        book.keys.insert(key, Entry { number, ticket, write, at, bytes, standing });
        book.shrink(self.max_entries, self.max_bytes, &mut displaced);
        self.count.store(book.len(), Ordering::Release);
        displaced
    }

    /// Notes a write of which it is not certain that it is the latest: as a removal, for a miss is
    /// never wrong.
    pub(super) fn note_in_doubt(
        &self,
        key: &str,
        draft: Draft,
        ticket: u64,
        standing: Standing,
    ) -> Displaced {
        let (removal, replaced) = draft.into_removal();
        let mut displaced = self.note(key, removal, ticket, standing);
        displaced.replaced.extend(replaced);
        displaced
    }

    /// Notes that everything under a prefix is to be removed, which is all there is to know about
    /// the keys under it.
    pub(super) fn note_clear(&self, prefix: &str, ticket: u64, standing: Standing) -> Displaced {
        let mut displaced = Displaced::default();
        let mut book = lock(&self.book);
        displaced.replaced.extend(book.forget_older(prefix, ticket));
        book.add_clear(prefix, ticket, standing, self.max_entries.min(MAX_CLEARS));
        self.count.store(book.len(), Ordering::Release);
        displaced
    }

    /// What is noted as the value of a key and the end of its life: `Some(None)` is a removal.
    pub(super) fn look(&self, key: &str) -> Option<Option<(CacheValue, Option<Instant>)>> {
        let book = lock(&self.book);
        match book.keys.get(key).map(|entry| entry.write.value()) {
            Some(Some((value, until))) => Some(
                until.is_none_or(|until| Instant::now() < until).then(|| (value.clone(), until)),
            ),
            Some(None) => Some(None),
            None => book.clears.iter().any(|clear| key.starts_with(&*clear.prefix)).then_some(None),
        }
    }

    /// Whether the backend may be asked. Waits, but no longer than `patience`, for what has not
    /// been tried yet; what has failed since is not waited for.
    pub(super) async fn settled(&self, about: About<'_>, patience: Duration) -> Standing {
        self.all_settled(&[about], patience).await
    }

    /// [`settled`](Self::settled) for many, with one patience for all. Gives the worst.
    pub(super) async fn all_settled(&self, about: &[About<'_>], patience: Duration) -> Standing {
        if self.is_empty() {
            return Standing::Free;
        }
        let waited = caller_timeout(patience, async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                let standings = self.standings(about);
                if !standings.contains(&Standing::Pending) {
                    return standings.into_iter().max().unwrap_or(Standing::Free);
                }
                self.wake.notify_one();
                changed.await;
            }
        });
        waited.await.unwrap_or(Standing::Failed)
    }

    /// Whether nothing is noted about it at this moment.
    pub(super) fn is_free(&self, about: About<'_>) -> bool {
        self.is_empty() || lock(&self.book).standing(about) == Standing::Free
    }

    /// How each stands at this moment.
    pub(super) fn standings(&self, about: &[About<'_>]) -> Vec<Standing> {
        let book = lock(&self.book);
        about.iter().map(|about| book.standing(*about)).collect()
    }

    /// The clear that is to be done next, before anything else: what is noted about keys was said
    /// later.
    pub(super) fn first_clear(&self) -> Option<Clear> {
        lock(&self.book).clears.first().cloned()
    }

    /// The next notes about keys after the one with this number.
    pub(super) fn after(&self, number: u64, count: usize) -> Vec<Noted> {
        let book = lock(&self.book);
        let next = book.order.range(number + 1..).take(count);
        let noted = next.filter_map(|(number, key)| {
            let entry = book.keys.get(key)?;
            Some(Noted {
                number: *number,
                ticket: entry.ticket,
                key: key.clone(),
                write: entry.write.clone(),
                at: entry.at,
            })
        });
        noted.collect()
    }

    /// It has been written, or cannot be. What was noted since stays.
    pub(super) fn done(&self, key: &str, number: u64) {
        self.forget_if(key, |entry| entry.number == number);
    }

    /// A write that was sent later was acknowledged.
    pub(super) fn superseded(&self, key: &str, ticket: u64) {
        if !self.is_empty() {
            self.forget_if(key, |entry| entry.ticket < ticket);
        }
    }

    /// A call that was sent later has changed the key, or may have: it is removed.
    pub(super) fn doubted(&self, key: &str, ticket: u64) {
        if self.is_empty() {
            return;
        }
        let replaced = lock(&self.book).drop_value(key, ticket);
        drop(replaced);
    }

    fn forget_if(&self, key: &str, is_over: impl FnOnce(&Entry) -> bool) {
        let mut book = lock(&self.book);
        let gone = if book.keys.get(key).is_some_and(is_over) { book.forget(key) } else { None };
        self.count.store(book.len(), Ordering::Release);
        drop(book);
        drop(gone);
        self.changed.notify_waiters();
    }

    /// A clear that was sent later than all that is noted under its prefix was acknowledged.
    pub(super) fn superseded_under(&self, prefix: &str, ticket: u64) {
        if self.is_empty() {
            return;
        }
        let mut book = lock(&self.book);
        let gone = book.forget_older(prefix, ticket);
        book.forget_clears(prefix, ticket);
        self.count.store(book.len(), Ordering::Release);
        drop(book);
        drop(gone);
        self.changed.notify_waiters();
    }

    pub(super) fn cleared(&self, number: u64) {
        let mut book = lock(&self.book);
        book.clears.retain(|clear| clear.number != number);
        self.count.store(book.len(), Ordering::Release);
        drop(book);
        self.changed.notify_waiters();
    }

    /// The backend is away, or takes no writes: no call waits for any of it.
    pub(super) fn all_are(&self, standing: Standing) {
        let mut book = lock(&self.book);
        book.keys.values_mut().for_each(|entry| entry.standing = standing);
        book.clears.iter_mut().for_each(|clear| clear.standing = standing);
        drop(book);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
