//! Writes over a connection that was given up before the answer came: they may still take effect.

use crate::runtime::lock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// For how long a connection that was given up is listened to. A server that answers later than that is taken for gone with
/// everything that was sent to it.
pub(super) const LATE_FOR: Duration = Duration::from_secs(30);

/// How long a write may be on its way over a connection that broke: what was sent has left, and only the path holds it.
pub(super) const BROKEN_FOR: Duration = Duration::from_secs(5);

/// The writes of one exchange.
#[derive(Debug)]
pub(super) struct Late {
    /// The keys as they are on the wire.
    pub(super) wires: Vec<String>,
    until: Instant,
    answered: AtomicBool,
}

impl Late {
    pub(super) fn new(wires: Vec<String>, lasting: Duration) -> Arc<Self> {
        Arc::new(Self { wires, until: Instant::now() + lasting, answered: AtomicBool::new(false) })
    }

    /// The server has answered, or closed the connection: what was sent has taken effect, or never will.
    pub(super) fn end(&self) {
        self.answered.store(true, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.answered.load(Ordering::Acquire) || Instant::now() >= self.until
    }
}

/// So many connections to one server that were given up are listened to at a time; the others end at once.
pub(super) const MOST_HEARD: usize = 32;

/// So many exchanges are in doubt at most. Past it the oldest is forgotten, and with it the promise about its keys.
const MOST_IN_DOUBT: usize = 64;

/// The late writes to one server of values that bear no stamp. A fence could not tell them from later ones, so their keys are
/// not changed before they are over.
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

    /// Whether a late write may change a wire key of which `is_meant` says that it matters.
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
