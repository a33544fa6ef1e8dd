//! The near level of a name or URL that begins with `near+`.

use crate::adapter::AsyncCacheAdapter;
use crate::error::{Error, Result};
use crate::url::CacheUrl;
use std::sync::Arc;
#[cfg(feature = "memory")]
use std::time::Duration;

const PREFIX: &str = "near+";

/// The parameters of a near level. All others are the store's.
const PARAMETERS: [&str; 3] = ["near_entries", "near_bound", "near_ttl"];

/// The shortest near bound: the clock of a hit has ticks of 10 ms.
#[cfg(feature = "memory")]
const SHORTEST_BOUND: Duration = Duration::from_millis(20);

/// The name behind `near+`, and whether that stood before it.
pub(super) fn split(name: &str) -> Result<(bool, &str)> {
    let Some(store) = behind(name) else { return Ok((false, name)) };
    match behind(store) {
        Some(_) => Err(Error::config("`near+` stands twice: a cache has one near level")),
        None => Ok((true, store)),
    }
}

fn behind(name: &str) -> Option<&str> {
    let (prefix, store) = name.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(store)
}

/// Refuses the parameters of a near level for a cache that has none.
pub(super) fn refuse(url: &CacheUrl) -> Result<()> {
    match url.given_below("near_") {
        Some(name) if PARAMETERS.contains(&name) => Err(Error::config(format!(
            "`{name}` is for a near level, and there is none: begin the URL with `{PREFIX}`"
        ))),
        _ => Ok(()),
    }
}

/// Puts a near level before the adapter of a URL, and takes its parameters out of the URL.
#[cfg(feature = "memory")]
pub(super) fn around(
    far: Arc<dyn AsyncCacheAdapter>,
    kind: &str,
    url: &mut CacheUrl,
) -> Result<Arc<dyn AsyncCacheAdapter>> {
    use crate::adapters::memory::AsyncMemoryCache;
    use crate::layers::Tiered;

    if kind == "memory" {
        return Err(Error::config(
            "`near+memory:`: a memory cache is near already, it needs no near level",
        ));
    }
    let listed = |error: Error| {
        let there_are = PARAMETERS.join("`, `");
        Error::config(format!("{error}; a near level has `{there_are}`")).with_source(error)
    };
    let entries = url.take("near_entries").map_err(listed)?.unwrap_or(100_000_u64);
    let bound: Option<Duration> = url.take("near_bound").map_err(listed)?;
    let ttl: Option<Duration> = url.take("near_ttl").map_err(listed)?;
    let wrong = match url.given_below("near_") {
        Some(name) if !PARAMETERS.contains(&name) => Some("there is an unknown parameter `near_…`"),
        _ if entries == 0 => Some("`near_entries` must be at least 1"),
        _ if bound.is_some_and(|bound| bound < SHORTEST_BOUND) => {
            Some("`near_bound` must be at least 20ms")
        }
        _ if ttl.is_some_and(|ttl| ttl.is_zero()) => Some("`near_ttl` must be longer than 0"),
        _ => None,
    };
    if let Some(wrong) = wrong {
        return Err(listed(Error::config(wrong)));
    }
    let near = AsyncMemoryCache::builder().max_entries(entries).build();
    let mut tiered = Tiered::builder(far).near(near);
    if let Some(bound) = bound {
        tiered = tiered.near_bound(bound);
    }
    if let Some(ttl) = ttl {
        tiered = tiered.near_ttl(ttl);
    }
    Ok(Arc::new(tiered.build()))
}

#[cfg(not(feature = "memory"))]
pub(super) fn around(
    _far: Arc<dyn AsyncCacheAdapter>,
    _kind: &str,
    _url: &mut CacheUrl,
) -> Result<Arc<dyn AsyncCacheAdapter>> {
    Err(Error::config("`near+` needs the feature `memory`"))
}
