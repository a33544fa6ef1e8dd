//! The adapters that hold connections to a database, and how they are asked to close them.

use crate::runtime::lock;
use std::sync::{Arc, Mutex, Weak};

/// A holder of connections to a database.
pub(in super::super) trait Member: Send + Sync {
    /// Closes every retired connection as soon as its present statement has ended.
    fn recall(self: Arc<Self>);
}

/// All holders of connections to one database.
#[derive(Default)]
pub(super) struct Members(Mutex<Vec<Weak<dyn Member>>>);

impl Members {
    /// Adds a holder, unless it is known already.
    pub(super) fn admit(&self, member: Weak<dyn Member>) {
        let mut members = lock(&self.0);
        members.retain(|known| known.strong_count() > 0);
        if !members.iter().any(|known| known.ptr_eq(&member)) {
            members.push(member);
        }
    }

    /// Asks all holders to close their retired connections.
    pub(super) fn recall(&self) {
        // Collected first: a holder takes its own locks, and must not do so under ours.
        let members: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        members.into_iter().for_each(Member::recall);
    }
}
