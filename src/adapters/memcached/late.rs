//! Writes over an abandoned connection, which may still take effect.

use crate::runtime::lock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long an abandoned connection is still read from. A server that has not answered by then is
/// considered gone, with everything that was sent to it.
pub(super) const LATE_FOR: Duration = Duration::from_secs(30);

/// How long a write may still arrive over a connection that broke: the bytes have left this
/// machine, and only the network delays them.
pub(super) const BROKEN_FOR: Duration = Duration::from_secs(5);

/// The writes of one exchange.
#[derive(Debug)]
pub(super) struct Late {
    /// The wire keys.
    pub(super) wires: Vec<String>,
    until: Instant,
    answered: AtomicBool,
}

impl Late {
    pub(super) fn new(wires: Vec<String>, lasting: Duration) -> Arc<Self> {
        Arc::new(Self { wires, until: Instant::now() + lasting, answered: AtomicBool::new(false) })
    }

    /// Records that the server has answered or closed the connection: the writes have taken effect
    /// by now, or never will.
    pub(super) fn end(&self) {
        self.answered.store(true, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.answered.load(Ordering::Acquire) || Instant::now() >= self.until
    }
}

/// How many abandoned connections to one server are read from at a time. Further ones are closed at
/// once.
pub(super) const MOST_HEARD: usize = 32;

/// How many exchanges may be in doubt. Beyond this, the oldest is forgotten, and its keys lose the
/// protection.
const MOST_IN_DOUBT: usize = 64;

/// The late writes, to one server, of values without a stamp. A fence could not distinguish them
/// from later writes, so their keys are not changed while the writes may arrive.
#[derive(Debug, Default)]
pub(super) struct InDoubt(Mutex<Vec<Arc<Late>>>);

impl InDoubt {
    pub(super) fn add(&self, late: Arc<Late>) {
        let mut all = lock(&self.0);
        all.retain(|late| !late.is_over());
        if all.len() >= MOST_IN_DOUBT {
            all.remove(0);
        }
        all.push(late);
    }

    /// Whether a late write may change one of the wire keys that `is_meant` selects.
    pub(super) fn has(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        let mut all = lock(&self.0);
        if all.is_empty() {
            return false;
        }
        all.retain(|late| !late.is_over());
        all.iter().any(|late| late.wires.iter().any(|wire| is_meant(wire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_doubt_until_the_answer_comes() {
        let doubt = InDoubt::default();
        let late = Late::new(vec!["a".to_owned(), "b".to_owned()], LATE_FOR);
        doubt.add(late.clone());
        assert!(doubt.has(|wire| wire == "b") && !doubt.has(|wire| wire == "c"));
        late.end();
        assert!(!doubt.has(|wire| wire == "b"));
    }

    #[test]
    fn what_is_in_doubt_is_bounded() {
        let doubt = InDoubt::default();
        for n in 0..10 * MOST_IN_DOUBT {
            doubt.add(Late::new(vec![n.to_string()], LATE_FOR));
        }
        assert_eq!(lock(&doubt.0).len(), MOST_IN_DOUBT);
        assert!(!doubt.has(|wire| wire == "0") && doubt.has(|wire| wire == "639"));
    }

    #[test]
    fn nor_for_ever_without_one() {
        let doubt = InDoubt::default();
        doubt.add(Late::new(vec!["a".to_owned()], Duration::ZERO));
        assert!(!doubt.has(|_| true));
    }
}
