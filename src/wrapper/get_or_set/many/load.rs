//! One run of a loader for several keys: it acquires the rights, runs the loader, and stores the
//! values. It is independent of the call that started it.

use super::items::BatchArgument;
use crate::adapter::{ClaimedEntry, Entry};
use crate::error::{Error, ErrorKind};
use crate::event::EventKind;
use crate::observe::Span;
use crate::panics::{drop_contained, panic_message};
use crate::single_flight::{Flight, JointLoad, Outcome};
use crate::wrapper::events::CallInfo;
use crate::wrapper::fencing::StoreRight;
use crate::wrapper::get_or_set::call::OP;
use crate::wrapper::get_or_set::load_result::{Cause, Panic};
use crate::wrapper::get_or_set::task::{LoadTask, Planned, Put};
use crate::wrapper::{Cacheable, Loaded};
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The result of a loader for several keys: pairs of an argument and its value.
pub(super) type Pairs<A, T> = Vec<(A, T)>;

/// How far the store of a key has come.
enum Stage {
    Over(Outcome),
    Storing(Planned, Put),
}

/// A load of several keys. Each has a flight and a right of its own; the loader is one.
pub(super) struct JointTask<A> {
    joint: JointLoad,
    span: Span,
    tasks: Vec<LoadTask>,
    /// Which tasks an argument is for.
    places: HashMap<A, Vec<usize>>,
}

impl<A: BatchArgument> JointTask<A> {
    /// Also returns the arguments, each once, in the order of the tasks.
    pub(super) fn new(loads: Vec<(LoadTask, A)>) -> (Self, Vec<A>) {
        let (mut places, mut arguments) = (HashMap::new(), Vec::new());
        let mut tasks: Vec<LoadTask> = Vec::with_capacity(loads.len());
        for (task, argument) in loads {
            let of_argument: &mut Vec<usize> = places.entry(argument.clone()).or_default();
            if of_argument.is_empty() {
                arguments.push(argument);
            }
            of_argument.push(tasks.len());
            tasks.push(task);
        }
        let joint = JointLoad::new(tasks.iter().map(|task| task.flight().clone()).collect());
        let span = match tasks.first() {
            Some(task) => task.cache.load_span(&task.slot, ""),
            None => Span::none(),
        };
        (Self { joint, span, tasks, places }, arguments)
    }

    pub(super) fn flights(&self) -> &[Arc<Flight>] {
        self.joint.flights()
    }

    /// Whether the caller polls the load.
    pub(super) fn is_driven_by_caller(&self) -> bool {
        self.tasks.iter().all(LoadTask::is_driven_by_caller)
    }

    /// Calls a closure of the user's as a part of the loader.
    pub(super) fn call<R>(&self, closure: impl FnOnce() -> R) -> Result<R, Panic> {
        self.span.within(|| self.joint.run_now(|| catch_unwind(AssertUnwindSafe(closure))))
    }

    /// Runs a future as the loader.
    pub(super) async fn run<T: Cacheable>(
        mut self,
        loader: impl Future<Output = Result<Pairs<A, T>, Cause>>,
    ) {
        // The guard also covers the drop of the user's values, errors and futures.
        let worked = AssertUnwindSafe(self.work(loader)).catch_unwind().await;
        let (outcomes, result) = worked.unwrap_or_else(|panic| {
            let error = Error::new(ErrorKind::Panic).with_source(panic_message(panic));
            (self.failed(&error), Err(error))
        });
        let ends = self.tasks.into_iter().zip(outcomes).map(|(task, end)| task.finish(Ok(end)));
        join_all(ends).await;
        self.span.end(&result);
    }

    /// Returns the outcome for each key, and that of the loader.
    async fn work<T: Cacheable>(
        &mut self,
        loader: impl Future<Output = Result<Pairs<A, T>, Cause>>,
    ) -> (Vec<Outcome>, crate::error::Result<()>) {
        let needless = self.prepare().await;
        if needless.iter().all(Option::is_some) {
            return (needless.into_iter().flatten().collect(), Ok(()));
        }
        let started = Instant::now();
        // The `async move` block drops the loader as soon as it has ended, inside the guard against
        // panics.
        #[allow(clippy::redundant_async_block)]
        let loader = AssertUnwindSafe(async move { loader.await }).catch_unwind();
        let loaded = self.span.around(self.joint.run(loader)).await;
        let cost = started.elapsed();
        let error = match loaded {
            Ok(Ok(pairs)) => {
                let values = self.values(pairs);
                self.emit(EventKind::Load, cost, None);
                return (self.store(values, needless, cost).await, Ok(()));
            }
            Ok(Err(cause)) => Error::new(ErrorKind::Load).with_source(cause),
            Err(panic) => Error::new(ErrorKind::Panic).with_source(panic_message(panic)),
        };
        let error = error.with_op(OP);
        self.emit(EventKind::LoadError, cost, Some(&error));
        let failed = self.failed(&error);
        let outcomes = needless.into_iter().zip(failed).map(|(own, failed)| own.unwrap_or(failed));
        (outcomes.collect(), Err(error))
    }

    /// Acquires the rights that the call has not acquired, and reads the tags, which are those of
    /// all keys. Returns the outcomes of the keys that need no load.
    async fn prepare(&mut self) -> Vec<Option<Outcome>> {
        let mut needless = join_all(self.tasks.iter_mut().map(LoadTask::acquire_right)).await;
        let wanted = |(task, needless): &(&mut LoadTask, &mut Option<Outcome>)| {
            needless.is_none() && task.reads_tags()
        };
        let wanted: Vec<_> = self.tasks.iter_mut().zip(&mut needless).filter(wanted).collect();
        let Some((first, _)) = wanted.first() else { return needless };
        let tags = Box::pin(first.read_tags()).await;
        for (task, needless) in wanted {
            match &tags {
                Ok(tags) => task.ready.take_tags(tags.clone()),
                Err(error) => *needless = Some(task.refuse(error.clone()).await),
            }
        }
        needless
    }

    /// The value for each task. What was not asked for is dropped, and concerns nobody.
    fn values<T: Cacheable>(&mut self, pairs: Pairs<A, T>) -> Vec<Option<T>> {
        let mut values: Vec<Option<T>> = self.tasks.iter().map(|_| None).collect();
        for (argument, value) in pairs {
            let Some((last, others)) =
                self.places.get(&argument).and_then(|places| places.split_last())
            else {
                drop_contained(value);
                continue;
            };
            for place in others {
                drop_contained(values[*place].replace(value.clone()));
            }
            drop_contained(values[*last].replace(value));
        }
        values
    }

    /// Stores the values, in one write. A key without a value is absent.
    async fn store<T: Cacheable>(
        &mut self,
        values: Vec<Option<T>>,
        needless: Vec<Option<Outcome>>,
        cost: Duration,
    ) -> Vec<Outcome> {
        let tasks = self.tasks.iter_mut().zip(values).zip(needless);
        let begun = tasks.map(|((task, value), needless)| async move {
            if let Some(outcome) = needless {
                return Stage::Over(outcome);
            }
            task.unthrottle();
            match value {
                Some(value) => {
                    let planned = task.plan(Loaded::new(value).untyped(), cost);
                    let put = task.begin_store(&planned).await;
                    Stage::Storing(planned, put)
                }
                None => Stage::Over(task.be_absent().await),
            }
        });
        let mut stages = join_all(begun).await;
        self.put_all(&mut stages).await;
        let ends = self.tasks.iter_mut().zip(stages).map(|(task, stage)| async move {
            match stage {
                Stage::Over(outcome) => outcome,
                Stage::Storing(planned, put) => task.end_store(planned, put).await,
            }
        });
        join_all(ends).await
    }

    /// Makes one write of the stores that have begun. If the `Serialize` of a value panics, each
    /// value is stored by itself afterwards, so that the panic is the error of its own key.
    async fn put_all(&mut self, stages: &mut [Stage]) {
        let begun = |at: &usize| {
            matches!(stages[*at], Stage::Storing(_, Put::Pending))
                && matches!(self.tasks[*at].ready.right, Some(StoreRight::Claimed(_)))
        };
        let places: Vec<usize> = (0..stages.len()).filter(begun).collect();
        // A single value is stored with its own key in the events.
        if places.len() < 2 {
            return;
        }
        let storing = AssertUnwindSafe(set_claimed(&self.tasks, &places, stages)).catch_unwind();
        let Ok(stored) = storing.await else { return };
        for (at, stored) in places.into_iter().zip(stored) {
            if stored.is_ok() {
                // The store has consumed the claim.
                self.tasks[at].ready.right = None;
            }
            if let Stage::Storing(_, put) = &mut stages[at] {
                *put = Put::Tried(stored.map(drop));
            }
        }
    }

    fn failed(&self, error: &Error) -> Vec<Outcome> {
        let named =
            |task: &LoadTask| Outcome::Failed(error.clone().with_op(OP).with_key(task.key()));
        self.tasks.iter().map(named).collect()
    }

    /// Counts the load, and emits the event of its outcome unless the caller's time limit ended the
    /// load first: one for all keys, in the name of the first flight.
    fn emit(&self, kind: EventKind, cost: Duration, error: Option<&Error>) {
        let Some(task) = self.tasks.first() else { return };
        task.slot.observers.counters.load_took(cost);
        let key = if self.tasks.len() == 1 { task.key() } else { "" };
        let mut info = CallInfo::new(OP, key).took(Some(cost));
        if let Some(error) = error {
            info = info.error(error);
        }
        task.cache.emit_load(&task.slot, task.flight(), kind, info);
    }
}

/// Stores the values of several tasks under their claims, in one write. Returns one result for each
/// of `places`.
async fn set_claimed(
    tasks: &[LoadTask],
    places: &[usize],
    stages: &[Stage],
) -> Vec<crate::error::Result<bool>> {
    let Some(LoadTask { cache, slot, .. }) = tasks.first() else { return Vec::new() };
    let mut values = Vec::with_capacity(places.len());
    for at in places {
        if let Stage::Storing(planned, _) = &stages[*at] {
            values.push(tasks[*at].stored_form(&planned.value, planned.kept).await);
        }
    }
    let entries = places.iter().zip(&values).filter_map(|(at, value)| {
        let (Stage::Storing(planned, _), Some(StoreRight::Claimed(claim)), Ok(value)) =
            (&stages[*at], &tasks[*at].ready.right, value)
        else {
            return None;
        };
        let entry = Entry::new(tasks[*at].scoped(), value.clone(), planned.kept);
        Some(ClaimedEntry::new(entry, claim))
    });
    let entries: Vec<_> = entries.collect();
    let storing = pin!(slot.adapter.set_claimed_many(&entries));
    let traced = pin!(cache.traced(slot, CallInfo::new(OP, ""), storing));
    let (stored, _) = slot.timed(traced).await;
    let stored =
        stored.unwrap_or_else(|error| entries.iter().map(|_| Err(error.clone())).collect());
    let mut stored = stored.into_iter();
    // What has no form has no entry.
    values.into_iter().map(|value| value.and_then(|_| stored.next().unwrap_or(Ok(false)))).collect()
}
