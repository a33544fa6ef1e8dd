//! Calls that travel together over one lane.

use super::commands;
use super::errors::Failure;
use super::lane::Lane;
use super::link::Link;
use crate::batching::{BatchLeader, Batchable};
use compact_str::CompactString;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Cmd, Pipeline, Value};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant as Clock;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

/// As many batches are under way at a time: while the server works on one, another is put together.
const ABREAST: usize = 2;

/// What becomes of a call that waited.
#[derive(Debug)]
pub(super) enum Heard {
    /// The server's answer, the answer to what went before it, and over which connection they came.
    Answer { first: Option<Value>, answer: Value, link: Arc<Link> },
    /// A value, or none: nothing that speaks against the connection.
    Found(Value),
    /// It is to go by itself.
    GoAlone,
}

type Reply = oneshot::Sender<Result<Heard, Failure>>;

/// A call that waits for others.
#[derive(Debug)]
pub(super) struct Ask {
    what: What,
    rider: Rider,
}

#[derive(Debug)]
pub(super) enum What {
    /// The value of a key: many of them are one command.
    Get(CompactString),
    Command {
        /// What goes before it.
        first: Option<Box<Cmd>>,
        cmd: Cmd,
        repeatable: bool,
    },
    /// Something that travels alone, when those before it have been sent.
    Turn,
}

/// Who waits for an answer, and until when. One timer for a batch is enough: callers need none of their own.
#[derive(Debug)]
struct Rider {
    deadline: Instant,
    reply: Option<Reply>,
}

impl Ask {
    pub(super) fn new(what: What, deadline: Instant, reply: Reply) -> Self {
        Self { what, rider: Rider { deadline, reply: Some(reply) } }
    }
}

impl Rider {
    fn answer(&mut self, heard: Result<Heard, Failure>) {
        if let Some(reply) = self.reply.take() {
            // Who has gone needs no answer.
            let _ = reply.send(heard);
        }
    }
}

impl Batchable for Ask {
    type Kind = ();

    fn kind(&self) -> Option<()> {
        (!matches!(self.what, What::Turn)).then_some(())
    }

    fn bytes(&self) -> usize {
        match &self.what {
            What::Get(key) => key.len(),
            What::Command { first, cmd, .. } => {
                first.as_deref().map_or(0, commands::size) + commands::size(cmd)
            }
            What::Turn => 0,
        }
    }

    fn is_over(&mut self, now: Clock) -> bool {
        if now >= self.rider.deadline.into_std() {
            self.rider.answer(Err(Failure::timeout()));
        }
        self.rider.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// All travel in the order in which they came.
    fn keys(&self) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }
}

/// Takes batch after batch until nobody waits.
pub(super) async fn lead(lane: Arc<Lane>, mut lead: BatchLeader<Ask>) {
    let departed = AtomicBool::new(true);
    let mut under_way = FuturesUnordered::new();
    loop {
        let somebody_waits = poll_fn(|context| {
            while let Poll::Ready(Some(())) = under_way.poll_next_unpin(context) {}
            if under_way.len() == ABREAST || !departed.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            lead.poll_waiting(context, !under_way.is_empty())
        });
        if !somebody_waits.await {
            return;
        }
        // Whoever is about to call comes along.
        yield_now().await;
        under_way.push(carry(&lane, lead.take(), &departed));
    }
}

/// Carries a batch. Nobody may set out before it has departed.
async fn carry(lane: &Arc<Lane>, batch: Vec<Ask>, departed: &AtomicBool) {
    departed.store(false, Ordering::Relaxed);
    let mut load = Load::default();
    batch.into_iter().for_each(|ask| load.put(ask));
    let once = load.once;
    let pipeline = load.pipeline();
    if !pipeline.is_empty() {
        let exchange = async {
            let link = lane.ready_link(!once).await?;
            lane.bury_orphans(&link).await?;
            // Not before the last wait: a batch that set out meanwhile would overtake this one, and undo what it acknowledges
            // for callers who have gone.
            departed.store(true, Ordering::Relaxed);
            let answers = lane.send_all(&link, &pipeline).await?;
            Ok::<_, Failure>((link, answers))
        };
        match load.wait(lane, pin!(exchange)).await {
            Some(Ok((link, answers))) => load.hand_out(lane, &link, answers).await,
            Some(Err(failure)) => {
                load.riders().for_each(|rider| rider.answer(Err(failure.clone())))
            }
            None => {}
        }
    }
    departed.store(true, Ordering::Relaxed);
}

/// A batch by what is to be done.
#[derive(Default)]
struct Load {
    gets: Vec<(CompactString, Rider)>,
    commands: Vec<(Option<Box<Cmd>>, Cmd, Rider)>,
    once: bool,
}

impl Load {
    fn put(&mut self, Ask { what, mut rider }: Ask) {
        match what {
            What::Get(key) => self.gets.push((key, rider)),
            What::Command { first, cmd, repeatable } => {
                self.once |= !repeatable;
                self.commands.push((first, cmd, rider));
            }
            What::Turn => rider.answer(Ok(Heard::GoAlone)),
        }
    }

    fn riders(&mut self) -> impl Iterator<Item = &mut Rider> {
        self.gets
            .iter_mut()
            .map(|(_, rider)| rider)
            .chain(self.commands.iter_mut().map(|(.., rider)| rider))
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

    /// Waits as long as somebody does: each is told when his time is over.
    async fn wait<T>(
        &mut self,
        lane: &Arc<Lane>,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        while let Some(next) =
            self.riders().filter(|rider| rider.reply.is_some()).map(|rider| rider.deadline).min()
        {
            if let Ok(done) = timeout_at(next, work.as_mut()).await {
                return Some(done);
            }
            let now = Instant::now();
            for rider in
                self.riders().filter(|rider| rider.reply.is_some() && rider.deadline <= now)
            {
                lane.overdue(rider.deadline);
                rider.answer(Err(lane.late()));
            }
        }
        None
    }

    async fn hand_out(mut self, lane: &Arc<Lane>, link: &Arc<Link>, answers: Vec<Value>) {
        let mut answers = answers.into_iter();
        let heard = |answer| Ok(Heard::Answer { first: None, answer, link: link.clone() });
        let gets = std::mem::take(&mut self.gets);
        match (&gets[..], if gets.is_empty() { None } else { answers.next() }) {
            ([_], Some(answer)) => gets
                .into_iter()
                .take(1)
                .for_each(|(_, mut rider)| rider.answer(heard(answer.clone()))),
            (many, Some(Value::Array(values))) if values.len() == many.len() => {
                for ((key, mut rider), value) in gets.into_iter().zip(values) {
                    match value {
                        Value::Nil => self.gets.push((key, rider)),
                        Value::BulkString(_) => rider.answer(Ok(Heard::Found(value))),
                        value => rider.answer(heard(value)),
                    }
                }
            }
            // Refused as a whole, or no answer to this at all: each finds out by itself.
            _ => gets.into_iter().for_each(|(_, mut rider)| rider.answer(Ok(Heard::GoAlone))),
        }
        for (first, _, mut rider) in self.commands.drain(..) {
            let first = first.and_then(|_| answers.next());
            // As many answers as commands: that was seen to.
            let Some(answer) = answers.next() else { break };
            rider.answer(Ok(Heard::Answer { first, answer, link: link.clone() }));
        }
        if !self.gets.is_empty() {
            self.look_again(lane, link).await;
        }
    }

    /// Nothing is also what a batch says of a key that holds another program's list or hash, where a single get is an error: if any
    /// of these keys is there, each is asked for by itself.
    async fn look_again(mut self, lane: &Arc<Lane>, link: &Arc<Link>) {
        let exist = commands::contain_any(self.gets.iter().map(|(key, _)| key));
        let exist = self.wait(lane, pin!(lane.run_over(link, &exist))).await;
        let all_missing = matches!(exist, Some(Ok(false)));
        for rider in self.riders() {
            rider.answer(Ok(if all_missing { Heard::Found(Value::Nil) } else { Heard::GoAlone }));
        }
    }
}
