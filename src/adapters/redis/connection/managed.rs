//! What keeps one connection open: connects when it is first needed, again when it broke, and
//! judges by what it answers. The task that connects is in `reconnect`.

mod reconnect;

use super::calls::Drive;
use super::connection::Connection;
use super::factory::{ConnectionFactory, Purpose};
use super::private::PrivateConnection;
use crate::adapters::redis::commands::{self, Command};
use crate::adapters::redis::errors::{BACKEND, Code, Failure, Fate};
use crate::adapters::redis::names;
use crate::adapters::redis::raw::{Encode, EncodeAll};
use crate::adapters::redis::refusals::Refusals;
use crate::adapters::redis::reply::Reply;
use crate::error::{Error, ErrorKind};
use crate::runtime::{background_connects, lock};
use arc_swap::ArcSwapOption;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// A connection that did not live this long makes the next one wait.
const STEADY: Duration = Duration::from_secs(1);
/// How old a connection must be to be given up for leading to a replica.
const RENEWABLE: Duration = Duration::from_secs(10);

/// One connection at a time, made when it is first needed and again when it broke. Commands are
/// executed in the order in which they are run.
pub(in crate::adapters::redis) struct ManagedConnection {
    factory: Arc<ConnectionFactory>,
    drive: Drive,
    state: watch::Sender<State>,
    /// The connection of the state, if it is up: for a look that takes no lock.
    open: ArcSwapOption<Connection>,
    /// When it last had to refuse a call.
    asked: Mutex<Instant>,
}

#[derive(Clone)]
enum State {
    /// Not connected; the next caller connects.
    Idle,
    /// Callers wait, the task that connects is detached from all of them.
    Connecting,
    Up(Arc<Connection>),
    /// Connecting failed, and is tried again in the background. Calls fail at once.
    Down(Error),
}

impl ManagedConnection {
    pub(in crate::adapters::redis) fn new(
        factory: Arc<ConnectionFactory>,
        drive: Drive,
    ) -> Arc<Self> {
        let (state, open) = (watch::Sender::new(State::Idle), ArcSwapOption::empty());
        Arc::new(Self { factory, drive, state, open, asked: Mutex::new(Instant::now()) })
    }

    /// Opens a connection to the same server that no other caller uses.
    pub(in crate::adapters::redis) async fn open_private(
        &self,
        deadline: Instant,
    ) -> Result<PrivateConnection, Failure> {
        match timeout_at(deadline, self.factory.open(self.drive, Purpose::OneCaller)).await {
            Ok(opened) => opened.map(PrivateConnection::new),
            Err(_) => Err(Failure::timeout()),
        }
    }

    /// What the server was seen to refuse.
    pub(in crate::adapters::redis) fn refusals(&self) -> &Refusals {
        &self.factory.refusals
    }

    /// Whether a command that was given up on the open connection may not have been executed yet.
    pub(in crate::adapters::redis) fn has_stragglers(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(connection) if connection.has_stragglers())
    }

    /// Runs a command. With an open connection nothing is waited for but the answer.
    pub(in crate::adapters::redis) async fn run<T, C: Encode>(
        self: &Arc<Self>,
        command: &Command<T, C>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let connection = match self.usable(command.repeatable) {
            Some(connection) => connection,
            None => Box::pin(self.usable_by(deadline, command.repeatable)).await?,
        };
        let answer = connection.exchange(&command.raw, deadline).await;
        self.outcome(&connection, command, answer, deadline)
            .inspect_err(|failure| self.judge(&connection, failure.fate))
    }

    /// What became of a command that was sent by itself.
    fn outcome<T, C>(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        command: &Command<T, C>,
        answer: Result<Reply, Failure>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let answer = answer.map_err(|failure| self.noted(failure, deadline))?;
        self.read(connection, command.read, answer)
    }

    /// Runs a command after another one, in one round trip.
    pub(in crate::adapters::redis) async fn run_both<T>(
        self: &Arc<Self>,
        first: &Command<T>,
        command: &Command<T>,
        deadline: Instant,
    ) -> Result<(First, T), Failure> {
        let connection = self.usable_by(deadline, command.repeatable).await?;
        let both = &[first, command][..];
        let mut answers = self.exchange_all(&connection, both, deadline).await?.into_iter();
        let (Some(before), Some(answer)) = (answers.next(), answers.next()) else {
            return Err(Failure::desynchronized());
        };
        let first = First::of(self.read(&connection, first.read, before))?;
        Ok((first, self.read(&connection, command.read, answer)?))
    }

    /// What the answer to a command says.
    pub(in crate::adapters::redis) fn read<T>(
        &self,
        connection: &Arc<Connection>,
        read: fn(Reply) -> Option<T>,
        answer: Reply,
    ) -> Result<T, Failure> {
        match answer {
            Reply::Error(error) => {
                let failure = Failure::from(error);
                self.judge(connection, failure.fate);
                Err(failure)
            }
            answer => read(answer).ok_or_else(|| {
                self.poison(connection);
                Failure::desynchronized()
            }),
        }
    }

    /// Asks something that only the right answer fits; a connection that is out of step is thrown
    /// away. Where the server permits no such question, a connection that is no longer new is
    /// thrown away to be sure.
    pub(in crate::adapters::redis) async fn verify(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let nonce = names::random();
        let asking = async {
            let connection = self.connection().await?;
            let mut heard = self.run_over(&connection, &commands::echo(&nonce), deadline).await;
            if is_refused(&heard) {
                let ping = commands::ping_with(&nonce);
                heard = self.run_over(&connection, &ping, deadline).await;
            }
            match heard {
                Ok(Some(echo)) if echo == nonce.as_bytes() => Ok(()),
                Err(failure) if failure.is_refusal() && connection.age() < RENEWABLE => Ok(()),
                Err(failure) if !failure.is_refusal() => {
                    self.judge(&connection, failure.fate);
                    Err(failure)
                }
                _ => {
                    self.poison(&connection);
                    Err(Failure::desynchronized())
                }
            }
        };
        self.with_deadline(deadline, pin!(asking)).await
    }

    async fn run_over<T>(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        command: &Command<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        self.kill_orphans(connection, deadline).await?;
        let answer = connection.exchange(&command.raw, deadline).await;
        self.outcome(connection, command, answer, deadline)
    }

    /// Sends many commands together; an error of the server is in the place of its answer.
    pub(in crate::adapters::redis) async fn exchange_all<C: EncodeAll + ?Sized>(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        commands: &C,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Failure> {
        let answers = connection.exchange_all(commands, deadline).await;
        let answers = answers.map_err(|failure| self.noted(failure, deadline));
        answers.inspect_err(|failure| self.judge(connection, failure.fate))
    }

    /// The failure of a call. If the deadline passed, the connection may be a silent one.
    fn noted(self: &Arc<Self>, failure: Failure, deadline: Instant) -> Failure {
        if failure.code != Code::Late {
            return failure;
        }
        self.record_timeout(deadline);
        self.timed_out()
    }

    /// Before anything is sent over a new connection, the server closes those that were thrown
    /// away.
    async fn kill_orphans(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if self.factory.orphans.is_empty() {
            return Ok(());
        }
        let killed = Box::pin(self.factory.orphans.kill(connection, deadline)).await;
        let killed = killed.map_err(|failure| self.noted(failure, deadline));
        killed.inspect_err(|failure| self.judge(connection, failure.fate))
    }

    /// The deadline around waiting and connecting; an exchange keeps its own. The work is pinned,
    /// for it is large and would be moved about.
    pub(in crate::adapters::redis) async fn with_deadline<T>(
        self: &Arc<Self>,
        deadline: Instant,
        work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    ) -> Result<T, Failure> {
        match timeout_at(deadline, work).await {
            Ok(done) => done,
            Err(_) => {
                self.record_timeout(deadline);
                Err(self.timed_out())
            }
        }
    }

    /// The error of a call that waited too long. If it waited for a connection, the error says what
    /// that lacks.
    pub(in crate::adapters::redis) fn timed_out(&self) -> Failure {
        let mut failure = Failure::timeout();
        if matches!(&*self.state.borrow(), State::Connecting) {
            let message = format!("timed out while connecting: {}", self.factory.progress.reason());
            failure.error = failure.error.with_message(message);
        }
        failure
    }

    /// The open connection, if nothing has to be waited for before a command is sent over it.
    pub(in crate::adapters::redis) fn usable(&self, repeatable: bool) -> Option<Arc<Connection>> {
        let connection = self.open.load_full()?;
        let is_usable = self.factory.orphans.is_empty() && (repeatable || connection.is_fresh());
        is_usable.then_some(connection)
    }

    /// The connection, made if need be, and checked for a command that must not be sent twice. The
    /// server has closed those that were thrown away.
    pub(in crate::adapters::redis) async fn usable_by(
        self: &Arc<Self>,
        deadline: Instant,
        repeatable: bool,
    ) -> Result<Arc<Connection>, Failure> {
        if let Some(connection) = self.usable(repeatable) {
            return Ok(connection);
        }
        let waiting = async {
            self.with_deadline(deadline, pin!(self.ready_connection(repeatable, deadline))).await
        };
        let connection = Box::pin(waiting).await?;
        self.kill_orphans(&connection, deadline).await?;
        Ok(connection)
    }

    /// The connection; one that is known to live, for a command that must not be sent twice.
    async fn ready_connection(
        self: &Arc<Self>,
        repeatable: bool,
        deadline: Instant,
    ) -> Result<Arc<Connection>, Failure> {
        let connection = self.connection().await?;
        if repeatable || connection.is_fresh() {
            return Ok(connection);
        }
        match Box::pin(self.run_over(&connection, &commands::ping(), deadline)).await {
            Ok(()) => Ok(connection),
            Err(failure) if failure.fate == Fate::Drop => {
                self.judge(&connection, failure.fate);
                self.connection().await
            }
            // A question that is refused has been answered.
            Err(failure) if failure.answered => Ok(connection),
            Err(failure) => Err(failure),
        }
    }

    /// The connection, made if need be.
    async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, Failure> {
        loop {
            let down = match &*self.state.borrow() {
                State::Up(connection) => return Ok(connection.clone()),
                State::Down(error) => Some(error.clone()),
                State::Idle | State::Connecting => None,
            };
            if let Some(error) = down {
                *lock(&self.asked) = Instant::now();
                // Refusing takes no time, and the task that connects may be on this very thread: a
                // loop of calls lets it run.
                tokio::task::coop::consume_budget().await;
                return Err(Failure::with(error, Fate::Keep));
            }
            if let Drive::ByWatchdog = self.drive {
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

    /// Starts to connect, unless that has begun.
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
            self.spawn_reconnect_task();
        }
    }

    fn judge(&self, connection: &Arc<Connection>, fate: Fate) {
        match fate {
            Fate::Keep => {}
            Fate::Renew if connection.age() < RENEWABLE => {}
            Fate::Renew | Fate::Drop => {
                self.throw_away(connection, State::Idle);
            }
        }
    }

    fn poison(&self, connection: &Arc<Connection>) {
        connection.poison();
        self.throw_away(connection, State::Idle);
    }

    /// A call went over its deadline. A connection that has been silent for long is given up, and
    /// until there is another one no call waits for it.
    pub(in crate::adapters::redis) fn record_timeout(self: &Arc<Self>, deadline: Instant) {
        let begun = deadline.checked_sub(self.factory.timeout).unwrap_or(deadline);
        let State::Up(connection) = self.state.borrow().clone() else { return };
        if connection.is_silent(begun, self.factory.timeout) {
            let error = Error::new(ErrorKind::Unavailable)
                .with_backend(BACKEND)
                .with_message("the server does not answer");
            if self.throw_away(&connection, State::Down(error)) {
                *lock(&self.asked) = Instant::now();
                self.spawn_reconnect_task();
            }
        }
    }

    /// Puts `next` in the place of `connection`, if it is still there.
    fn throw_away(&self, connection: &Arc<Connection>, next: State) -> bool {
        // Before another connection is used: what this one does not tell any more must not be near
        // beside what is read over the other one.
        connection.end_source();
        let thrown_away = self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(current) if Arc::ptr_eq(current, connection));
            if current {
                connection.orphan();
                self.open.store(None);
                *state = next;
            }
            current
        });
        if thrown_away && connection.age() < STEADY {
            self.factory.backoff.short_lived();
        }
        thrown_away
    }
}

/// What became of the command before the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapters::redis) enum First {
    /// There was none, or it was executed.
    Done,
    /// The user may not run it.
    Refused,
}

impl First {
    /// If it fails for another reason than its user's rights, what comes after it counts for
    /// nothing.
    pub(in crate::adapters::redis) fn of<T>(answer: Result<T, Failure>) -> Result<Self, Failure> {
        match answer {
            Ok(_) => Ok(Self::Done),
            Err(failure) if failure.code == Code::Refused => Ok(Self::Refused),
            Err(failure) => Err(failure),
        }
    }
}

pub(in crate::adapters::redis) fn is_refused<T>(answer: &Result<T, Failure>) -> bool {
    matches!(answer, Err(failure) if failure.code == Code::Refused)
}
