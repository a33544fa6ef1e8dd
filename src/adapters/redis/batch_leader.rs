//! Sends the reads of one lane in batches.

use super::commands;
use super::connection::managed::ManagedConnection;
use super::errors::Failure;
use super::lives::Reading;
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
    let gets = requests.into_iter().map(|Request { key, waiter, .. }| (key, waiter)).collect();
    let mut batch = Batch { gets };
    if batch.gets.len() < 2 {
        return batch.send_directly();
    }
    let Some(deadline) = batch.latest() else { return };
    let names = batch.gets.iter().map(|(key, _)| key);
    match asks {
        Asks::Value => {
            let read = commands::get_many(names);
            let found = batch.wait(managed, pin!(managed.run(&read, deadline))).await;
            batch.finish(managed, found, Reply::Found).await;
        }
        Asks::ValueAndLife => {
            let read = Reading::of(names);
            let found = batch.wait(managed, pin!(read.send(managed, deadline))).await;
            batch.finish(managed, found, Reply::FoundLiving).await;
        }
    }
}

struct Batch {
    gets: Vec<(CompactString, Waiter)>,
}

impl Batch {
    fn waiters(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.gets.iter_mut().map(|(_, waiter)| waiter)
    }

    /// The deadline of the caller that may wait longest.
    fn latest(&mut self) -> Option<Instant> {
        self.waiters().map(|waiter| waiter.deadline).max()
    }

    fn send_directly(&mut self) {
        self.waiters().for_each(|waiter| waiter.answer(Ok(Reply::SendDirectly)));
    }

    /// Waits as long as one of the callers does. Each gets a timeout at its own deadline.
    async fn wait<T>(
        &mut self,
        managed: &Arc<ManagedConnection>,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        while let Some(next) =
            self.waiters().filter(|waiter| waiter.is_waiting()).map(|waiter| waiter.deadline).min()
        {
            if let Ok(done) = timeout_at(next, work.as_mut()).await {
                return Some(done);
            }
            let now = Instant::now();
            for waiter in
                self.waiters().filter(|waiter| waiter.is_waiting() && waiter.deadline <= now)
            {
                managed.record_timeout(waiter.deadline);
                waiter.answer(Err(managed.timed_out()));
            }
        }
        None
    }

    /// Answers the callers with what was found for them; `None` if none of them waits any more.
    async fn finish<T>(
        mut self,
        managed: &Arc<ManagedConnection>,
        found: Option<Result<Vec<Option<T>>, Failure>>,
        reply: fn(T) -> Reply,
    ) {
        match found {
            Some(Ok(found)) if found.len() == self.gets.len() => {
                self.deliver(managed, found, reply).await;
            }
            Some(Err(failure)) if !failure.answered => {
                self.waiters().for_each(|waiter| waiter.answer(Err(failure.clone())));
            }
            // Refused as a whole, or no answer to this at all: each is asked for by itself.
            Some(_) => self.send_directly(),
            None => {}
        }
    }

    async fn deliver<T>(
        mut self,
        managed: &Arc<ManagedConnection>,
        found: Vec<Option<T>>,
        reply: fn(T) -> Reply,
    ) {
        let mut missing = Vec::new();
        for ((key, mut waiter), found) in self.gets.drain(..).zip(found) {
            match found {
                Some(found) => waiter.answer(Ok(reply(found))),
                None => missing.push((key, waiter)),
            }
        }
        if !missing.is_empty() {
            Self { gets: missing }.recheck(managed).await;
        }
    }

    /// `MGET` answers nil also for a key that holds another program's list or hash, where `GET` is
    /// an error. If any of the keys exists, each key is read by itself.
    async fn recheck(mut self, managed: &Arc<ManagedConnection>) {
        let Some(deadline) = self.latest() else { return };
        let exist = commands::contain_any(self.gets.iter().map(|(key, _)| key));
        match self.wait(managed, pin!(managed.run(&exist, deadline))).await {
            Some(Ok(false)) => {
                self.waiters().for_each(|waiter| waiter.answer(Ok(Reply::Missing)));
            }
            _ => self.send_directly(),
        }
    }
}
