//! Adapters around adapters. A layer forwards every method: one that it forgot would silently get the trait's default.

mod arc;
mod batching;
mod resilient;

pub use batching::Batching;
pub use resilient::{BreakerState, Resilient, ResilientBuilder};
