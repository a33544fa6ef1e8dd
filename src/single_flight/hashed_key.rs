//! A key with its hash.

use std::hash::Hasher;

/// A key, as the adapter gets it, and its hash: a call computes the hash once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HashedKey<'k> {
    pub(super) hash: u64,
    pub(super) text: &'k str,
}

impl<'k> HashedKey<'k> {
    pub(crate) fn text(self) -> &'k str {
        self.text
    }
}

/// A hasher for numbers that are already hashes.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
