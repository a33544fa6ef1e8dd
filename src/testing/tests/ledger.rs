//! The claims on the small store, and the changes of keys since.

use std::collections::HashMap;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Ledger {
    /// Incremented with each event.
    now: u64,
    changed: HashMap<String, u64>,
    cleared: HashMap<String, u64>,
    leases: HashMap<String, (u64, Instant)>,
}

impl Ledger {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    pub(super) fn changed(&mut self, key: &str) {
        let now = self.tick();
        self.changed.insert(key.to_owned(), now);
    }

    pub(super) fn cleared(&mut self, prefix: &str) {
        let now = self.tick();
        self.cleared.insert(prefix.to_owned(), now);
        self.leases.retain(|key, _| !key.starts_with(prefix));
    }

    pub(super) fn claim(&mut self, key: &str, lease: Option<Duration>) -> Option<Vec<u8>> {
        let now = self.tick();
        if let Some(lease) = lease {
            if self.leases.get(key).is_some_and(|(_, ends)| Instant::now() < *ends) {
                return None;
            }
            self.leases.insert(key.to_owned(), (now, Instant::now() + lease));
        }
        Some([u64::from(lease.is_some()).to_be_bytes(), now.to_be_bytes()].concat())
    }

    /// Whether the key has not changed since a claim, and its lease has not passed to another
    /// claim.
    pub(super) fn holds(&self, key: &str, claim: &[u8], though_overdue: bool) -> bool {
        let Some((leased, at)) = read(claim) else { return false };
        let clears = self
            .cleared
            .iter()
            .filter(|(prefix, _)| key.starts_with(prefix.as_str()))
            .map(|(_, at)| *at);
        let changed = clears.chain(self.changed.get(key).copied()).any(|change| change > at);
        let passed_on = leased && self.leases.get(key).is_some_and(|(holder, _)| *holder != at);
        !changed && (though_overdue || !passed_on)
    }

    pub(super) fn release(&mut self, key: &str, claim: &[u8]) {
        if read(claim)
            .is_some_and(|(_, at)| self.leases.get(key).is_some_and(|(holder, _)| *holder == at))
        {
            self.end_lease(key);
        }
    }

    pub(super) fn end_lease(&mut self, key: &str) {
        self.leases.remove(key);
    }
}

fn read(claim: &[u8]) -> Option<(bool, u64)> {
    let (leased, at) = (claim.first_chunk()?, claim.last_chunk()?);
    Some((u64::from_be_bytes(*leased) == 1, u64::from_be_bytes(*at)))
}
