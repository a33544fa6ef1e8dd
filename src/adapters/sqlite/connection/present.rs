//! Whether a file is still the one that was open, for readers who go on where they stopped.

use super::database::Database;
use super::epoch::FileEpoch;
use crate::runtime::lock;
use std::sync::{Arc, Weak};

/// A file that was open and in place. It keeps nothing open.
#[derive(Clone, Debug)]
pub(in super::super) struct Present(Weak<FileEpoch>);

impl PartialEq for Present {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Present {
    /// The file that is open in a database. `None` if none is, or if it is not in place.
    pub(super) async fn in_place(database: &Database) -> Option<Self> {
        let epoch = lock(&database.epoch).clone();
        let is_open = epoch.has_begun() && epoch.has_connections();
        (is_open && database.look_at(&epoch).await).then(|| Self(Arc::downgrade(&epoch)))
    }

    /// Whether the epoch of the file has not ended. An epoch begins when all connections of the one
    /// before are closed, so whatever was read meanwhile was read from this file.
    pub(super) fn is_open_in(&self, database: &Database) -> bool {
        std::ptr::eq(Arc::as_ptr(&*lock(&database.epoch)), self.0.as_ptr())
    }
}
