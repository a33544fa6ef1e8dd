//! The operations on one connection. Each runs to its end: a caller that gives up does not
//! interrupt it.

use super::connection::session::Session;
use super::connection::{Condition, Draft, Item, Stored, Want, Write, Written};
use super::judging::{Found, Present, Version};
use super::keys::{self, Key};
use super::stamps::Stamping;
use super::ttl::{LAST_SECOND, Ttl};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::time::Instant;

/// The most bytes of requests that are sent together.
const TOGETHER_BYTES: usize = 256 << 10;

/// The most bytes of values that are read together to find out whether they are stale: so many are
/// in memory at the same time.
const LOOKED_AT_BYTES: usize = 4 << 20;

/// The approximate size of a command besides its key and value.
const COMMAND_BYTES: usize = 48;

/// An addition to a counter.
#[derive(Debug)]
pub(super) struct Count {
    pub(super) key: Key,
    pub(super) by: i64,
    /// The lifetime for a missing key; `None` leaves the key missing.
    pub(super) ttl: Option<Ttl>,
}

/// One result for each key of a batch.
pub(super) type Each<T> = Vec<Result<T>>;

impl Session {
    /// Reads values, or only their metadata.
    pub(super) async fn fetch(&mut self, keys: &[Key], want: Want) -> Each<Option<Found>> {
        let mut all = Vec::with_capacity(keys.len());
        for piece in pieces(keys, TOGETHER_BYTES, |key| key.wire().len()) {
            match self.fetch_piece(piece, want).await {
                Ok(found) => {
                    all.extend(found.into_iter().map(|present| Ok(present.and_then(Present::live))))
                }
                Err(error) => all.extend(piece.iter().map(|_| Err(error.clone()))),
            }
        }
        all
    }

    async fn fetch_piece(&mut self, keys: &[Key], want: Want) -> Result<Vec<Option<Present>>> {
        let asked = Instant::now();
        let items = if self.server.known().is_some_and(|known| known.is_fresh()) {
            self.read(keys, want).await?
        } else {
            self.read_with_log(keys, want, asked).await?
        };
        self.judge_all(keys, items, asked).await
    }

    /// Reads the clear log in the same round trip.
    async fn read_with_log(
        &mut self,
        keys: &[Key],
        want: Want,
        asked: Instant,
    ) -> Result<Vec<Option<Item>>> {
        let log = self.server.log_key.clone();
        let wires: Vec<&str> =
            std::iter::once(log.as_str()).chain(keys.iter().map(Key::wire)).collect();
        let mut items = self.read_behind_value(&wires, want).await?;
        let first = if items.is_empty() { None } else { items.remove(0) };
        if self.learn(first, asked).await?.is_none() {
            self.refresh().await?;
        }
        Ok(items)
    }

    pub(super) async fn fetch_one(&mut self, key: &Key, want: Want) -> Result<Option<Present>> {
        Ok(self.fetch_piece(std::slice::from_ref(key), want).await?.pop().flatten())
    }

    /// Stores values unconditionally, in their order.
    pub(super) async fn store(&mut self, writes: &[Write]) -> Each<()> {
        let mut stored = Vec::with_capacity(writes.len());
        // While some keys may have a late write, each value is stored by itself.
        let limit = if self.server.in_doubt.has(|_| true) { 0 } else { TOGETHER_BYTES };
        let size = |write: &Write| write.key.wire().len() + write.stored.bytes.len();
        for piece in pieces(writes, limit, size) {
            self.store_piece(piece, &mut stored).await;
        }
        stored
    }

    async fn store_piece(&mut self, writes: &[Write], stored: &mut Each<()>) {
        // What is left to store; what comes first is the last.
        let mut left = vec![writes];
        while let Some(writes) = left.pop() {
            if let [write] = writes {
                stored.push(self.store_one(write).await);
                continue;
            }
            match self.store_together(writes).await {
                Ok(()) => stored.extend(writes.iter().map(|_| Ok(()))),
                Err(error) if error.is_retryable() => {
                    stored.extend(writes.iter().map(|_| Err(error.clone())));
                }
                // The server refused one of the values, and does not say which. Halves find it in
                // few round trips.
                Err(_) => {
                    let (first, second) = writes.split_at(writes.len() / 2);
                    left.extend([second, first]);
                }
            }
        }
    }

    async fn store_together(&mut self, writes: &[Write]) -> Result<()> {
        let stored = match self.store_together_once(writes).await {
            // The same order as in `put`.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                self.resolve().await?;
                self.store_together_once(writes).await?
            }
            stored => stored?,
        };
        if stored { Ok(()) } else { Err(refused(self)) }
    }

    async fn store_together_once(&mut self, writes: &[Write]) -> Result<bool> {
        let seq = self.log().await?.log.seq();
        self.store_all(writes, seq).await
    }

    async fn store_one(&mut self, write: &Write) -> Result<()> {
        self.resolve().await?;
        if self.put(write, Condition::Always).await? { Ok(()) } else { Err(refused(self)) }
    }

    /// Writes a value with the present stamp, and returns whether the condition held.
    async fn put(&mut self, write: &Write, condition: Condition) -> Result<bool> {
        match self.put_once(write, condition).await {
            // The connection broke. Fence off what was sent over it before sending it again: a late
            // first copy could otherwise overwrite a value that another caller writes after the
            // second.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                self.resolve().await?;
                self.put_once(write, condition).await
            }
            done => done,
        }
    }

    async fn put_once(&mut self, write: &Write, condition: Condition) -> Result<bool> {
        let seq = self.log().await?.log.seq();
        let draft = self.draft(write.stored.clone(), seq, write.ttl);
        Ok(self.write(write.key.wire(), draft, condition).await? != Written::Refused)
    }

    /// A value as it is sent at this sequence number of the clear log.
    fn draft(&self, Stored { bytes, may_be_stale }: Stored, seq: u64, ttl: Ttl) -> Draft {
        Draft { bytes, flags: self.server.stamping.flags(seq, may_be_stale), ttl }
    }

    /// Replaces a value, and returns whether the older value was still there.
    pub(super) async fn put_over(
        &mut self,
        old: Version,
        key: &Key,
        stored: Stored,
        ttl: Ttl,
    ) -> Result<bool> {
        let draft = self.draft(stored, old.seq, ttl);
        match self.write(key.wire(), draft, Condition::Unchanged(old.cas)).await? {
            Written::Refused => Ok(false),
            Written::Done { cas } => self.is_uncleared(key, old, cas).await,
        }
    }

    /// Whether no clear came between reading the older value and replacing it; `cas` is the number
    /// of the new value. A stamp shows this by itself. Without one, a new value that was computed
    /// from a cleared one is removed.
    async fn is_uncleared(&mut self, key: &Key, old: Version, cas: u64) -> Result<bool> {
        if self.server.stamping == Stamping::Stamped {
            return Ok(true);
        }
        let (known, _) = self.refresh().await?;
        let cleared = known.log.is_cleared_since(key, old.seq);
        if cleared {
            self.delete(key.wire(), Condition::Unchanged(cas)).await?;
        }
        Ok(!cleared)
    }

    /// Removes values, and returns for each whether it was live.
    pub(super) async fn remove(&mut self, keys: &[Key]) -> Each<bool> {
        let mut all = Vec::with_capacity(keys.len());
        // While some keys may have a late write, each key is removed by itself.
        let limit = if self.server.in_doubt.has(|_| true) { 0 } else { TOGETHER_BYTES };
        for piece in pieces(keys, limit, |key| key.wire().len()) {
            match self.remove_piece(piece).await {
                Ok(removed) => all.extend(removed.into_iter().map(Ok)),
                Err(error) => all.extend(piece.iter().map(|_| Err(error.clone()))),
            }
        }
        all
    }

    async fn remove_piece(&mut self, keys: &[Key]) -> Result<Vec<bool>> {
        let found = self.fetch_piece(keys, Want::Meta).await?;
        let mut live: Vec<bool> =
            found.iter().map(|item| matches!(item, Some(Present::Live(_)))).collect();
        self.look_for_stale(keys, &found, &mut live).await?;
        // A removal must also end a claim on a key that has no value.
        let there =
            |at: &usize| matches!(found[*at], Some(Present::Live(_) | Present::Placeholder(_)));
        let targets: Vec<(usize, &str)> =
            (0..keys.len()).filter(there).map(|at| (at, keys[at].wire())).collect();
        if let [(at, wire)] = targets[..] {
            live[at] &= self.delete(wire, Condition::Always).await? != Written::Refused;
        } else if !targets.is_empty() {
            let wires: Vec<&str> = targets.iter().map(|(_, wire)| *wire).collect();
            for refused in self.delete_all(&wires).await? {
                live[targets[refused].0] = false;
            }
        }
        Ok(live)
    }

    /// Notes which of the live values are stale. The logical end is in the value, which the server
    /// returns whole or not at all, so only the values that may be stale are read.
    async fn look_for_stale(
        &mut self,
        keys: &[Key],
        found: &[Option<Present>],
        live: &mut [bool],
    ) -> Result<()> {
        let unsure = found.iter().enumerate().filter_map(|(at, present)| match present {
            Some(Present::Live(found)) if found.may_be_stale => Some((at, found.size)),
            _ => None,
        });
        let unsure: Vec<(usize, u64)> = unsure.collect();
        let size = |(_, size): &(usize, u64)| usize::try_from(*size).unwrap_or(usize::MAX);
        for piece in pieces(&unsure, LOOKED_AT_BYTES, size) {
            let keys: Vec<Key> = piece.iter().map(|(at, _)| keys[*at].clone()).collect();
            let values = self.fetch_piece(&keys, Want::Value).await?;
            for ((at, _), present) in piece.iter().zip(values) {
                let found = present.and_then(Present::live);
                live[*at] = found.is_some_and(|found| !found.value.is_stale());
            }
        }
        Ok(())
    }

    pub(super) async fn add(&mut self, write: &Write, deadline: Instant) -> Result<bool> {
        let Write { key, stored, ttl } = write;
        while !self.put(write, Condition::Absent).await? {
            match self.fetch_one(key, Want::Meta).await? {
                Some(Present::Live(_)) => return Ok(false),
                Some(Present::Cleared(old) | Present::Placeholder(old))
                    if self.put_over(old, key, stored.clone(), *ttl).await? =>
                {
                    break;
                }
                _ => self.in_time(deadline)?,
            }
        }
        Ok(true)
    }

    pub(super) async fn replace(&mut self, write: &Write, deadline: Instant) -> Result<bool> {
        let Write { key, stored, ttl } = write;
        while let Some(Present::Live(found)) = self.fetch_one(key, Want::Meta).await? {
            if self.put_over(found.version, key, stored.clone(), *ttl).await? {
                return Ok(true);
            }
            self.in_time(deadline)?;
        }
        Ok(false)
    }

    pub(super) async fn take(&mut self, key: &Key, deadline: Instant) -> Result<Option<Found>> {
        loop {
            let (version, found) = match self.fetch_one(key, Want::Value).await? {
                Some(Present::Live(found)) => (found.version, Some(found)),
                Some(Present::Placeholder(version)) => (version, None),
                Some(Present::Cleared(_)) | None => return Ok(None),
            };
            if self.delete(key.wire(), Condition::Unchanged(version.cas)).await? != Written::Refused
            {
                return Ok(found);
            }
            self.in_time(deadline)?;
        }
    }

    /// Gives an item a new expiry. A cleared item or a placeholder gets it, too, which has no
    /// visible effect.
    pub(super) async fn touch(&mut self, key: &Key, ttl: Ttl, want: Want) -> Result<Option<Found>> {
        self.log().await?;
        let asked = Instant::now();
        let items = self.read_and_touch(std::slice::from_ref(key), want, Some(ttl)).await?;
        let item = items.into_iter().next().flatten();
        Ok(self.judge(key, item, asked).await?.and_then(Present::live))
    }

    /// Adds to a counter. memcached's own arithmetic stops at zero and wraps at 2⁶⁴, so the sum is
    /// computed here and stored by compare-and-set.
    pub(super) async fn count(&mut self, count: &Count, deadline: Instant) -> Result<i64> {
        let Count { key, by, ttl } = count;
        loop {
            let (present, now) = self.fetch_with_clock(key).await?;
            let (sum, ttl) = match &present {
                Some(Present::Live(found)) if !found.value.is_stale() => {
                    let sum = found
                        .value
                        .as_counter()?
                        .checked_add(*by)
                        .ok_or_else(|| Error::new(ErrorKind::Overflow))?;
                    (sum, Some(unchanged(found.remaining, now)))
                }
                _ => (*by, *ttl),
            };
            let Some(ttl) = ttl else { return Ok(sum) };
            let stored = Stored { bytes: Bytes::from(sum.to_string()), may_be_stale: false };
            let written = match present {
                Some(
                    Present::Live(Found { version, .. })
                    | Present::Cleared(version)
                    | Present::Placeholder(version),
                ) => self.put_over(version, key, stored, ttl).await?,
                None => {
                    let write = Write { key: key.clone(), stored, ttl };
                    self.put(&write, Condition::Absent).await?
                }
            };
            if written {
                return Ok(sum);
            }
            self.in_time(deadline)?;
        }
    }

    /// Reads an item, and the server's clock in seconds since 1970: the end of the clear log is
    /// known, and its remaining lifetime gives the clock. The lifetime is read before and after the
    /// item. If the clock ticked in between, the key would live longer with every increment.
    async fn fetch_with_clock(&mut self, key: &Key) -> Result<(Option<Present>, Option<i64>)> {
        for _ in 0..8 {
            let asked = Instant::now();
            let log = self.server.log_key.clone();
            let items = self.read(&[&log, key.wire(), &log], Want::Value).await?;
            let Ok([before, item, after]) = <[Option<Item>; 3]>::try_from(items) else { continue };
            let ticks = [&before, &after].map(|item| item.as_ref().map(|item| item.remaining));
            if ticks[0] != ticks[1] || self.learn(before, asked).await?.is_none() {
                continue;
            }
            let present = self.judge(key, item, asked).await?;
            return Ok((
                present,
                ticks[0]
                    .filter(|remaining| *remaining >= 0)
                    .map(|remaining| LAST_SECOND - remaining),
            ));
        }
        // Only if the server's clock runs far too fast. One second more or less does not matter
        // then.
        Ok((self.fetch_one(key, Want::Value).await?, None))
    }

    /// Records a prefix in the clear log, which is all that a clear does.
    pub(super) async fn clear(&mut self, prefix: &str, deadline: Instant) -> Result<()> {
        // The text of an encoded wire key is not known, so every encoded key may have the prefix.
        let is_meant = |wire: &str| wire.starts_with(prefix) || keys::is_encoded(wire);
        if self.server.in_doubt.has(is_meant) {
            return Err(self.server.doubt());
        }
        loop {
            let (known, _) = self.refresh().await?;
            let next = known.log.with_cleared(prefix, &self.server.prefix);
            if self.write_log(next, Condition::Unchanged(known.cas)).await?.is_some() {
                return Ok(());
            }
            self.in_time(deadline)?;
        }
    }

    pub(super) fn in_time(&self, deadline: Instant) -> Result<()> {
        if Instant::now() < deadline { Ok(()) } else { Err(self.server.timeout()) }
    }
}

/// The lifetime that keeps the present end.
fn unchanged(remaining: i64, now: Option<i64>) -> Ttl {
    match now {
        Some(now) if remaining >= 0 => Ttl::at(now.saturating_add(remaining)),
        _ => Ttl::remaining(remaining),
    }
}

fn refused(session: &Session) -> Error {
    Error::new(ErrorKind::Backend)
        .with_message(format!("{} refused an unconditional write", session.server.address))
}

/// Cuts a batch into pieces of at most `limit` bytes, or of one item that is larger.
fn pieces<T>(all: &[T], limit: usize, size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|item| {
            bytes = size(item).saturating_add(bytes).saturating_add(COMMAND_BYTES);
            bytes <= limit
        });
        let (piece, left) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = left;
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_what_fits_and_never_nothing() {
        let sizes = [10, 10, 5_000, 10, 10];
        let cut: Vec<usize> = pieces(&sizes, 200, |size| *size).map(<[usize]>::len).collect();
        assert_eq!(cut, [2, 1, 2]);
        assert_eq!(pieces(&[0usize; 0], 200, |size| *size).count(), 0);
    }

    #[test]
    fn the_end_of_a_counter_does_not_move() {
        assert_eq!(unchanged(100, Some(1_800_000_000)), Ttl::at(1_800_000_100));
        assert_eq!(unchanged(-1, Some(1_800_000_000)), Ttl::NEVER);
        assert_eq!(unchanged(100, None), Ttl::remaining(100));
    }
}
