//! The records of tags: their generations for a write, and how long they live.

use super::TagNames;
use super::ends::{RecordEnds, end_of, end_of_header};
use super::reading::generation;
use crate::clock;
use crate::codec::{Tag, Tags};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind};
use crate::expiry::{Expiry, Lifetime};
use crate::key::Scope;
use crate::meta::Meta;
use crate::options::Options;
use crate::value::CacheValue;
use crate::wrapper::AsyncCacheWrapper;
use crate::wrapper::attempts::{Attempts, TRIES};
use crate::wrapper::events::{concerns_backend, is_denied};
use crate::wrapper::slot::Slot;
use futures_util::future::try_join_all;
use std::hash::{BuildHasher, RandomState};
use std::process;
use std::time::Duration;

/// The shortest life of a record.
const LEAST: Duration = Duration::from_secs(3_600);

/// How long a record lives that is made for an entry with this life: twice as long, so that most
/// writes need not prolong it.
fn record_life(of_entry: Lifetime) -> Lifetime {
    match of_entry {
        Lifetime::Never => Lifetime::Never,
        Lifetime::For(lasting) => Lifetime::from(lasting.saturating_mul(2).max(LEAST)),
    }
}

/// A generation that was never made before. The process and the time are in it, because the child
/// of a fork would otherwise go on with the random numbers of its parent.
fn new_generation() -> u64 {
    RandomState::new().hash_one((process::id(), clock::now_us(), fastrand::u64(..)))
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported)
        .with_message(format!("tags have to be noted in a header, and {what} has none"))
}

impl Slot {
    /// Until when records live. That they were asked for says that tags are in use here.
    pub(super) fn record_ends(&self) -> &RecordEnds {
        self.record_ends.get_or_init(RecordEnds::new)
    }

    /// Whether this process has met tags in this store.
    pub(in crate::wrapper) fn meets_tags(&self) -> bool {
        self.record_ends.get().is_some()
    }

    /// The value as a cache with tags writes it. The generations are read now, so call this before
    /// the write.
    pub(in crate::wrapper) async fn with_tags_of(
        &self,
        cache: &AsyncCacheWrapper,
        value: CacheValue,
        kept: Expiry,
        options: &Options,
    ) -> Result<CacheValue> {
        if cache.tags.is_empty() {
            return Ok(value);
        }
        let life = kept.resolve(self.adapter.default_ttl());
        Ok(value.tagged(Box::pin(self.tags_of(cache, life, options)).await?))
    }

    /// What a write has of its tags. If the backend gave none, the write is not sent, and the keys
    /// that it was to write are removed: their older values are not served any more, as after a
    /// write that the backend refused, and a removal that fails is made up for after an outage.
    pub(in crate::wrapper) async fn or_removed<T>(
        &self,
        keys: &[&str],
        tags: Result<T>,
    ) -> Result<T> {
        if let Err(error) = &tags
            && concerns_backend(error)
        {
            // The caller gets the error of its write.
            let _ = self.adapter.remove_many(keys).await;
        }
        tags
    }

    /// The tags of a cache with tags, for entries that are written now and live this long.
    pub(in crate::wrapper) async fn tags_of(
        &self,
        cache: &AsyncCacheWrapper,
        life: Lifetime,
        options: &Options,
    ) -> Result<Tags> {
        let tags = self.generations(&cache.tags, &cache.scope, life, options).await?;
        self.prolong(&tags, life).await?;
        Ok(tags)
    }

    /// The tags with their present generations, for an entry with this life. A tag without a record
    /// gets one.
    ///
    /// Called before the value is computed: a tag that is removed after this makes the entry dead,
    /// however late it is stored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] where entries have no header, and [`ErrorKind::InvalidKey`] for
    /// tags that no header can hold. Nothing is stored.
    pub(in crate::wrapper) async fn generations(
        &self,
        names: &TagNames,
        scope: &Scope,
        life: Lifetime,
        options: &Options,
    ) -> Result<Tags> {
        match options.codec {
            Some(codec) if !codec.has_header() => return Err(unsupported(&codec.to_string())),
            _ if !self.adapter.has_logical_ends() => return Err(unsupported("this store")),
            _ => {}
        }
        let unread = |record: String| Tag { record: record.into(), generation: 0 };
        let mut all: Vec<Tag> = names.records(scope).into_iter().map(unread).collect();
        let too_long = || {
            Error::new(ErrorKind::InvalidKey)
                .with_message("the tags of an entry have at most 60,000 bytes together")
        };
        let prefix = names.prefix(scope);
        Tags::new(&prefix, all.clone()).ok_or_else(too_long)?;
        let records: Vec<&str> = all.iter().map(|tag| &*tag.record).collect();
        let found = self.adapter.get_many_far(&records).await?;
        let read = records.iter().zip(found).map(|(record, found)| async move {
            match found?.as_ref().and_then(|found| self.learn(record, found)) {
                Some(generation) => Ok(generation),
                None => self.make_record(record, record_life(life), options).await,
            }
        });
        let read: Vec<u64> = try_join_all(read).await?;
        for (tag, generation) in all.iter_mut().zip(read) {
            tag.generation = generation;
        }
        Tags::new(&prefix, all).ok_or_else(too_long)
    }

    /// The generation in a record that was read; `None` if the value is no record.
    fn learn(&self, record: &str, found: &CacheValue) -> Option<u64> {
        let generation = generation(found)?;
        let tag = Tag { record: record.into(), generation };
        self.record_ends().note(&tag, end_of_header(found.meta().expires_ms()));
        Some(generation)
    }

    /// Makes the record of a tag, or reads the one that another caller has made first.
    async fn make_record(&self, record: &str, life: Lifetime, options: &Options) -> Result<u64> {
        let attempts = Attempts::begin();
        for tried in 1..=TRIES {
            let generation = new_generation();
            let mut meta = Meta::new(clock::now_ms(), 0);
            if life != Lifetime::Never {
                meta.end_at(end_of(life) / 1_000);
            }
            let value = options.written(CacheValue::known(generation, meta))?;
            let value = value.tagged(Tags::of_record());
            if self.adapter.add(record, value, life.into()).await? {
                let tag = Tag { record: record.into(), generation };
                self.record_ends().note(&tag, end_of(life));
                return Ok(generation);
            }
            // It may have been removed since, and then the next attempt makes one.
            if let Some(found) = self.adapter.get_far(record).await? {
                match self.learn(record, &found) {
                    Some(generation) => return Ok(generation),
                    // Bytes that cannot be read are the record of no entry.
                    None => self.adapter.remove(record).await.map(drop)?,
                }
            }
            if attempts.are_enough(tried) {
                break;
            }
        }
        let message = "the record of a tag is changed all the time";
        Err(Error::new(ErrorKind::Backend).with_message(message))
    }

    /// Makes the records live as long as an entry that lives for `life` from now.
    pub(in crate::wrapper) async fn prolong(&self, tags: &Tags, life: Lifetime) -> Result<()> {
        let until = end_of(life);
        let short = tags.iter().filter(|tag| !self.record_ends().reaches(tag, until));
        try_join_all(short.map(|tag| self.prolong_one(tag, life, until))).await.map(drop)
    }

    async fn prolong_one(&self, tag: &Tag, life: Lifetime, until: u64) -> Result<()> {
        let mut end = match self.adapter.expiry(&tag.record).await {
            // The tag was removed, so the entry is dead.
            Ok(None) => return Ok(()),
            Ok(Some(Expiry::After(left))) => end_of(Lifetime::For(left)),
            Ok(Some(_)) => end_of(Lifetime::Never),
            // Nobody can say, so each write that is due prolongs.
            Err(error) if is_denied(&error) => 0,
            Err(error) => return Err(error),
        };
        if end < until {
            let life = record_life(life);
            // A touch creates nothing: a tag that was removed meanwhile stays removed.
            match self.adapter.touch(&tag.record, life.into()).await {
                // Then the record ends first, and its entries are missing from there on. A check
                // that is denied fails no write.
                Err(error) if is_denied(&error) => {
                    let event = Event::new(EventKind::BackendError, self.adapter.backend());
                    self.observers.emit(event.with_op("tags").with_error(&error));
                    return Ok(());
                }
                touched => touched?,
            };
            end = end_of(life);
        }
        self.record_ends().note(tag, end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_record_lives_twice_as_long_as_its_entry_and_an_hour_at_least() {
        for (entry, record) in [
            (Lifetime::For(DAY), Lifetime::For(2 * DAY)),
            (Lifetime::For(Duration::from_secs(1)), Lifetime::For(LEAST)),
            (Lifetime::For(DAY * 365 * 900), Lifetime::Never),
            (Lifetime::Never, Lifetime::Never),
        ] {
            assert_eq!(record_life(entry), record, "{entry:?}");
        }
    }

    #[test]
    fn no_generation_is_made_twice() {
        let mut made: Vec<u64> = std::iter::repeat_with(new_generation).take(100_000).collect();
        made.sort_unstable();
        made.dedup();
        assert_eq!(made.len(), 100_000);
    }
}
