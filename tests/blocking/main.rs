//! The blocking face, from everywhere it can be called, a process each.

#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(all(target_os = "linux", feature = "memory", feature = "testing"))]

mod contexts;
mod cost;
mod drops;
mod ends;
mod farewell;
mod nested;
#[path = "../own_process/mod.rs"]
mod own_process;
mod runtimes;
mod work;
