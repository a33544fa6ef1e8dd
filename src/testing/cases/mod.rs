//! The cases, a section each. What each is called and checks stands in the table.

pub(super) mod basics;

use super::harness::{Failure, Fixture, Outcome, check, check_eq, check_kind, decoded};
