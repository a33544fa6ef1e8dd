//! Batching (micro-batching, pipelining): calls that wait are sent together.
//!
//! While few calls are in flight each is sent by itself, at once, and costs two atomic additions.
//! Above that number calls wait in a [`Queue`]. As soon as a call in flight is answered, all calls
//! that have come in the meantime are sent as the next batch. There is no timer, a single caller
//! never waits, and batches grow with the number of callers.
//!
//! A [`Queue`] decides which calls share a batch; every connection has one. Where a store can serve
//! many calls at once (redis, and any adapter in `layers::Batching`), a [`Batcher`] in front of the
//! queue sends calls directly while they are few. The connections of memcached and sqlite serve one
//! call at a time, so there an idle connection takes a call directly.

mod batcher;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use batcher::{BatchLeader, Batcher};
#[cfg(any(feature = "memcached", feature = "sqlite", test))]
pub(crate) use queue::Queue;
pub(crate) use queue::{Batchable, Limits};
