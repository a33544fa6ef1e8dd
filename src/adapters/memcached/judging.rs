//! Judging items: what a session knows of the clear log, and which values are live by it.

use super::clear_log::{CLEAR_LOG_TTL, ClearLog, Verdict};
use super::connection::session::Session;
use super::connection::{Condition, Draft, Item, Want, Written};
use super::keys::Key;
use super::server::Known;
use super::stamps::{PLACEHOLDER, may_be_stale};
use super::ttl::{self, LAST_SECOND, Ttl};
use crate::adapter::NearEntry;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::value::CacheValue;
use bytes::Bytes;
use std::time::Instant;

/// How many times the clear log may have changed between reading and writing it.
pub(super) const LOG_TRIES: usize = 16;

/// A live value.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) value: CacheValue,
    pub(super) remaining: i64,
    pub(super) version: Version,
    /// Whether only the value itself can tell that it is stale.
    pub(super) may_be_stale: bool,
    /// The bytes of the value, if only metadata were read.
    pub(super) size: u64,
}

impl Found {
    pub(super) fn near(self) -> NearEntry {
        NearEntry::new(self.value, ttl::left(self.remaining))
    }
}

/// The state that a conditional write requires to be unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) cas: u64,
    /// The sequence number of the clear log that the value was judged by. With a newer number, the
    /// write would undo a clear that came in between.
    pub(super) seq: u64,
}

/// An item under a key.
#[derive(Debug)]
pub(super) enum Present {
    Live(Found),
    /// Cleared, but still stored: a conditional write must replace it.
    Cleared(Version),
    /// The placeholder of a value that is being computed. It is a miss, but its removal must be
    /// noticed.
    Placeholder(Version),
}

impl Present {
    pub(super) fn live(self) -> Option<Found> {
        match self {
            Self::Live(found) => Some(found),
            Self::Cleared(_) | Self::Placeholder(_) => None,
        }
    }
}

/// Whether the bytes are a number with spaces behind it: the server's own decrement pads a number
/// that became shorter.
fn is_padded(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    let (digits, spaces) = bytes.split_at(end);
    let is_number = digits == b"0" || (digits.first() != Some(&b'0') && digits.len() < 19);
    is_number && !digits.is_empty() && !spaces.is_empty() && spaces.iter().all(|at| *at == b' ')
}

impl Session {
    pub(super) fn busy(&self) -> Error {
        Error::new(ErrorKind::Backend).with_message(format!(
            "{}: other clients changed the clear log at every attempt to write it",
            self.server.address
        ))
    }

    /// Returns the clear log, read within its time to live, over a connection that answered within
    /// that time: a write on a connection that breaks cannot simply be sent again.
    pub(super) async fn log(&mut self) -> Result<Known> {
        let idle = self.answered().is_none_or(|answered| answered.elapsed() > CLEAR_LOG_TTL);
        match self.server.known().filter(Known::is_fresh) {
            Some(known) if !idle => Ok(known),
            _ => self.refresh().await.map(|(known, _)| known),
        }
    }

    /// Reads the clear log, and creates one if there is none. Also returns the item's remaining
    /// lifetime, from which the server's clock is computed.
    pub(super) async fn refresh(&mut self) -> Result<(Known, i64)> {
        for _ in 0..LOG_TRIES {
            let asked = Instant::now();
            let key = self.server.log_key.clone();
            let item = self.read(&[key], Want::Value).await?.pop().flatten();
            if let Some(news) = self.learn(item, asked).await? {
                return Ok(news);
            }
        }
        Err(self.busy())
    }

    /// Handles the answer to a read of the clear log. `None` if another instance created one at the
    /// same time.
    pub(super) async fn learn(
        &mut self,
        item: Option<Item>,
        asked: Instant,
    ) -> Result<Option<(Known, i64)>> {
        let condition = match item {
            None => Condition::Absent,
            Some(Item { cas: 0, .. }) => {
                let message = format!(
                    "{} runs without CAS numbers (-C), which larder needs",
                    self.server.address
                );
                return Err(Error::new(ErrorKind::Unsupported).with_message(message));
            }
            Some(item) => match self.server.read_log(&item, asked) {
                Some(known) => {
                    self.server.learn(known.clone());
                    return Ok(Some((self.server.known().unwrap_or(known), item.remaining)));
                }
                None => Condition::Unchanged(item.cas),
            },
        };
        let known = self.write_log(self.server.new_log(), condition).await?;
        Ok(known.map(|known| (known, -1)))
    }

    /// Replaces a clear log, or creates the first one. `None` if another instance was faster.
    pub(super) async fn write_log(
        &mut self,
        mut log: ClearLog,
        mut condition: Condition,
    ) -> Result<Option<Known>> {
        loop {
            match self.write_log_once(&log, condition).await {
                // The server accepts smaller items only (`-I`).
                Err(error) if error.kind() == ErrorKind::TooLarge && log.clears() > 1 => {
                    log = log.shortened(log.clears() / 2, &self.server.prefix);
                    // The refused write has removed the older item.
                    condition = Condition::Absent;
                }
                // A server without free memory (`-M`) allocates a new item before it frees the
                // older one.
                Err(error) if error.kind() == ErrorKind::Backend => {
                    let Condition::Unchanged(_) = condition else { return Err(error) };
                    let key = self.server.log_key.clone();
                    if self.delete(&key, condition).await? == Written::Refused {
                        return Ok(None);
                    }
                    condition = Condition::Absent;
                }
                written => return written,
            }
        }
    }

    async fn write_log_once(
        &mut self,
        log: &ClearLog,
        condition: Condition,
    ) -> Result<Option<Known>> {
        let asked = Instant::now();
        let bytes = Bytes::from(log.to_bytes());
        let key = self.server.log_key.clone();
        // It expires with the server's calendar instead of never, because its remaining lifetime is
        // how the server's clock is read.
        let draft = Draft { bytes: bytes.clone(), flags: 0, ttl: Ttl::at(LAST_SECOND) };
        let written = self.write(&key, draft, condition).await;
        self.log_in_doubt |= written.as_ref().is_err_and(Error::is_retryable);
        match written? {
            Written::Refused => Ok(None),
            Written::Done { cas } => {
                let read = ClearLog::from_bytes(&bytes, cas).unwrap_or_else(|| log.clone());
                let known = Known::new(read, bytes, cas, asked);
                self.server.learn(known.clone());
                Ok(Some(known))
            }
        }
    }

    /// Judges items that were requested at `asked`, each beside its key.
    pub(super) async fn judge_all(
        &mut self,
        keys: &[Key],
        items: Vec<Option<Item>>,
        asked: Instant,
    ) -> Result<Vec<Option<Present>>> {
        let mut known = self.known().await?;
        let mut judged = Vec::with_capacity(items.len());
        for (key, item) in keys.iter().zip(items) {
            let Some(item) = item else {
                judged.push(None);
                continue;
            };
            let mut verdict = known.log.judge(key, item.flags, item.cas);
            let is_placeholder = item.flags == PLACEHOLDER;
            if verdict == Verdict::Unknown && known.asked < asked && !is_placeholder {
                known = self.refresh().await?.0;
                verdict = known.log.judge(key, item.flags, item.cas);
            }
            let version = Version { cas: item.cas, seq: known.log.seq() };
            judged.push(Some(match verdict {
                _ if is_placeholder => Present::Placeholder(version),
                Verdict::Live => Present::Live(self.open_item(key, item, version)),
                Verdict::Cleared | Verdict::Unknown => Present::Cleared(version),
            }));
        }
        Ok(judged)
    }

    /// The copy of the clear log, however old; read if there is none.
    async fn known(&mut self) -> Result<Known> {
        match self.server.known() {
            Some(known) => Ok(known),
            None => Ok(self.refresh().await?.0),
        }
    }

    /// Judges one item that was requested at `asked`.
    pub(super) async fn judge(
        &mut self,
        key: &Key,
        item: Option<Item>,
        asked: Instant,
    ) -> Result<Option<Present>> {
        let judged = self.judge_all(std::slice::from_ref(key), vec![item], asked).await?;
        Ok(judged.into_iter().next().flatten())
    }

    fn open_item(&mut self, key: &Key, item: Item, version: Version) -> Found {
        let Item { bytes, flags, remaining, size, .. } = item;
        let codec = match self.server.codec {
            // JSON ignores the spaces, and a view that reads text gets them.
            Codec::MessagePack if is_padded(&bytes) => Codec::Json,
            codec => codec,
        };
        let value = CacheValue::from_stored(key.text(), bytes, codec);
        if value.is_misdirected() {
            self.abandon();
        }
        let may_be_stale = self.server.codec.has_logical_ends() && may_be_stale(flags);
        Found { value, remaining, version, may_be_stale, size }
    }
}
