#![doc = include_str!("guide.md")]

mod cases;
mod conformance;
mod faulty;
mod harness;
mod suite;
mod table;
#[cfg(test)]
mod tests;
mod verb;

#[doc(inline)]
pub use crate::__conformance as conformance;
pub use faulty::{Fault, FaultyAdapter};
pub use harness::Failure;
#[doc(hidden)]
pub use harness::{Source, run_case};
pub use suite::Suite;
pub use table::{CASES, Case};
pub use verb::Verb;
