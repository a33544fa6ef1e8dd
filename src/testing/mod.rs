#![doc = include_str!("guide.md")]

mod cases;
mod conformance;
mod faulty;
mod harness;
mod near;
mod suite;
mod table;
#[cfg(test)]
mod tests;
mod verb;

#[doc(inline)]
pub use crate::__conformance as conformance;
#[doc(inline)]
pub use crate::__near_conformance as near_conformance;
#[doc(hidden)]
pub use conformance::{Making, Source, run_case};
pub use faulty::{Fault, FaultyAdapter};
pub use harness::Failure;
#[doc(hidden)]
pub use near::{MakingTwo, NearSource, run_near_case};
pub use suite::Suite;
pub use table::{CASES, Case};
pub use verb::Verb;

/// Sets the wall clock back, as larder's adapters read it, in this whole process: a test that uses
/// it needs a process of its own. Zero ends the effect. Also needs the feature `test-util`.
///
/// ```
/// use std::time::Duration;
///
/// larder::testing::set_wall_clock_back(Duration::from_secs(3_600));
/// larder::testing::set_wall_clock_back(Duration::ZERO);
/// ```
#[cfg(feature = "test-util")]
pub fn set_wall_clock_back(by: std::time::Duration) {
    crate::clock::set_back::set(by);
}
