//! Observers that pass events to the facades that programs use for logs and metrics.
//!
//! | function | feature | hands events to |
//! |---|---|---|
#![cfg_attr(
    feature = "tracing",
    doc = "| [`tracing`](fn@tracing) | `tracing` | the `tracing` facade, as events |"
)]
#![cfg_attr(
    feature = "metrics",
    doc = "| [`metrics`](fn@metrics) | `metrics` | the `metrics` facade, as counters and histograms |"
)]
//!
//! Each takes one line: `cache.observe(larder::observe::…)`. Without that line no event is passed
//! on, also with the features on.

#[cfg(feature = "metrics")]
mod metrics;
mod span;
#[cfg(feature = "tracing")]
mod tracing;

#[cfg(feature = "metrics")]
pub use metrics::metrics;
#[cfg(feature = "metrics")]
pub(crate) use metrics::record_size;
pub(crate) use span::Span;
#[cfg(feature = "tracing")]
pub use tracing::tracing;
