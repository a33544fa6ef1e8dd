//! What a wrapper holds, and how it is exchanged.

use crate::event::{Event, EventKind, Observers, Watcher};
use crate::flight::{Flights, Write};
use crate::runtime::{self, lock};
use crate::{AsyncCacheAdapter, AsyncCacheWrapper, Error, Result};
use arc_swap::ArcSwapOption;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};

/// An adapter and what belongs to it. Everything changes together, so that a call sees one state.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) adapter: Arc<dyn AsyncCacheAdapter>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) generation: u64,
}

/// What clones of a wrapper share.
pub(crate) struct Core {
    pub(crate) slot: ArcSwapOption<Slot>,
    pub(crate) observers: Arc<Observers>,
    origin: Origin,
    /// Held while a slot is made and put in, never across an await.
    exchange: Mutex<()>,
}

/// Where the first slot comes from.
pub(crate) enum Origin {
    /// It was there from the start.
    Given,
    /// The environment says, when first asked.
    Environment,
    /// Another wrapper's, until this one is given its own.
    Follow(&'static AsyncCacheWrapper),
}

impl Core {
    pub(crate) fn new(adapter: Arc<dyn AsyncCacheAdapter>) -> Self {
        let core = Self::empty(Origin::Given);
        adapter.watch(Watcher::new(&core.observers));
        core.slot.store(Some(Arc::new(Slot::new(adapter, 0))));
        core
    }

    pub(crate) fn empty(origin: Origin) -> Self {
        Self { slot: ArcSwapOption::empty(), observers: Arc::default(), origin, exchange: Mutex::new(()) }
    }

    /// The slot as it is now: one snapshot a call.
    pub(crate) fn slot(&self) -> Result<Arc<Slot>> {
        match (self.slot.load_full(), &self.origin) {
            (Some(slot), _) => Ok(slot),
            (None, Origin::Follow(other)) => other.core.slot(),
            (None, Origin::Environment) => self.first(),
            (None, Origin::Given) => Err(Error::config("the cache has no adapter")),
        }
    }

    /// A look at the slot that cannot outlive it; `None` where there is none yet.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Slot) -> R) -> Option<R> {
        match (&*self.slot.load(), &self.origin) {
            (Some(slot), _) => Some(look(slot)),
            (None, Origin::Follow(other)) => other.core.look(look),
            (None, Origin::Given | Origin::Environment) => None,
        }
    }

    fn first(&self) -> Result<Arc<Slot>> {
        let _exchange = lock(&self.exchange);
        if let Some(slot) = self.slot.load_full() {
            return Ok(slot);
        }
        let adapter = crate::config::from_environment()?;
        adapter.watch(Watcher::new(&self.observers));
        let slot = Arc::new(Slot::new(adapter, 0));
        self.slot.store(Some(slot.clone()));
        Ok(slot)
    }

    /// Puts an adapter in; what was there before, if anything.
    pub(crate) fn swap(&self, adapter: Arc<dyn AsyncCacheAdapter>) -> Option<Arc<Slot>> {
        adapter.watch(Watcher::new(&self.observers));
        let old = {
            let _exchange = lock(&self.exchange);
            let generation = self.slot.load().as_ref().map_or(0, |slot| slot.generation + 1);
            self.slot.swap(Some(Arc::new(Slot::new(adapter.clone(), generation))))
        };
        if let Some(old) = &old {
            // The old adapter may come back, in a slot that knows nothing of these loads.
            old.flights.ground();
        }
        self.observers.tell(Event { kind: EventKind::Swap, backend: adapter.kind(), key: None, error: None });
        old
    }
}

impl Slot {
    fn new(adapter: Arc<dyn AsyncCacheAdapter>, generation: u64) -> Self {
        Self { adapter, flights: Flights::new(), generation }
    }

    /// Makes a call of the adapter inside a runtime. One that answers without waiting can do without.
    pub(crate) async fn inside<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        runtime::inside(|| self.adapter.get_now("-").is_ready(), call).await
    }

    /// To be held while several keys are written.
    pub(crate) async fn writes(&self, keys: &[&str]) -> Vec<Write<'_>> {
        let mut writes = Vec::with_capacity(keys.len());
        for key in keys {
            writes.push(self.flights.write(key).await);
        }
        writes
    }

    /// Adds to an error what only the slot knows.
    pub(crate) fn blame(&self, op: &'static str) -> impl Fn(Error) -> Error {
        move |error| error.with_op(op).with_backend(self.adapter.kind().to_owned())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot.load_full() {
            Some(slot) => f.debug_struct("Core").field("adapter", &slot.adapter).field("generation", &slot.generation).finish(),
            None => f.write_str("Core(no adapter yet)"),
        }
    }
}
