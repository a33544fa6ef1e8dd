//! The tokens of a store in this process, which counts the handles on its claims.

use std::fmt;
use std::sync::{Arc, Weak};

/// A store in this process that counts the handles on its claims.
pub(crate) trait CountsClaims: Send + Sync {
    /// Adds a handle.
    fn share(&self, hash: u64, number: u64);
    /// Removes a handle. The claim ends with its last handle.
    fn release(&self, hash: u64, number: u64);
}

/// A token that allocates nothing. Dropping its last handle ends the claim, so a dropped load
/// leaves nothing behind.
pub(crate) struct CountedToken {
    store: Option<Weak<dyn CountsClaims>>,
    hash: u64,
    number: [u8; 8],
}

impl CountedToken {
    pub(crate) fn new(store: Weak<dyn CountsClaims>, hash: u64, number: u64) -> Self {
        Self { store: Some(store), hash, number: number.to_be_bytes() }
    }

    pub(super) fn number(&self) -> &[u8] {
        &self.number
    }

    /// Drops the handle on a claim that has ended already.
    pub(super) fn spent(mut self) {
        self.store = None;
    }

    fn store(&self) -> Option<Arc<dyn CountsClaims>> {
        self.store.as_ref()?.upgrade()
    }
}

impl Clone for CountedToken {
    fn clone(&self) -> Self {
        if let Some(store) = self.store() {
            store.share(self.hash, u64::from_be_bytes(self.number));
        }
        Self { store: self.store.clone(), hash: self.hash, number: self.number }
    }
}

impl Drop for CountedToken {
    fn drop(&mut self) {
        if let Some(store) = self.store() {
            store.release(self.hash, u64::from_be_bytes(self.number));
        }
    }
}

impl PartialEq for CountedToken {
    fn eq(&self, other: &Self) -> bool {
        (self.hash, self.number) == (other.hash, other.number)
    }
}

impl Eq for CountedToken {}

impl fmt::Debug for CountedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CountedToken").field(&u64::from_be_bytes(self.number)).finish()
    }
}
