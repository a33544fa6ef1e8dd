//! The keys of a cache as a stream: page by page out of the adapter, on one slot.

use super::events::CallInfo;
use super::slot::Slot;
use crate::adapter::{KeyCursor, KeyPage};
use crate::error::Result;
use crate::key;
use crate::runtime;
use crate::wrapper::AsyncCacheWrapper;
use futures_util::stream::{BoxStream, Stream, StreamExt, unfold};
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

const OP: &str = "keys";

/// The keys of a cache that begin with a text: see
/// [`AsyncCacheWrapper::keys`](crate::AsyncCacheWrapper::keys).
///
/// It is a [`Stream`], and [`next`](KeyStream::next) is there for programs that have no use for
/// streams otherwise. It takes its snapshot of the adapter when it is first polled, and ends after
/// an error.
///
/// # Cancel safety
///
/// `next` may be dropped at any point; no key is lost.
#[must_use = "a stream does nothing until it is polled"]
pub struct KeyStream(BoxStream<'static, Result<String>>);

impl KeyStream {
    pub(super) fn new(cache: AsyncCacheWrapper, prefix: &str) -> Self {
        let walk = Walk {
            prefix: [cache.scope.prefix(), prefix].concat(),
            cache,
            slot: None,
            page: Vec::new().into_iter(),
            place: Place::Beginning,
        };
        Self(unfold(walk, Walk::step).fuse().boxed())
    }

    /// The next key; `None` after the last.
    ///
    /// # Errors
    ///
    /// As [`AsyncCacheWrapper::keys`](crate::AsyncCacheWrapper::keys).
    pub async fn next(&mut self) -> Option<Result<String>> {
        self.0.next().await
    }
}

impl Stream for KeyStream {
    type Item = Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for KeyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyStream")
    }
}

/// A walk in progress.
struct Walk {
    cache: AsyncCacheWrapper,
    /// With the prefix of the namespace.
    prefix: String,
    slot: Option<Arc<Slot>>,
    page: std::vec::IntoIter<String>,
    place: Place,
}

enum Place {
    Beginning,
    At(KeyCursor),
    End,
}

impl Walk {
    async fn step(mut self) -> Option<(Result<String>, Self)> {
        loop {
            if let Some(key) = self.page.next() {
                return Some((Ok(key), self));
            }
            if matches!(self.place, Place::End) {
                return None;
            }
            match self.turn().await {
                Ok(KeyPage { keys, next }) => {
                    self.page = self.named(keys);
                    self.place = next.map_or(Place::End, Place::At);
                }
                Err(error) => {
                    self.place = Place::End;
                    return Some((Err(error), self));
                }
            }
            if self.page.len() == 0 {
                // A store that never waits would keep its thread for the whole walk.
                runtime::yield_now().await;
            }
        }
    }

    /// The next page of the adapter.
    async fn turn(&mut self) -> Result<KeyPage> {
        let slot = match &self.slot {
            Some(slot) => slot,
            None => self.slot.insert(self.cache.begin_batch(OP)?),
        };
        let after = match &self.place {
            Place::At(cursor) => Some(cursor),
            Place::Beginning | Place::End => None,
        };
        let call = pin!(slot.adapter.keys(&self.prefix, after));
        let (page, took) = self.cache.call(slot, CallInfo::new(OP, ""), call).await;
        page.map_err(|error| self.cache.failed_whole(slot, OP, took, error))
    }

    /// The keys of entries, without the prefix of the namespace.
    fn named(&self, mut keys: Vec<String>) -> std::vec::IntoIter<String> {
        keys.retain(|key| !key::is_record(key));
        let scope = self.cache.scope.prefix();
        if !scope.is_empty() {
            let bare = keys.iter().filter_map(|key| key.strip_prefix(scope));
            // The prefix alone is a key of the cache around the namespace.
            keys = bare.filter(|key| !key.is_empty()).map(str::to_owned).collect();
        }
        keys.into_iter()
    }
}
