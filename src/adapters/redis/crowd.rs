//! Calls that travel together over one lane.

use super::commands;
use super::errors::Failure;
use super::lane::Lane;
use super::link::Link;
use crate::travel::{Lead, Passenger};
use redis::{Cmd, Pipeline, Value};
use std::sync::Arc;
use std::time::Instant as Clock;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// What becomes of a call that waited.
#[derive(Debug)]
pub(super) enum Heard {
    /// The server's answer, and over which connection it came.
    Answer(Value, Arc<Link>),
    /// It is to go by itself.
    GoAlone,
}

type Reply = oneshot::Sender<Result<Heard, Failure>>;

/// A call that waits for others.
#[derive(Debug)]
pub(super) struct Ask {
    what: What,
    deadline: Instant,
    reply: Reply,
}

#[derive(Debug)]
pub(super) enum What {
    /// The value of a key: many of them are one command.
    Get(String),
    Command {
        /// What goes before it.
        first: Option<Cmd>,
        cmd: Cmd,
        repeatable: bool,
    },
    /// Something that travels alone, when those before it are back.
    Turn,
}

impl Ask {
    pub(super) fn new(what: What, deadline: Instant, reply: Reply) -> Self {
        Self { what, deadline, reply }
    }
}

impl Passenger for Ask {
    type Kind = ();

    fn kind(&self) -> Option<()> {
        (!matches!(self.what, What::Turn)).then_some(())
    }

    fn bytes(&self) -> usize {
        match &self.what {
            What::Get(key) => key.len(),
            What::Command { first, cmd, .. } => first.as_ref().map_or(0, commands::size) + commands::size(cmd),
            What::Turn => 0,
        }
    }

    /// Its caller tells the time by itself.
    fn is_over(&mut self, now: Clock) -> bool {
        self.reply.is_closed() || now >= self.deadline.into_std()
    }

    /// All travel in the order in which they came.
    fn keys(&self) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }
}

/// Takes batch after batch until nobody waits.
pub(super) async fn lead(lane: Arc<Lane>, mut lead: Lead<Ask>) {
    while let Some(batch) = lead.next() {
        let deadline = batch.iter().map(|ask| ask.deadline).max().unwrap_or_else(Instant::now);
        let mut load = Load::default();
        batch.into_iter().for_each(|ask| load.put(ask));
        // The last of them to give up decides: until then the others' answers are on their way.
        let carried = timeout_at(deadline, load.carry(&lane)).await;
        if carried.is_err() {
            lane.overdue(deadline);
        }
        load.fail(match carried {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure,
            Err(_) => Failure::timeout(),
        });
    }
}

/// A batch by what is to be done. What has been answered is taken out.
#[derive(Default)]
struct Load {
    gets: Vec<(String, Reply)>,
    commands: Vec<(Option<Cmd>, Cmd, Reply)>,
    once: bool,
}

impl Load {
    fn put(&mut self, Ask { what, reply, .. }: Ask) {
        match what {
            What::Get(key) => self.gets.push((key, reply)),
            What::Command { first, cmd, repeatable } => {
                self.once |= !repeatable;
                self.commands.push((first, cmd, reply));
            }
            What::Turn => send(reply, Ok(Heard::GoAlone)),
        }
    }

    async fn carry(&mut self, lane: &Arc<Lane>) -> Result<(), Failure> {
        if self.gets.is_empty() && self.commands.is_empty() {
            return Ok(());
        }
        let link = lane.ready_link(!self.once).await?;
        let mut pipeline = Pipeline::with_capacity(self.commands.len() + 1);
        match &self.gets[..] {
            [] => {}
            [(key, _)] => drop(pipeline.add_command(commands::get(key).cmd)),
            many => drop(pipeline.add_command(commands::get_many(many.iter().map(|(key, _)| key)).cmd)),
        }
        for (first, cmd, _) in &mut self.commands {
            if let Some(first) = first {
                pipeline.add_command(std::mem::take(first));
            }
            pipeline.add_command(std::mem::take(cmd));
        }
        let mut answers = lane.exchange_all(&link, &pipeline).await?.into_iter();
        let mut gets = std::mem::take(&mut self.gets);
        let mut missing = Vec::new();
        match (gets.len(), if gets.is_empty() { None } else { answers.next() }) {
            (1, Some(answer)) => {
                if let Some((_, reply)) = gets.pop() {
                    send(reply, Ok(Heard::Answer(answer, link.clone())));
                }
            }
            (_, Some(Value::Array(values))) if values.len() == gets.len() => missing = share(gets, values, &link),
            // Refused as a whole, or no answer to this at all: each finds out by itself.
            _ => gets.into_iter().for_each(|(_, reply)| send(reply, Ok(Heard::GoAlone))),
        }
        for (first, _, reply) in self.commands.drain(..) {
            let first = first.and_then(|_| answers.next());
            // As many answers as commands: that was seen to.
            let Some(answer) = answers.next() else { break };
            // If what goes before it fails, it counts for nothing.
            let answer = first.filter(|first| matches!(first, Value::ServerError(_))).unwrap_or(answer);
            send(reply, Ok(Heard::Answer(answer, link.clone())));
        }
        if !missing.is_empty() {
            self.gets = missing;
            self.look_again(lane, &link).await?;
        }
        Ok(())
    }

    /// Nothing is also what a batch says of a key that holds another program's list or hash, where a single get is an error: if any
    /// of these keys is there, each is asked for by itself.
    async fn look_again(&mut self, lane: &Arc<Lane>, link: &Arc<Link>) -> Result<(), Failure> {
        let exist = commands::contain_any(self.gets.iter().map(|(key, _)| key));
        let exist = lane.run_over(link, &exist).await;
        let all_missing = matches!(exist, Ok(false));
        for (_, reply) in self.gets.drain(..) {
            send(reply, Ok(if all_missing { Heard::Answer(Value::Nil, link.clone()) } else { Heard::GoAlone }));
        }
        Ok(())
    }

    fn fail(self, failure: Failure) {
        let replies = self.gets.into_iter().map(|(_, reply)| reply).chain(self.commands.into_iter().map(|(.., reply)| reply));
        replies.for_each(|reply| send(reply, Err(failure.clone())));
    }
}

/// Gives each reader its value, and gives those back for which there was none.
fn share(gets: Vec<(String, Reply)>, values: Vec<Value>, link: &Arc<Link>) -> Vec<(String, Reply)> {
    let mut missing = Vec::new();
    for ((key, reply), value) in gets.into_iter().zip(values) {
        match value {
            Value::Nil => missing.push((key, reply)),
            value => send(reply, Ok(Heard::Answer(value, link.clone()))),
        }
    }
    missing
}

fn send(reply: Reply, heard: Result<Heard, Failure>) {
    // Who has gone needs no answer.
    let _ = reply.send(heard);
}
