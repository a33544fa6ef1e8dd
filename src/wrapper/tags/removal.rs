//! The removal of tags: of their records, and of what is being loaded with them.

use super::TagNames;
use crate::error::Result;
use crate::event::EventKind;
use crate::wrapper::AsyncCacheWrapper;
use crate::wrapper::events::CallInfo;
use std::pin::pin;

const OP: &str = "remove_tags";

impl AsyncCacheWrapper {
    /// Removes the records of tags. From then on all entries that were written with one of them are
    /// dead.
    pub(in crate::wrapper) async fn remove_records(&self, names: &TagNames) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let (slot, records) = (self.begin_batch(OP)?, names.records(&self.scope));
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        slot.record_ends();
        // Before the removal, because a call that is dropped may still have removed the record; and
        // after it, because a load that read its records before may have begun meanwhile.
        slot.flights.detach_tagged(&records);
        let removing = pin!(slot.adapter.remove_many(&records));
        let (removed, took) = self.call(&slot, CallInfo::new(OP, ""), removing).await;
        slot.flights.detach_tagged(&records);
        let removed = removed.map_err(|error| self.failed_whole(&slot, OP, took, error))?;
        let removed = names.iter().zip(removed).map(|(name, removed)| {
            let info = CallInfo::new(OP, name).took(took);
            match removed {
                Ok(true) => self.emit(&slot, EventKind::Remove, info),
                Ok(false) => {}
                Err(error) => return Err(self.failed(&slot, info, error)),
            }
            Ok(())
        });
        // Emit the events of all tags, also of those after one that failed.
        removed.collect::<Vec<_>>().into_iter().collect()
    }
}
