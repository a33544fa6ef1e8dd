//! Adapters around adapters. A layer forwards every method: a method that it does not forward would
//! silently get the trait's default.

mod batching;
mod pointer;
mod resilient;
#[cfg(feature = "memory")]
mod tiered;

pub use batching::Batching;
pub use resilient::{BreakerState, Resilient, ResilientBuilder};
#[cfg(feature = "memory")]
pub use tiered::{Tiered, TieredBuilder};
