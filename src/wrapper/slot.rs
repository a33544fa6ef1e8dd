//! The slot: an adapter with its flights and observers, and how a swap exchanges it as a whole.

use super::renewals::Renewals;
use super::tags::RecordEnds;
use crate::adapter::AsyncCacheAdapter;
use crate::config::Opened;
use crate::error::{Error, Result};
use crate::event::{Event, EventKind};
use crate::observers::{EventSink, Line, Observation, Observers};
use crate::options::Options;
use crate::runtime;
use crate::runtime::lock;
use crate::single_flight::Flights;
use crate::wrapper::AsyncCacheWrapper;
use arc_swap::ArcSwapOption;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

/// An adapter and everything that belongs to it. A swap exchanges all of it at once, so that a call
/// sees one state.
pub(crate) struct Slot {
    pub(crate) adapter: Arc<dyn AsyncCacheAdapter>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) generation: u64,
    /// The options that came with the adapter's URL. Usually none.
    options: Option<Box<Options>>,
    /// Whether the options of the URL concern reads, so that a hit has to look at them.
    inspects_reads: bool,
    /// The hits that have renewed the expiry of their entry.
    renewals: OnceLock<Renewals>,
    /// Until when records of tags live; unset until this process meets tags in the store.
    pub(super) record_ends: OnceLock<RecordEnds>,
    pub(crate) observers: Arc<Observers>,
    /// Owns the connection of the adapter's event sink.
    _line: Arc<Line>,
    /// Whether a call of the adapter has ever waited. If so, the cost of reading a clock does not
    /// matter.
    waits: AtomicBool,
}

/// The state that clones of a wrapper share.
pub(crate) struct Core {
    pub(crate) slot: ArcSwapOption<Slot>,
    pub(crate) observers: Arc<Observers>,
    origin: Origin,
    /// Held while a slot is built and stored, never across an await.
    exchange: Mutex<()>,
}

/// Where the first slot comes from.
pub(crate) enum Origin {
    /// The wrapper was built with it.
    Given,
    /// The environment names it, when it is first needed.
    Environment,
    /// The slot of another wrapper, until this one is given its own.
    Follow(&'static AsyncCacheWrapper),
}

impl Core {
    pub(crate) fn new(opened: Opened) -> Self {
        let core = Self::empty(Origin::Given);
        core.slot.store(Some(core.fill(opened, 0)));
        core
    }

    pub(crate) fn empty(origin: Origin) -> Self {
        Self {
            slot: ArcSwapOption::empty(),
            observers: Arc::default(),
            origin,
            exchange: Mutex::new(()),
        }
    }

    /// Builds the slot of an adapter, and subscribes this cache to the adapter's events.
    fn fill(&self, Opened { adapter, options }: Opened, generation: u64) -> Arc<Slot> {
        let line = Line::to(&self.observers);
        adapter.subscribe(EventSink::new(&line));
        let observers = self.observers.clone();
        let flights = Flights::new();
        Arc::new(Slot {
            adapter,
            flights,
            generation,
            inspects_reads: options.inspects_reads(),
            renewals: OnceLock::new(),
            record_ends: OnceLock::new(),
            options: Some(options).filter(|said| *said != Options::default()).map(Box::new),
            observers,
            _line: line,
            waits: AtomicBool::new(false),
        })
    }

    /// The observers of calls that begin now. They are another wrapper's observers while this
    /// wrapper uses that wrapper's slot.
    pub(crate) fn observers(&self) -> &Arc<Observers> {
        match &self.origin {
            Origin::Follow(other) if self.slot.load().is_none() => other.core.observers(),
            _ => &self.observers,
        }
    }

    /// Adds an observer. It is notified now, and also after this wrapper is given an adapter of its
    /// own.
    pub(crate) fn observe(
        &self,
        observer: impl Fn(&Event<'_>) + Send + Sync + 'static,
    ) -> Observation {
        Observation::begin(observer, [self.observers(), &self.observers])
    }

    /// The current slot. Each call takes one such snapshot.
    pub(crate) fn slot(&self) -> Result<Arc<Slot>> {
        match (self.slot.load_full(), &self.origin) {
            (Some(slot), _) => Ok(slot),
            (None, Origin::Follow(other)) => other.core.slot(),
            (None, Origin::Environment) => self.first(),
            (None, Origin::Given) => Err(Error::config("the cache has no adapter")),
        }
    }

    /// Borrows the slot while `look` runs, without counting a reference; `None` if there is no slot
    /// yet.
    #[inline]
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Slot) -> R) -> Option<R> {
        let mut core = self;
        // A loop, because recursion would prevent inlining.
        let slot = loop {
            let slot = core.slot.load();
            match &core.origin {
                Origin::Follow(other) if slot.is_none() => core = &other.core,
                _ => break slot,
            }
        };
        slot.as_deref().map(look)
    }

    fn first(&self) -> Result<Arc<Slot>> {
        let _exchange = lock(&self.exchange);
        if let Some(slot) = self.slot.load_full() {
            return Ok(slot);
        }
        let slot = self.fill(crate::config::from_environment()?, 0);
        self.slot.store(Some(slot.clone()));
        Ok(slot)
    }

    /// Exchanges the adapter, and returns the old slot if there was one.
    pub(crate) fn swap(&self, opened: Opened) -> Option<Arc<Slot>> {
        let adapter = opened.adapter.clone();
        let old = {
            let _exchange = lock(&self.exchange);
            let generation = self.slot.load().as_ref().map_or(0, |slot| slot.generation + 1);
            self.slot.swap(Some(self.fill(opened, generation)))
        };
        if let Some(old) = &old {
            // Invalidate the flights of the old slot. The old adapter may be set again later, in a
            // new slot that does not know these loads, and must not receive their values.
            old.flights.invalidate_all();
        }
        self.observers.emit(Event::new(EventKind::Swap, adapter.backend()));
        old
    }
}

impl Slot {
    /// The options of a call: those that are set in code, then those of the adapter's URL.
    pub(super) fn options(&self, said: &Options) -> Options {
        self.options_of_url().map_or(*said, |of_url| said.or(of_url))
    }

    #[inline]
    pub(super) fn options_of_url(&self) -> Option<&Options> {
        self.options.as_deref()
    }

    /// The options of a call that reads, if they concern its hits.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for options that are invalid.
    pub(super) fn options_of_read(&self, said: &Options) -> Result<Option<Options>> {
        if !self.inspects_reads && !said.inspects_reads() {
            return Ok(None);
        }
        let options = self.options(said);
        options.check()?;
        Ok(Some(options))
    }

    /// Whether hits have to look at the options of the URL.
    #[inline]
    pub(super) fn inspects_reads(&self) -> bool {
        self.inspects_reads
    }

    pub(super) fn renewals(&self) -> &Renewals {
        self.renewals.get_or_init(Renewals::new)
    }

    /// Whether the adapter's URL allows reads to return stale values.
    #[inline]
    pub(super) fn allows_stale(&self) -> bool {
        self.options_of_url().is_some_and(|options| options.allow_stale)
    }

    /// Pairs a rebuilt adapter with the options of the adapter that it replaces.
    pub(super) fn reopened(&self, adapter: Arc<dyn AsyncCacheAdapter>) -> Opened {
        Opened { adapter, options: self.options(&Options::default()) }
    }

    /// Whether a call of the adapter has ever waited.
    pub(super) fn has_waited(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Makes a call of the adapter inside a runtime. An adapter that never waits needs none.
    pub(crate) fn inside<T>(
        &self,
        call: Pin<&mut impl Future<Output = Result<T>>>,
    ) -> impl Future<Output = Result<T>> {
        runtime::inside(|| self.adapter.get_if_ready("", &mut |_| ()).is_ready(), call)
    }

    /// Makes a call of the adapter, and measures the call if it waits or if there are observers.
    pub(crate) fn timed<T>(
        &self,
        mut call: Pin<&mut impl Future<Output = Result<T>>>,
    ) -> impl Future<Output = (Result<T>, Option<Duration>)> {
        let mut begun = if self.waits.load(Ordering::Relaxed) {
            Some(Instant::now())
        } else {
            self.observers.clock()
        };
        let mut waited = false;
        poll_fn(move |context| {
            let Poll::Ready(answer) = call.as_mut().poll(context) else {
                if !std::mem::replace(&mut waited, true) && begun.is_none() {
                    begun = Some(Instant::now());
                    self.waits.store(true, Ordering::Relaxed);
                }
                return Poll::Pending;
            };
            let took = begun.map(|begun| begun.elapsed());
            if let Some(took) = took.filter(|_| waited) {
                self.observers.counters.call_took(took);
            }
            Poll::Ready((answer, took))
        })
    }

    /// Adds the verb and the backend's name to an error.
    pub(crate) fn with_context(&self, op: &'static str) -> impl Fn(Error) -> Error {
        move |error| error.with_op(op).with_backend(self.adapter.backend().to_owned())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot.load_full() {
            Some(slot) => f
                .debug_struct("Core")
                .field("adapter", &slot.adapter)
                .field("generation", &slot.generation)
                .finish(),
            None => f.write_str("Core(no adapter yet)"),
        }
    }
}
