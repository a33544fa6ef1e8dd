//! How much the randomised tests do, and the seeds they do it with.

use std::time::{Duration, Instant};

/// `long` in a release build or with `LARDER_SOAK=1`, `short` otherwise.
pub(crate) fn trials(short: usize, long: usize) -> usize {
    let soak = std::env::var_os("LARDER_SOAK").is_some_and(|value| value == "1");
    if soak || !cfg!(debug_assertions) { long } else { short }
}

/// A generator whose seed is printed, and can be given as `LARDER_SEED`.
pub(crate) fn rng(test: &str) -> fastrand::Rng {
    let seed = std::env::var("LARDER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: LARDER_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Waits until `holds`, and panics with `what` after ten seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Panics if `work` takes longer than `patience`.
pub(crate) async fn within<F: Future>(patience: Duration, what: &str, work: F) -> F::Output {
    match tokio::time::timeout(patience, work).await {
        Ok(output) => output,
        Err(_) => panic!("{what} took longer than {patience:?}"),
    }
}
