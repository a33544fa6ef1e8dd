//! Events as events of `tracing`.

use crate::event::{Event, EventKind};
use ::tracing::Level;

/// An observer that passes every event to `tracing`, with the target `larder`.
///
/// | field | is |
/// |---|---|
/// | `event` | what happened: `hit`, `miss`, `load`, `backend_error`, … |
/// | `backend` | the adapter's name |
/// | `op` | the verb, where it was a call's |
/// | `took_us` | how long it took, in microseconds, where it was measured |
/// | `count` | how many there were |
/// | `error` | the kind of the error |
/// | `key` | the key's first 128 bytes; only after [`trace_keys`](crate::AsyncCacheWrapper::trace_keys)`(true)` |
///
/// Failures have the level `WARN`; a swap, and a breaker that closes, have `INFO`; all other events
/// have `DEBUG`. Values are never shown.
///
/// ```
/// # fn main() -> larder::Result<()> {
/// let cache = larder::AsyncCacheWrapper::new("memory")?;
/// cache.observe(larder::observe::tracing());
/// # Ok(()) }
/// ```
pub fn tracing() -> impl Fn(&Event<'_>) + Send + Sync + 'static {
    emit
}

fn emit(event: &Event<'_>) {
    macro_rules! emit {
        ($level:expr) => {
            ::tracing::event!(
                target: "larder",
                $level,
                event = event.kind.name(),
                backend = event.backend,
                op = event.op,
                took_us = event.took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
                count = event.count,
                // The kind only, because the whole message contains the key.
                error = event.error.map(|error| ::tracing::field::display(error.kind())),
                key = event.key_shown().filter(|_| event.shows_key),
            )
        };
    }
    match event.kind {
        EventKind::BackendError
        | EventKind::LoadError
        | EventKind::DecodeError
        | EventKind::BreakerOpen
        | EventKind::NearLost => emit!(Level::WARN),
        EventKind::BreakerClose | EventKind::Swap | EventKind::NearBack => emit!(Level::INFO),
        _ => emit!(Level::DEBUG),
    }
}
