//! Calls that wait are sent as batches.
//!
//! While few calls are in flight each is sent by itself, at once, and costs two atomic additions.
//! Above that number calls wait in a [`Queue`], and are sent as the next batch as soon as one in
//! flight is answered, with all that have come meanwhile. There is no timer, a single caller never
//! waits, and batches grow with the number of callers.
//!
//! A [`Queue`] decides which calls share a batch; every connection has one. A [`Batcher`] stands
//! before it where many callers can ask a store at once, and sends calls directly while they are
//! few: redis, and any adapter behind `layers::Batching`. The connections of memcached and sqlite
//! serve one call at a time, so there an idle connection takes a call directly.

mod batcher;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use batcher::{BatchLeader, Batcher};
#[cfg(any(feature = "memcached", feature = "sqlite", test))]
pub(crate) use queue::Queue;
pub(crate) use queue::{Batchable, Limits};
