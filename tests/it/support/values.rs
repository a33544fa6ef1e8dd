//! Values of tests, and how tests write, read and measure them.

use larder::{AsyncCacheAdapter, CacheValue, Expiry, Result};
use std::time::Duration;

/// A deadline for a machine that runs all other tests at the same time.
pub(crate) const PATIENT: Duration = Duration::from_secs(60);

/// Whether the long forms of tests run.
pub(crate) fn soak() -> bool {
    std::env::var_os("LARDER_SOAK").is_some()
}

pub(crate) async fn put(cache: &dyn AsyncCacheAdapter, key: &str, value: &str) -> Result<()> {
    cache.set(key, CacheValue::new(value.to_owned()), Expiry::Default).await
}

pub(crate) async fn text(cache: &dyn AsyncCacheAdapter, key: &str) -> Result<Option<String>> {
    cache.get(key).await?.map(|value| value.decode()).transpose()
}

/// The value of a key, by which a test notices the value of another key.
pub(crate) fn value_of(key: &str) -> String {
    format!("value of {key}: {}", key.len() * 7919)
}

/// The duration at `share` of the sorted durations.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
