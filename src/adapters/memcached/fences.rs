//! Fences against late writes of stamped values: entries of the clear log, for as long as the
//! writes may arrive.

use super::clear_log::{CLEAR_LOG_TTL, ClearLog};
use super::connection::session::Session;
use super::connection::{Condition, Want};
use super::judging::LOG_TRIES;
use super::late::Late;
use crate::error::Result;
use std::sync::Arc;
use tokio::time::sleep;

/// How many keys are checked in one round trip when a fence is removed.
const LOOKED_AT: usize = 64;

impl Session {
    /// Fences off writes that may still arrive from abandoned connections, and removes fences that
    /// are no longer needed. A lane calls this before every other operation: a late write could
    /// otherwise take effect after a removal that was sent later and acknowledged.
    pub(super) async fn resolve(&mut self) -> Result<()> {
        if !self.unsure.is_empty() {
            self.fence_off().await?;
        }
        if self.log_in_doubt {
            self.renew_log().await?;
        }
        if self.fenced.iter().any(|(_, late)| late.is_over()) {
            // If this fails, the fence stays for now and still keeps late writes off.
            let _ = self.take_back().await;
        }
        Ok(())
    }

    /// Changes the clear log, so that an unanswered change of it does not match the log any more. A
    /// late clear would otherwise undo what is written from now on.
    async fn renew_log(&mut self) -> Result<()> {
        let (known, _) = self.refresh().await?;
        // If it is refused, the log was changed in between, which is as good.
        self.write_log(known.log.renewed(), Condition::Unchanged(known.cas)).await?;
        self.log_in_doubt = false;
        Ok(())
    }

    async fn fence_off(&mut self) -> Result<()> {
        for _ in 0..LOG_TRIES {
            let (known, _) = self.refresh().await?;
            // The answer may have arrived while the new connection was opened. A fence would then
            // be needless, and too late.
            self.unsure.retain(|late| !late.is_over());
            if self.unsure.is_empty() {
                return Ok(());
            }
            let wires: Vec<&String> = self.unsure.iter().flat_map(|late| &late.wires).collect();
            let log = known.log.with_fence(&wires);
            let fence = log.seq();
            if self.write_log(log, Condition::Unchanged(known.cas)).await?.is_some() {
                self.fenced.extend(self.unsure.drain(..).map(|late| (fence, late)));
                // Wait until other processes know of the fence. They could otherwise show a late
                // value to their callers, judged by the log from before the fence.
                sleep(CLEAR_LOG_TTL).await;
                return Ok(());
            }
        }
        Err(self.busy())
    }

    /// Removes the fences of writes that can no longer arrive. A late value that did arrive is
    /// removed first, or it would become visible without its fence.
    async fn take_back(&mut self) -> Result<()> {
        let over: Vec<(u64, Arc<Late>)> =
            self.fenced.iter().filter(|(_, late)| late.is_over()).cloned().collect();
        // One fence may cover several writes.
        let is_needed =
            |fence: u64| self.fenced.iter().any(|(other, late)| *other == fence && !late.is_over());
        let ended: Vec<u64> =
            over.iter().map(|(fence, _)| *fence).filter(|fence| !is_needed(*fence)).collect();
        for (fence, late) in over.iter().filter(|(fence, _)| ended.contains(fence)) {
            for wires in late.wires.chunks(LOOKED_AT) {
                self.remove_late(*fence, wires).await?;
            }
        }
        for _ in 0..LOG_TRIES {
            let (known, _) = self.refresh().await?;
            let mut there = ended.iter().filter(|fence| known.log.has_fence(**fence));
            let done = there.next().is_none() || {
                let log: ClearLog = known.log.without_fences(&ended);
                self.write_log(log, Condition::Unchanged(known.cas)).await?.is_some()
            };
            if done {
                self.fenced.retain(|(fence, _)| !ended.contains(fence));
                return Ok(());
            }
        }
        Err(self.busy())
    }

    async fn remove_late(&mut self, fence: u64, wires: &[String]) -> Result<()> {
        let items = self.read(wires, Want::Meta).await?;
        let (known, _) = self.refresh().await?;
        for (wire, item) in wires.iter().zip(items) {
            if let Some(item) = item
                && known.log.is_kept_off(fence, item.flags, item.cas)
            {
                self.delete(wire, Condition::Unchanged(item.cas)).await?;
            }
        }
        Ok(())
    }
}
