//! Waiting calls travel together.
//!
//! While few calls are under way each goes by itself, at once, and pays two atomic additions. When it is crowded, those that come
//! wait in a [`Queue`], and travel as the next batch: it sets out as soon as one that is under way is back, with whoever has come
//! meanwhile. So nobody waits for a timer, a lone caller never waits at all, and batches grow by themselves as far as the crowd does.
//!
//! A [`Queue`] says who travels with whom; every lane has one. A [`Batcher`] puts before it the way past, for stores that many
//! callers can ask at once: redis, and any adapter behind `layers::Batching`. memcached's and sqlite's connections serve one at a
//! time, so there an idle connection is the way past.

mod batcher;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use batcher::{BatchLeader, Batcher};
#[cfg(any(feature = "memcached", feature = "sqlite", test))]
pub(crate) use queue::Queue;
pub(crate) use queue::{Batchable, Limits};
