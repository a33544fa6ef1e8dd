//! A count that many threads add to and few ask for.

use super::stripe;
use std::sync::atomic::{AtomicU64, Ordering};

/// Threads that count at once mostly write to different ones.
const STRIPES: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Tally([Stripe; STRIPES]);

/// Two cache lines, as that many are fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Tally {
    pub(crate) fn add_one(&self) {
        self.0[stripe::current() % STRIPES].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().fold(0, |total, stripe| total.wrapping_add(stripe.0.load(Ordering::Relaxed)))
    }
}
