//! How late this machine runs things: what a deadline has to be forgiven when everything else runs
//! beside a test.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const NAP: Duration = Duration::from_millis(2);

/// Each slot holds the worst of one stretch of time; together they reach as far back as a test
/// lasts.
const STRETCH: Duration = Duration::from_secs(5);
const STRETCHES: usize = 24;

/// What a quiet machine is forgiven: two cores, hundreds of tasks, a debug build.
const QUIET: Duration = Duration::from_millis(100);

/// A call waits for several turns: its timer's, its worker's, its reply's.
const TURNS: u32 = 4;

static WORST: LazyLock<&'static [AtomicU64; STRETCHES]> = LazyLock::new(|| {
    let worst: &'static [AtomicU64; STRETCHES] = Box::leak(Box::default());
    thread::spawn(move || {
        let begun = Instant::now();
        let mut at = 0;
        loop {
            let asleep = Instant::now();
            thread::sleep(NAP);
            let late = u64::try_from((asleep.elapsed() - NAP).as_nanos()).unwrap_or(u64::MAX);
            let now = (begun.elapsed().as_nanos() / STRETCH.as_nanos()) as usize % STRETCHES;
            if now != at {
                at = now;
                worst[at].store(0, Ordering::Relaxed);
            }
            worst[at].fetch_max(late, Ordering::Relaxed);
        }
    });
    worst
});

/// To be called when a test begins, so that what it is forgiven has been measured.
pub(crate) fn watch() {
    LazyLock::force(&WORST);
}

/// How much later than promised a call may be, as late as this machine has lately woken a thread
/// that asked for nothing else.
pub(crate) fn noise() -> Duration {
    QUIET + lateness()
}

/// The same without what a quiet machine is forgiven: for limits that hold on one.
pub(crate) fn lateness() -> Duration {
    let worst = WORST.iter().map(|worst| worst.load(Ordering::Relaxed)).max().unwrap_or_default();
    Duration::from_nanos(worst) * TURNS
}

/// Whether an error is the machine's: a deadline missed while threads were woken far too late.
pub(crate) fn excuses(error: &larder::Error) -> bool {
    error.is_timeout() && noise() > QUIET * 2
}
