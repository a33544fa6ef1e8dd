//! A layer keeps the contract of what is in it. Redis and memcached by URL, which have it, are with
//! theirs.

use larder::layers::Resilient;
use larder::testing::conformance;
use larder::{AsyncCacheAdapter, AsyncMemoryCache};
use std::sync::Arc;
use std::time::Duration;

fn timed() -> Resilient<Arc<dyn AsyncCacheAdapter>> {
    let inner: Arc<dyn AsyncCacheAdapter> = Arc::new(AsyncMemoryCache::builder().encoded().build());
    Resilient::builder(inner).deadline(Duration::from_secs(10)).fail_open(true).build()
}

conformance!(around_memory, Resilient::new(AsyncMemoryCache::new()));
conformance!(around_any_adapter_with_a_deadline, timed());
