//! What a load acquires before its loader runs: the right to store the value, and the generations of
//! the tags with which the value is stored.

use crate::codec::Tags;
use crate::error::Result;
use crate::options::Options;
use crate::wrapper::AsyncCacheWrapper;
use crate::wrapper::events::{CallInfo, concerns_backend};
use crate::wrapper::fencing::StoreRight;
use crate::wrapper::slot::Slot;
use std::time::Duration;

/// What a load has acquired so far.
#[derive(Default)]
pub(super) struct Ready {
    /// `None` until the right is acquired, and again once it is used.
    pub(super) right: Option<StoreRight>,
    /// `None` until the tags are read, and for a cache without tags.
    pub(super) tags: Option<Tags>,
    /// Do not store: the backend could not be read, and may hold a good value, or the generations of
    /// the tags are not known.
    pub(super) skip_store: bool,
}

impl Ready {
    /// A load that is not stored.
    pub(super) fn unstored() -> Self {
        Self { right: Some(StoreRight::None), skip_store: true, ..Self::default() }
    }

    /// Takes the tags that were read. `None` means that they could not be read, and that the load
    /// goes on without the backend.
    pub(super) fn take_tags(&mut self, tags: Option<Tags>) {
        self.skip_store |= tags.is_none();
        self.tags = tags;
    }
}

impl AsyncCacheWrapper {
    /// The present generations of the tags of this cache, for a load that begins now; `None` if the
    /// backend fails, and the load goes on without it.
    ///
    /// # Errors
    ///
    /// That of the backend without fail-open; or there can be no such tags.
    pub(super) async fn tags_of_load(
        &self,
        slot: &Slot,
        key: &str,
        options: &Options,
    ) -> Result<Option<Tags>> {
        let default = slot.adapter.default_ttl();
        let life = options.plan_write(default, Duration::ZERO).kept.resolve(default);
        match slot.tags_of(self, life, options).await {
            Ok(tags) => Ok(Some(tags)),
            Err(error) => {
                let error = self.failed(slot, CallInfo::new("tags", key), error);
                if options.fail_open && concerns_backend(&error) { Ok(None) } else { Err(error) }
            }
        }
    }
}
