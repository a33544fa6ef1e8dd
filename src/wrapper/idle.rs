//! Time to idle: a hit renews the expiry of its entry.
//!
//! The renewal runs beside the hit, which has its value already: where the store never waits it is
//! over at once, elsewhere it is a task. It asks how long the entry still lives, and touches it only
//! if that is too short. So a renewal never shortens a life, and never makes up for a removal; and of
//! several processes one renews.

use super::events::{CallInfo, is_denied};
use super::slot::Slot;
use crate::codec::Tags;
use crate::error::Result;
use crate::expiry::{Expiry, Lifetime};
use crate::observers::inherit;
use crate::options::{Options, Renewal};
use crate::runtime;
use crate::value::CacheValue;
use crate::wrapper::AsyncCacheWrapper;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

const OP: &str = "idle";

impl AsyncCacheWrapper {
    /// Renews the expiry of an entry that was hit, if the options of the call ask for it, and no
    /// other hit has done so a moment ago.
    #[cold]
    pub(super) fn renew(&self, slot: &Arc<Slot>, key: &str, value: &CacheValue, options: &Options) {
        let Some(renewal) = options.renewal(value.meta()) else { return };
        let Ok(scoped) = self.scope.key(key) else { return };
        if !slot.renewals().begin(&scoped, renewal.pause) {
            return;
        }
        let (cache, slot, scoped) = (self.clone(), slot.clone(), scoped.into_owned());
        let (key, tags, slot_waits) = (key.to_owned(), value.tags().cloned(), slot.has_waited());
        let mut work = Box::pin(async move {
            let info = CallInfo::new(OP, &key);
            let call = pin!(slot.renew(&scoped, renewal, tags.as_ref()));
            if let (Err(error), took) = cache.call(&slot, info, call).await {
                // The event is all that remains of the error: the hit has its value.
                let _emitted = cache.failed(&slot, info.took(took), error);
            }
        });
        if slot_waits || work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            runtime::spawn(inherit(work));
        }
    }
}

impl Slot {
    /// Gives an entry the expiry of a hit, unless it lives long enough.
    async fn renew(&self, scoped: &str, renewal: Renewal, tags: Option<&Tags>) -> Result<()> {
        match self.adapter.expiry(scoped).await {
            Ok(Some(Expiry::After(left))) if left < renewal.enough => {}
            Ok(_) => return Ok(()),
            // Nobody can say, so each hit that is due renews.
            Err(error) if is_denied(&error) => {}
            Err(error) => return Err(error),
        }
        if let Some(tags) = tags {
            self.prolong(tags, Lifetime::from(renewal.lasting)).await?;
        }
        self.adapter.touch(scoped, Expiry::After(renewal.lasting)).await.map(drop)
    }
}
