//! Adapters around adapters. A layer forwards every method: a method that it does not forward would
//! silently get the trait's default.

mod batching;
mod pointer;
mod resilient;
// For tests only, until the layer is there that uses it.
#[cfg(all(test, feature = "memory"))]
mod tiered;

pub use batching::Batching;
pub use resilient::{BreakerState, Resilient, ResilientBuilder};
