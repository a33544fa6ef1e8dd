//! Loads that end inside their call, before it waits for anything: the store answers at once, and
//! so does the loader. Such a load needs no task, and hardly an allocation.

use super::driver::Runs;
use super::found::Reserve;
use super::loader::Loader;
use super::ready::Ready;
use super::task::{LoadTask, Loading, OP, Planned, Put};
use crate::event::EventKind;
use crate::key;
use crate::observe::Span;
use crate::options::Options;
use crate::runtime;
use crate::single_flight::{Flight, Outcome, is_in_loader};
use crate::value::CacheValue;
use crate::wrapper::events::CallInfo;
use crate::wrapper::fencing::{Replaced, StoreRight};
use crate::wrapper::slot::Slot;
use crate::wrapper::value_type::ValueType;
use crate::wrapper::{Loaded, View};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What became of a load that was tried at once.
pub(super) enum AtOnce {
    /// It has not begun: the call has to wait for something before.
    NotNow,
    /// It has ended, and the value is stored.
    Over(CacheValue),
    /// It has begun, and goes on.
    Begun(Box<Begun>),
}

/// A load that goes on after it was tried.
pub(super) struct Begun {
    pub(super) slot: Arc<Slot>,
    pub(super) flight: Arc<Flight>,
    /// `None` if the loader has ended, and its value is being stored.
    pub(super) task: Option<LoadTask>,
}

impl View<'_> {
    /// Leads a load of a key that was found missing, and polls the loader once.
    pub(super) fn load_at_once(
        &self,
        key: &str,
        of: ValueType,
        runs: Runs,
        loader: &mut dyn Loader,
    ) -> AtOnce {
        let Ok(slot) = self.cache.core.slot() else { return AtOnce::NotNow };
        let options = slot.options(&self.options);
        if !self.may_load_at_once(&slot, &options, runs) {
            return AtOnce::NotNow;
        }
        let Some(task) = self.lead_at_once(key, of, slot, options) else { return AtOnce::NotNow };
        task.run_at_once(key, loader)
    }

    /// Whether a load of this call may run inside the call. Not where a time limit waits for the
    /// caller, because a loader may block; not where tags have to be read before; not where the call
    /// carries the load; not in another loader, because the stack would grow with each level; and
    /// not over a store that waits. A load with observers or spans takes the long
    /// way, which measures each step.
    fn may_load_at_once(&self, slot: &Slot, options: &Options, runs: Runs) -> bool {
        runs != Runs::InCaller
            && (runs == Runs::AtOnce || !self.is_caller_driven)
            && options.is_plain_load()
            && !self.has_tags()
            && !slot.has_waited()
            && !slot.observers.has_observers()
            && !Span::is_watched()
            && runtime::is_inside_one()
            && !is_in_loader()
    }

    fn has_tags(&self) -> bool {
        #[cfg(feature = "macros")]
        if self.call_tags.is_some() {
            return true;
        }
        !self.cache.tags.is_empty()
    }

    /// Begins a flight on a key that has none.
    fn lead_at_once(
        &self,
        key: &str,
        of: ValueType,
        slot: Arc<Slot>,
        options: Options,
    ) -> Option<LoadTask> {
        let scoped = key::check_write(key).and_then(|()| self.cache.scope.key(key)).ok()?;
        // The claim is first: most stores are not ready, and then there is no flight to end.
        let Poll::Ready(Ok(claim)) = slot.adapter.claim_if_ready(&scoped) else { return None };
        let guard = slot.flights.lead_alone(slot.flights.hashed(&scoped))?;
        // Read again. Another flight may have ended between the read of this call and its own
        // flight.
        let mut is_there = false;
        let looked = slot.adapter.get_if_ready(&scoped, &mut |_| is_there = true);
        if is_there || !matches!(looked, Poll::Ready(Ok(()))) {
            return None;
        }
        self.cache.emit(&slot, EventKind::Miss, CallInfo::new(OP, key));
        Some(LoadTask {
            cache: self.cache.clone(),
            slot,
            guard,
            options,
            of,
            span: Span::none(),
            reserve: Reserve::Nothing,
            is_nested: false,
            is_caller_driven: self.is_caller_driven,
            replaced: Replaced::by(&options),
            ready: Ready { right: Some(StoreRight::Claimed(claim)), ..Ready::default() },
            started: None,
        })
    }
}

impl LoadTask {
    fn run_at_once(mut self, key: &str, loader: &mut dyn Loader) -> AtOnce {
        let started = Instant::now();
        let loaded = match self.call(|| loader.poll_once(key)) {
            Ok(Poll::Pending) => {
                self.started = Some(started);
                let begun = self.begun();
                return AtOnce::Begun(Box::new(Begun { task: Some(self), ..begun }));
            }
            Ok(Poll::Ready(loaded)) => Ok(loaded),
            Err(panic) => Err(panic),
        };
        let cost = started.elapsed();
        match loaded {
            Ok(Ok(loaded)) => self.store_at_once(loaded, cost),
            failed => self.go_on(Loading::Over(failed, cost)),
        }
    }

    fn begun(&self) -> Begun {
        Begun { slot: self.slot.clone(), flight: self.flight().clone(), task: None }
    }

    /// Ends the load as any other.
    fn go_on(self, loading: Loading) -> AtOnce {
        let begun = self.begun();
        self.land(loading);
        AtOnce::Begun(Box::new(begun))
    }

    /// Stores the value. If the store does not answer at once, or refuses the value, the load ends as
    /// any other.
    fn store_at_once(mut self, loaded: Loaded<CacheValue>, cost: Duration) -> AtOnce {
        self.note_load(cost);
        let planned = self.plan(loaded, cost);
        // The guard is for the value's `Serialize`, which runs in the store.
        let put = catch_unwind(AssertUnwindSafe(|| self.put_at_once(&planned)));
        let put = put.unwrap_or_else(|panic| Put::Tried(Err(self.panicked(panic))));
        if !matches!(put, Put::Tried(Ok(()))) || self.guard.is_invalidated() {
            return self.go_on(Loading::Stored(planned, put));
        }
        let value = planned.value;
        self.guard.finish(Outcome::Loaded { value: value.clone(), not_stored: None });
        AtOnce::Over(value)
    }

    fn put_at_once(&mut self, planned: &Planned) -> Put {
        if !self.is_wanted(planned) || !self.guard.begin_store_alone() {
            return Put::Skipped;
        }
        let Some(StoreRight::Claimed(claim)) = &self.ready.right else { return Put::Pending };
        let (adapter, scoped) = (&self.slot.adapter, self.scoped());
        let value = match self.options.written_of(&planned.value) {
            Ok(value) => value,
            Err(error) => return Put::Tried(Err(error)),
        };
        match adapter.set_claimed_if_ready(scoped, &value, planned.kept, claim) {
            Poll::Pending => Put::Pending,
            Poll::Ready(Err(error)) => Put::Tried(Err(error)),
            Poll::Ready(Ok(_)) => {
                if let Some(StoreRight::Claimed(claim)) = self.ready.right.take() {
                    claim.spent();
                }
                Put::Tried(Ok(()))
            }
        }
    }
}
