//! The keys of a cache, page by page: `SCAN`.

use super::AsyncRedisCache;
use super::commands;
use super::errors::{BACKEND, Failure};
use super::lane::Lane;
use super::names;
use crate::adapter::{KeyCursor, KeyPage};
use crate::error::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;

/// How many keys the server looks at for one page, with or without the prefix.
const SCAN_COUNT: usize = 1000;

/// Where `SCAN` begins and ends.
const START: &[u8] = b"0";

impl AsyncRedisCache {
    pub(super) async fn page_of_keys(
        &self,
        prefix: &str,
        after: Option<&KeyCursor>,
    ) -> Result<KeyPage> {
        let named = |error: Error| error.with_backend(BACKEND).with_op("keys");
        let own = self.shared.config.settings.scope.prefix();
        let whole = [own, prefix].concat();
        // Where no small value waits for the many keys of an answer.
        let lane = &self.lanes().map_err(named)?.bulk;
        let cursor = after.map_or(START, KeyCursor::place);
        let scan = || commands::scan(cursor, &whole, SCAN_COUNT);
        let scanned = lane.run(scan, self.deadline()).await;
        let (next, found) = scanned.map_err(|failure| named(failure.error))?;
        let live = self.live(lane, ours(found, own)).await;
        let live = live.map_err(|failure| named(failure.error))?;
        let keys = live.iter().filter_map(|key| key.strip_prefix(own)).map(str::to_owned).collect();
        Ok(KeyPage::new(keys, (*next != *START).then(|| KeyCursor::new(next))))
    }

    /// The keys whose values are not past their logical end. The server itself shows no key that
    /// has expired.
    async fn live(&self, lane: &Arc<Lane>, keys: Vec<String>) -> Result<Vec<String>, Failure> {
        if keys.is_empty() || !self.shared.config.settings.codec.has_logical_ends() {
            return Ok(keys);
        }
        let heads: Vec<_> = keys.iter().map(|key| commands::is_stale(key)).collect();
        let heads = lane.run_all(&heads, self.deadline()).await?;
        // The server may refuse to read a head, and another program's list has none: these keys are
        // live for all that is known.
        let live = keys.into_iter().zip(heads).filter(|(_, stale)| !matches!(stale, Ok(true)));
        Ok(live.map(|(key, _)| key).collect())
    }
}

/// The keys that a caller can have written, each once.
fn ours(found: Vec<Bytes>, own: &str) -> Vec<String> {
    let texts = found.into_iter().filter_map(|key| String::from_utf8(key.into()).ok());
    let mut keys: Vec<String> =
        texts.filter(|key| key.len() > own.len() && !names::is_reserved(key)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
