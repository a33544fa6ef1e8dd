//! A simulation of many nodes before one store: the real [`Core`](super::core::Core) of every node,
//! seeded, and driven by events. There are no threads and no real time in it.
//!
//! - `run`: the events, and their loop
//! - `acts`, `requests`, `answers`: what nodes do, and what comes of it
//! - `purposes`: what reads are for
//! - `tags`: entries with tags, which are live while their records are what they were
//! - `node`: a process with its near level
//! - `server`: a small store that tracks by connection what was read, as redis does
//! - `link`: connections, their delays and their faults
//! - `faults`: what goes wrong, and when
//! - `history`: what was written when, and whether a read may return what it returned
//! - `report`: what came of it

mod acts;
mod answers;
mod faults;
mod history;
mod link;
mod node;
mod purposes;
mod report;
mod requests;
mod run;
mod schedule;
mod server;
mod settings;
mod tags;
mod tests;
