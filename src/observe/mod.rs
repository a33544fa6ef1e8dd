//! Observers that hand events on to where programs collect such things.
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
//! Each is one line: `cache.observe(larder::observe::…)`. Without it nothing is handed on, whatever
//! features are on.

#[cfg(feature = "metrics")]
mod metrics;
mod span;
#[cfg(feature = "tracing")]
mod tracing;

#[cfg(feature = "metrics")]
pub use metrics::metrics;
pub(crate) use span::Span;
#[cfg(feature = "tracing")]
pub use tracing::tracing;
