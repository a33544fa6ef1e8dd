//! Adapters around adapters. A layer forwards every method: one that it forgot would silently get the trait's default.

mod arc;
mod resilient;
mod together;

pub use resilient::{BreakerState, Resilient, ResilientBuilder};
pub use together::Together;
