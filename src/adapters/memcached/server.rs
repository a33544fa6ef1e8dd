//! What all connections to one server share.

use super::address::Address;
use super::availability::Availability;
use super::clear_log::{LEASE, Registry};
use super::connection::{Fault, Item};
use super::keys;
use crate::runtime::lock;
use crate::{Codec, Error, ErrorKind};
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One server of an adapter, whatever the runtime.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: Address,
    /// The adapter's prefix and the key of its registry.
    pub(super) prefix: String,
    pub(super) registry_key: String,
    pub(super) codec: Codec,
    pub(super) op_timeout: Duration,
    pub(super) gate: Availability,
    known: Mutex<Option<Known>>,
    /// Counts up whenever a connection breaks: those that were opened before are not trusted any more.
    generation: AtomicU64,
}

/// What is known of the registry.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) registry: Arc<Registry>,
    /// The item that it was read from.
    bytes: Bytes,
    pub(super) cas: u64,
    /// When it was asked for: it is at least as new as that.
    pub(super) asked: Instant,
}

impl Known {
    pub(super) fn new(registry: Registry, bytes: Bytes, cas: u64, asked: Instant) -> Self {
        Self { registry: Arc::new(registry), bytes, cas, asked }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.asked.elapsed() < LEASE
    }
}

impl Server {
    pub(super) fn new(address: Address, prefix: &str, codec: Codec, op_timeout: Duration) -> Self {
        Self {
            address,
            prefix: prefix.to_owned(),
            registry_key: keys::registry(prefix),
            codec,
            op_timeout,
            gate: Availability::default(),
            known: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn known(&self) -> Option<Known> {
        lock(&self.known).clone()
    }

    /// Takes news of the registry, unless what is known is newer.
    pub(super) fn learn(&self, news: Known) {
        let mut known = lock(&self.known);
        let Some(old) = known.take() else {
            *known = Some(news);
            return;
        };
        // Answers overtake each other on different connections; of one registry the higher number is the newer.
        let newer =
            match (old.registry.leads_to(&news.registry), news.registry.leads_to(&old.registry)) {
                (true, _) => true,
                (false, true) => false,
                (false, false) => old.asked < news.asked,
            };
        let asked = old.asked.max(news.asked);
        *known = Some(Known { asked, ..if newer { news } else { old } });
    }

    /// The registry in an item; `None` if it is none.
    pub(super) fn read_registry(&self, item: &Item, asked: Instant) -> Option<Known> {
        let known = self.known().filter(|known| known.cas == item.cas && known.bytes == item.bytes);
        match known {
            Some(known) => Some(Known { asked, ..known }),
            None => Known::new(
                Registry::from_bytes(&item.bytes, item.cas)?,
                item.bytes.clone(),
                item.cas,
                asked,
            )
            .into(),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A connection of this generation broke. The server may have lost everything, the registry included.
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
        Error::new(ErrorKind::Unavailable).with_message(format!("{} {why}", self.address))
    }

    pub(super) fn timeout(&self) -> Error {
        Error::new(ErrorKind::Timeout)
            .with_message(format!("{} did not answer within {:?}", self.address, self.op_timeout))
    }

    pub(super) fn error(&self, fault: Fault) -> Error {
        let address = &self.address;
        match fault {
            Fault::Broken(cause) => {
                self.unavailable("cannot be reached, or closed the connection").with_source(cause)
            }
            Fault::TooLarge => Error::new(ErrorKind::TooLarge)
                .with_message(format!("{address} does not take a value of that size")),
            Fault::Refused(words) => {
                let words = &words[..words.floor_char_boundary(128)];
                Error::new(ErrorKind::Backend)
                    .with_message(format!("{address} answered: {}", words.escape_debug()))
            }
            Fault::Misplaced => Error::new(ErrorKind::Backend)
                .with_message(format!("{address} gave an answer to another question")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::new(Address::default(), "p:", Codec::MessagePack, Duration::from_millis(250))
    }

    fn known(registry: &Registry, cas: u64, asked: Instant) -> Known {
        Known::new(registry.clone(), Bytes::new(), cas, asked)
    }

    #[test]
    fn the_higher_number_of_one_registry_is_the_newer() {
        let (server, now) = (server(), Instant::now());
        let first = Registry::new(5);
        let second = first.with_cleared("p:a", "p:").expect("numbers are left");
        server.learn(known(&second, 2, now));
        server.learn(known(&first, 1, now + LEASE));
        assert_eq!(server.known().map(|known| known.cas), Some(2));
        server.learn(known(&Registry::new(1 << 30), 9, now + 2 * LEASE));
        assert_eq!(server.known().map(|known| known.cas), Some(9));
    }

    #[test]
    fn one_break_is_counted_once() {
        let server = server();
        server.learn(known(&Registry::new(5), 1, Instant::now()));
        server.broke(0);
        assert!(server.known().is_none());
        server.learn(known(&Registry::new(5), 1, Instant::now()));
        server.broke(0);
        assert_eq!(server.generation(), 1);
        assert!(server.known().is_some());
    }
}
