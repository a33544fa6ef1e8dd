//! Sends the reads of one lane in batches.

use super::commands;
use super::connection::managed::ManagedConnection;
use super::errors::Failure;
use super::lives;
use super::request::{Asks, Reply, Request, Waiter};
use crate::batching::BatchLeader;
use compact_str::CompactString;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

/// The most batches in flight: while the server works on one, the next is built.
const IN_FLIGHT: usize = 2;

/// Sends batch after batch until no request waits.
pub(super) async fn lead(managed: Arc<ManagedConnection>, mut leader: BatchLeader<Request>) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        let a_request_waits = poll_fn(|context| {
            while let Poll::Ready(Some(())) = in_flight.poll_next_unpin(context) {}
            if in_flight.len() == IN_FLIGHT {
                return Poll::Pending;
            }
            leader.poll_waiting(context, !in_flight.is_empty())
        });
        if !a_request_waits.await {
            return;
        }
        // Calls that are about to be made join this batch.
        yield_now().await;
        in_flight.push(send(&managed, leader.take()));
    }
}

async fn send(managed: &Arc<ManagedConnection>, requests: Vec<Request>) {
    // All of them ask for the same.
    let Some(asks) = requests.first().map(|request| request.asks) else { return };
    let gets = requests.into_iter().map(|Request { key, waiter, .. }| (key, waiter));
    let (keys, waiters): (Vec<_>, Vec<_>) = gets.unzip();
    let mut waiters = Waiters(waiters);
    if keys.len() < 2 {
        return waiters.send_directly();
    }
    let Some(deadline) = waiters.latest() else { return };
    match asks {
        Asks::Value => {
            let read = commands::get_many(keys.iter());
            let found = waiters.wait(managed, pin!(managed.run(&read, deadline))).await;
            finish(managed, (&keys, waiters), found, Reply::Found).await;
        }
        Asks::ValueAndLife => {
            let read = lives::read_all(managed, keys.iter(), deadline);
            let found = waiters.wait(managed, pin!(read)).await;
            finish(managed, (&keys, waiters), found, Reply::FoundLiving).await;
        }
    }
}

/// Answers the callers with what was found for them; `None` if none of them waits any more.
async fn finish<T>(
    managed: &Arc<ManagedConnection>,
    (keys, mut waiters): (&[CompactString], Waiters),
    found: Option<Result<Vec<Option<T>>, Failure>>,
    reply: fn(T) -> Reply,
) {
    match found {
        Some(Ok(found)) if found.len() == keys.len() => {
            deliver(managed, (keys, waiters), found, reply).await;
        }
        Some(Err(failure)) if !failure.answered => {
            waiters.all().for_each(|waiter| waiter.answer(Err(failure.clone())));
        }
        // Refused as a whole, or no answer to this at all: each is asked for by itself.
        Some(_) => waiters.send_directly(),
        None => {}
    }
}

async fn deliver<T>(
    managed: &Arc<ManagedConnection>,
    (keys, waiters): (&[CompactString], Waiters),
    found: Vec<Option<T>>,
    reply: fn(T) -> Reply,
) {
    let (mut missing, mut unanswered) = (Vec::new(), Vec::new());
    for ((key, mut waiter), found) in keys.iter().zip(waiters.0).zip(found) {
        match found {
            Some(found) => waiter.answer(Ok(reply(found))),
            None => {
                missing.push(key);
                unanswered.push(waiter);
            }
        }
    }
    if !missing.is_empty() {
        recheck(managed, &missing, Waiters(unanswered)).await;
    }
}

/// `MGET` answers nil also for a key that holds another program's list or hash, where `GET` is an
/// error. If any of the keys exists, each key is read by itself.
async fn recheck(managed: &Arc<ManagedConnection>, keys: &[&CompactString], mut waiters: Waiters) {
    let Some(deadline) = waiters.latest() else { return };
    let exist = commands::contain_any(keys.iter());
    match waiters.wait(managed, pin!(managed.run(&exist, deadline))).await {
        Some(Ok(false)) => {
            waiters.all().for_each(|waiter| waiter.answer(Ok(Reply::Missing)));
        }
        _ => waiters.send_directly(),
    }
}

/// The callers of a batch.
struct Waiters(Vec<Waiter>);

impl Waiters {
    fn all(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.0.iter_mut()
    }

    /// The deadline of the caller that may wait longest.
    fn latest(&self) -> Option<Instant> {
        self.0.iter().map(|waiter| waiter.deadline).max()
    }

    fn send_directly(&mut self) {
        self.all().for_each(|waiter| waiter.answer(Ok(Reply::SendDirectly)));
    }

    /// Waits as long as one of the callers does. Each gets a timeout at its own deadline.
    async fn wait<T>(
        &mut self,
        managed: &Arc<ManagedConnection>,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        while let Some(next) =
            self.all().filter(|waiter| waiter.is_waiting()).map(|waiter| waiter.deadline).min()
        {
            if let Ok(done) = timeout_at(next, work.as_mut()).await {
                return Some(done);
            }
            let now = Instant::now();
            for waiter in self.all().filter(|waiter| waiter.is_waiting() && waiter.deadline <= now)
            {
                managed.record_timeout(waiter.deadline);
                waiter.answer(Err(managed.timed_out()));
            }
        }
        None
    }
}
