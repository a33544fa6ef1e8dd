//! What an item comes to: a session's knowledge of the clear log, and its judgement of values by it.

use super::clear_log::{CLEAR_LOG_TTL, ClearLog, Verdict};
use super::connection::session::{Condition, Draft, Session};
use super::connection::{Item, Want, Written};
use super::keys::Key;
use super::server::Known;
use super::stamps::PLACEHOLDER;
use super::ttl::{LAST_SECOND, Ttl};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::value::CacheValue;
use bytes::Bytes;
use std::time::Instant;

/// How often the clear log may turn out to have just changed.
pub(super) const LOG_TRIES: usize = 16;

/// A value that is there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) value: CacheValue,
    pub(super) remaining: i64,
    pub(super) version: Version,
}

/// What a write needs that is to take effect only if nothing has happened since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) cas: u64,
    /// Of the clear log by which the value was judged. With a newer one, a clear in between would be undone.
    pub(super) seq: u64,
}

/// A value that may not count.
#[derive(Debug)]
pub(super) enum Present {
    Live(Found),
    /// Cleared, but still there: who wants to write must replace it.
    Cleared(Version),
    /// The placeholder of a value that is being computed: as good as cleared, but a removal is to be noticed.
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

impl Session {
    pub(super) fn busy(&self) -> Error {
        Error::new(ErrorKind::Backend)
            .with_message(format!("{}: the clear log changes too fast", self.server.address))
    }

    /// The clear log, known within its time to live, over a connection that answered within it: a write cannot be sent twice
    /// without more ado.
    pub(super) async fn log(&mut self) -> Result<Known> {
        let idle = self.answered().is_none_or(|answered| answered.elapsed() > CLEAR_LOG_TTL);
        match self.server.known().filter(Known::is_fresh) {
            Some(known) if !idle => Ok(known),
            _ => self.refresh().await.map(|(known, _)| known),
        }
    }

    /// Asks for the clear log, and makes one where there is none. Also how long the item lives on, which tells the server's clock.
    pub(super) async fn refresh(&mut self) -> Result<(Known, i64)> {
        for _ in 0..LOG_TRIES {
            let asked = Instant::now();
            let key = self.server.log_key.clone();
            let item = self.read(&[key], Want::Value.flags()).await?.pop().flatten();
            if let Some(news) = self.learn(item, asked).await? {
                return Ok(news);
            }
        }
        Err(self.busy())
    }

    /// What an answer to a question for the clear log comes to. `None` if another one made it at the same time.
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

    /// Puts a clear log in place of another, or where there is none; `None` if another one was faster.
    pub(super) async fn write_log(
        &mut self,
        mut log: ClearLog,
        mut condition: Condition,
    ) -> Result<Option<Known>> {
        loop {
            match self.write_log_once(&log, condition).await {
                // The server takes smaller items only (`-I`).
                Err(error) if error.kind() == ErrorKind::TooLarge && log.clears() > 1 => {
                    log = log.shortened(log.clears() / 2, &self.server.prefix);
                    // What is too large has removed what was there.
                    condition = Condition::Absent;
                }
                // A server without memory left (`-M`) makes a new item before it gives the older one's memory back.
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
        // It ends with the server's calendar, not never: what remains of it is how the server's clock is read.
        let draft = Draft { bytes: bytes.clone(), flags: 0, ttl: Ttl::at(LAST_SECOND) };
        match self.write(&key, draft, condition).await? {
            Written::Refused => Ok(None),
            Written::Done { cas } => {
                let read = ClearLog::from_bytes(&bytes, cas).unwrap_or_else(|| log.clone());
                let known = Known::new(read, bytes, cas, asked);
                self.server.learn(known.clone());
                Ok(Some(known))
            }
        }
    }

    /// Whether an item that was asked for at `asked` counts.
    pub(super) async fn judge(&mut self, key: &Key, item: Item, asked: Instant) -> Result<Present> {
        let mut known = match self.server.known() {
            Some(known) => known,
            None => self.refresh().await?.0,
        };
        if item.flags == PLACEHOLDER {
            return Ok(Present::Placeholder(Version { cas: item.cas, seq: known.log.seq() }));
        }
        let mut verdict = known.log.judge(key, item.flags, item.cas);
        if verdict == Verdict::Unknown && known.asked < asked {
            known = self.refresh().await?.0;
            verdict = known.log.judge(key, item.flags, item.cas);
        }
        let version = Version { cas: item.cas, seq: known.log.seq() };
        Ok(match verdict {
            Verdict::Live => Present::Live(self.open_item(key, item, version)),
            Verdict::Cleared | Verdict::Unknown => Present::Cleared(version),
        })
    }

    fn open_item(&mut self, key: &Key, item: Item, version: Version) -> Found {
        let codec = self.server.codec;
        let mut bytes = item.bytes;
        if codec == Codec::MessagePack && bytes.first().is_some_and(u8::is_ascii_digit) {
            // The server's own decrement leaves spaces behind a number that got shorter.
            bytes.truncate(bytes.trim_ascii_end().len());
        }
        let value = CacheValue::from_stored(key.text(), bytes, codec);
        if value.is_misdirected() {
            self.abandon();
        }
        Found { value, remaining: item.remaining, version }
    }
}
