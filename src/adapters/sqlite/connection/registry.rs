//! One shared object for each path in this process, for as long as it is used.
//!
//! Databases need such a registry because SQLite's locks on a file belong to the process: two
//! connections of one process never exclude each other by them. SQLite makes up for this with a
//! table of its own, by inode. When the file is deleted, a connection that opens the path again
//! finds the log index of the old file, finds no lock on it, and truncates it while other
//! connections have it mapped: the process dies by SIGBUS. So all adapters of a path share one
//! database, which opens the next file only when all connections to the last one are closed.

use crate::runtime::lock;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

/// Objects by resolved path. The registry keeps none of them alive.
pub(super) struct Registry<T>(Mutex<BTreeMap<PathBuf, Weak<T>>>);

impl<T> Registry<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// The object of `path`, which `make` creates if there is none.
    pub(super) fn get_or_insert(&self, path: &Path, make: impl FnOnce() -> T) -> Arc<T> {
        let mut known = lock(&self.0);
        known.retain(|_, object| object.strong_count() > 0);
        if let Some(object) = known.get(path).and_then(Weak::upgrade) {
            return object;
        }
        let object = Arc::new(make());
        known.insert(path.to_owned(), Arc::downgrade(&object));
        object
    }

    /// All objects that are in use.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        lock(&self.0).values().filter_map(Weak::upgrade).collect()
    }
}
