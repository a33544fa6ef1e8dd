//! The task that looks after a backend that is away: asks it for a sign of life, and writes what could not be written.

use super::election::Duty;
use super::journal::Noted;
use super::{Shared, State, is_away};
use crate::event::EventKind;
use crate::{AsyncCacheAdapter, Error, ErrorKind, Result, runtime};
use futures_util::future::join_all;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The longest pause between two attempts, so that a backend that is back is found within a fraction of a second.
const LONGEST: Duration = Duration::from_millis(200);
const FIRST: Duration = Duration::from_millis(50);

/// How long one attempt may take where nobody said how long a call may.
const PATIENCE: Duration = Duration::from_secs(5);
/// A clear goes in steps, over all that a server holds.
const CLEAR: Duration = Duration::from_secs(60);

/// How long calls are kept waiting for what is written before the breaker closes; afterwards only those that concern what is left.
const HEAD_START: Duration = Duration::from_millis(300);

/// So many notes are written at the same time.
const TOGETHER: usize = 32;

impl AsRef<Duty> for Arc<State> {
    fn as_ref(&self) -> &Duty {
        &self.duty
    }
}

/// Sees to it that somebody looks after the backend. On the caller's runtime, whose connections it is about.
pub(super) fn summon<A: AsyncCacheAdapter>(shared: &Arc<Shared<A>>) {
    if let Some(term) = Duty::take(shared.state.clone()) {
        runtime::spawn(keep(Arc::downgrade(shared), shared.state.clone(), Some(term)));
    }
}

/// Does not keep the adapter alive while it pauses.
async fn keep<A: AsyncCacheAdapter>(
    adapter: Weak<Shared<A>>,
    state: Arc<State>,
    mut term: Option<super::election::Term<Arc<State>>>,
) {
    let mut misses = 0;
    while let Some(held) = &term {
        let pause = pause(misses);
        if !held.stay(pause) {
            return;
        }
        if misses == 0 {
            // Those who wait for a first attempt need not wait for the pause.
            let _hurried = timeout(pause, state.journal.hurry.notified()).await;
        } else {
            tokio::time::sleep(pause).await;
        }
        let Some(shared) = adapter.upgrade() else { return };
        if !held.stay(CLEAR) {
            return;
        }
        misses = if shared.attend().await { 0 } else { misses + 1 };
        drop(shared);
        if state.is_calm() {
            // Whoever noted something after that look found the post taken; so there is another look with the post free.
            term = None;
            if !state.is_calm() {
                term = Duty::take(state.clone());
            }
        }
    }
}

/// Exponential, with as much jitter as half of it.
fn pause(misses: u32) -> Duration {
    FIRST.saturating_mul(1 << misses.min(10)).min(LONGEST).mul_f64(0.5 + fastrand::f64() / 2.0)
}

async fn limited<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(ErrorKind::Timeout)),
    }
}

impl<A: AsyncCacheAdapter> Shared<A> {
    fn patience(&self) -> Duration {
        self.state.config.deadline.map_or(PATIENCE, |deadline| deadline.limit())
    }

    /// One attempt. Whether the backend is there.
    async fn attend(&self) -> bool {
        let state = &*self.state;
        if !state.breaker.half_open() {
            return self.write_all(None).await;
        }
        // An error that no pause cures is for callers to hear.
        if let Err(error) = limited(self.patience(), self.inner.ping()).await
            && is_away(&error)
        {
            state.breaker.reopen();
            return false;
        }
        let written = self.write_all(Some(Instant::now() + HEAD_START)).await;
        self.closed();
        written
    }

    /// The backend has shown that it is there.
    pub(super) fn closed(&self) {
        if self.state.breaker.close() {
            self.tell(EventKind::BreakerClose, None, None);
        }
    }

    /// Writes what is noted, clears first. `false` if the backend is away, or was for some of it.
    async fn write_all(&self, until: Option<Instant>) -> bool {
        let journal = &self.state.journal;
        while let Some(clear) = journal.first_clear() {
            match limited(CLEAR, self.inner.clear(&clear.prefix)).await {
                Err(error) if is_away(&error) => {
                    journal.all_tried();
                    return false;
                }
                outcome => {
                    journal.cleared(clear.number);
                    self.lost(None, outcome);
                }
            }
        }
        let (mut last, mut all_written) = (0, true);
        loop {
            let notes = journal.after(last, TOGETHER);
            let Some(note) = notes.last() else { break };
            last = note.number;
            let failed = self.write(&notes).await;
            if failed > 0 {
                all_written = false;
                journal.all_tried();
            }
            // Where nothing of it could be written, the rest cannot either; but a part may be on a server that is there.
            if (failed == notes.len() && self.state.breaker.is_on())
                || until.is_some_and(|until| Instant::now() >= until)
            {
                break;
            }
        }
        all_written
    }

    /// How many of them could not be written because the backend is away.
    async fn write(&self, notes: &[Noted]) -> usize {
        let patience = self.patience();
        let writes =
            notes.iter().map(|noted| limited(patience, super::replay::replay(&self.inner, noted)));
        let mut failed = 0;
        for (noted, outcome) in notes.iter().zip(join_all(writes).await) {
            match outcome {
                Err(error) if is_away(&error) => failed += 1,
                outcome => {
                    self.state.journal.done(&noted.key, noted.number);
                    self.lost(Some(&noted.key), outcome);
                }
            }
        }
        failed
    }

    /// Tells of what the backend does not take, now or later.
    fn lost(&self, key: Option<&str>, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.tell(EventKind::BackendError, key, Some(&error));
        }
    }
}
