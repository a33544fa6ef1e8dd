//! The task that runs a loader, stores its value and ends its flight. It is independent of the call
//! that started it.

use super::found::Reserve;
use super::load_result::{BoxedLoader, LoadResult, Panic};
use super::ready::Ready;
use crate::codec::Tags;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::expiry::Expiry;
use crate::observe::Span;
use crate::observers::inherit;
use crate::options::Options;
use crate::panics::panic_message;
use crate::runtime;
use crate::single_flight::{Flight, LeaderGuard, Outcome};
use crate::value::CacheValue;
use crate::wrapper::events::{CallInfo, concerns_backend};
use crate::wrapper::fencing::{Acquired, Replaced, StoreRight};
use crate::wrapper::slot::Slot;
use crate::wrapper::value_type::ValueType;
use crate::wrapper::{AsyncCacheWrapper, Loaded, View};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

pub(super) const OP: &str = "get_or_set";

/// What a run came to so far.
pub(super) enum Loading {
    /// The loader has ended after so long.
    Over(Result<LoadResult, Panic>, Duration),
    /// The loader was not run.
    Needless(Outcome),
    /// The loader has ended, and the store of its value has come so far.
    Stored(Planned, Put),
}

/// A value, and how it is stored.
pub(super) struct Planned {
    pub(super) value: CacheValue,
    pub(super) kept: Expiry,
    /// Whether the loader wants it stored.
    is_stored: bool,
    skip_none: bool,
}

/// How far the store of a value has come.
pub(super) enum Put {
    /// The value is not stored.
    Skipped,
    Tried(Result<()>),
    /// The store has begun, and waits.
    Pending,
}

/// One run of a loader, with everything that the run needs to go on without its caller.
pub(super) struct LoadTask {
    pub(super) cache: AsyncCacheWrapper,
    pub(super) slot: Arc<Slot>,
    pub(super) guard: LeaderGuard,
    pub(super) options: Options,
    pub(super) of: ValueType,
    pub(super) span: Span,
    /// What the caller can serve if the loader fails.
    pub(super) reserve: Reserve,
    /// The call was made by another loader.
    pub(super) is_nested: bool,
    /// The caller waits on its own thread, and can drive the load there.
    pub(super) is_caller_driven: bool,
    pub(super) replaced: Replaced,
    pub(super) ready: Ready,
    /// When the loader began, if it was polled before the run.
    pub(super) started: Option<Instant>,
}

impl LoadTask {
    pub(super) fn flight(&self) -> &Arc<Flight> {
        self.guard.flight()
    }

    /// The key with the prefix of the namespace.
    pub(super) fn scoped(&self) -> &str {
        self.flight().key().text()
    }

    /// The key as the caller wrote it.
    pub(super) fn key(&self) -> &str {
        &self.scoped()[self.cache.scope.prefix().len()..]
    }

    pub(super) fn has_limit(&self) -> bool {
        self.options.hard_limit().is_some()
            || (self.reserve != Reserve::Nothing && self.options.soft_limit().is_some())
    }

    /// Runs a future as the loader. The run does not depend on the caller.
    pub(super) async fn run(mut self, loader: BoxedLoader) {
        // The guard also covers the drop of the user's values, errors and futures: a panic there is
        // an outcome like any other.
        let ended = AssertUnwindSafe(self.work(loader)).catch_unwind().await;
        self.finish(ended).await;
    }

    /// Runs a closure as the loader, in the caller.
    pub(super) fn run_now(self, loader: &mut dyn FnMut(&str) -> LoadResult) {
        let started = Instant::now();
        let loaded = self.call(|| loader(self.key()));
        self.land(Loading::Over(loaded, started.elapsed()));
    }

    /// Calls a closure of the user's as a part of the loader.
    pub(super) fn call<R>(&self, closure: impl FnOnce() -> R) -> Result<R, Panic> {
        self.within(|| catch_unwind(AssertUnwindSafe(closure)))
    }

    /// [`call`](Self::call) for a closure whose panic is one of the caller.
    pub(super) fn within<R>(&self, closure: impl FnOnce() -> R) -> R {
        self.span.within(|| self.guard.run_now(closure))
    }

    /// Concludes a load that ran in the caller. A store that has to wait goes on in a task: writers
    /// of the key wait for it, and must not depend on a caller that may be parked.
    pub(super) fn land(mut self, loading: Loading) {
        let flight = self.flight().clone();
        let landing = async move {
            let concluded = AssertUnwindSafe(self.conclude(loading));
            let ended = concluded.catch_unwind().await;
            self.finish(ended).await;
        };
        let mut landing: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(landing);
        if !ends_at_once(landing.as_mut()) {
            let home = runtime::current();
            home.spawn(inherit(landing));
            flight.runs_on(home);
        }
    }

    async fn work(&mut self, loader: BoxedLoader) -> Outcome {
        let loading = self.load(loader).await;
        self.conclude(loading).await
    }

    /// Acquires what the load needs, and runs the loader.
    async fn load(&mut self, loader: BoxedLoader) -> Loading {
        if let Some(needless) = self.prepare().await {
            return Loading::Needless(needless);
        }
        let started = self.started.unwrap_or_else(Instant::now);
        // The `async move` block drops the loader as soon as it has ended, inside the guard against
        // panics.
        #[allow(clippy::redundant_async_block)]
        let loader = AssertUnwindSafe(async move { loader.await }).catch_unwind();
        let loaded = self.span.around(self.guard.run(loader)).await;
        Loading::Over(loaded, started.elapsed())
    }

    /// Acquires the right to load, and reads the tags. Returns the outcome if the loader need not
    /// run.
    ///
    /// Boxed, so that it is compiled once, with larder.
    pub(super) fn prepare(&mut self) -> BoxFuture<'_, Option<Outcome>> {
        Box::pin(async {
            if let Some(needless) = self.acquire_right().await {
                return Some(needless);
            }
            if !self.reads_tags() {
                return None;
            }
            match self.read_tags().await {
                Ok(tags) => self.ready.take_tags(tags),
                Err(error) => return Some(self.refuse(error).await),
            }
            None
        })
    }

    /// Acquires the right to load, if the call has not. Returns the outcome if the loader need not
    /// run.
    pub(super) async fn acquire_right(&mut self) -> Option<Outcome> {
        if self.ready.right.is_some() {
            return None;
        }
        match self.claim().await {
            Ok(Some(Acquired::Granted(right))) => {
                self.ready.right = Some(right);
                None
            }
            Ok(Some(Acquired::Computed(value))) => {
                Some(Outcome::Loaded { value, not_stored: None })
            }
            Ok(None) => Some(Outcome::Elsewhere),
            Err(error) => Some(Outcome::Refused(error)),
        }
    }

    /// Whether the generations of the tags have to be read before the loader runs.
    pub(super) fn reads_tags(&self) -> bool {
        !self.cache.tags.is_empty()
            && self.ready.tags.is_none()
            && !self.ready.skip_store
            && !self.guard.is_invalidated()
    }

    /// The generations of the tags; `None` if the load goes on without the backend.
    pub(super) async fn read_tags(&self) -> Result<Option<Tags>> {
        let tags = self.cache.tags_of_load(&self.slot, self.key(), &self.options);
        tags.await.map_err(|error| error.with_op(OP))
    }

    /// The outcome of a load whose loader is not run because of an error.
    pub(super) async fn refuse(&mut self, error: Error) -> Outcome {
        self.give_up_right().await;
        Outcome::Refused(error)
    }

    /// The right to load; `None` if another process has the lease, and the caller has a value that
    /// is as good.
    pub(super) async fn claim(&self) -> Result<Option<Acquired>> {
        // A flight that must not be stored needs no claim, and must not wait for another process.
        if self.ready.skip_store || self.guard.is_invalidated() {
            return Ok(Some(Acquired::Granted(StoreRight::None)));
        }
        let view = View { options: self.options, ..self.cache.view() };
        let (slot, wanted) = (&self.slot, (self.replaced, self.of));
        if self.reserve == Reserve::Fresh {
            let begun = Instant::now();
            return view.ask_once(slot, self.key(), self.scoped(), wanted, begun).await;
        }
        view.ask(slot, self.key(), self.scoped(), self.replaced, self.of).await.map(Some)
    }

    /// Gives the right back, so that other processes need not wait: this process will not store a
    /// value.
    pub(super) async fn give_up_right(&mut self) {
        if let Some(right) = self.ready.right.take() {
            right.give_up(&self.slot, self.scoped()).await;
        }
    }

    /// Turns the loader's result into an outcome. A value is stored first.
    async fn conclude(&mut self, loading: Loading) -> Outcome {
        let (loaded, cost) = match loading {
            Loading::Over(loaded, cost) => (loaded, cost),
            Loading::Needless(outcome) => return outcome,
            Loading::Stored(planned, put) => return self.end_store(planned, put).await,
        };
        let error = match loaded {
            Ok(Ok(loaded)) => {
                self.note_load(cost);
                return self.store(loaded, cost).await;
            }
            Ok(Err(cause)) => self.error(ErrorKind::Load).with_source(cause),
            Err(panic) => self.panicked(panic),
        };
        self.slot.observers.counters.load_took(cost);
        // Emit the error, unless the caller's time limit ended the load first.
        let info = self.info(cost).error(&error);
        self.cache.emit_load(&self.slot, self.flight(), EventKind::LoadError, info);
        Outcome::Failed(error)
    }

    /// Notes that the loader gave a value.
    pub(super) fn note_load(&self, cost: Duration) {
        self.slot.observers.counters.load_took(cost);
        self.cache.emit_load(&self.slot, self.flight(), EventKind::Load, self.info(cost));
        self.unthrottle();
    }

    /// Notes that the loader works: a failure before starts no cooldown any more.
    pub(super) fn unthrottle(&self) {
        self.slot.flights.unthrottle(self.flight().key());
    }

    pub(super) fn plan(&self, loaded: Loaded<CacheValue>, cost: Duration) -> Planned {
        let options = loaded.options(self.options);
        let plan = options.plan_write(self.slot.adapter.default_ttl(), cost);
        Planned {
            value: loaded.value.with_meta(plan.meta),
            kept: plan.kept,
            is_stored: loaded.is_stored,
            skip_none: options.skip_none,
        }
    }

    /// Whether the options and the loader want the value stored.
    pub(super) fn is_wanted(&self, planned: &Planned) -> bool {
        // An error of `is_nil` is ignored: a value that cannot be encoded fails in the store, too.
        !self.ready.skip_store
            && planned.is_stored
            && !(planned.skip_none && planned.value.is_nil().unwrap_or(false))
    }

    /// Stores the value, unless a write or a newer load has begun in between. If the store fails,
    /// an event is emitted and the callers still get the value.
    pub(super) async fn store(&mut self, loaded: Loaded<CacheValue>, cost: Duration) -> Outcome {
        let planned = self.plan(loaded, cost);
        let put = self.begin_store(&planned).await;
        self.end_store(planned, put).await
    }

    /// Begins the store of a value, unless a write or a newer load has begun in between.
    pub(super) async fn begin_store(&self, planned: &Planned) -> Put {
        // The guard is for the value's `Serialize`.
        let is_wanted = catch_unwind(AssertUnwindSafe(|| self.is_wanted(planned)));
        match is_wanted {
            Ok(true) if self.guard.begin_store().await => Put::Pending,
            Ok(_) => Put::Skipped,
            Err(panic) => Put::Tried(Err(self.panicked(panic))),
        }
    }

    /// Ends the store of a value.
    pub(super) async fn end_store(
        &mut self,
        Planned { value, kept, .. }: Planned,
        put: Put,
    ) -> Outcome {
        // The guard is for the value's `Serialize`, which runs in the store.
        let storing = AssertUnwindSafe(self.put(&value, kept, put)).catch_unwind();
        let (stored, took) = match storing.await {
            Ok(stored) => stored,
            Err(panic) => (Err(self.panicked(panic)), None),
        };
        let Err(error) = stored else {
            self.give_up_right().await;
            return Outcome::Loaded { value, not_stored: None };
        };
        // Do not ask a backend again that is unavailable: the claim ends by itself.
        if !concerns_backend(&error) || error.kind() == ErrorKind::TooLarge {
            self.give_up_right().await;
        } else if let Some(right) = self.ready.right.take() {
            right.forget();
        }
        // Emitted for encode errors as well: without the event it would not be visible that the
        // loader runs on every call.
        let error = self.tell_not_stored(error, took);
        if error.kind() == ErrorKind::Panic {
            return Outcome::Failed(error);
        }
        Outcome::Loaded { value, not_stored: Some(error) }
    }

    async fn put(
        &mut self,
        value: &CacheValue,
        kept: Expiry,
        put: Put,
    ) -> (Result<()>, Option<Duration>) {
        let is_skipped = matches!(put, Put::Skipped);
        let may_store = !is_skipped && !matches!(self.ready.right, Some(StoreRight::None));
        let (stored, took) = match put {
            Put::Skipped => (Ok(()), None),
            Put::Tried(stored) => (stored, None),
            Put::Pending => self.ask_to_store(value, kept).await,
        };
        let removed = if self.guard.is_invalidated() {
            // A write that has begun since may have ended before this store did.
            if is_skipped { Ok(()) } else { self.remove().await }
        } else if may_store && stored.is_ok() {
            Ok(())
        } else {
            self.void_older().await
        };
        (stored.and(removed), took)
    }

    /// Who forces a refresh knows that what is there is wrong: it does not stay where nothing new is
    /// stored.
    async fn void_older(&self) -> Result<()> {
        if self.options.force_refresh && !self.guard.is_invalidated() {
            self.remove().await?;
        }
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        self.slot.adapter.remove(self.scoped()).await.map(drop)
    }

    /// The outcome of a load that gave no value for this key.
    pub(super) async fn be_absent(&mut self) -> Outcome {
        if let Err(error) = self.void_older().await {
            self.tell_not_stored(error, None);
        }
        self.give_up_right().await;
        Outcome::Absent
    }

    /// Emits the event of an error of the store, and returns the error with its context.
    fn tell_not_stored(&self, error: Error, took: Option<Duration>) -> Error {
        let error = self.slot.with_context("set")(error).with_key(self.key());
        let info = CallInfo::new(OP, self.key()).took(took).error(&error);
        self.cache.emit(&self.slot, EventKind::BackendError, info);
        error
    }

    async fn ask_to_store(
        &mut self,
        value: &CacheValue,
        kept: Expiry,
    ) -> (Result<()>, Option<Duration>) {
        let value = match self.stored_form(value, kept).await {
            Ok(value) => value,
            Err(error) => return (Err(error), None),
        };
        let Self { cache, slot, guard, ready: Ready { right, .. }, .. } = self;
        let (scoped, prefix) = (guard.flight().key().text(), cache.scope.prefix().len());
        let store = async {
            match right {
                Some(right) => right.store(slot, scoped, value, kept).await,
                None => Ok(()),
            }
        };
        let info = CallInfo::new(OP, &scoped[prefix..]);
        let (stored, took) = slot.timed(pin!(cache.traced(slot, info, pin!(store)))).await;
        if stored.is_ok() {
            // The store has consumed the claim.
            self.ready.right = None;
        }
        (stored, took)
    }

    /// The value as it is stored: the callers share the object; only the store gets it encoded, and
    /// with its tags. A loader may give a value a longer life than the call, so the records of the
    /// tags are prolonged first.
    pub(super) async fn stored_form(&self, value: &CacheValue, kept: Expiry) -> Result<CacheValue> {
        let value = self.options.written_of(value)?.into_owned();
        let Some(tags) = &self.ready.tags else { return Ok(value) };
        let life = kept.resolve(self.slot.adapter.default_ttl());
        Box::pin(self.slot.prolong(tags, life)).await?;
        Ok(value.tagged(tags.clone()))
    }

    pub(super) async fn finish(mut self, ended: Result<Outcome, Panic>) {
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(panic) => Outcome::Failed(self.panicked(panic)),
        };
        let result = match &outcome {
            Outcome::Loaded { .. } | Outcome::Absent | Outcome::Elsewhere => Ok(()),
            Outcome::Failed(error) | Outcome::Refused(error) => Err(error.clone()),
        };
        if let Outcome::Failed(_) = &outcome {
            self.give_up_right().await;
            if self.reserve != Reserve::Nothing {
                let lasting = self.options.throttle_for();
                self.slot.flights.throttle(self.flight().key(), lasting);
            }
        }
        self.span.end(&result);
        self.guard.finish(outcome);
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind).with_op(OP).with_key(self.key())
    }

    pub(super) fn panicked(&self, panic: Panic) -> Error {
        self.error(ErrorKind::Panic).with_source(panic_message(panic))
    }

    fn info(&self, cost: Duration) -> CallInfo<'_> {
        CallInfo::new(OP, self.key()).took(Some(cost))
    }
}

/// Polls work once, with a waker that does nothing; work that is pending is polled again by its
/// task. Returns whether it has ended.
pub(super) fn ends_at_once(work: Pin<&mut (impl Future<Output = ()> + ?Sized)>) -> bool {
    work.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}
