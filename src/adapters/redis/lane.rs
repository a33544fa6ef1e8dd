//! A lane: what keeps one connection open, and runs commands over it now, one or a batch.

use super::commands::{self, Command, Invocation};
use super::errors::{BACKEND, Code, Failure, Fate};
use super::gate::Gate;
use super::link::{Link, Orphans};
use super::source::{Source, identify};
use crate::runtime::{lock, spawn, spawn_background};
use crate::{Error, ErrorKind};
use deadpool_redis::Pool;
use redis::Pipeline;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::watch;
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
    /// The deadline of a call.
    patience: Duration,
}

impl Hub {
    pub(super) fn new(source: Source, orphans: Arc<Orphans>, patience: Duration) -> Self {
        Self { source, pool: OnceLock::new(), gate: Gate::default(), orphans, patience }
    }

    /// Connects. This may take longer than a call may wait: then the calls time out, and a later one finds it done.
    async fn open(&self) -> Result<Link, Failure> {
        let limit = (self.patience * 4).max(Duration::from_secs(1));
        let opening = async {
            let mut connection = self.source.connect(&self.pool).await?;
            let client = identify(&mut connection).await?;
            Ok(Link::new(connection, client, self.orphans.clone()))
        };
        match timeout(limit, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::new(ErrorKind::Unavailable, format!("no connection within {limit:?}"), Fate::Drop)),
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
    pub(super) fn new(hub: Arc<Hub>, home: Home) -> Arc<Self> {
        Arc::new(Self { hub, home, state: watch::Sender::new(State::Idle), asked: Mutex::new(Instant::now()) })
    }

    /// Runs one command now.
    pub(super) async fn run<T>(self: &Arc<Self>, command: &Command<T>, deadline: Instant) -> Result<T, Failure> {
        self.by(deadline, async {
            let mut again = command.repeatable;
            loop {
                let link = self.ready_link(command.repeatable).await?;
                let failure = match self.run_over(&link, command).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                };
                self.judge(&link, failure.fate);
                if failure.fate != Fate::Drop || !std::mem::take(&mut again) {
                    return Err(failure);
                }
            }
        })
        .await
    }

    /// Runs a script now.
    pub(super) async fn invoke<T>(self: &Arc<Self>, script: &Invocation<T>, deadline: Instant) -> Result<T, Failure> {
        match self.run(&script.by_hash, deadline).await {
            Err(failure) if failure.code == Code::NoScript => self.run(&script.in_full, deadline).await,
            ran => ran,
        }
    }

    /// Runs a batch now, in one round trip, with one result a command.
    pub(super) async fn run_all<T>(self: &Arc<Self>, batch: &[Command<T>], deadline: Instant) -> Result<Vec<Result<T, Failure>>, Failure> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for command in batch {
            pipeline.add_command(command.cmd.clone());
        }
        self.by(deadline, async {
            let repeatable = batch.iter().all(|command| command.repeatable);
            let mut again = repeatable;
            loop {
                let link = self.ready_link(repeatable).await?;
                let failure = match self.run_all_over(&link, batch, &pipeline).await {
                    Ok(answers) => return Ok(answers),
                    Err(failure) => failure,
                };
                self.judge(&link, failure.fate);
                if failure.fate != Fate::Drop || !std::mem::take(&mut again) {
                    return Err(failure);
                }
            }
        })
        .await
    }

    /// Waits until whatever was given up on this lane has been executed, or cannot be any more.
    pub(super) async fn settle(self: &Arc<Self>, deadline: Instant) -> Result<(), Failure> {
        let behind = matches!(&*self.state.borrow(), State::Up(link) if link.has_stragglers());
        if behind { self.run(&commands::ping(), deadline).await } else { Ok(()) }
    }

    /// Asks something that only the right answer fits; a connection that is out of step is thrown away.
    pub(super) async fn verify(self: &Arc<Self>, deadline: Instant) -> Result<(), Failure> {
        let nonce = format!("{:032x}", fastrand::u128(..));
        self.by(deadline, async {
            let link = self.link().await?;
            match self.run_over(&link, &commands::echo(&nonce)).await {
                Ok(Some(echo)) if echo == nonce.as_bytes() => Ok(()),
                Ok(_) => {
                    self.distrust(&link);
                    Err(Failure::out_of_step())
                }
                Err(failure) => {
                    self.judge(&link, failure.fate);
                    Err(failure)
                }
            }
        })
        .await
    }

    async fn run_over<T>(&self, link: &Arc<Link>, command: &Command<T>) -> Result<T, Failure> {
        self.bury_orphans(link).await?;
        let answer = link.exchange(&command.cmd).await?;
        (command.read)(answer).ok_or_else(|| {
            self.distrust(link);
            Failure::out_of_step()
        })
    }

    async fn run_all_over<T>(
        &self,
        link: &Arc<Link>,
        batch: &[Command<T>],
        pipeline: &Pipeline,
    ) -> Result<Vec<Result<T, Failure>>, Failure> {
        self.bury_orphans(link).await?;
        let answers = link.exchange_all(pipeline).await?;
        let mut read = Vec::with_capacity(answers.len());
        for (command, answer) in batch.iter().zip(answers) {
            read.push(match answer {
                redis::Value::ServerError(error) => {
                    let failure = Failure::from(redis::RedisError::from(error));
                    self.judge(link, failure.fate);
                    Err(failure)
                }
                answer => match (command.read)(answer) {
                    Some(answer) => Ok(answer),
                    None => {
                        self.distrust(link);
                        return Err(Failure::out_of_step());
                    }
                },
            });
        }
        Ok(read)
    }

    /// Before anything is sent over a new connection, the server closes those that were thrown away.
    async fn bury_orphans(&self, link: &Link) -> Result<(), Failure> {
        if self.hub.orphans.is_empty() { Ok(()) } else { self.hub.orphans.bury(link).await }
    }

    /// The one deadline around waiting, connecting and the command.
    async fn by<T>(self: &Arc<Self>, deadline: Instant, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let begun = Instant::now();
        match timeout_at(deadline, work).await {
            Ok(done) => done,
            Err(_) => {
                self.overdue(begun);
                Err(Failure::timeout())
            }
        }
    }

    /// The connection; one that is known to live, for a command that must not be sent twice.
    async fn ready_link(self: &Arc<Self>, repeatable: bool) -> Result<Arc<Link>, Failure> {
        let link = self.link().await?;
        if repeatable || link.is_fresh() {
            return Ok(link);
        }
        match self.run_over(&link, &commands::ping()).await {
            Ok(()) => Ok(link),
            Err(failure) if failure.fate == Fate::Drop => {
                self.judge(&link, failure.fate);
                self.link().await
            }
            Err(failure) => Err(failure),
        }
    }

    /// The connection, made if need be.
    async fn link(self: &Arc<Self>) -> Result<Arc<Link>, Failure> {
        loop {
            match &*self.state.borrow() {
                State::Up(link) => return Ok(link.clone()),
                State::Down(error) => {
                    *lock(&self.asked) = Instant::now();
                    return Err(Failure { error: error.clone(), fate: Fate::Keep, code: Code::Other });
                }
                State::Idle | State::Connecting => {}
            }
            self.begin();
            let mut states = self.state.subscribe();
            let waited = states.wait_for(|state| !matches!(state, State::Connecting)).await.map(|_| ());
            waited.map_err(|_| Failure::new(ErrorKind::Unavailable, "the connection was closed", Fate::Keep))?;
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
    fn overdue(self: &Arc<Self>, begun: Instant) {
        let State::Up(link) = self.state.borrow().clone() else { return };
        if link.is_silent(begun, self.hub.patience) {
            let error = Error::new(ErrorKind::Unavailable).with_backend(BACKEND).with_message("the server does not answer");
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
            let away = Error::new(ErrorKind::Unavailable).with_backend(BACKEND).with_message(message);
            match std::error::Error::source(&error) {
                Some(cause) => away.with_source(cause.to_string()),
                None => away,
            }
        }
        _ => error,
    }
}
