//! Locks and atomics for code that is also tested under random thread schedules by
//! [shuttle](https://docs.rs/shuttle): `scripts/schedules`.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::*;
#[cfg(not(shuttle))]
pub(crate) use std::sync::*;

#[cfg(not(shuttle))]
pub(crate) use crate::runtime::lock;

#[cfg(shuttle)]
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test under many orders of its threads' steps, those in which few switches matter among
/// them: most faults need two.
#[cfg(all(test, shuttle))]
pub(crate) fn under_many_schedules(run: impl Fn() + Send + Sync + Copy + 'static) {
    const ROUNDS: usize = 5_000;
    const SWITCHES: usize = 3;
    shuttle::check_random(run, ROUNDS);
    shuttle::check_pct(run, ROUNDS, SWITCHES);
}
