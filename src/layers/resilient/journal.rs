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

/// The bytes that a note takes besides its key and its value.
const OVERHEAD: usize = 200;

/// The most prefixes, because each call checks all of them. Above the limit, two similar prefixes
/// are merged.
const MAX_CLEARS: usize = 128;

/// The latest write of each key, and the prefixes that were cleared, in the order in which they
/// failed.
///
/// While a key has a note, the backend's value is outdated, so no call may read it: see
/// [`settled`](Journal::settled).
#[derive(Debug)]
pub(super) struct Journal {
    max_entries: usize,
    max_bytes: usize,
    default_ttl: Lifetime,
    count: AtomicUsize,
    book: Mutex<Book>,
    changed: Notify,
    /// Wakes the recovery task: a call waits for a note that has not been tried yet.
    pub(super) wake: Notify,
}

/// The write that is to be replayed.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Set {
        value: CacheValue,
        /// When the value expires; `None` means never.
        until: Option<Instant>,
    },
    Remove,
}

/// A failed write, ready to be noted.
#[derive(Debug)]
pub(super) struct Draft {
    write: Write,
    value_bytes: usize,
    at: SystemTime,
}

/// A note about a key: a write to be replayed.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) number: u64,
    pub(super) ticket: u64,
    pub(super) key: Arc<str>,
    pub(super) write: Write,
    /// When the caller began the write.
    pub(super) at: SystemTime,
}

/// The keys that a call is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'k> {
    Key(&'k str),
    /// Every key that begins with the prefix.
    Prefix(&'k str),
    Nothing,
}

/// Whether the backend may be asked about a key, ordered from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// No note exists.
    Free,
    /// A note is about to be written.
    Pending,
    /// The backend answers, but accepts no writes: the note is the present value of the key.
    Refused,
    /// Writing the note has failed.
    Failed,
}

/// The values that a new note displaced, to be dropped outside all locks.
#[derive(Debug, Default)]
pub(super) struct Displaced {
    /// The keys whose writes are lost.
    pub(super) lost: Vec<Arc<str>>,
    replaced: Vec<Write>,
}

impl Write {
    /// The value, and when it expires: `Some(None)` means never.
    fn value(&self) -> Option<(&CacheValue, Option<Instant>)> {
        match self {
            Self::Set { value, until } => Some((value, *until)),
            Self::Remove => None,
        }
    }
}

impl Displaced {
    /// A draft of which no note was made.
    pub(super) fn of(draft: Draft) -> Self {
        Self { lost: Vec::new(), replaced: vec![draft.write] }
    }
}

impl Draft {
    pub(super) fn removal(begun: Instant) -> Self {
        Self { write: Write::Remove, value_bytes: 0, at: wall(begun) }
    }

    /// Turns the note into a removal: the old value must be removed, and the new value is not
    /// known.
    fn into_removal(self) -> (Self, Option<Write>) {
        let replaced = Some(self.write);
        (Self { write: Write::Remove, value_bytes: 0, at: self.at }, replaced)
    }
}

/// A wall-clock time, to compare with the writes of other processes.
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

    /// Drafts a note for a value that was to be stored at `begun`, and whose life began then.
    pub(super) fn draft(&self, value: &CacheValue, expiry: Expiry, begun: Instant) -> Draft {
        let until = match expiry.resolve(self.default_ttl) {
            lifetime if lifetime.is_zero() => return Draft::removal(begun),
            Lifetime::Never => None,
            // An expiry beyond the range of the clock means never.
            Lifetime::For(lasting) => begun.checked_add(lasting),
        };
        // A value that cannot be encoded cannot be stored either.
        let value_bytes = value.encoded_len(Codec::MessagePack).unwrap_or_default();
        Draft { write: Write::Set { value: value.clone(), until }, value_bytes, at: wall(begun) }
    }

    /// Notes a write, unless a later write is noted already.
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
                .any(|clear| clear.ticket > ticket && clear.covers(Subject::Key(key)))
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

    /// Notes a write that may not be the latest one. The note is a removal, because a miss is never
    /// wrong.
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

    /// Notes that all keys with a prefix are to be removed. This replaces the notes of those keys.
    pub(super) fn note_clear(&self, prefix: &str, ticket: u64, standing: Standing) -> Displaced {
        let mut displaced = Displaced::default();
        let mut book = lock(&self.book);
        displaced.replaced.extend(book.forget_older(prefix, ticket));
        book.add_clear(prefix, ticket, standing, self.max_entries.min(MAX_CLEARS));
        self.count.store(book.len(), Ordering::Release);
        displaced
    }

    /// The value in the note of a key, and its expiry. `Some(None)` means a removal, `None` no
    /// note.
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

    /// Whether the backend may be asked. Waits for notes that have not been tried yet, at most for
    /// `patience`; does not wait for notes that have failed.
    pub(super) async fn settled(&self, about: Subject<'_>, patience: Duration) -> Standing {
        self.all_settled(&[about], patience).await
    }

    /// [`settled`](Self::settled) for several keys, with one time limit for all. Returns the worst
    /// state.
    pub(super) async fn all_settled(&self, about: &[Subject<'_>], patience: Duration) -> Standing {
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

    /// Whether no note exists at this moment.
    pub(super) fn is_free(&self, about: Subject<'_>) -> bool {
        self.is_empty() || lock(&self.book).standing(about) == Standing::Free
    }

    /// The state of each subject at this moment.
    pub(super) fn standings(&self, about: &[Subject<'_>]) -> Vec<Standing> {
        let book = lock(&self.book);
        about.iter().map(|about| book.standing(*about)).collect()
    }

    /// The next clear. Clears are replayed before the notes of keys, because the notes of keys were
    /// made later.
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

    /// Removes a note that was written, or that can never be written. A note that was made since
    /// then stays.
    pub(super) fn done(&self, key: &str, number: u64) {
        self.forget_if(key, |entry| entry.number == number);
    }

    /// A later write was acknowledged: the note is dropped.
    pub(super) fn superseded(&self, key: &str, ticket: u64) {
        if !self.is_empty() {
            self.forget_if(key, |entry| entry.ticket < ticket);
        }
    }

    /// A later call has changed the key, or may have: the note becomes a removal.
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

    /// A later clear was acknowledged: the notes under its prefix are dropped.
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

    /// Gives all notes this state: the backend is away, or accepts no writes, and no call waits for
    /// a note any more.
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
