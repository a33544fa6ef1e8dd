//! What goes to `tracing` and to `metrics`, and what must not.

#![allow(clippy::unwrap_used, reason = "tests")]

mod figures;
mod traces;
