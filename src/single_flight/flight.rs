//! One load of one key: its phases, and how callers wait for it.

use super::carrier::Carrier;
use super::current;
use super::hashed_key::HashedKey;
use super::wait_graph::{self, Edge};
use crate::error::Error;
use crate::runtime;
use crate::runtime::lock;
use crate::value::CacheValue;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::thread::{self, ThreadId};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;

/// How long a follower waits before it checks whether the flight is alive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first such wait of a follower that blocks a thread: the loader may need this thread.
const PATIENCE_ON_OWN_THREAD: Duration = Duration::from_millis(50);

/// How long the runtime of a load may take to run a probe task. A runtime that takes longer is
/// considered stopped.
const PROBE: Duration = Duration::from_secs(10);

/// The same time if the follower itself may be blocking the runtime.
const PROBE_ON_OWN_THREAD: Duration = Duration::from_millis(500);

/// How long a follower waits before it checks on a caller that carries its load, and how long that
/// caller may take to poll it: together the 5 s that a follower waits for one that never does.
const PATIENCE_WITH_CARRIER: Duration = Duration::from_secs(4);
const PROBE_OF_CARRIER: Duration = Duration::from_secs(1);

/// The longest wait for a store. Adapters have deadlines of their own, so only one without a
/// deadline takes longer.
const STORE: Duration = Duration::from_secs(30);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The number that the next flight will have in the order of all flights.
pub(super) fn next_id() -> u64 {
    NEXT.load(Ordering::SeqCst)
}

/// Takes a number in the order of all flights.
pub(super) fn take_id() -> u64 {
    NEXT.fetch_add(1, Ordering::SeqCst)
}

/// One load of one key.
pub(crate) struct Flight {
    /// The position in the order in which all flights began.
    id: u64,
    key: Box<str>,
    hash: u64,
    phase: Mutex<Phase>,
    /// Notified when the flight has ended.
    done: Notify,
    driver: Mutex<Driver>,
    /// The thread that polled the loader last.
    thread: Mutex<ThreadId>,
    /// How many unshared loads this flight is nested in.
    depth: u32,
    /// Whether the event of the load's outcome has been emitted.
    is_load_event_claimed: AtomicBool,
    /// The keys of the records of the tags with which the value is stored. Usually none.
    records: OnceLock<Vec<String>>,
}

/// Who drives a load.
#[derive(Clone)]
enum Driver {
    /// The caller that began it. If the caller leaves, a task takes the load over.
    Caller,
    /// The caller that began it, for as long as the caller likes.
    Carrier(Arc<Carrier>),
    /// A task on this runtime.
    Task(Handle),
}

/// The outcome of a load.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A value, and the error if it could not be stored. Each caller decides by its own options
    /// what the error means.
    Loaded { value: CacheValue, not_stored: Option<Error> },
    /// The loader failed or panicked.
    Failed(Error),
    /// The loader was not run, because the leader does not go on without the backend. A follower
    /// with fail-open loads by itself.
    Refused(Error),
    /// The loader was for several keys, and gave nothing for this one.
    Absent,
    /// The loader was not run, because another process has the lease, and the leader has a value to
    /// serve. A follower asks by itself.
    Elsewhere,
}

#[derive(Clone)]
pub(super) enum Phase {
    Loading { invalidated: bool },
    Storing { invalidated: bool },
    Finished(Outcome),
    Lost,
}

/// How a wait for a flight ended.
#[derive(Debug)]
pub(crate) enum Arrival {
    Finished(Outcome),
    /// The flight will never end.
    Lost,
    /// The flight waits for the caller: waiting for it would close a cycle.
    Cycle,
}

impl Flight {
    /// `is_carried` is for a load that ends when its caller leaves.
    pub(super) fn new(key: HashedKey<'_>, depth: u32, is_carried: bool) -> Arc<Self> {
        let driver = if is_carried { Driver::Carrier(Arc::default()) } else { Driver::Caller };
        Arc::new(Self {
            id: take_id(),
            key: key.text.into(),
            hash: key.hash,
            phase: Mutex::new(Phase::Loading { invalidated: false }),
            done: Notify::new(),
            driver: Mutex::new(driver),
            thread: Mutex::new(thread::current().id()),
            depth,
            is_load_event_claimed: AtomicBool::new(false),
            records: OnceLock::new(),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn key(&self) -> HashedKey<'_> {
        HashedKey { text: &self.key, hash: self.hash }
    }

    pub(super) fn is_on(&self, key: HashedKey<'_>) -> bool {
        self.key() == key
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    pub(super) fn began_before(&self, came: u64) -> bool {
        self.id < came
    }

    /// Notes with which tags the value is stored. Call this before their records are read.
    pub(crate) fn note_records(&self, records: Vec<String>) {
        // A flight has one leader, which notes them once.
        let _noted_before = self.records.set(records);
    }

    /// Whether the value is stored with one of these tags.
    pub(super) fn has_record(&self, records: &[&str]) -> bool {
        self.records
            .get()
            .is_some_and(|own| own.iter().any(|record| records.contains(&record.as_str())))
    }

    /// Claims the event of the load's outcome; `true` for the first caller only. A load that
    /// exceeds its caller's limit counts as failed, whatever its result.
    pub(crate) fn claim_load_event(&self) -> bool {
        !self.is_load_event_claimed.swap(true, Ordering::Relaxed)
    }

    /// From now on a task on `home` drives the load.
    pub(crate) fn runs_on(&self, home: Handle) {
        *lock(&self.driver) = Driver::Task(home);
    }

    /// Notes that the caller which carries the load polls it.
    pub(crate) fn note_poll(&self, waker: &Waker) {
        let carrier = match &*lock(&self.driver) {
            Driver::Carrier(carrier) => carrier.clone(),
            Driver::Caller | Driver::Task(_) => return,
        };
        carrier.note_poll(waker);
    }

    /// Notes that this thread polls the loader.
    pub(crate) fn note_thread(&self) {
        *lock(&self.thread) = thread::current().id();
    }

    /// Waits for the outcome for as long as the flight is alive. Cancel safe.
    pub(crate) async fn arrival(self: &Arc<Self>) -> Arrival {
        let mut landing = pin!(self.landing());
        let most = self.patience();
        let mut patience = first_patience(most);
        loop {
            if let Some(arrival) = runtime::user_timeout(patience, landing.as_mut()).await {
                return arrival;
            }
            if !self.is_alive().await {
                return Arrival::Lost;
            }
            patience = (patience * 2).min(most);
        }
    }

    /// Whether the flight's loader waits for the loader that makes this call, or is that loader.
    pub(super) fn waits_for_caller(&self) -> bool {
        current::current_flight().is_some_and(|own| wait_graph::reaches(self.id, own))
    }

    /// Waits for the outcome as the leader. Cancel safe.
    ///
    /// The edge is added when this function is called, not when the future is first polled. A fast
    /// loader that asks for the caller's key would otherwise add its edge first, and the leader
    /// instead of the loader would find the cycle.
    pub(crate) fn landing(self: &Arc<Self>) -> impl Future<Output = Arrival> + Send + use<> {
        let (flight, edge) = (self.clone(), Edge::add(current::current_flight(), self.id));
        async move {
            let Some(_edge) = edge else {
                return Arrival::Cycle;
            };
            // A thread that is ending cannot wait.
            if runtime::is_gone() && !flight.is_over() {
                return Arrival::Lost;
            }
            flight.over().await
        }
    }

    /// The outcome, without a time limit: for a caller that gave the flight up and waits for
    /// another flight.
    pub(crate) async fn outcome(&self) -> Option<Outcome> {
        match self.over().await {
            Arrival::Finished(outcome) => Some(outcome),
            Arrival::Lost | Arrival::Cycle => None,
        }
    }

    async fn over(&self) -> Arrival {
        loop {
            let mut done = pin!(self.done.notified());
            // Register for the notification before reading the phase. The leader may end the flight
            // between the two, and the notification would be missed.
            done.as_mut().enable();
            match &*lock(&self.phase) {
                Phase::Finished(outcome) => return Arrival::Finished(outcome.clone()),
                Phase::Lost => return Arrival::Lost,
                Phase::Loading { .. } | Phase::Storing { .. } => {}
            }
            done.await;
        }
    }

    /// How long a follower waits before it checks whether the load is alive.
    fn patience(&self) -> Duration {
        match &*lock(&self.driver) {
            Driver::Carrier(_) => PATIENCE_WITH_CARRIER,
            Driver::Caller | Driver::Task(_) => PATIENCE,
        }
    }

    /// Whether the load can make progress: whether the runtime of its task runs tasks, or the
    /// caller that carries it polls it. A load that its caller only drives is always alive, because
    /// a caller that leaves hands it to a task.
    async fn is_alive(&self) -> bool {
        let driver = lock(&self.driver).clone();
        let is_blocked = runtime::is_blocked();
        let home = match driver {
            Driver::Task(home) => home,
            Driver::Caller => return true,
            Driver::Carrier(carrier) => {
                let patience = if is_blocked { PROBE_ON_OWN_THREAD } else { PROBE_OF_CARRIER };
                return self.is_over() || carrier.polls_within(patience).await || self.is_over();
            }
        };
        let is_in_the_way = is_blocked && *lock(&self.thread) == thread::current().id();
        if is_in_the_way && home.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return false;
        }
        let patience = if is_blocked { PROBE_ON_OWN_THREAD } else { PROBE };
        let probe = home.spawn(std::future::ready(()));
        runtime::background_timeout(patience, probe).await.is_some_and(|ran| ran.is_ok())
    }

    /// Invalidates the flight, and returns whether its store has begun.
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

    /// Invalidates the flight because a newer load of the key has begun. A store that has already
    /// begun is left alone: the newer load waits for it.
    pub(super) fn supersede(&self) {
        if let Phase::Loading { invalidated } = &mut *lock(&self.phase) {
            *invalidated = true;
        }
    }

    pub(super) fn stores_before(&self, other: &Self) -> bool {
        self.id < other.id && matches!(*lock(&self.phase), Phase::Storing { .. })
    }

    /// Begins the store, unless the flight was invalidated.
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

    fn is_over(&self) -> bool {
        lock(&self.phase).is_over()
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

/// A follower that blocks a thread checks sooner: the load may need this thread.
fn first_patience(most: Duration) -> Duration {
    if runtime::is_blocked() { PATIENCE_ON_OWN_THREAD } else { most }
}

/// Waits until the stores have ended, or their runtimes have stopped.
pub(super) async fn await_stores(storing: Vec<Arc<Flight>>) {
    if storing.is_empty() || runtime::is_gone() {
        return;
    }
    let all = async {
        for flight in &storing {
            let mut over = pin!(flight.over());
            let patience = first_patience(flight.patience());
            while runtime::background_timeout(patience, over.as_mut()).await.is_none() {
                if !flight.is_alive().await {
                    break;
                }
            }
        }
    };
    // If this times out, nothing is lost: an invalidated store removes what it wrote.
    let _late = runtime::background_timeout(STORE, all).await;
}
