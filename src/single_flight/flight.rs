//! One load of one key, as those see it who wait for it.

use super::current;
use super::wait_graph::Edge;
use crate::error::Error;
use crate::runtime;
use crate::runtime::lock;
use crate::value::CacheValue;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;

/// How long a follower waits before it asks whether the flight is alive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same, at first, for a follower that blocks a thread: the loader may need that very thread.
const PATIENCE_ON_OWN_THREAD: Duration = Duration::from_millis(50);

/// How long the runtime of a load may take to run a task, or nobody is driving it.
const PROBE: Duration = Duration::from_secs(10);

/// The same where the follower may stand in the runtime's way itself.
const PROBE_ON_OWN_THREAD: Duration = Duration::from_millis(500);

/// How long a store is waited for. Adapters have their deadlines; one that has none is late.
const STORE: Duration = Duration::from_secs(30);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The place in the order of all flights that the next one to begin will have.
pub(super) fn next_id() -> u64 {
    NEXT.load(Ordering::SeqCst)
}

/// One load of one key.
pub(crate) struct Flight {
    /// Its place in the order in which all flights began.
    id: u64,
    key: Arc<str>,
    phase: Mutex<Phase>,
    /// Goes off when it is over.
    done: Notify,
    /// The runtime that its task is on; `None` where its caller drives it.
    home: Mutex<Option<Handle>>,
    /// Where the loader was polled last.
    thread: Mutex<ThreadId>,
    /// How many unshared loads it stands in.
    depth: u32,
    /// Whether it was told already how the load went.
    is_load_event_claimed: AtomicBool,
}

/// What a load came to.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A value, and why it could not be stored. What that means each caller decides for itself.
    Loaded { value: CacheValue, not_stored: Option<Error> },
    /// The loader failed or panicked.
    Failed(Error),
    /// The loader did not run: its caller does without only where the backend works.
    Refused(Error),
}

#[derive(Clone)]
pub(super) enum Phase {
    Loading { invalidated: bool },
    Storing { invalidated: bool },
    Finished(Outcome),
    Lost,
}

/// What waiting for a flight came to.
#[derive(Debug)]
pub(crate) enum Arrival {
    Finished(Outcome),
    /// Nobody will finish it.
    Lost,
    /// It waits for the caller.
    Cycle,
}

impl Flight {
    pub(super) fn new(key: &str, depth: u32) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::SeqCst),
            key: key.into(),
            phase: Mutex::new(Phase::Loading { invalidated: false }),
            done: Notify::new(),
            home: Mutex::new(None),
            thread: Mutex::new(thread::current().id()),
            depth,
            is_load_event_claimed: AtomicBool::new(false),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn key(&self) -> &Arc<str> {
        &self.key
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    pub(super) fn began_before(&self, came: u64) -> bool {
        self.id < came
    }

    /// Whether it is still to be told how the load went: a load that runs out of its caller's time
    /// has failed, whatever it comes to.
    pub(crate) fn claim_load_event(&self) -> bool {
        !self.is_load_event_claimed.swap(true, Ordering::Relaxed)
    }

    /// A task on `home` has it from now on.
    pub(crate) fn runs_on(&self, home: Handle) {
        *lock(&self.home) = Some(home);
    }

    pub(super) fn note_thread(&self) {
        *lock(&self.thread) = thread::current().id();
    }

    /// Waits for the outcome as long as somebody works at it, however long that takes. Cancel safe.
    pub(crate) async fn arrival(&self) -> Arrival {
        let mut landing = pin!(self.landing());
        let mut patience = first_patience();
        loop {
            if let Some(arrival) = runtime::user_timeout(patience, landing.as_mut()).await {
                return arrival;
            }
            if !self.is_alive().await {
                return Arrival::Lost;
            }
            patience = (patience * 2).min(PATIENCE);
        }
    }

    /// Waits for the outcome as the one whose loader it is. Cancel safe.
    ///
    /// That the caller waits is known as soon as this is called: were it only when it is polled, a
    /// loader that is quick to ask back would close the circle first, and it would be the leader who
    /// finds it.
    pub(crate) fn landing(&self) -> impl Future<Output = Arrival> + Send {
        let edge = Edge::add(current::current_flight(), self.id);
        async move {
            let Some(_edge) = edge else {
                return Arrival::Cycle;
            };
            // Nobody can wait there.
            if runtime::is_gone() && !lock(&self.phase).is_over() {
                return Arrival::Lost;
            }
            self.over().await
        }
    }

    /// The outcome, whenever it comes: for one who has given the flight up and waits for another.
    pub(crate) async fn outcome(&self) -> Option<Outcome> {
        match self.over().await {
            Arrival::Finished(outcome) => Some(outcome),
            Arrival::Lost | Arrival::Cycle => None,
        }
    }

    async fn over(&self) -> Arrival {
        loop {
            let mut done = pin!(self.done.notified());
            // Before the look: what goes off in between is noticed.
            done.as_mut().enable();
            match &*lock(&self.phase) {
                Phase::Finished(outcome) => return Arrival::Finished(outcome.clone()),
                Phase::Lost => return Arrival::Lost,
                Phase::Loading { .. } | Phase::Storing { .. } => {}
            }
            done.await;
        }
    }

    /// Whether somebody works at it: whether the runtime that has its task runs tasks. What its
    /// caller drives is alive as long as it is there, for a caller that leaves gives it to a task.
    async fn is_alive(&self) -> bool {
        let Some(home) = lock(&self.home).clone() else { return true };
        let is_blocked = runtime::is_blocked();
        let is_in_the_way = is_blocked && *lock(&self.thread) == thread::current().id();
        if is_in_the_way && home.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return false;
        }
        let patience = if is_blocked { PROBE_ON_OWN_THREAD } else { PROBE };
        let probe = home.spawn(std::future::ready(()));
        runtime::background_timeout(patience, probe).await.is_some_and(|ran| ran.is_ok())
    }

    /// Marks it as invalidated; whether its store has begun.
    pub(super) fn invalidate(&self) -> bool {
        match &mut *lock(&self.phase) {
            Phase::Loading { invalidated } => {
                *invalidated = true;
                false
            }
            Phase::Storing { invalidated } => {
                *invalidated = true;
                true
            }
            Phase::Finished(_) | Phase::Lost => false,
        }
    }

    /// A newer load of its key has begun. A store that has begun is no harm: the newer one waits for
    /// it.
    pub(super) fn supersede(&self) {
        if let Phase::Loading { invalidated } = &mut *lock(&self.phase) {
            *invalidated = true;
        }
    }

    pub(super) fn stores_before(&self, other: &Self) -> bool {
        self.id < other.id && matches!(*lock(&self.phase), Phase::Storing { .. })
    }

    /// Whether the value may be stored: no write came since the flight began.
    pub(super) fn begin_store(&self) -> bool {
        let mut phase = lock(&self.phase);
        let is_free = matches!(*phase, Phase::Loading { invalidated: false });
        if is_free {
            *phase = Phase::Storing { invalidated: false };
        }
        is_free
    }

    pub(super) fn is_invalidated(&self) -> bool {
        matches!(
            *lock(&self.phase),
            Phase::Loading { invalidated: true } | Phase::Storing { invalidated: true }
        )
    }

    pub(super) fn end(&self, end: Phase) {
        let mut phase = lock(&self.phase);
        if !phase.is_over() {
            *phase = end;
            drop(phase);
            self.done.notify_waiters();
        }
    }
}

impl Phase {
    fn is_over(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Lost)
    }
}

fn first_patience() -> Duration {
    if runtime::is_blocked() { PATIENCE_ON_OWN_THREAD } else { PATIENCE }
}

/// Waits until stores that have begun are over, or nobody works at them any more.
pub(super) async fn await_stores(storing: Vec<Arc<Flight>>) {
    if storing.is_empty() || runtime::is_gone() {
        return;
    }
    let all = async {
        for flight in &storing {
            let mut over = pin!(flight.over());
            while runtime::background_timeout(first_patience(), over.as_mut()).await.is_none() {
                if !flight.is_alive().await {
                    break;
                }
            }
        }
    };
    // If this times out, nothing is lost: an invalidated store removes what it wrote.
    let _late = runtime::background_timeout(STORE, all).await;
}
