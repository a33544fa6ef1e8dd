//! The end of reads, writes and clears, also of those that are dropped.

use super::{Clear, ReadMark, Write};
use crate::runtime::lock;
use std::sync::atomic::Ordering;

impl Drop for ReadMark<'_> {
    fn drop(&mut self) {
        let mut shard = lock(self.flights.shard(self.hash));
        if let Some(readers) = shard.readers.get_mut(&self.hash) {
            readers.count -= 1;
            if readers.count == 0 {
                shard.readers.remove(&self.hash);
            }
        }
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        let mut shard = lock(self.flights.shard(self.hash));
        if let Some(writes) = shard.writes.get_mut(&self.hash) {
            *writes -= 1;
            if *writes == 0 {
                shard.writes.remove(&self.hash);
            }
        }
        shard.note_change(self.hash);
    }
}

impl Drop for Clear<'_> {
    fn drop(&mut self) {
        for shard in &self.0.shards {
            lock(shard).note_change_of_all();
        }
        self.0.clears.fetch_sub(1, Ordering::SeqCst);
    }
}
