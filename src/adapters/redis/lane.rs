//! A lane: what keeps one connection open, and runs commands over it now, one or a batch.

use super::batch_leader::{self, Ask, Heard, What};
use super::builder::Config;
use super::commands::{self, Command, Invocation, Removal};
use super::errors::{BACKEND, Code, Failure, Fate};
use super::gate::Gate;
use super::link::{Link, Orphans};
use super::refusals::Refusals;
use super::replies::Bounds;
use super::source::{Source, identify};
use super::wire::Progress;
use super::{millis, names};
use crate::batching::Batcher;
use crate::error::{Error, ErrorKind};
use crate::runtime::{background_connects, lock, spawn, spawn_background};
use bytes::Bytes;
use deadpool_redis::Pool;
use redis::{Pipeline, Value};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// A connection that did not live this long makes the next one wait.
const STEADY: Duration = Duration::from_secs(1);
/// How old a connection must be to be given up for leading to a replica.
const RENEWABLE: Duration = Duration::from_secs(10);
/// A lane that nobody has asked for this long stops trying to connect.
const QUIET: Duration = Duration::from_secs(10);

/// What the lanes of one runtime share, or the one for what is big.
pub(super) struct Hub {
    source: Source,
    pool: OnceLock<Pool>,
    gate: Gate,
    orphans: Arc<Orphans>,
    refusals: Arc<Refusals>,
    progress: Progress,
    /// The deadline of a call.
    patience: Duration,
    max_value_bytes: usize,
}

impl Hub {
    pub(super) fn new(
        source: Source,
        orphans: Arc<Orphans>,
        refusals: Arc<Refusals>,
        config: &Config,
    ) -> Self {
        let Config { op_timeout: patience, max_value_bytes, .. } = *config;
        Self {
            source,
            pool: OnceLock::new(),
            gate: Gate::default(),
            orphans,
            refusals,
            progress: Progress::default(),
            patience,
            max_value_bytes,
        }
    }

    /// Connects. This may take longer than a call may wait: then the calls time out, and a later one finds it done.
    async fn open(&self) -> Result<Link, Failure> {
        let limit = self.patience.saturating_mul(4).max(Duration::from_secs(1));
        let bounds = Bounds::new(self.max_value_bytes, limit);
        let opening = async {
            let mut wire = self.source.connect(&self.pool, bounds, &self.progress).await?;
            match identify(&mut wire.connection).await {
                Ok(client) => Ok(Link::new(wire, client, self.orphans.clone())),
                Err(failure) => Err(wire.explained(failure)),
            }
        };
        match timeout(limit, opening).await {
            Ok(opened) => opened,
            Err(_) => {
                let message = format!("no connection within {limit:?}");
                let failure = Failure::new(ErrorKind::Unavailable, message, Fate::Drop);
                let error = failure.error.clone().with_source(self.progress.reason());
                Err(Failure { error, ..failure })
            }
        }
    }
}

/// One connection at a time, made when it is first needed and again when it broke. Commands are executed in the order in which
/// they are run.
pub(super) struct Lane {
    hub: Arc<Hub>,
    home: Home,
    state: watch::Sender<State>,
    /// When it last had to turn a caller away.
    asked: Mutex<Instant>,
    /// Where calls set out, alone or together.
    stop: Arc<Batcher<Ask>>,
    born: Instant,
    /// The latest deadline of those who have waited, in milliseconds since the lane was made.
    latest: AtomicU64,
}

/// The runtime that drives a connection.
#[derive(Clone, Copy)]
pub(super) enum Home {
    /// The caller's: a wake-up across threads would cost more than a small command does.
    Caller,
    /// larder's own: reading a big answer takes a thread for so long that others would notice.
    Background,
}

#[derive(Clone)]
enum State {
    /// Not connected; the next caller connects.
    Idle,
    /// Callers wait, the task that connects is detached from all of them.
    Connecting,
    Up(Arc<Link>),
    /// Connecting failed, and is tried again in the background. Callers are told at once.
    Down(Error),
}

impl Lane {
    pub(super) fn new(hub: Arc<Hub>, home: Home, stop: Batcher<Ask>) -> Arc<Self> {
        let (state, now) = (watch::Sender::new(State::Idle), Instant::now());
        Arc::new(Self {
            hub,
            home,
            state,
            asked: Mutex::new(now),
            stop: Arc::new(stop),
            born: now,
            latest: AtomicU64::new(0),
        })
    }

    /// Runs a command now, or with the next batch.
    pub(super) async fn run<T>(
        self: &Arc<Self>,
        make: impl Fn() -> Command<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let removal = self.hub.refusals.removal();
        match self.run_by(removal, &make, deadline).await {
            Err(failure) if failure.code == Code::Refused && make().removes() => {
                Box::pin(self.run_by(removal.other(), &make, deadline)).await
            }
            outcome => outcome,
        }
    }

    /// The same; if it is a removal, by this command.
    async fn run_by<T>(
        self: &Arc<Self>,
        removal: Removal,
        make: &impl Fn() -> Command<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let attempt = || self.try_run(None, make().removing_by(removal), deadline);
        let answer = Self::twice(attempt).await.map(|(_, answer)| answer);
        if removal != self.hub.refusals.removal() && !is_refused(&answer) {
            self.hub.refusals.prefer(removal);
        }
        answer
    }

    /// Runs a removal and then a command in one round trip, now or with the next batch; the command's answer. Where the first is
    /// refused, and no other removal takes its place, only the command counts.
    pub(super) async fn run_after<T>(
        self: &Arc<Self>,
        make: impl Fn() -> (Command<T>, Command<T>),
        deadline: Instant,
    ) -> Result<T, Failure> {
        let removal = self.hub.refusals.removal();
        let attempt = |removal| {
            let make = &make;
            move || {
                let (first, command) = make();
                let first = Box::new(first.removing_by(removal));
                self.try_run(Some(first), command.removing_by(removal), deadline)
            }
        };
        match Self::twice(attempt(removal)).await {
            Ok((First::Done, answer)) => Ok(answer),
            Ok((First::Refused, answer)) => {
                // It has been done already. What remains is tried by itself, and needs not succeed.
                let first = || make().0;
                drop(Box::pin(self.run_by(removal.other(), &first, deadline)).await);
                Ok(answer)
            }
            Err(failure) if failure.code == Code::Refused && make().1.removes() => {
                let answer = Box::pin(Self::twice(attempt(removal.other()))).await;
                let answer = answer.map(|(_, answer)| answer);
                if !is_refused(&answer) {
                    self.hub.refusals.prefer(removal.other());
                }
                answer
            }
            Err(failure) => Err(failure),
        }
    }

    async fn try_run<T>(
        self: &Arc<Self>,
        first: Option<Box<Command<T>>>,
        command: Command<T>,
        deadline: Instant,
    ) -> Result<(First, T), Failure> {
        let (read, repeatable) = (command.read, command.repeatable);
        let pass = self.stop.pass();
        let ran = if pass.is_some() {
            Box::pin(async { self.by(deadline, pin!(self.run_alone(first, &command))).await }).await
        } else {
            let first = first.map(|first| Box::new(first.cmd));
            match self.wait(What::Command { first, cmd: command.cmd, repeatable }, deadline).await {
                Ok(heard) => self.hear(heard, read).unwrap_or_else(|| Err(Failure::out_of_step())),
                Err(failure) => Err(failure),
            }
        };
        ran.map_err(|failure| failure.of(repeatable))
    }

    /// The value of a key.
    pub(super) async fn get(
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Failure> {
        Self::twice(|| self.try_get(key, deadline)).await
    }

    async fn try_get(
        self: &Arc<Self>,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Failure> {
        let pass = self.stop.pass();
        if pass.is_none() {
            let heard = self
                .wait(What::Get(key.into()), deadline)
                .await
                .map_err(|failure| failure.of(true))?;
            if let Some(found) = self.hear(heard, commands::bytes) {
                return found.map(|(_, found)| found);
            }
        }
        let alone = Box::pin(async {
            let get = commands::get(key);
            self.by(deadline, pin!(self.run_alone(None, &get))).await
        });
        alone.await.map(|(_, found)| found).map_err(|failure| failure.of(true))
    }

    /// Makes a call once more if the connection broke: that is no reason to fail for what comes to the same if it is done twice.
    async fn twice<T, F: Future<Output = Result<T, Failure>>>(
        attempt: impl Fn() -> F,
    ) -> Result<T, Failure> {
        match attempt().await {
            Err(failure) if failure.again => Box::pin(attempt()).await,
            outcome => outcome,
        }
    }

    async fn run_alone<T>(
        self: &Arc<Self>,
        first: Option<Box<Command<T>>>,
        command: &Command<T>,
    ) -> Result<(First, T), Failure> {
        let link = self.ready_link(command.repeatable).await?;
        if let Some(first) = first {
            return Box::pin(self.run_both(&link, *first, command)).await;
        }
        let answer = self.run_over(&link, command).await;
        answer
            .map(|answer| (First::Done, answer))
            .inspect_err(|failure| self.judge(&link, failure.fate))
    }

    async fn run_both<T>(
        self: &Arc<Self>,
        link: &Arc<Link>,
        first: Command<T>,
        command: &Command<T>,
    ) -> Result<(First, T), Failure> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(first.cmd);
        pipeline.add_command(command.cmd.clone());
        let mut answers = self.exchange_all(link, &pipeline).await?.into_iter();
        let (Some(before), Some(answer)) = (answers.next(), answers.next()) else {
            return Err(Failure::out_of_step());
        };
        let first = First::of(self.read(link, first.read, before))?;
        Ok((first, self.read(link, command.read, answer)?))
    }

    /// Travels with the next batch. Its leader keeps the deadline, if it is not before that of somebody who came earlier.
    async fn wait(self: &Arc<Self>, what: What, deadline: Instant) -> Result<Heard, Failure> {
        let (reply, heard) = oneshot::channel();
        let until = millis(deadline - self.born);
        // Noted before it waits, looked at afterwards: so everybody sees the deadlines of all who are before him in the queue.
        if self.latest.load(Ordering::Relaxed) < until {
            self.latest.fetch_max(until, Ordering::Relaxed);
        }
        if let Some(lead) = self.stop.wait(Ask::new(what, deadline, reply)) {
            drop(spawn(batch_leader::lead(self.clone(), lead)));
        }
        if self.latest.load(Ordering::Relaxed) > until {
            return Box::pin(async { self.by(deadline, pin!(answer(heard))).await }).await;
        }
        answer(heard).await
    }

    /// What one who travelled with others has heard; `None` for one that is to go alone.
    fn hear<T>(
        &self,
        heard: Heard,
        read: fn(Value) -> Option<T>,
    ) -> Option<Result<(First, T), Failure>> {
        let (first, answer) = match heard {
            Heard::Found(value) => (Ok(First::Done), read(value).ok_or_else(Failure::out_of_step)),
            Heard::Answer { first, answer, link } => {
                let first =
                    first.map_or(Ok(First::Done), |first| First::of(self.read(&link, Some, first)));
                (first, self.read(&link, read, answer))
            }
            Heard::GoAlone => return None,
        };
        Some(first.and_then(|first| Ok((first, answer?))))
    }

    /// What the answer to a command says.
    fn read<T>(
        &self,
        link: &Arc<Link>,
        read: fn(Value) -> Option<T>,
        answer: Value,
    ) -> Result<T, Failure> {
        match answer {
            Value::ServerError(error) => {
                let failure = Failure::from(redis::RedisError::from(error));
                self.judge(link, failure.fate);
                Err(failure)
            }
            answer => read(answer).ok_or_else(|| {
                self.distrust(link);
                Failure::out_of_step()
            }),
        }
    }

    /// Runs a script now.
    pub(super) async fn invoke<T>(
        self: &Arc<Self>,
        script: &Invocation<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        match self.run(|| script.by_hash.clone(), deadline).await {
            Err(failure) if matches!(failure.code, Code::NoScript | Code::Refused) => {
                self.run(|| script.in_full(), deadline).await
            }
            ran => ran,
        }
    }

    /// Asks for a sign of life. A server that refuses even that has given one.
    pub(super) async fn ping(self: &Arc<Self>, deadline: Instant) -> Result<(), Failure> {
        match self.run(commands::ping, deadline).await {
            Err(failure) if failure.is_refusal() || failure.error.is_refused_write() => Ok(()),
            outcome => outcome,
        }
    }

    /// Runs a batch now, in one round trip, with one result a command.
    pub(super) async fn run_all<T>(
        self: &Arc<Self>,
        batch: &[Command<T>],
        deadline: Instant,
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        let removal = self.hub.refusals.removal();
        let mut answers = match removal {
            Removal::Unlink => self.run_batch(batch, deadline).await?,
            Removal::Delete => {
                let batch: Vec<_> =
                    batch.iter().map(|one| one.clone().removing_by(removal)).collect();
                self.run_batch(&batch, deadline).await?
            }
        };
        let is_to_be_done = |at: &usize| is_refused(&answers[*at]) && batch[*at].removes();
        let refused: Vec<usize> = (0..answers.len()).filter(is_to_be_done).collect();
        let again: Vec<_> =
            refused.iter().map(|at| batch[*at].clone().removing_by(removal.other())).collect();
        for (at, answer) in refused.into_iter().zip(self.run_batch(&again, deadline).await?) {
            if !is_refused(&answer) {
                self.hub.refusals.prefer(removal.other());
            }
            answers[at] = answer;
        }
        Ok(answers)
    }

    async fn run_batch<T>(
        self: &Arc<Self>,
        batch: &[Command<T>],
        deadline: Instant,
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for command in batch {
            pipeline.add_command(command.cmd.clone());
        }
        let repeatable = batch.iter().all(|command| command.repeatable);
        let attempt = || async {
            let ran = self.try_run_all(batch, &pipeline, repeatable, deadline).await;
            ran.map_err(|failure| failure.of(repeatable))
        };
        Self::twice(attempt).await
    }

    async fn try_run_all<T>(
        self: &Arc<Self>,
        batch: &[Command<T>],
        pipeline: &Pipeline,
        repeatable: bool,
        deadline: Instant,
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        // Not before those that were given up and have not been sent.
        let pass = self.stop.pass();
        if pass.is_none() {
            self.wait(What::Turn, deadline).await?;
        }
        let exchange = async {
            let link = self.ready_link(repeatable).await?;
            let answers = self.exchange_all(&link, pipeline).await?;
            Ok::<_, Failure>((link, answers))
        };
        let (link, answers) = self.by(deadline, pin!(exchange)).await?;
        let read =
            |(command, answer): (&Command<T>, _)| match self.read(&link, command.read, answer) {
                Err(failure) if failure.code == Code::OutOfStep => Err(failure),
                read => Ok(read),
            };
        batch.iter().zip(answers).map(read).collect()
    }

    /// Waits until whatever was given up on this lane has been executed, or cannot be any more.
    pub(super) async fn settle(self: &Arc<Self>, deadline: Instant) -> Result<(), Failure> {
        let behind = self.stop.is_batching()
            || matches!(&*self.state.borrow(), State::Up(link) if link.has_stragglers());
        if behind { self.ping(deadline).await } else { Ok(()) }
    }

    /// Asks something that only the right answer fits; a connection that is out of step is thrown away. Where the server permits no
    /// such question, a connection that is no longer new is thrown away to be sure.
    pub(super) async fn verify(self: &Arc<Self>, deadline: Instant) -> Result<(), Failure> {
        let nonce = names::random();
        let asking = async {
            let link = self.link().await?;
            let mut heard = self.run_over(&link, &commands::echo(&nonce)).await;
            if is_refused(&heard) {
                heard = self.run_over(&link, &commands::ping_with(&nonce)).await;
            }
            match heard {
                Ok(Some(echo)) if echo == nonce.as_bytes() => Ok(()),
                Err(failure) if failure.is_refusal() && link.age() < RENEWABLE => Ok(()),
                Err(failure) if !failure.is_refusal() => {
                    self.judge(&link, failure.fate);
                    Err(failure)
                }
                _ => {
                    self.distrust(&link);
                    Err(Failure::out_of_step())
                }
            }
        };
        self.by(deadline, pin!(asking)).await
    }

    pub(super) async fn run_over<T>(
        &self,
        link: &Arc<Link>,
        command: &Command<T>,
    ) -> Result<T, Failure> {
        self.bury_orphans(link).await?;
        let answer = link.exchange(&command.cmd).await?;
        (command.read)(answer).ok_or_else(|| {
            self.distrust(link);
            Failure::out_of_step()
        })
    }

    /// Sends many commands together; an error of the server is in the place of its answer.
    async fn exchange_all(
        &self,
        link: &Arc<Link>,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Failure> {
        self.bury_orphans(link).await?;
        self.send_all(link, commands).await
    }

    /// The same over a connection before which nothing has to be closed. It is sent when this is first polled: the driver's queue
    /// keeps the order in which its senders came, also of those who find it full.
    pub(super) async fn send_all(
        &self,
        link: &Arc<Link>,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Failure> {
        let answers = link.exchange_all(commands).await;
        answers.inspect_err(|failure| self.judge(link, failure.fate))
    }

    /// Before anything is sent over a new connection, the server closes those that were thrown away.
    pub(super) async fn bury_orphans(&self, link: &Arc<Link>) -> Result<(), Failure> {
        if self.hub.orphans.is_empty() {
            return Ok(());
        }
        let buried = Box::pin(self.hub.orphans.bury(link)).await;
        buried.inspect_err(|failure| self.judge(link, failure.fate))
    }

    /// The one deadline around waiting, connecting and the command. The work is pinned, for it is large and would be moved about.
    async fn by<T>(
        self: &Arc<Self>,
        deadline: Instant,
        work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    ) -> Result<T, Failure> {
        match timeout_at(deadline, work).await {
            Ok(done) => done,
            Err(_) => {
                self.overdue(deadline);
                Err(self.late())
            }
        }
    }

    /// The error of a call that waited too long. Whoever waited for a connection is told what that lacks.
    pub(super) fn late(&self) -> Failure {
        let mut failure = Failure::timeout();
        if matches!(&*self.state.borrow(), State::Connecting) {
            let message = format!("timed out while connecting: {}", self.hub.progress.reason());
            failure.error = failure.error.with_message(message);
        }
        failure
    }

    /// The connection; one that is known to live, for a command that must not be sent twice.
    pub(super) async fn ready_link(
        self: &Arc<Self>,
        repeatable: bool,
    ) -> Result<Arc<Link>, Failure> {
        let link = self.link().await?;
        if repeatable || link.is_fresh() {
            return Ok(link);
        }
        match Box::pin(self.run_over(&link, &commands::ping())).await {
            Ok(()) => Ok(link),
            Err(failure) if failure.fate == Fate::Drop => {
                self.judge(&link, failure.fate);
                self.link().await
            }
            // A question that is refused has been answered.
            Err(failure) if failure.answered => Ok(link),
            Err(failure) => Err(failure),
        }
    }

    /// The connection, made if need be.
    async fn link(self: &Arc<Self>) -> Result<Arc<Link>, Failure> {
        loop {
            let down = match &*self.state.borrow() {
                State::Up(link) => return Ok(link.clone()),
                State::Down(error) => Some(error.clone()),
                State::Idle | State::Connecting => None,
            };
            if let Some(error) = down {
                *lock(&self.asked) = Instant::now();
                // Refusing takes no time, and the task that connects may be on this very thread: a loop of calls lets it run.
                tokio::task::coop::consume_budget().await;
                return Err(Failure::with(error, Fate::Keep));
            }
            if let Home::Background = self.home {
                background_connects().map_err(|error| Failure::with(error, Fate::Keep))?;
            }
            self.begin();
            let mut states = self.state.subscribe();
            let waited =
                states.wait_for(|state| !matches!(state, State::Connecting)).await.map(|_| ());
            waited.map_err(|_| {
                Failure::new(ErrorKind::Unavailable, "the connection was closed", Fate::Keep)
            })?;
        }
    }

    /// Starts to connect, unless somebody has.
    fn begin(self: &Arc<Self>) {
        *lock(&self.asked) = Instant::now();
        let begun = self.state.send_if_modified(|state| {
            let idle = matches!(state, State::Idle);
            if idle {
                *state = State::Connecting;
            }
            idle
        });
        if begun {
            self.spawn_connector();
        }
    }

    fn spawn_connector(self: &Arc<Self>) {
        let connecting = connect(Connector(Arc::downgrade(self)));
        drop(match self.home {
            Home::Caller => spawn(connecting),
            Home::Background => spawn_background(connecting),
        });
    }

    fn judge(&self, link: &Arc<Link>, fate: Fate) {
        match fate {
            Fate::Keep => {}
            Fate::Renew if link.age() < RENEWABLE => {}
            Fate::Renew | Fate::Drop => {
                self.throw_away(link, State::Idle);
            }
        }
    }

    fn distrust(&self, link: &Arc<Link>) {
        link.distrust();
        self.throw_away(link, State::Idle);
    }

    /// A call went over its deadline. A connection that has been silent for long is given up, and until there is another one
    /// nobody waits for it.
    pub(super) fn overdue(self: &Arc<Self>, deadline: Instant) {
        let begun = deadline.checked_sub(self.hub.patience).unwrap_or(deadline);
        let State::Up(link) = self.state.borrow().clone() else { return };
        if link.is_silent(begun, self.hub.patience) {
            let error = Error::new(ErrorKind::Unavailable)
                .with_backend(BACKEND)
                .with_message("the server does not answer");
            if self.throw_away(&link, State::Down(error)) {
                *lock(&self.asked) = Instant::now();
                self.spawn_connector();
            }
        }
    }

    /// Puts `next` in the place of `link`, if it is still there.
    fn throw_away(&self, link: &Arc<Link>, next: State) -> bool {
        let thrown_away = self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(current) if Arc::ptr_eq(current, link));
            if current {
                link.orphan();
                *state = next;
            }
            current
        });
        if thrown_away && link.age() < STEADY {
            self.hub.gate.short_lived();
        }
        thrown_away
    }

    fn fail(&self, error: Option<Error>) {
        if let Some(error) = error {
            self.state.send_replace(State::Down(error));
        }
    }

    fn is_quiet(&self) -> bool {
        lock(&self.asked).elapsed() > QUIET
    }
}

/// What became of the command before the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// There was none, or it was executed.
    Done,
    /// The user may not run it.
    Refused,
}

impl First {
    /// If it fails for another reason than its user's rights, what comes after it counts for nothing.
    fn of<T>(answer: Result<T, Failure>) -> Result<Self, Failure> {
        match answer {
            Ok(_) => Ok(Self::Done),
            Err(failure) if failure.code == Code::Refused => Ok(Self::Refused),
            Err(failure) => Err(failure),
        }
    }
}

fn is_refused<T>(answer: &Result<T, Failure>) -> bool {
    matches!(answer, Err(failure) if failure.code == Code::Refused)
}

async fn answer(heard: oneshot::Receiver<Result<Heard, Failure>>) -> Result<Heard, Failure> {
    let lost = |_| {
        Failure::new(ErrorKind::Unavailable, "the runtime of the connection has ended", Fate::Keep)
    };
    heard.await.map_err(lost)?
}

/// The task that connects, from the first attempt to the first success. Does not keep its lane alive while it pauses.
struct Connector(Weak<Lane>);

impl Drop for Connector {
    /// It ends by a panic in a driver, or with its runtime: the next caller begins anew.
    fn drop(&mut self) {
        if let Some(lane) = self.0.upgrade() {
            lane.state.send_if_modified(|state| {
                let unfinished = matches!(state, State::Connecting | State::Down(_));
                if unfinished {
                    *state = State::Idle;
                }
                unfinished
            });
        }
    }
}

async fn connect(mut connector: Connector) {
    while let Some(lane) = connector.0.upgrade() {
        let hub = lane.hub.clone();
        // What another lane found out meanwhile holds for this one: its callers need not wait for the next attempt.
        lane.fail(hub.gate.error());
        drop(lane);
        let turn = hub.gate.turn().await;
        let Some(lane) = connector.0.upgrade() else { return };
        lane.fail(hub.gate.error());
        match hub.open().await {
            Ok(link) => {
                hub.gate.succeeded();
                connector.0 = Weak::new();
                lane.state.send_replace(State::Up(Arc::new(link)));
                return;
            }
            Err(Failure { error, .. }) => {
                let error = away(error, &hub.source);
                hub.gate.failed(error.clone());
                lane.fail(Some(error));
            }
        }
        drop(turn);
        if lane.is_quiet() {
            hub.gate.forget();
            connector.0 = Weak::new();
            lane.state.send_replace(State::Idle);
            return;
        }
    }
}

/// Names the endpoint. A server that does not answer in time is away; what needs a person stays what it is.
fn away(error: Error, source: &Source) -> Error {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            let message = format!("{source} cannot be reached");
            let away =
                Error::new(ErrorKind::Unavailable).with_backend(BACKEND).with_message(message);
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            away.with_source(cause.unwrap_or_else(|| error.to_string()))
        }
        _ => error,
    }
}
