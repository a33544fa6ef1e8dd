//! Sends the requests of one lane in batches.

use super::commands;
use super::connection::connection::Connection;
use super::connection::managed::ManagedConnection;
use super::errors::Failure;
use super::request::{Reply, Request, Waiter, Work};
use crate::batching::BatchLeader;
use compact_str::CompactString;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Cmd, Pipeline, Value};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

/// The most batches in flight: while the server works on one, the next is built.
const IN_FLIGHT: usize = 2;

/// Sends batch after batch until no request waits.
pub(super) async fn lead(managed: Arc<ManagedConnection>, mut leader: BatchLeader<Request>) {
    let sent = AtomicBool::new(true);
    let mut in_flight = FuturesUnordered::new();
    loop {
        let a_request_waits = poll_fn(|context| {
            while let Poll::Ready(Some(())) = in_flight.poll_next_unpin(context) {}
            if in_flight.len() == IN_FLIGHT || !sent.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            leader.poll_waiting(context, !in_flight.is_empty())
        });
        if !a_request_waits.await {
            return;
        }
        // Calls that are about to be made join this batch.
        yield_now().await;
        in_flight.push(send(&managed, leader.take(), &sent));
    }
}

/// Sends a batch. No later batch may be sent before it.
async fn send(managed: &Arc<ManagedConnection>, requests: Vec<Request>, sent: &AtomicBool) {
    sent.store(false, Ordering::Relaxed);
    let mut batch = Batch::default();
    requests.into_iter().for_each(|request| batch.put(request));
    let (once, deadline) = (batch.once, batch.latest());
    let pipeline = batch.pipeline();
    if !pipeline.is_empty() {
        let exchange = async {
            let connection = managed.ready_connection(!once, deadline).await?;
            managed.kill_orphans(&connection, deadline).await?;
            // Set this after the last wait only, so that the next batch is not sent before this
            // one. Otherwise a removal in the next batch could be acknowledged, and then undone by
            // a write in this batch whose caller has gone.
            sent.store(true, Ordering::Relaxed);
            let answers = managed.send_all(&connection, &pipeline, deadline).await?;
            Ok::<_, Failure>((connection, answers))
        };
        match batch.wait(managed, pin!(exchange)).await {
            Some(Ok((connection, answers))) => batch.deliver(managed, &connection, answers).await,
            Some(Err(failure)) => {
                batch.waiters().for_each(|waiter| waiter.answer(Err(failure.clone())))
            }
            None => {}
        }
    }
    sent.store(true, Ordering::Relaxed);
}

/// A batch, sorted by the kinds of its requests.
#[derive(Default)]
struct Batch {
    gets: Vec<(CompactString, Waiter)>,
    commands: Vec<(Option<Box<Cmd>>, Cmd, Waiter)>,
    once: bool,
}

impl Batch {
    fn put(&mut self, Request { work, mut waiter }: Request) {
        match work {
            Work::Get(key) => self.gets.push((key, waiter)),
            Work::Command { first, cmd, repeatable } => {
                self.once |= !repeatable;
                self.commands.push((first, cmd, waiter));
            }
            Work::Barrier => waiter.answer(Ok(Reply::SendDirectly)),
        }
    }

    fn waiters(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.gets
            .iter_mut()
            .map(|(_, waiter)| waiter)
            .chain(self.commands.iter_mut().map(|(.., waiter)| waiter))
    }

    /// The deadline of the caller that may wait longest.
    fn latest(&mut self) -> Instant {
        self.waiters().map(|waiter| waiter.deadline).max().unwrap_or_else(Instant::now)
    }

    fn pipeline(&mut self) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(self.commands.len() + 1);
        let read = match &self.gets[..] {
            [] => None,
            [(key, _)] => Some(commands::get(key).cmd),
            many => Some(commands::get_many(many.iter().map(|(key, _)| key)).cmd),
        };
        if let Some(read) = read {
            pipeline.add_command(read);
        }
        for (first, cmd, _) in &mut self.commands {
            if let Some(first) = first {
                pipeline.add_command(std::mem::take(first));
            }
            pipeline.add_command(std::mem::take(cmd));
        }
        pipeline
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

    async fn deliver(
        mut self,
        managed: &Arc<ManagedConnection>,
        connection: &Arc<Connection>,
        answers: Vec<Value>,
    ) {
        let mut answers = answers.into_iter();
        let reply =
            |answer| Ok(Reply::Answer { first: None, answer, connection: connection.clone() });
        let gets = std::mem::take(&mut self.gets);
        match (&gets[..], if gets.is_empty() { None } else { answers.next() }) {
            ([_], Some(answer)) => gets
                .into_iter()
                .take(1)
                .for_each(|(_, mut waiter)| waiter.answer(reply(answer.clone()))),
            (many, Some(Value::Array(values))) if values.len() == many.len() => {
                for ((key, mut waiter), value) in gets.into_iter().zip(values) {
                    match value {
                        Value::Nil => self.gets.push((key, waiter)),
                        Value::BulkString(_) => waiter.answer(Ok(Reply::Found(value))),
                        value => waiter.answer(reply(value)),
                    }
                }
            }
            // Refused as a whole, or no answer to this at all: each is asked for by itself.
            _ => {
                gets.into_iter().for_each(|(_, mut waiter)| waiter.answer(Ok(Reply::SendDirectly)))
            }
        }
        for (first, _, mut waiter) in self.commands.drain(..) {
            let first = first.and_then(|_| answers.next());
            // As many answers as commands: that was seen to.
            let Some(answer) = answers.next() else { break };
            waiter.answer(Ok(Reply::Answer { first, answer, connection: connection.clone() }));
        }
        if !self.gets.is_empty() {
            self.recheck_missing(managed, connection).await;
        }
    }

    /// `MGET` answers nil also for a key that holds another program's list or hash, where `GET` is
    /// an error. If any of the keys exists, each key is read by itself.
    async fn recheck_missing(
        mut self,
        managed: &Arc<ManagedConnection>,
        connection: &Arc<Connection>,
    ) {
        let exist = commands::contain_any(self.gets.iter().map(|(key, _)| key));
        let asking = managed.run_over(connection, &exist, self.latest());
        let exist = self.wait(managed, pin!(asking)).await;
        let all_missing = matches!(exist, Some(Ok(false)));
        for waiter in self.waiters() {
            waiter.answer(Ok(if all_missing {
                Reply::Found(Value::Nil)
            } else {
                Reply::SendDirectly
            }));
        }
    }
}
