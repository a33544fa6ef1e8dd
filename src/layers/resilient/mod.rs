//! Retries, a circuit breaker and the recovery of failed writes around an adapter.
//!
//! - `adapter`: the methods of the contract, each one call
//! - `call`: one call through breaker, retries and deadline, and the note of a write that fails
//! - `breaker`, `retry`: whether the backend is asked, and how often
//! - `in_flight`: which of two writes is the later one, while both are in flight
//! - `journal`: the writes that failed; `recovery` and `replay` write them when the backend is back
//! - `election`: one recovery task at a time

mod adapter;
mod breaker;
mod builder;
mod call;
mod election;
mod in_flight;
mod journal;
mod recovery;
mod replay;
mod retry;

pub use breaker::BreakerState;
pub use builder::ResilientBuilder;

use crate::adapter::AsyncCacheAdapter;
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::observers::EventSinks;
use crate::runtime::lock;
use breaker::Breaker;
use builder::Config;
use election::Election;
use in_flight::InFlight;
use journal::Journal;
use retry::Retry;
use std::fmt;
use std::sync::{Arc, Mutex};

/// A layer for a backend with outages: retries, a circuit breaker, and recovery of failed writes.
///
/// The order is fixed: fail-open( breaker( retry( deadline( adapter )))). Each part can be turned
/// off; see [`ResilientBuilder`]. A cache on redis or memcached that is named by alias, URL or
/// environment has this layer already. Around an adapter that a program builds, the program puts
/// the layer itself. The guide is [`docs::resilience`](crate::docs::resilience).
///
/// **Retries** repeat idempotent calls, reads and `set`, if the backend was unavailable. Their
/// number is bounded by a budget that successful calls earn.
///
/// **The circuit breaker** opens after failures in a row, or when too many calls fail. While it is
/// open, calls are answered at once with [`Unavailable`](crate::ErrorKind::Unavailable) and nothing
/// is sent. A background task pings the backend; callers never wait for it.
/// [`ping`](AsyncCacheAdapter::ping), [`connect`](AsyncCacheAdapter::connect) and
/// [`reconnect`](AsyncCacheAdapter::reconnect) always reach the adapter, and close the breaker if
/// they succeed.
///
/// **A backend that accepts no writes** ([`is_refused_write`](Error::is_refused_write)) is not
/// away: such errors do not count in the breaker. The write is noted, and until it is replayed,
/// reads of its key are answered from the note.
///
/// **Recovery.** A `set`, `remove` or `clear` that fails because the backend is away is still an
/// error to its caller. The latest such write of each key is also noted, and replayed as soon as
/// the backend is back. Until then calls on that key do not reach the backend: they wait for a
/// moment, or fail. So callers of this layer never see an older value again. This is not
/// write-behind: no write succeeds because of its note.
///
/// A note has the time at which its write began. It yields to every later write of the key that was
/// acknowledged, and to later writes of other processes, as far as the clocks of both machines
/// agree. In doubt the key is removed, because a miss is never wrong. A value that has expired in
/// the meantime is not written, and the value that it was to replace is removed. Notes are kept in
/// memory, for as long as the adapter lives.
///
/// # Cancel safety
///
/// A dropped call leaves nothing behind; its write is not noted.
///
/// # Example
///
/// ```
/// # #[cfg(all(feature = "memory", feature = "testing"))]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// use larder::layers::{BreakerState, Resilient};
/// use larder::testing::{Fault, FaultyAdapter};
/// use larder::{AsyncCacheAdapter, AsyncMemoryCache, ErrorKind};
///
/// let store = FaultyAdapter::new(AsyncMemoryCache::new());
/// store.put_on_all(Fault::Fail(ErrorKind::Unavailable));
/// let cache = Resilient::new(store);
/// for _ in 0..5 {
///     assert!(cache.get("k").await.is_err());
/// }
/// assert_ne!(cache.breaker_state(), BreakerState::Closed);
/// # Ok(()) }
/// # #[cfg(not(all(feature = "memory", feature = "testing")))]
/// # fn main() {}
/// ```
pub struct Resilient<A>(Arc<Shared<A>>);

struct Shared<A> {
    inner: A,
    state: Arc<State>,
}

/// The state that a rebuilt adapter takes over, because the backend is the same.
#[derive(Debug)]
struct State {
    config: Config,
    breaker: Breaker,
    retry: Retry,
    journal: Journal,
    in_flight: InFlight,
    election: Election,
    sinks: EventSinks,
    /// The error for which the backend was last considered away.
    cause: Mutex<Option<Error>>,
}

impl State {
    fn found_away(&self, cause: &Error) {
        *lock(&self.cause) = Some(cause.clone());
    }

    fn cause(&self) -> Option<Error> {
        lock(&self.cause).clone()
    }
}

impl State {
    /// Whether the recovery task has nothing to do.
    fn is_calm(&self) -> bool {
        self.journal.is_empty() && self.breaker.state() == BreakerState::Closed
    }
}

impl<A> Shared<A>
where
    A: AsyncCacheAdapter,
{
    fn emit(&self, kind: EventKind, key: Option<&str>, error: Option<&Error>) {
        let mut event = Event::new(kind, self.inner.backend());
        (event.key, event.error) = (key, error);
        self.state.sinks.emit(&event);
    }
}

impl<A: AsyncCacheAdapter> Resilient<A> {
    /// Puts the layer around `inner`, with default settings.
    #[must_use]
    pub fn new(inner: A) -> Self {
        Self::builder(inner).build()
    }

    /// Returns a builder with default settings.
    pub fn builder(inner: A) -> ResilientBuilder<A> {
        ResilientBuilder::new(inner)
    }

    fn assemble(inner: A, config: Config) -> Self {
        let state = State {
            breaker: Breaker::new(&config),
            retry: Retry::new(&config),
            journal: Journal::new(&config),
            in_flight: InFlight::default(),
            election: Election::default(),
            sinks: EventSinks::default(),
            cause: Mutex::default(),
            config,
        };
        Self(Arc::new(Shared { inner, state: Arc::new(state) }))
    }

    /// The adapter inside.
    ///
    /// ```
    /// use larder::layers::Resilient;
    /// # #[cfg(feature = "memory")] {
    /// let cache = Resilient::new(larder::AsyncMemoryCache::new());
    /// let inner: &larder::AsyncMemoryCache = cache.inner();
    /// # }
    /// ```
    #[must_use]
    pub fn inner(&self) -> &A {
        &self.0.inner
    }

    /// The present state of the breaker. Always closed if there is no breaker.
    #[must_use]
    pub fn breaker_state(&self) -> BreakerState {
        self.0.state.breaker.state()
    }

    /// How many failed writes are still to be replayed.
    ///
    /// ```
    /// use larder::layers::Resilient;
    /// # #[cfg(feature = "memory")] {
    /// let cache = Resilient::new(larder::AsyncMemoryCache::new());
    /// assert_eq!(cache.pending_writes(), 0);
    /// # }
    /// ```
    #[must_use]
    pub fn pending_writes(&self) -> usize {
        self.0.state.journal.len()
    }
}

impl<A> Clone for Resilient<A> {
    /// Another handle on the same layer.
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: AsyncCacheAdapter> fmt::Debug for Resilient<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resilient")
            .field("inner", &self.0.inner.backend())
            .field("breaker", &self.breaker_state())
            .field("pending_writes", &self.pending_writes())
            .finish_non_exhaustive()
    }
}

/// Whether an error means that the backend is away. An error that the backend answered does not.
fn is_away(error: &Error) -> bool {
    error.is_retryable() && !error.is_refused_write()
}
