//! Follows the changes of the file for the near level in front of an adapter: a task that polls the
//! log of changed keys while the near level has use for it.
//!
//! One source vouches for what is read through all connections, because the file orders what they
//! do. A change is in the log as soon as it is committed, and each statement sees all that was
//! committed before it began. So a poll that is sent after a change has returned finds the change,
//! whichever connection it uses; and what was read earlier is older than all that the next polls
//! find.

#[cfg(all(test, feature = "memory"))]
mod tests;

use super::changes::{Changed, ChangesAfter, EndOfLog, OpenLog, Place};
use super::connection::database::Role::{Read, Write};
use super::connection::present::Present;
use super::engine::Engine;
use super::time::LeapWatch;
use crate::adapter::{Follower, Source, SourceId};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{self, Backoff, lock};
use bytes::Bytes;
use std::mem;
use std::process;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The shortest time from one poll to the next.
const POLL_EVERY: Duration = Duration::from_millis(40);

/// How many polls in a row may fail before the source is given up.
const MOST_FAILURES: u32 = 25;

/// The pause after a failure to open the log: the file may be read-only.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// In a file that is bounded to less, the log could take a good part of the room.
const LEAST_BOUND: u64 = 8 << 20;

/// The most keys of one poll that were cut. Each costs a look at all that is near, and more of them
/// are as expensive as if everything had changed.
const MOST_CUT: usize = 8;

/// The near level in front of one adapter.
#[derive(Default)]
pub(super) struct Following(Mutex<State>);

#[derive(Default)]
struct State {
    follower: Option<Follower>,
    poller: Option<Poller>,
    /// The process that the poller runs in. Tasks do not survive a fork.
    process: u32,
}

impl Clone for Following {
    /// A clone of an adapter follows for nobody: the near level in front of it is another one, in
    /// which the sources of this one mean nothing.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Following {
    /// Follows for a near level, in place of any other.
    pub(super) fn begin(&self, follower: Follower) {
        let mut state = lock(&self.0);
        state.poller = None;
        state.follower = Some(follower);
    }

    /// The source that vouches for a read that begins now. The first read starts the task.
    pub(super) fn source(&self, engine: &Arc<Engine>, own: &str) -> Option<SourceId> {
        let mut state = lock(&self.0);
        let state = &mut *state;
        let follower = state.follower.as_ref()?;
        if mem::replace(&mut state.process, process::id()) != process::id() {
            mem::forget(state.poller.take());
        }
        let poller = state.poller.get_or_insert_with(|| Poller::start(engine, follower, own));
        poller.vouching.source()
    }

    /// Stops the task until the next read, and waits for its end.
    pub(super) async fn stop(&self) {
        let poller = lock(&self.0).poller.take();
        if let Some(mut poller) = poller {
            poller.task.abort();
            // Either it was aborted, or it had ended.
            let _ = (&mut poller.task).await;
        }
    }
}

/// The task of a near level. It ends with its adapter.
struct Poller {
    task: JoinHandle<()>,
    vouching: Arc<Vouching>,
}

impl Poller {
    fn start(engine: &Arc<Engine>, follower: &Follower, own: &str) -> Self {
        let vouching = Arc::new(Vouching::default());
        let polling = Polling {
            engine: Arc::downgrade(engine),
            follower: follower.clone(),
            own: own.to_owned(),
            vouching: vouching.clone(),
        };
        Self { task: runtime::spawn_background(polling.run()), vouching }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who vouches for what is read now.
#[derive(Default)]
struct Vouching {
    source: Mutex<Option<SourceId>>,
    /// Notified when a read finds nobody.
    missed: Notify,
}

impl Vouching {
    fn source(&self) -> Option<SourceId> {
        let source = *lock(&self.source);
        if source.is_none() {
            self.missed.notify_one();
        }
        source
    }

    fn set(&self, source: Option<SourceId>) {
        *lock(&self.source) = source;
    }
}

/// What the task has.
struct Polling {
    engine: Weak<Engine>,
    follower: Follower,
    own: String,
    vouching: Arc<Vouching>,
}

impl Polling {
    /// Opens one stream after the other, for as long as adapter and near level exist.
    async fn run(self) {
        let mut failures = 0;
        while let Some(engine) = self.engine.upgrade() {
            match Stream::open(engine, &self.follower).await {
                Ok(Some(stream)) => {
                    failures = 0;
                    self.poll(stream).await;
                    runtime::background_sleep(POLL_EVERY).await;
                }
                Ok(None) => return,
                // Until it can be opened, what is read is near by age.
                Err(_) => {
                    runtime::background_sleep(BACKOFF.pause(failures)).await;
                    failures = failures.saturating_add(1);
                    self.vouching.missed.notified().await;
                }
            }
        }
    }

    /// Polls when the near level wants it, until the stream breaks.
    async fn poll(&self, mut stream: Stream) {
        self.vouching.set(Some(stream.source.id()));
        let mut failures = 0;
        loop {
            // The near level asks once, and waits for the answer. So a poll that failed is tried
            // again without being asked for.
            if failures == 0 && !stream.source.wanted().await {
                break;
            }
            let next = Instant::now() + POLL_EVERY;
            let Some(engine) = self.engine.upgrade() else { break };
            match stream.poll(&engine, &self.own).await {
                Polled::Confirmed => failures = 0,
                Polled::Failed if failures < MOST_FAILURES => failures += 1,
                Polled::Failed | Polled::Lost => break,
            }
            drop(engine);
            runtime::background_sleep_until(next).await;
        }
        self.vouching.set(None);
    }
}

/// The log of one file under its name, from one place to the next, and the source that is told.
struct Stream {
    source: Source,
    file: Present,
    place: Place,
    /// Where the clock is set forward, rows expire before the end that is known near, and the
    /// removal of an expired row is not logged.
    leaps: LeapWatch,
}

enum Polled {
    Confirmed,
    /// Nothing was read. The next poll may find it.
    Failed,
    /// Changes may have been missed.
    Lost,
}

impl Stream {
    /// Begins at the end of the log. `None` if the near level is gone.
    async fn open(engine: Arc<Engine>, follower: &Follower) -> Result<Option<Self>> {
        if engine.source.bound() < LEAST_BOUND || !engine.call(Write, OpenLog).await? {
            return Err(Error::new(ErrorKind::Unsupported));
        }
        let Some(source) = follower.source() else { return Ok(None) };
        let leaps = LeapWatch::begin();
        let asked_at = source.now();
        let file = engine.source.present().await;
        let place = engine.call(Read, EndOfLog).await?;
        match (file, place) {
            (Some(file), Some(place)) if engine.source.is_still(&file) => {
                source.confirm(asked_at);
                Ok(Some(Self { source, file, place, leaps }))
            }
            _ => Err(Error::new(ErrorKind::Unavailable)),
        }
    }

    async fn poll(&mut self, engine: &Arc<Engine>, own: &str) -> Polled {
        let asked_at = self.source.now();
        // Looked at after that time: changes in a file that has replaced this one before are in
        // another log.
        if engine.source.present().await != Some(self.file.clone()) {
            return Polled::Lost;
        }
        // After that time as well: a row that expired by a leap before may have been removed since.
        if self.leaps.has_leapt() {
            return Polled::Lost;
        }
        let read = engine.call(Read, ChangesAfter(self.place.clone())).await;
        // And after the read: the file may have been opened again in between.
        if !engine.source.is_still(&self.file) {
            return Polled::Lost;
        }
        match read {
            Ok(Some(changes)) => {
                self.tell(&changes.keys, own);
                self.place = changes.end;
                self.source.confirm(asked_at);
                Polled::Confirmed
            }
            Ok(None) => Polled::Lost,
            Err(_) => Polled::Failed,
        }
    }

    fn tell(&self, keys: &[Bytes], own: &str) {
        let changed = || keys.iter().filter_map(|key| Changed::of(key, own));
        if changed().filter(|changed| matches!(changed, Changed::Below(_))).count() > MOST_CUT {
            self.source.forget_prefix("");
            return;
        }
        changed().for_each(|changed| match changed {
            Changed::Key(key) => self.source.forget(key),
            Changed::Below(prefix) => self.source.forget_prefix(prefix),
        });
    }
}
