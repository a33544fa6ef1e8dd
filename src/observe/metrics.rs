//! Events as counters and histograms of the `metrics` facade.

use crate::event::{Event, EventKind};
use crate::stats::Stats;
use ::metrics::{SharedString, counter, gauge, histogram};
use std::sync::Arc;

/// An observer that passes every event to the recorder of the `metrics` facade. `cache` is the
/// label of this cache.
///
/// Every metric has the labels `cache` and `backend`, the adapter's name. No key is ever a label.
///
/// | metric | counts | labels besides |
/// |---|---|---|
/// | `larder_hits_total` | reads that found a live value | |
/// | `larder_misses_total` | reads that found nothing | |
/// | `larder_stale_hits_total` | reads that were given a value past its logical expiry | |
/// | `larder_sets_total` | values that callers stored | |
/// | `larder_removes_total` | live keys that callers removed | |
/// | `larder_clears_total` | calls of `clear` | |
/// | `larder_expired_total` | entries given back because their time had come | |
/// | `larder_evicted_total` | entries given back to make room | |
/// | `larder_loads_total` | loaders that gave a value | |
/// | `larder_load_errors_total` | loaders that failed or ran out of their caller's time | `kind`: the error's |
/// | `larder_joined_total` | callers that waited for another's loader | |
/// | `larder_backend_errors_total` | calls that the backend failed | `kind`: the error's |
/// | `larder_decode_errors_total` | values that could not be read | |
/// | `larder_breaker_opened_total` | breakers that opened | |
/// | `larder_breaker_closed_total` | breakers that closed | |
/// | `larder_swaps_total` | adapters that were put in another's place; `backend` is the new one | |
/// | `larder_near_lost_total` | streams that stopped telling the near level of changes | |
/// | `larder_near_back_total` | streams that tell it again | |
/// | `larder_near_far_reads` | gauge: reads of the store behind the near level, set by [`record_size`](crate::AsyncCacheWrapper::record_size) | |
/// | `larder_near_kept` | gauge: answers that were kept near, set by the same | |
/// | `larder_near_refused` | gauge: answers that were not kept, because their key may have changed meanwhile, set by the same | |
/// | `larder_near_forgotten` | gauge: values that left the near level because their key may have changed, set by the same | |
/// | `larder_near_late_proofs` | gauge: looks at a near value whose proof had run out, set by the same | |
/// | `larder_entries` | gauge: entries in the store, set by [`record_size`](crate::AsyncCacheWrapper::record_size) | |
/// | `larder_bytes` | gauge: what they count for, set by the same | |
/// | `larder_load_seconds` | histogram: how long loaders took | |
/// | `larder_call_seconds` | histogram: how long reads and writes took; the keys of a batch have the batch's time | `op`: the verb |
///
/// ```
/// # fn main() -> larder::Result<()> {
/// let cache = larder::AsyncCacheWrapper::new("memory")?;
/// cache.observe(larder::observe::metrics("users"));
/// # Ok(()) }
/// ```
pub fn metrics(cache: impl Into<Arc<str>>) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
    let cache: SharedString = SharedString::from_shared(cache.into());
    move |event| emit(&cache, event)
}

fn emit(cache: &SharedString, event: &Event<'_>) {
    let backend: SharedString = event.backend.to_owned().into();
    let labels = [("cache", cache.clone()), ("backend", backend.clone())];
    let name = name(event.kind);
    match (event.kind, event.error) {
        (EventKind::BackendError | EventKind::LoadError, Some(error)) => {
            let [cache, backend] = labels.clone();
            counter!(name, &[cache, backend, ("kind", format!("{:?}", error.kind()).into())])
                .increment(event.count);
        }
        _ => counter!(name, &labels).increment(event.count),
    }
    let Some(took) = event.took else { return };
    match (event.kind, event.op) {
        (EventKind::Load | EventKind::LoadError, _) => {
            histogram!("larder_load_seconds", &labels).record(took)
        }
        (_, Some(op)) => {
            let [cache, backend] = labels;
            histogram!("larder_call_seconds", &[cache, backend, ("op", op.into())]).record(took);
        }
        (_, None) => {}
    }
}

fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Hit => "larder_hits_total",
        EventKind::Miss => "larder_misses_total",
        EventKind::StaleHit => "larder_stale_hits_total",
        EventKind::Set => "larder_sets_total",
        EventKind::Remove => "larder_removes_total",
        EventKind::Clear => "larder_clears_total",
        EventKind::Expire => "larder_expired_total",
        EventKind::Evict => "larder_evicted_total",
        EventKind::Load => "larder_loads_total",
        EventKind::LoadError => "larder_load_errors_total",
        EventKind::Joined => "larder_joined_total",
        EventKind::BackendError => "larder_backend_errors_total",
        EventKind::DecodeError => "larder_decode_errors_total",
        EventKind::BreakerOpen => "larder_breaker_opened_total",
        EventKind::BreakerClose => "larder_breaker_closed_total",
        EventKind::Swap => "larder_swaps_total",
        EventKind::NearLost => "larder_near_lost_total",
        EventKind::NearBack => "larder_near_back_total",
    }
}

/// Sets the gauges of a store's size, and of its near level.
pub(crate) fn record_size(cache: Arc<str>, backend: &str, stats: &Stats) {
    let labels = [
        ("cache", SharedString::from_shared(cache)),
        ("backend", SharedString::from(backend.to_owned())),
    ];
    if let Some(entries) = stats.entries {
        gauge!("larder_entries", &labels).set(entries as f64);
    }
    if let Some(bytes) = stats.bytes {
        gauge!("larder_bytes", &labels).set(bytes as f64);
    }
    if let Some(near) = stats.near {
        let gauges = [
            ("larder_near_far_reads", near.far_reads),
            ("larder_near_kept", near.kept),
            ("larder_near_refused", near.refused),
            ("larder_near_forgotten", near.forgotten),
            ("larder_near_late_proofs", near.late_proofs),
        ];
        gauges.into_iter().for_each(|(name, count)| gauge!(name, &labels).set(count as f64));
    }
}
