//! What happened inside a call, for those who watch.

use crate::Error;
use arc_swap::ArcSwap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

/// Something that happened and that the caller's result does not tell.
///
/// ```
/// use larder::{AsyncCacheWrapper, EventKind};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// let cache = AsyncCacheWrapper::new("memory")?;
/// let loads = Arc::new(AtomicUsize::new(0));
/// let counted = loads.clone();
/// cache.observe(move |event| {
///     if event.kind == EventKind::Load {
///         counted.fetch_add(1, Ordering::Relaxed);
///     }
/// });
/// cache.get_or_set("k", 1u8).await?;
/// cache.get_or_set("k", 2u8).await?;
/// assert_eq!(loads.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Event<'a> {
    /// What it was.
    pub kind: EventKind,
    /// The adapter's name, such as `redis`.
    pub backend: &'a str,
    /// The key, where it was about one.
    pub key: Option<&'a str>,
    /// What went wrong, where something did.
    pub error: Option<&'a Error>,
}

/// The kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A read found a live value.
    Hit,
    /// A read found nothing.
    Miss,
    /// A value past its logical expiry was served.
    StaleHit,
    /// A value was stored by a caller.
    Set,
    /// A caller removed a key.
    Remove,
    /// An entry was given back because its time had come. Only adapters that see it tell.
    Expire,
    /// An entry was given back to make room. Only adapters that see it tell.
    Evict,
    /// A fallback gave a value.
    Load,
    /// A fallback failed, panicked or ran out of time.
    LoadError,
    /// A caller waits for a fallback that another caller started.
    Joined,
    /// The backend failed and the call went on without it.
    BackendError,
    /// Stored bytes could not be read and were counted as a miss.
    DecodeError,
    /// The backend failed too often: calls are answered at once, without it.
    BreakerOpen,
    /// The backend is asked again.
    BreakerClose,
    /// The adapter was replaced; `backend` is the new one.
    Swap,
}

/// A cache's observers, as an adapter sees them: see [`AsyncCacheAdapter::watch`](crate::AsyncCacheAdapter::watch).
#[derive(Clone, Debug)]
pub struct Watcher(Weak<Observers>);

impl Watcher {
    pub(crate) fn new(observers: &Arc<Observers>) -> Self {
        Self(Arc::downgrade(observers))
    }

    /// Tells the cache's observers. Whether the cache is still there; a watcher of one that is gone can be dropped.
    pub fn tell(&self, event: &Event<'_>) -> bool {
        let observers = self.0.upgrade();
        if let Some(observers) = &observers {
            observers.tell(*event);
        }
        observers.is_some()
    }
}

type Observer = dyn Fn(&Event<'_>) + Send + Sync;

/// Who is told. Reading is lock-free; adding copies the list.
#[derive(Default)]
pub(crate) struct Observers(ArcSwap<Vec<Arc<Observer>>>);

impl Observers {
    pub(crate) fn add(&self, observer: Arc<Observer>) {
        self.0.rcu(|known| known.iter().cloned().chain([observer.clone()]).collect::<Vec<_>>());
    }

    /// Tells everybody. An observer that panics hurts nobody but itself.
    pub(crate) fn tell(&self, event: Event<'_>) {
        for observer in self.0.load().iter() {
            let _panicked = catch_unwind(AssertUnwindSafe(|| observer(&event)));
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.0.load().len())
    }
}
