//! Adapters around adapters. A layer forwards every method: one that it forgot would silently get the trait's default.

mod arc;
mod together;

pub use together::Together;
