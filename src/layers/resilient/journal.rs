//! What could not be written while the backend was away.

use super::builder::Config;
use crate::runtime::{lock, within};
use crate::{CacheValue, Codec, Expiry, Lifetime};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What an entry takes besides its key and its value.
const OVERHEAD: usize = 200;

/// The latest write of each key, and the prefixes that were cleared, in the order in which they failed.
///
/// While something is noted about a key, the backend holds what is out of date, so nobody may ask it: see [`settled`](Journal::settled).
#[derive(Debug)]
pub(super) struct Journal {
    max_entries: usize,
    max_bytes: usize,
    default_ttl: Lifetime,
    count: AtomicUsize,
    book: Mutex<Book>,
    changed: Notify,
    /// Somebody waits for what has not been tried yet.
    pub(super) hurry: Notify,
}

#[derive(Debug, Default)]
struct Book {
    keys: HashMap<Arc<str>, Entry>,
    order: BTreeMap<u64, Arc<str>>,
    clears: Vec<Clear>,
    bytes: usize,
    /// Counts up with every note.
    number: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    write: Write,
    at: SystemTime,
    bytes: usize,
    tried: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Clear {
    pub(super) number: u64,
    pub(super) prefix: Arc<str>,
    tried: bool,
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

/// A note about a key, to be written.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) number: u64,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Free,
    /// To be written any moment.
    Loaded,
    /// Writing it has failed.
    Tried,
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
            hurry: Notify::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Notes a value that is to be stored. Gives the keys that were pushed out.
    pub(super) fn set(
        &self,
        key: &str,
        value: CacheValue,
        expiry: Expiry,
        tried: bool,
    ) -> Vec<Arc<str>> {
        let lifetime = expiry.resolve(self.default_ttl);
        if lifetime.is_zero() {
            return self.remove(key, tried);
        }
        let until = match lifetime {
            Lifetime::Never => None,
            // An end that no clock can show is none that anybody will see.
            Lifetime::For(lasting) => Instant::now().checked_add(lasting),
        };
        // What cannot be encoded cannot be stored either.
        let bytes = value.encoded_len(Codec::MessagePack).unwrap_or_default();
        self.note(key, Write::Set { value, until }, bytes, tried)
    }

    /// Notes a removal. Gives the keys that were pushed out.
    pub(super) fn remove(&self, key: &str, tried: bool) -> Vec<Arc<str>> {
        self.note(key, Write::Remove, 0, tried)
    }

    fn note(&self, key: &str, write: Write, value_bytes: usize, tried: bool) -> Vec<Arc<str>> {
        let mut book = lock(&self.book);
        book.forget(key);
        let number = book.next();
        let key: Arc<str> = key.into();
        let bytes = key.len() + value_bytes + OVERHEAD;
        book.bytes += bytes;
        book.order.insert(number, key.clone());
        book.keys.insert(key, Entry { number, write, at: SystemTime::now(), bytes, tried });
        let lost = book.shrink(self.max_entries, self.max_bytes);
        self.count.store(book.len(), Ordering::Release);
        lost
    }

    /// Notes that everything under a prefix is to be removed, which is all there is to know about the keys under it.
    pub(super) fn clear(&self, prefix: &str, tried: bool) {
        let mut book = lock(&self.book);
        let covered: Vec<Arc<str>> =
            book.keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        covered.iter().for_each(|key| book.forget(key));
        book.clears.retain(|clear| !clear.prefix.starts_with(prefix));
        if !book.clears.iter().any(|clear| prefix.starts_with(&*clear.prefix)) {
            let number = book.next();
            // More prefixes than anybody clears: one clear of everything holds less.
            let prefix = if book.clears.len() >= self.max_entries {
                book.clears.drain(..).fold(prefix, |_, _| "")
            } else {
                prefix
            };
            book.clears.push(Clear { number, prefix: prefix.into(), tried });
        }
        self.count.store(book.len(), Ordering::Release);
    }

    /// What is noted as the value of a key: `Some(None)` is a removal.
    pub(super) fn look(&self, key: &str) -> Option<Option<CacheValue>> {
        let book = lock(&self.book);
        match book.keys.get(key).map(|entry| &entry.write) {
            Some(Write::Set { value, until }) => {
                Some(until.is_none_or(|until| Instant::now() < until).then(|| value.clone()))
            }
            Some(Write::Remove) => Some(None),
            None => book.clears.iter().any(|clear| key.starts_with(&*clear.prefix)).then_some(None),
        }
    }

    /// Whether the backend may be asked. Waits, but no longer than `patience`, for what has not been tried yet; what has failed
    /// since is not waited for.
    pub(super) async fn settled(&self, about: About<'_>, patience: Duration) -> bool {
        if self.is_empty() {
            return true;
        }
        let waited = within(patience, async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                match lock(&self.book).standing(about) {
                    Standing::Free => return true,
                    Standing::Tried => return false,
                    Standing::Loaded => {}
                }
                self.hurry.notify_one();
                changed.await;
            }
        });
        waited.await.unwrap_or(false)
    }

    /// The clear that is to be done next, before anything else: what is noted about keys was said later.
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
                key: key.clone(),
                write: entry.write.clone(),
                at: entry.at,
            })
        });
        noted.collect()
    }

    /// It has been written, or cannot be. What was noted since stays.
    pub(super) fn done(&self, key: &str, number: u64) {
        let mut book = lock(&self.book);
        if book.keys.get(key).is_some_and(|entry| entry.number == number) {
            book.forget(key);
        }
        self.count.store(book.len(), Ordering::Release);
        drop(book);
        self.changed.notify_waiters();
    }

    pub(super) fn cleared(&self, number: u64) {
        let mut book = lock(&self.book);
        book.clears.retain(|clear| clear.number != number);
        self.count.store(book.len(), Ordering::Release);
        drop(book);
        self.changed.notify_waiters();
    }

    /// The backend is away: nobody waits for any of it.
    pub(super) fn all_tried(&self) {
        let mut book = lock(&self.book);
        book.keys.values_mut().for_each(|entry| entry.tried = true);
        book.clears.iter_mut().for_each(|clear| clear.tried = true);
        drop(book);
        self.changed.notify_waiters();
    }
}

impl Book {
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn len(&self) -> usize {
        self.keys.len() + self.clears.len()
    }

    fn forget(&mut self, key: &str) {
        if let Some(entry) = self.keys.remove(key) {
            self.order.remove(&entry.number);
            self.bytes -= entry.bytes;
        }
    }

    /// Keeps to the bounds. Values go first, the oldest before the others: that the older value must go is still known then, and the
    /// newer one costs a load. What is over the bounds after that is lost.
    fn shrink(&mut self, max_entries: usize, max_bytes: usize) -> Vec<Arc<str>> {
        if self.bytes > max_bytes {
            for key in self.order.values() {
                let Some(entry) = self.keys.get_mut(key) else { continue };
                if matches!(entry.write, Write::Set { .. }) {
                    let freed = entry.bytes - (key.len() + OVERHEAD);
                    entry.write = Write::Remove;
                    entry.bytes -= freed;
                    self.bytes -= freed;
                }
                if self.bytes <= max_bytes {
                    break;
                }
            }
        }
        let mut lost = Vec::new();
        while (self.keys.len() > max_entries || self.bytes > max_bytes)
            && let Some((_, key)) = self.order.pop_first()
        {
            self.forget(&key);
            lost.push(key);
        }
        lost
    }

    /// The worst that is noted about it.
    fn standing(&self, about: About<'_>) -> Standing {
        let entries: Box<dyn Iterator<Item = bool>> = match about {
            About::Nothing => return Standing::Free,
            About::Key(key) => Box::new(self.keys.get(key).map(|entry| entry.tried).into_iter()),
            About::Prefix(prefix) => Box::new(
                self.keys
                    .iter()
                    .filter(move |(key, _)| key.starts_with(prefix))
                    .map(|(_, entry)| entry.tried),
            ),
        };
        let clears =
            self.clears.iter().filter(|clear| clear.covers(about)).map(|clear| clear.tried);
        let tried = entries.chain(clears).reduce(|one, other| one || other);
        tried.map_or(Standing::Free, |tried| if tried { Standing::Tried } else { Standing::Loaded })
    }
}

impl Clear {
    fn covers(&self, about: About<'_>) -> bool {
        match about {
            About::Key(key) => key.starts_with(&*self.prefix),
            About::Prefix(prefix) => {
                self.prefix.starts_with(prefix) || prefix.starts_with(&*self.prefix)
            }
            About::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests;
