//! Connections to the database file, and the file itself.
//!
//! A [`Source`](source::Source) is one adapter's way to its database. The [`registry`] knows the
//! one [`Database`](database::Database) of each path in this process. A database lives through
//! [epochs](epoch::FileEpoch): one epoch is one file with its log. [`file`](mod@file) is what can be
//! said and done about that file without SQLite, [`schema`] what is said to SQLite when it is opened.

pub(super) mod database;
pub(super) mod epoch;
mod file;
pub(super) mod members;
mod registry;
pub(super) mod schema;
pub(super) mod source;
