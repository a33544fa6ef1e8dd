//! The task that runs a loader, stores its value and ends its flight. It is independent of the call
//! that started it.

use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::observe::Span;
use crate::observers::inherit;
use crate::options::{Options, WritePlan};
use crate::panics::panic_message;
use crate::runtime;
use crate::single_flight::{Flight, LeaderGuard, Outcome};
use crate::value::CacheValue;
use crate::wrapper::events::{CallInfo, concerns_backend};
use crate::wrapper::fencing::{Acquired, Replaced, StoreRight};
use crate::wrapper::slot::Slot;
use crate::wrapper::{AsyncCacheWrapper, Cacheable, Loaded, View};
use futures_util::FutureExt;
use std::any::Any;
use std::error::Error as StdError;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const OP: &str = "get_or_set";

pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

pub(super) type Panic = Box<dyn Any + Send>;

/// What a run came to before anything is stored.
enum Loading<T> {
    /// The loader has ended after so long.
    Over(Result<Result<Loaded<T>, Cause>, Panic>, Duration),
    /// The loader was not run.
    Needless(Outcome),
}

/// One run of a loader, with everything that the run needs to go on without its caller.
pub(super) struct LoadTask {
    pub(super) cache: AsyncCacheWrapper,
    pub(super) slot: Arc<Slot>,
    pub(super) guard: LeaderGuard,
    pub(super) key: String,
    pub(super) options: Options,
    pub(super) span: Span,
    /// Do not store: the backend could not be read, and may hold a good value.
    pub(super) skip_store: bool,
    /// A stale value can be served if the loader fails.
    pub(super) has_usable: bool,
    /// The call was made by another loader.
    pub(super) is_nested: bool,
    /// The caller waits on its own thread, and can drive the load there.
    pub(super) is_caller_driven: bool,
    pub(super) replaced: Replaced,
    /// `None` until the right is acquired, and again once it is used.
    pub(super) right: Option<StoreRight>,
}

impl LoadTask {
    pub(super) fn flight(&self) -> &Arc<Flight> {
        self.guard.flight()
    }

    pub(super) fn has_limit(&self) -> bool {
        self.options.hard_limit().is_some()
            || (self.has_usable && self.options.soft_limit().is_some())
    }

    /// Runs a future as the loader. The run does not depend on the caller.
    pub(super) async fn run<T: Cacheable>(
        mut self,
        loader: impl Future<Output = Result<Loaded<T>, Cause>>,
    ) {
        // The guard also covers the drop of the user's values, errors and futures: a panic there is
        // an outcome like any other.
        let ended = AssertUnwindSafe(self.work(loader)).catch_unwind().await;
        self.finish(ended).await;
    }

    /// Runs a closure as the loader, in the caller.
    pub(super) fn run_now<T: Cacheable>(self, loader: impl FnOnce() -> Result<Loaded<T>, Cause>) {
        let started = Instant::now();
        let loaded = self.call(loader);
        self.land(Loading::Over(loaded, started.elapsed()));
    }

    /// Runs a future as the loader, in the caller. If the caller goes away, so does the load.
    pub(super) async fn run_in_caller<T: Cacheable>(
        mut self,
        loader: impl Future<Output = Result<Loaded<T>, Cause>>,
    ) {
        let loading = AssertUnwindSafe(self.load(loader)).catch_unwind().await;
        self.land(loading.unwrap_or_else(|panic| Loading::Over(Err(panic), Duration::ZERO)));
    }

    /// Calls a closure of the user's as a part of the loader.
    pub(super) fn call<R>(&self, closure: impl FnOnce() -> R) -> Result<R, Panic> {
        self.span.within(|| self.guard.run_now(|| catch_unwind(AssertUnwindSafe(closure))))
    }

    /// Concludes a load that ran in the caller. A store that has to wait goes on in a task: writers
    /// of the key wait for it, and must not depend on a caller that may be parked.
    fn land<T: Cacheable>(mut self, loading: Loading<T>) {
        let flight = self.flight().clone();
        let mut landing = Box::pin(async move {
            let concluded = AssertUnwindSafe(self.conclude(loading));
            let ended = concluded.catch_unwind().await;
            self.finish(ended).await;
        });
        if !ends_at_once(landing.as_mut()) {
            let home = runtime::current();
            home.spawn(inherit(landing));
            flight.runs_on(home);
        }
    }

    async fn work<T: Cacheable>(
        &mut self,
        loader: impl Future<Output = Result<Loaded<T>, Cause>>,
    ) -> Outcome {
        let loading = self.load(loader).await;
        self.conclude(loading).await
    }

    /// Acquires the right to load, and runs the loader.
    async fn load<T: Cacheable>(
        &mut self,
        loader: impl Future<Output = Result<Loaded<T>, Cause>>,
    ) -> Loading<T> {
        match self.claim::<T>().await {
            Ok(Acquired::Granted(right)) => self.right = Some(right),
            Ok(Acquired::Computed(value)) => {
                return Loading::Needless(Outcome::Loaded { value, not_stored: None });
            }
            Err(error) => return Loading::Needless(Outcome::Refused(error)),
        }
        let started = Instant::now();
        // The `async move` block drops the loader as soon as it has ended, inside the guard against
        // panics.
        #[allow(clippy::redundant_async_block)]
        let loader = AssertUnwindSafe(async move { loader.await }).catch_unwind();
        let loaded = self.span.around(self.guard.run(loader)).await;
        Loading::Over(loaded, started.elapsed())
    }

    pub(super) async fn claim<T: Cacheable>(&self) -> Result<Acquired> {
        // A flight that must not be stored needs no claim, and must not wait for another process.
        if self.skip_store || self.guard.is_invalidated() {
            return Ok(Acquired::Granted(StoreRight::None));
        }
        let scoped = self.cache.scope.key(&self.key)?;
        View { options: self.options, ..self.cache.view() }
            .ask::<T>(&self.slot, &self.key, &scoped, self.replaced)
            .await
    }

    /// Gives the right back, so that other processes need not wait: this process will not store a
    /// value.
    pub(super) async fn give_up_right(&mut self) {
        if let (Some(right), Ok(scoped)) = (self.right.take(), self.cache.scope.key(&self.key)) {
            right.give_up(&self.slot, &scoped).await;
        }
    }

    /// Turns the loader's result into an outcome. A value is stored first.
    async fn conclude<T: Cacheable>(&mut self, loading: Loading<T>) -> Outcome {
        let (loaded, cost) = match loading {
            Loading::Over(loaded, cost) => (loaded, cost),
            Loading::Needless(outcome) => return outcome,
        };
        self.slot.observers.counters.load_took(cost);
        let error = match loaded {
            Ok(Ok(loaded)) => {
                let info = self.info(cost);
                self.cache.emit_load(&self.slot, self.flight(), EventKind::Load, info);
                self.unthrottle();
                return self.store(loaded, cost).await;
            }
            Ok(Err(cause)) => self.error(ErrorKind::Load).with_source(cause),
            Err(panic) => self.panicked(panic),
        };
        // Emit the error, unless the caller's time limit ended the load first.
        let info = self.info(cost).error(&error);
        self.cache.emit_load(&self.slot, self.flight(), EventKind::LoadError, info);
        Outcome::Failed(error)
    }

    /// Notes that the loader works: a failure before starts no cooldown any more.
    pub(super) fn unthrottle(&self) {
        if let Ok(scoped) = self.cache.scope.key(&self.key) {
            self.slot.flights.unthrottle(&scoped);
        }
    }

    /// Stores the value. If the store fails, an event is emitted and the callers still get the
    /// value.
    pub(super) async fn store<T: Cacheable>(
        &mut self,
        loaded: Loaded<T>,
        cost: Duration,
    ) -> Outcome {
        let (options, is_stored) = (loaded.options(self.options), loaded.is_stored);
        let plan = options.plan_write(self.slot.adapter.default_ttl(), cost);
        let value = CacheValue::known(loaded.value, plan.meta.clone());
        let skip_none = options.skip_none;
        let storing = async {
            // An error of `is_nil` is ignored: a value that cannot be encoded fails in the store,
            // too.
            if !is_stored || (skip_none && value.is_nil().unwrap_or(false)) {
                return (Ok(()), None);
            }
            self.put(&value, plan).await
        };
        // The guard is for the value's `Serialize`, which runs in the store.
        let (stored, took) = match AssertUnwindSafe(storing).catch_unwind().await {
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
        } else if let Some(right) = self.right.take() {
            right.forget();
        }
        let error = self.slot.with_context("set")(error).with_key(&self.key);
        // Emitted for encode errors as well: without the event it would not be visible that the
        // loader runs on every call.
        let info = CallInfo::new(OP, &self.key).took(took).error(&error);
        self.cache.emit(&self.slot, EventKind::BackendError, info);
        if error.kind() == ErrorKind::Panic {
            return Outcome::Failed(error);
        }
        Outcome::Loaded { value, not_stored: Some(error) }
    }

    /// Stores the value, unless a write or a newer load has begun in between.
    async fn put(&mut self, value: &CacheValue, plan: WritePlan) -> (Result<()>, Option<Duration>) {
        let scoped = match self.cache.scope.key(&self.key) {
            Ok(scoped) => scoped,
            Err(error) => return (Err(error), None),
        };
        if self.skip_store || !self.guard.begin_store().await {
            return (Ok(()), None);
        }
        let store = async {
            match &mut self.right {
                Some(right) => right.store(&self.slot, &scoped, value.clone(), plan.kept).await,
                None => Ok(()),
            }
        };
        let info = CallInfo::new(OP, &self.key);
        let (mut stored, took) =
            self.slot.timed(pin!(self.cache.traced(&self.slot, info, pin!(store)))).await;
        if stored.is_ok() {
            // The store has consumed the claim.
            self.right = None;
        }
        if self.guard.is_invalidated() {
            stored = stored.and(self.slot.adapter.remove(&scoped).await.map(drop));
        }
        (stored, took)
    }

    pub(super) async fn finish(mut self, ended: Result<Outcome, Panic>) {
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(panic) => Outcome::Failed(self.panicked(panic)),
        };
        let result = match &outcome {
            Outcome::Loaded { .. } | Outcome::Absent => Ok(()),
            Outcome::Failed(error) | Outcome::Refused(error) => Err(error.clone()),
        };
        if let Outcome::Failed(_) = &outcome {
            self.give_up_right().await;
            if self.has_usable
                && let Ok(scoped) = self.cache.scope.key(&self.key)
            {
                self.slot.flights.throttle(&scoped, self.options.throttle_for());
            }
        }
        self.span.end(&result);
        self.guard.finish(outcome);
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind).with_op(OP).with_key(&self.key)
    }

    fn panicked(&self, panic: Panic) -> Error {
        self.error(ErrorKind::Panic).with_source(panic_message(panic))
    }

    fn info(&self, cost: Duration) -> CallInfo<'_> {
        CallInfo::new(OP, &self.key).took(Some(cost))
    }
}

/// Polls work once, with a waker that does nothing; work that is pending is polled again by its
/// task. Returns whether it has ended.
pub(super) fn ends_at_once(work: Pin<&mut (impl Future<Output = ()> + ?Sized)>) -> bool {
    work.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}
