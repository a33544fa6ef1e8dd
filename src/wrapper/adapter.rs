//! The adapter of a cache: access, exchange, connection.

use crate::adapter::AsyncCacheAdapter;
use crate::config::IntoAdapter;
use crate::error::Result;
use crate::wrapper::AsyncCacheWrapper;
use std::pin::pin;
use std::sync::Arc;

/// # The adapter
impl AsyncCacheWrapper {
    /// The current adapter. It does not follow later swaps.
    pub fn adapter(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(self.core.slot()?.adapter.clone())
    }

    /// Exchanges the adapter and returns the new one. Options that came with the old adapter's URL
    /// no longer apply.
    ///
    /// # Errors
    ///
    /// As [`new`](AsyncCacheWrapper::new); the old adapter stays.
    pub fn set_adapter(&self, adapter: impl IntoAdapter) -> Result<Arc<dyn AsyncCacheAdapter>> {
        let opened = adapter.into_opened()?;
        let adapter = opened.adapter.clone();
        self.core.swap(opened);
        Ok(adapter)
    }

    /// Exchanges the adapter and returns the old one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// let cache = larder::AsyncCacheWrapper::new("memory")?;
    /// cache.set("k", 1u8).await?;
    /// let old = cache.swap_adapter("memory")?;
    /// assert!(!cache.contains("k").await?);
    /// assert!(old.contains("k").await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](AsyncCacheWrapper::new); the old adapter stays.
    pub fn swap_adapter(&self, adapter: impl IntoAdapter) -> Result<Arc<dyn AsyncCacheAdapter>> {
        let opened = adapter.into_opened()?;
        // A cache that was not used yet returns the adapter that its first call would have used.
        let unused = self.core.slot()?;
        Ok(self.core.swap(opened).unwrap_or(unused).adapter.clone())
    }

    /// Exchanges the adapter for a new one of the same kind and configuration, with new
    /// connections. Closes the old adapter and returns the new one. Entries that were only in the
    /// old adapter's memory are lost.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when the adapter cannot be rebuilt; the old
    /// adapter stays.
    pub async fn reset_adapter(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        let slot = self.core.slot()?;
        let fresh = slot.adapter.rebuild()?;
        self.core.swap(slot.reopened(fresh.clone()));
        slot.inside(pin!(slot.adapter.close())).await.map_err(slot.with_context("close"))?;
        Ok(fresh)
    }

    /// How often the adapter has been exchanged.
    pub fn generation(&self) -> Result<u64> {
        Ok(self.core.slot()?.generation)
    }

    /// Opens the connections. Without this call they are opened on first use. Idempotent.
    pub async fn connect(&self) -> Result<()> {
        let slot = self.core.slot()?;
        slot.inside(pin!(slot.adapter.connect()))
            .await
            .map_err(|error| self.failed_whole(&slot, "connect", None, error))
    }

    /// Checks that the backend answers.
    pub async fn ping(&self) -> Result<()> {
        let slot = self.core.slot()?;
        slot.inside(pin!(slot.adapter.ping()))
            .await
            .map_err(|error| self.failed_whole(&slot, "ping", None, error))
    }

    /// Closes the connections. Idempotent; the next call opens new ones.
    pub async fn close(&self) -> Result<()> {
        let slot = self.core.slot()?;
        slot.inside(pin!(slot.adapter.close()))
            .await
            .map_err(|error| self.failed_whole(&slot, "close", None, error))
    }

    /// Closes, then connects.
    pub async fn reconnect(&self) -> Result<()> {
        let slot = self.core.slot()?;
        slot.inside(pin!(slot.adapter.reconnect()))
            .await
            .map_err(|error| self.failed_whole(&slot, "reconnect", None, error))
    }
}
