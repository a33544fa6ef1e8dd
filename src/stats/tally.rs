//! A counter that many threads increment and few read.

use super::stripe;
use std::sync::atomic::{AtomicU64, Ordering};

/// Threads that count at the same time mostly write to different stripes.
const STRIPES: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Tally([Stripe; STRIPES]);

/// Two cache lines, because processors fetch them in pairs.
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
