//! Which entries are live: those whose records are what they were before the value was computed.
//!
//! Near, an entry and its records may be of different times, so that one seems dead which never was.
//! So an entry is dead only if the far store says so.

use crate::codec::Tags;
use crate::error::Result;
use crate::options::ReadFrom;
use crate::value::CacheValue;
use crate::wrapper::slot::Slot;
use std::collections::HashMap;
use std::task::Poll;

/// The generation that a record contains; `None` if the value is no record. A record that is near is
/// decoded once.
pub(super) fn generation(found: &CacheValue) -> Option<u64> {
    if found.tags()?.are_of_record() { found.decode_once().ok() } else { None }
}

/// Whether an entry with these tags is live.
///
/// # Errors
///
/// That of a record that cannot be read, unless another one shows that the entry is dead.
fn are_current(tags: &Tags, read: impl Fn(&str) -> Result<Option<u64>>) -> Result<bool> {
    // A record is no entry.
    if tags.are_of_record() {
        return Ok(false);
    }
    let mut unread = None;
    for tag in tags.iter() {
        match read(&tag.record) {
            Ok(generation) if generation == Some(tag.generation) => {}
            Ok(_) => return Ok(false),
            Err(error) => unread = Some(error),
        }
    }
    unread.map_or(Ok(true), Err)
}

impl Slot {
    /// The value under `key`, unless one of its tags was removed.
    pub(in crate::wrapper) async fn read(
        &self,
        key: &str,
        from: ReadFrom,
    ) -> Result<Option<CacheValue>> {
        let found = match from {
            ReadFrom::Near => self.adapter.get(key),
            ReadFrom::Far => self.adapter.get_far(key),
        };
        match found.await? {
            Some(found) if found.is_tagged() => Box::pin(self.unless_dead(key, found, from)).await,
            found => Ok(found),
        }
    }

    /// An entry with tags that was found, or what is under its key instead.
    async fn unless_dead(
        &self,
        key: &str,
        found: CacheValue,
        from: ReadFrom,
    ) -> Result<Option<CacheValue>> {
        if self.is_current(&found, from).await? {
            return Ok(Some(found));
        }
        if !self.may_be_old(from) {
            return Ok(None);
        }
        match self.adapter.get_far(key).await? {
            Some(found) if !self.is_current(&found, ReadFrom::Far).await? => Ok(None),
            found => Ok(found),
        }
    }

    /// Whether what is read from there may be older than what the store has.
    fn may_be_old(&self, from: ReadFrom) -> bool {
        from == ReadFrom::Near && self.adapter.near_stats().is_some()
    }

    /// [`read`](Self::read) of several keys: one call for the entries, and one for the records of
    /// those with tags.
    pub(in crate::wrapper) async fn read_many(
        &self,
        keys: &[&str],
        from: ReadFrom,
    ) -> Result<Vec<Result<Option<CacheValue>>>> {
        let found = self.find(keys, from).await?;
        Ok(self.without_dead(keys, found, Option::as_ref, |instead| instead, from).await)
    }

    async fn find(&self, keys: &[&str], from: ReadFrom) -> Result<Vec<Result<Option<CacheValue>>>> {
        match from {
            ReadFrom::Near => self.adapter.get_many(keys).await,
            ReadFrom::Far => self.adapter.get_many_far(keys).await,
        }
    }

    /// The answers of a read of these keys. In place of entries of which a tag was removed stands
    /// what is there instead.
    pub(in crate::wrapper) async fn without_dead<F>(
        &self,
        keys: &[&str],
        found: Vec<Result<F>>,
        value: impl Fn(&F) -> Option<&CacheValue>,
        instead: impl Fn(Option<CacheValue>) -> F,
        from: ReadFrom,
    ) -> Vec<Result<F>> {
        if !found.iter().flatten().filter_map(&value).any(CacheValue::is_tagged) {
            return found;
        }
        let judged = Box::pin(self.judged(found, value, from)).await;
        let dead = keys.iter().zip(&judged).filter(|(_, judged)| judged.is_none());
        let dead: Vec<&str> = dead.map(|(key, _)| *key).collect();
        let far = if dead.is_empty() || !self.may_be_old(from) {
            Vec::new()
        } else {
            Box::pin(self.read_many_far(&dead)).await
        };
        let mut far = far.into_iter();
        let or_far = |live: Option<Result<F>>| {
            live.unwrap_or_else(|| far.next().unwrap_or(Ok(None)).map(&instead))
        };
        judged.into_iter().map(or_far).collect()
    }

    async fn read_many_far(&self, keys: &[&str]) -> Vec<Result<Option<CacheValue>>> {
        let found = match self.find(keys, ReadFrom::Far).await {
            Ok(found) => found,
            Err(error) => return keys.iter().map(|_| Err(error.clone())).collect(),
        };
        let judged = self.judged(found, Option::as_ref, ReadFrom::Far).await;
        judged.into_iter().map(|live| live.unwrap_or(Ok(None))).collect()
    }

    /// The answers of a read, with `None` in place of entries of which a tag was removed.
    async fn judged<F>(
        &self,
        found: Vec<Result<F>>,
        value: impl Fn(&F) -> Option<&CacheValue>,
        from: ReadFrom,
    ) -> Vec<Option<Result<F>>> {
        let tagged = |found: &F| value(found).filter(|value| value.is_tagged()).cloned();
        let values: Vec<_> = found.iter().flatten().filter_map(tagged).collect();
        let mut current = self.are_current(&values, from).await.into_iter();
        let judged = found.into_iter().map(|found| {
            if !found.as_ref().ok().and_then(&value).is_some_and(CacheValue::is_tagged) {
                return Some(found);
            }
            match current.next() {
                Some(Ok(true)) => Some(found),
                Some(Err(error)) => Some(Err(error)),
                Some(Ok(false)) | None => None,
            }
        });
        judged.collect()
    }

    /// Whether all tags of a value are what they were when it was written.
    pub(in crate::wrapper) async fn is_current(
        &self,
        value: &CacheValue,
        from: ReadFrom,
    ) -> Result<bool> {
        if !value.is_tagged() {
            return Ok(true);
        }
        self.are_current(std::slice::from_ref(value), from).await.pop().unwrap_or(Ok(false))
    }

    /// [`is_current`](Self::is_current) for each of several values, in one call.
    pub(in crate::wrapper) async fn are_current(
        &self,
        values: &[CacheValue],
        from: ReadFrom,
    ) -> Vec<Result<bool>> {
        self.record_ends();
        let tags = values.iter().filter_map(CacheValue::tags).flat_map(Tags::iter);
        let mut records: Vec<&str> = tags.map(|tag| &*tag.record).collect();
        records.sort_unstable();
        records.dedup();
        let found = match records.is_empty() {
            true => Ok(Vec::new()),
            false => self.find(&records, from).await,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => return values.iter().map(|_| Err(error.clone())).collect(),
        };
        let generations = found.into_iter().map(|found| Ok(found?.as_ref().and_then(generation)));
        let generations: HashMap<&str, Result<Option<u64>>> =
            records.into_iter().zip(generations).collect();
        let read = |record: &str| generations.get(record).cloned().unwrap_or(Ok(None));
        let judged = values.iter().map(|value| {
            value.tags().map_or(Ok(!value.is_tagged()), |tags| are_current(tags, read))
        });
        judged.collect()
    }

    /// [`is_current`](Self::is_current) if neither the records need a wait, nor the far store has to
    /// be asked whether the entry is dead.
    pub(in crate::wrapper) fn is_current_now(&self, value: &CacheValue) -> Poll<Result<bool>> {
        let Some(tags) = value.tags() else { return Poll::Ready(Ok(!value.is_tagged())) };
        if tags.are_of_record() {
            return Poll::Ready(Ok(false));
        }
        for tag in tags.iter() {
            let mut read = None;
            let looked = self.adapter.get_if_ready(&tag.record, &mut |found| {
                read = generation(found);
            });
            match looked {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if read == Some(tag.generation) => {}
                Poll::Ready(Ok(())) if self.may_be_old(ReadFrom::Near) => return Poll::Pending,
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }

    /// What was found at once, unless one of its tags was removed. `Pending` if the records need a
    /// wait.
    #[inline]
    pub(in crate::wrapper) fn current_now(
        &self,
        found: Poll<Result<Option<CacheValue>>>,
    ) -> Poll<Result<Option<CacheValue>>> {
        match found {
            Poll::Ready(Ok(Some(value))) if value.is_tagged() => {
                self.is_current_now(&value).map_ok(|is_current| is_current.then_some(value))
            }
            found => found,
        }
    }
}
