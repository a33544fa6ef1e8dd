//! The memcached adapter.

mod conformance;

use crate::support::Memcached;
use larder::{AsyncMemcachedCache, MemcachedBuilder};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A prefix that nobody else uses.
fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The server part of a test server's URL, as the builder takes it.
fn server(of: &Memcached) -> String {
    let url = of.url();
    match url.strip_prefix("memcached+unix://") {
        Some(path) => format!("unix:{path}"),
        None => url.trim_start_matches("memcached://").to_owned(),
    }
}

/// An adapter for a server, with a prefix of its own.
fn on(of: &Memcached) -> MemcachedBuilder {
    AsyncMemcachedCache::builder().server(server(of)).prefix(prefix())
}

/// Patience for a machine on which everything else is tested at the same time.
fn patient(builder: MemcachedBuilder) -> AsyncMemcachedCache {
    builder.op_timeout(Duration::from_secs(10)).build().unwrap()
}
