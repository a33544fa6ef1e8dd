//! One database for each file in this process, whatever adapters have it open.
//!
//! SQLite's locks on a file are the process's: two connections of one process never keep each other
//! out by them. SQLite makes up for this per file (by inode). When the file is deleted, a connection
//! that opens the path again meets the log index of the old one, finds no lock on it, and cuts it
//! off while others have it mapped: the process dies by SIGBUS. So all adapters of a path share what
//! is known of its file, and the next file is opened when all connections to the last are closed.

use super::database::Database;
use super::file::Identity;
use crate::runtime::lock;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

static DATABASES: Mutex<BTreeMap<PathBuf, Weak<Database>>> = Mutex::new(BTreeMap::new());

/// The database of a resolved path. It is kept by those who use it and by its open connections.
pub(super) fn database_at(path: PathBuf) -> Arc<Database> {
    let mut databases = lock(&DATABASES);
    databases.retain(|_, database| database.strong_count() > 0);
    if let Some(database) = databases.get(&path).and_then(Weak::upgrade) {
        return database;
    }
    let database = Arc::new(Database::in_file(path.clone()));
    databases.insert(path, Arc::downgrade(&database));
    database
}

/// The databases of other paths that have the very same file open: it was moved beneath them.
pub(super) fn others_with(file: Identity, than: &Database) -> Vec<Arc<Database>> {
    let all: Vec<_> = lock(&DATABASES).values().filter_map(Weak::upgrade).collect();
    all.into_iter().filter(|other| !std::ptr::eq(&**other, than) && other.has_open(file)).collect()
}
