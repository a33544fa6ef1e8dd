//! The locks and atomics of what is also tested under the schedules that [shuttle](https://docs.rs/shuttle) makes up:
//! `scripts/schedules`.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::*;
#[cfg(not(shuttle))]
pub(crate) use std::sync::*;

/// Runs a test under many orders of its threads' steps, those in which few switches matter among them: most faults need two.
#[cfg(all(test, shuttle))]
pub(crate) fn under_many_schedules(run: impl Fn() + Send + Sync + Copy + 'static) {
    const ROUNDS: usize = 5_000;
    const SWITCHES: usize = 3;
    shuttle::check_random(run, ROUNDS);
    shuttle::check_pct(run, ROUNDS, SWITCHES);
}
