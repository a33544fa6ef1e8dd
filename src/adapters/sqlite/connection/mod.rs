//! Connections to the database file, and the file itself.
//!
//! A [`Source`](source::Source) is one adapter's access to its database. The [`registry`] keeps one
//! [`Database`](database::Database) for each path in this process, and [`members`] are the adapters
//! that hold connections to it. A database goes through [epochs](epoch::FileEpoch): one epoch is
//! one file with its log. [`file`](mod@file) does what is done to the file without SQLite,
//! [`schema`] what is done through SQLite when it is opened. [`change_log`] is the log of changed
//! keys, if one is asked for.

pub(super) mod change_log;
pub(super) mod database;
pub(super) mod epoch;
mod file;
pub(super) mod members;
mod open_pause;
pub(super) mod present;
mod registry;
pub(super) mod schema;
pub(super) mod source;
