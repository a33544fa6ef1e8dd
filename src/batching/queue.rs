//! The calls that wait, and which of them share a batch.

#[cfg(any(feature = "redis", feature = "memcached", feature = "sqlite"))]
use crate::error::{Error, Result};
#[cfg(any(feature = "redis", feature = "memcached", feature = "sqlite"))]
use crate::url::CacheUrl;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::Instant;

/// At this length, and each time the length has doubled, the queue is searched for calls that were
/// given up.
const SEARCH_AT: usize = 1_024;

/// A call that may wait, and share a batch.
pub(crate) trait Batchable {
    /// Calls of one kind can share a batch.
    type Kind: Copy + PartialEq + fmt::Debug;

    /// `None` for a call that is sent by itself.
    fn kind(&self) -> Option<Self::Kind>;

    /// How many bytes the call adds to a batch.
    fn bytes(&self) -> usize;

    /// Whether the caller has given up. Answers a caller whose deadline has passed with a timeout.
    fn is_over(&mut self, now: Instant) -> bool;

    /// The hashes of the call's keys. A call is not sent before an earlier call about the same key,
    /// nor before an earlier call that is sent by itself and has no key.
    fn keys(&self) -> impl Iterator<Item = u64>;
}

/// How large a batch may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most calls in a batch; 1 means no batches.
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

#[cfg(any(feature = "redis", feature = "memcached", feature = "sqlite"))]
impl Limits {
    /// Reads the parameters `max_batch` and `max_batch_bytes`.
    pub(crate) fn take(&mut self, url: &mut CacheUrl) -> Result<()> {
        self.entries = url.take("max_batch")?.unwrap_or(self.entries);
        self.bytes = url.take_size("max_batch_bytes")?.unwrap_or(self.bytes);
        Ok(())
    }

    /// Rejects invalid limits, for builders.
    pub(crate) fn check(self) -> Result<()> {
        if self.entries == 0 {
            Err(Error::config("`max_batch` must be more than zero; 1 is no batches"))
        } else {
            Ok(())
        }
    }
}

/// The calls that wait, in the order in which they came. The number of callers bounds the queue:
/// calls that were given up are removed from time to time.
#[derive(Debug)]
pub(crate) struct Queue<P: Batchable> {
    limits: Limits,
    waiting: VecDeque<P>,
    search_at: usize,
    fitting: Fitting<P::Kind>,
}

/// A summary of the calls that came since the queue was empty.
#[derive(Clone, Copy, Debug)]
enum Fitting<K> {
    /// All calls are of this kind, and have this number of bytes in total.
    Together(Option<K>, usize),
    Apart,
}

impl<P: Batchable> Queue<P> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            search_at: SEARCH_AT,
            fitting: Fitting::Together(None, 0),
        }
    }

    #[cfg(any(feature = "redis", feature = "memcached", feature = "sqlite", test))]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn push(&mut self, request: P) {
        if self.waiting.is_empty() {
            self.fitting = Fitting::Together(None, 0);
        }
        if let Fitting::Together(kind, bytes) = self.fitting {
            self.fitting = match request.kind() {
                Some(own) if kind.is_none_or(|kind| kind == own) => {
                    Fitting::Together(Some(own), bytes.saturating_add(request.bytes()))
                }
                _ => Fitting::Apart,
            };
        }
        self.waiting.push_back(request);
        if self.waiting.len() >= self.search_at {
            let now = Instant::now();
            self.waiting.retain_mut(|request| !request.is_over(now));
            self.search_at = SEARCH_AT.max(self.waiting.len() * 2);
        }
    }

    /// Takes out the first call, together with the later calls of its kind that no earlier call
    /// about the same key has to precede. Empty if no call waits.
    pub(crate) fn next(&mut self) -> Vec<P> {
        let now = Instant::now();
        let mut batch = Vec::new();
        let Some(first) = self.next_alive(now) else { return batch };
        let (kind, mut bytes) = (first.kind(), first.bytes());
        batch.push(first);
        let mut passed = Vec::new();
        let mut passed_keys = HashSet::new();
        while kind.is_some() && batch.len().max(passed.len()) < self.limits.entries {
            let Some(next) = self.next_alive(now) else { break };
            let size = bytes.saturating_add(next.bytes());
            if kind == next.kind()
                && size <= self.limits.bytes
                && (passed.is_empty() || !next.keys().any(|key| passed_keys.contains(&key)))
            {
                bytes = size;
                batch.push(next);
                continue;
            }
            let is_barrier = next.kind().is_none() && next.keys().next().is_none();
            passed_keys.extend(next.keys());
            passed.push(next);
            if is_barrier {
                break;
            }
        }
        for request in passed.into_iter().rev() {
            self.waiting.push_front(request);
        }
        batch
    }

    /// Takes out all calls, if [`next`](Self::next) would return all of them. Calls that were given
    /// up are included. Takes constant time, because the queue is behind a lock.
    #[cfg(any(feature = "redis", test))]
    pub(crate) fn all_at_once(&mut self) -> Option<VecDeque<P>> {
        match self.fitting {
            Fitting::Together(_, bytes)
                if self.waiting.len() <= self.limits.entries && bytes <= self.limits.bytes =>
            {
                let room = VecDeque::with_capacity(self.waiting.len());
                Some(std::mem::replace(&mut self.waiting, room))
            }
            _ => None,
        }
    }

    /// Takes out all calls that are left, when no leader will take them.
    pub(crate) fn take_all(&mut self) -> VecDeque<P> {
        std::mem::take(&mut self.waiting)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn next_alive(&mut self, now: Instant) -> Option<P> {
        loop {
            let mut next = self.waiting.pop_front()?;
            if !next.is_over(now) {
                return Some(next);
            }
        }
    }
}
