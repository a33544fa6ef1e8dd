//! The state that all connections to one server share.

use super::clear_log::{CLEAR_LOG_TTL, ClearLog};
use super::connection::Item;
use super::connection::address::Address;
use super::connection::availability::Availability;
use super::errors::{self, Fault};
use super::keys;
use super::late::{InDoubt, MOST_HEARD};
use super::stamps::Stamping;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind};
use crate::runtime::lock;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// One server of an adapter, for all runtimes.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: Address,
    /// The adapter's prefix and the key of its clear log.
    pub(super) prefix: String,
    pub(super) log_key: String,
    pub(super) codec: Codec,
    pub(super) stamping: Stamping,
    pub(super) op_timeout: Duration,
    pub(super) availability: Availability,
    pub(super) in_doubt: InDoubt,
    /// A task that reads from an abandoned connection holds a permit.
    pub(super) listeners: Arc<Semaphore>,
    known: Mutex<Option<Known>>,
    /// Raised whenever a connection breaks: connections of older generations are not used any more.
    generation: AtomicU64,
}

/// A copy of the clear log.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) log: Arc<ClearLog>,
    /// The item that it was read from.
    bytes: Bytes,
    pub(super) cas: u64,
    /// When it was requested: it is at least as new as that.
    pub(super) asked: Instant,
}

impl Known {
    pub(super) fn new(log: ClearLog, bytes: Bytes, cas: u64, asked: Instant) -> Self {
        Self { log: Arc::new(log), bytes, cas, asked }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.asked.elapsed() < CLEAR_LOG_TTL
    }
}

impl Server {
    pub(super) fn new(address: Address, prefix: &str, codec: Codec, op_timeout: Duration) -> Self {
        Self {
            address,
            prefix: prefix.to_owned(),
            log_key: keys::clear_log(prefix),
            codec,
            stamping: Stamping::of(codec),
            op_timeout,
            availability: Availability::default(),
            in_doubt: InDoubt::default(),
            listeners: Arc::new(Semaphore::new(MOST_HEARD)),
            known: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn known(&self) -> Option<Known> {
        lock(&self.known).clone()
    }

    /// Takes a copy of the clear log, unless the present copy is newer.
    pub(super) fn learn(&self, news: Known) {
        let mut known = lock(&self.known);
        let Some(old) = known.take() else {
            *known = Some(news);
            return;
        };
        // Answers on different connections arrive in any order. Of one log, the higher number is
        // newer.
        let newer = match (old.log.leads_to(&news.log), news.log.leads_to(&old.log)) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => old.asked < news.asked,
        };
        let asked = old.asked.max(news.asked);
        *known = Some(Known { asked, ..if newer { news } else { old } });
    }

    /// The clear log in an item; `None` if the item is no clear log.
    pub(super) fn read_log(&self, item: &Item, asked: Instant) -> Option<Known> {
        let known = self.known().filter(|known| known.cas == item.cas && known.bytes == item.bytes);
        match known {
            Some(known) => Some(Known { asked, ..known }),
            None => Known::new(
                ClearLog::from_bytes(&item.bytes, item.cas)?,
                item.bytes.clone(),
                item.cas,
                asked,
            )
            .into(),
        }
    }

    /// A new clear log for a server that has none. If one was read before, over connections that
    /// have not broken since, the server has lost what that log recorded.
    pub(super) fn new_log(&self) -> ClearLog {
        match *lock(&self.known) {
            Some(_) => ClearLog::after_loss(fastrand::u32(..), &self.prefix),
            None => ClearLog::new(fastrand::u32(..)),
        }
    }

    /// The error for a key that a late write may still change.
    pub(super) fn doubt(&self) -> Error {
        let message = format!("{} has not answered an earlier write to this key yet", self.address);
        Error::new(ErrorKind::Timeout).with_message(message)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Records that a connection of this generation broke. The server may have lost all data,
    /// including the clear log.
    pub(super) fn broke(&self, generation: u64) {
        let next = generation.wrapping_add(1);
        if self
            .generation
            .compare_exchange(generation, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            *lock(&self.known) = None;
        }
    }

    pub(super) fn unavailable(&self, why: impl std::fmt::Display) -> Error {
        errors::unavailable(&self.address, why)
    }

    /// The error while the server is considered unavailable; `cause` is the error of the last
    /// attempt.
    pub(super) fn turned_away(&self, cause: Error) -> Error {
        let root = errors::innermost(&cause);
        self.unavailable(format!("is unavailable and will be tried again shortly ({root})"))
            .with_source(cause)
    }

    pub(super) fn timeout(&self) -> Error {
        Error::new(ErrorKind::Timeout)
            .with_message(format!("{} did not answer within {:?}", self.address, self.op_timeout))
    }

    pub(super) fn error(&self, fault: Fault) -> Error {
        fault.into_error(&self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::new(Address::default(), "p:", Codec::MessagePack, Duration::from_millis(250))
    }

    fn known(log: &ClearLog, cas: u64, asked: Instant) -> Known {
        Known::new(log.clone(), Bytes::new(), cas, asked)
    }

    #[test]
    fn the_higher_number_of_one_log_is_the_newer() {
        let (server, now) = (server(), Instant::now());
        let first = ClearLog::new(5);
        let second = first.with_cleared("p:a", "p:");
        server.learn(known(&second, 2, now));
        server.learn(known(&first, 1, now + CLEAR_LOG_TTL));
        assert_eq!(server.known().map(|known| known.cas), Some(2));
        server.learn(known(&ClearLog::new(1 << 30), 9, now + 2 * CLEAR_LOG_TTL));
        assert_eq!(server.known().map(|known| known.cas), Some(9));
    }

    #[test]
    fn one_break_is_counted_once() {
        let server = server();
        server.learn(known(&ClearLog::new(5), 1, Instant::now()));
        server.broke(0);
        assert!(server.known().is_none());
        server.learn(known(&ClearLog::new(5), 1, Instant::now()));
        server.broke(0);
        assert_eq!(server.generation(), 1);
        assert!(server.known().is_some());
    }
}
