//! The run of a loader, apart from the call that began it.

use crate::event::{EventKind, inherit};
use crate::observe::Span;
use crate::options::Options;
use crate::single_flight::LeaderGuard;
use crate::wrapper::fault::{concerns_backend, words};
use crate::wrapper::fencing::{Acquired, StoreRight};
use crate::wrapper::slot::Slot;
use crate::wrapper::tell::About;
use crate::wrapper::{Cacheable, Loaded, View};
use crate::{AsyncCacheWrapper, CacheValue, Error, ErrorKind, Result, runtime};
use futures_util::FutureExt;
use std::any::Any;
use std::error::Error as StdError;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const OP: &str = "get_or_set";

type Cause = Box<dyn StdError + Send + Sync>;

/// One run of a loader: everything it needs to go on without its caller.
pub(super) struct LoadTask {
    pub(super) cache: AsyncCacheWrapper,
    pub(super) slot: Arc<Slot>,
    pub(super) guard: LeaderGuard,
    pub(super) key: String,
    pub(super) options: Options,
    pub(super) span: Span,
    /// The backend could not be read, and what it holds may still be good.
    pub(super) skip_store: bool,
    /// There is something to serve if it fails.
    pub(super) has_usable: bool,
    /// When the value was made that is to be replaced.
    pub(super) seen: Option<u64>,
    /// `None` as long as it has not been asked for.
    pub(super) right: Option<StoreRight>,
}

impl LoadTask {
    /// Runs a future as the loader. Goes on whatever becomes of the caller; but a load that an observer began is not told.
    pub(super) fn run<T: Cacheable>(
        self,
        loader: impl Future<Output = Result<Loaded<T>, Cause>> + Send,
    ) -> impl Future<Output = ()> + Send {
        inherit(Box::pin(self.load(loader)))
    }

    async fn load<T: Cacheable>(mut self, loader: impl Future<Output = Result<Loaded<T>, Cause>>) {
        match self.ask::<T>().await {
            Ok(Acquired::Granted(right)) => self.right = Some(right),
            Ok(Acquired::Computed(value)) => return self.guard.finish(Ok(value)),
            Err(error) => return self.guard.finish(Err(error)),
        }
        let started = Instant::now();
        let outcome =
            self.span.around(self.guard.run(AssertUnwindSafe(loader).catch_unwind())).await;
        self.land(outcome, started.elapsed()).await;
    }

    async fn ask<T: Cacheable>(&self) -> Result<Acquired> {
        // A flight that must not be stored asks for nothing, and waits for nobody.
        if self.skip_store || self.guard.is_invalidated() {
            return Ok(Acquired::Granted(StoreRight::None));
        }
        let scoped = self.cache.scope.key(&self.key)?;
        View { cache: &self.cache, options: self.options }
            .ask::<T>(&self.slot, &self.key, &scoped, self.seen)
            .await
    }

    /// Lets other processes know that this one will not store anything.
    async fn give_up(&self) {
        if let (Some(right), Ok(scoped)) = (&self.right, self.cache.scope.key(&self.key)) {
            right.give_up(&self.slot, &scoped).await;
        }
    }

    /// Runs a closure as the loader, here and now; only a store that has to wait goes on in a task.
    pub(super) fn run_now<T: Cacheable>(self, loader: impl FnOnce() -> Loaded<T>) {
        let started = Instant::now();
        let outcome =
            self.span.within(|| self.guard.run_now(|| catch_unwind(AssertUnwindSafe(loader))));
        let mut landing = Box::pin(self.land(outcome.map(Ok), started.elapsed()));
        if landing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            runtime::spawn(inherit(landing));
        }
    }

    async fn land<T: Cacheable>(
        self,
        outcome: Result<Result<Loaded<T>, Cause>, Box<dyn Any + Send>>,
        cost: Duration,
    ) {
        let failed = |kind| Error::new(kind).with_op("get_or_set").with_key(&self.key);
        if !matches!(outcome, Ok(Ok(_))) {
            self.give_up().await;
        }
        let scoped = self.cache.scope.key(&self.key);
        self.slot.observers.counters.load_took(cost);
        let result = match outcome {
            Ok(Ok(fresh)) => {
                self.cache.tell_load(
                    &self.slot,
                    self.guard.flight(),
                    EventKind::Load,
                    self.about(cost),
                );
                if let Ok(scoped) = &scoped {
                    self.slot.flights.unthrottle(scoped);
                }
                self.store(fresh, cost).await
            }
            Ok(Err(cause)) => Err(self.fell(cost, failed(ErrorKind::Load).with_source(cause))),
            Err(panic) => {
                Err(self.fell(cost, failed(ErrorKind::Panic).with_source(words(&*panic))))
            }
        };
        if let (Err(_), Ok(scoped), true) = (&result, &scoped, self.has_usable) {
            self.slot.flights.throttle(scoped, self.options.throttle_for());
        }
        self.span.end(&result);
        self.guard.finish(result);
    }

    /// The loader failed: that is told, unless its caller's limit was first.
    fn fell(&self, cost: Duration, error: Error) -> Error {
        self.cache.tell_load(
            &self.slot,
            self.guard.flight(),
            EventKind::LoadError,
            self.about(cost).error(&error),
        );
        error
    }

    /// Stores the value unless a write came in between, and gives it back.
    async fn store<T: Cacheable>(&self, fresh: Loaded<T>, cost: Duration) -> Result<CacheValue> {
        let scoped = self.cache.scope.key(&self.key)?;
        let (options, is_stored) = (fresh.options(self.options), fresh.is_stored);
        let term = options.term(self.slot.adapter.default_ttl(), cost);
        let value = CacheValue::known(fresh.value, term.meta);
        // What cannot be encoded cannot be stored either, and the store says so.
        let is_skipped = !is_stored || (options.skip_none && value.is_nil().unwrap_or(false));
        if is_skipped || self.skip_store || !self.guard.begin_store() {
            self.give_up().await;
            return Ok(value);
        }
        let adapter = &self.slot.adapter;
        let store = async {
            match &self.right {
                Some(right) => right.store(&self.slot, &scoped, value.clone(), term.kept).await,
                None => Ok(()),
            }
        };
        let (mut stored, took) = self
            .slot
            .timed(pin!(self.cache.traced(&self.slot, About::new(OP, &self.key), pin!(store))))
            .await;
        if self.guard.was_invalidated() {
            stored = stored.and(adapter.remove(&scoped).await.map(drop));
        }
        let Err(error) = stored else { return Ok(value) };
        let error = self.slot.blame("set")(error).with_key(&self.key);
        // Also what cannot be encoded: nobody would see that the loader runs each time.
        self.cache.tell(
            &self.slot,
            EventKind::BackendError,
            About::new(OP, &self.key).took(took).error(&error),
        );
        if self.options.fail_open && concerns_backend(&error) { Ok(value) } else { Err(error) }
    }

    fn about(&self, cost: Duration) -> About<'_> {
        About::new(OP, &self.key).took(Some(cost))
    }
}
