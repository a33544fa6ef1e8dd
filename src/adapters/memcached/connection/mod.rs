//! One connection: the driver's client, its pool, and the meaning of its answers.
//!
//! A `lane` is the queue in front of a connection. Its task has a `session`, which opens the
//! connection at an `address`, unless the server's `availability` is closed. `ring` chooses the
//! server of a key.

pub(super) mod address;
pub(super) mod availability;
pub(super) mod lane;
pub(super) mod ring;
pub(super) mod session;

use super::errors::Fault;
use super::keys;
use address::Address;
use async_memcached::{
    Client, Error as DriverError, ErrorKind as Refusal, MetaProtocol, MetaValue, Status,
};
use bytes::Bytes;
use deadpool::managed::{Manager, Metrics, Pool, RecycleError, RecycleResult};
use std::io;
use std::time::Duration;

/// How long a connection may stay in the pool. Lanes keep theirs; a pooled one was opened to check
/// whether a server is available again.
const KEPT: Duration = Duration::from_secs(1);

/// The driver cannot read `ERROR Too many open connections`, and does not report the text.
const UNREADABLE: &str = "the answer is not memcached's protocol; a server \
                          without free connections (-c) answers so";

/// Opens connections and discards closed ones: the driver closes a client whose operation was
/// dropped midway, and such a client never works again.
#[derive(Debug)]
pub(super) struct Connector {
    address: Address,
}

impl Connector {
    pub(super) fn pool(address: Address, size: usize) -> Pool<Self> {
        // It fails only for a pool with timeouts and no runtime for them. The lanes have their own
        // deadlines.
        Pool::builder(Self { address })
            .max_size(size)
            .build()
            .expect("a pool without timeouts needs no runtime")
    }
}

impl Manager for Connector {
    type Type = Client;
    type Error = DriverError;

    async fn create(&self) -> Result<Client, DriverError> {
        let dsn = self.address.dsn().await.map_err(DriverError::Connect)?;
        let mut client = Client::new(dsn).await?;
        // Servers before 1.6 do not know the command and would run the value as a command, so the
        // value is a harmless one. The key never exists, so nothing is stored.
        let flags = ["MR", "T-1", "O0"];
        match client.meta_set(keys::probe(), &b"mn"[..], false, None, Some(&flags)).await {
            Ok(Some(MetaValue { status: Some(Status::NotStored), .. })) => Ok(client),
            Ok(_) => Err(DriverError::Protocol(Status::Error(Refusal::NonexistentCommand))),
            Err(DriverError::Protocol(Status::Error(Refusal::Protocol(_)))) => {
                Err(DriverError::Connect(io::Error::other(UNREADABLE)))
            }
            Err(error) => Err(error),
        }
    }

    async fn recycle(&self, client: &mut Client, metrics: &Metrics) -> RecycleResult<DriverError> {
        // The driver does not notice that a server has closed the connection, so an old connection
        // is discarded without a check.
        let old = metrics.last_used() > KEPT;
        if old || client.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

/// An item of the server.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) bytes: Bytes,
    pub(super) flags: u32,
    pub(super) cas: u64,
    /// The remaining seconds; negative is never.
    pub(super) remaining: i64,
}

impl From<MetaValue> for Item {
    fn from(value: MetaValue) -> Self {
        Self {
            bytes: value.data.map(Bytes::from).unwrap_or_default(),
            flags: value.flags.unwrap_or(0),
            cas: value.cas.unwrap_or(0),
            remaining: value.ttl_remaining.unwrap_or(-1),
        }
    }
}

/// Whether a read returns the value or metadata only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Want {
    Value,
    Meta,
}

impl Want {
    /// The flags of a meta get. The driver reads a hit without flags as a miss.
    pub(super) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Value => &["v", "f", "c", "t", "k"],
            Self::Meta => &["f", "c", "t", "k"],
        }
    }
}

/// The result of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done {
        /// The item's new CAS number.
        cas: u64,
    },
    /// The condition did not hold: another value is there, or none.
    Refused,
}

/// Assigns the answers of pipelined gets to their keys. Only hits are answered, in the order of the
/// keys.
pub(super) fn beside<K: AsRef<str>>(
    keys: &[K],
    opaque: &str,
    answers: Vec<MetaValue>,
) -> Result<Vec<Option<Item>>, Fault> {
    let mut found = Vec::with_capacity(keys.len());
    for answer in answers {
        let token = opaque.strip_prefix('O').map(str::as_bytes);
        if answer.opaque_token.as_deref() != token {
            return Err(Fault::Misplaced);
        }
        loop {
            let Some(key) = keys.get(found.len()) else { return Err(Fault::Misplaced) };
            if answer.key.as_deref() == Some(key.as_ref().as_bytes()) {
                break;
            }
            found.push(None);
        }
        found.push(Some(answer.into()));
    }
    found.resize(keys.len(), None);
    Ok(found)
}

/// The answer to a single get.
pub(super) fn single(
    key: &str,
    opaque: &str,
    answer: Option<MetaValue>,
) -> Result<Option<Item>, Fault> {
    match answer {
        None => Ok(None),
        Some(answer) if answer.status == Some(Status::NotFound) => Ok(None),
        Some(answer) => Ok(beside(&[key], opaque, vec![answer])?.pop().flatten()),
    }
}

/// The answer to a set or delete that carried `opaque`.
pub(super) fn written(opaque: &str, answer: Option<MetaValue>) -> Result<Written, Fault> {
    let answer = answer.filter(|answer| {
        answer.opaque_token.as_deref() == opaque.strip_prefix('O').map(str::as_bytes)
    });
    match answer.and_then(|answer| Some((answer.status?, answer.cas))) {
        Some((Status::Stored | Status::Deleted, cas)) => {
            Ok(Written::Done { cas: cas.unwrap_or(0) })
        }
        Some((Status::NotStored | Status::Exists | Status::NotFound, _)) => Ok(Written::Refused),
        _ => Err(Fault::Misplaced),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(key: &str, token: &str) -> MetaValue {
        MetaValue {
            key: Some(key.into()),
            opaque_token: Some(token.into()),
            ..MetaValue::default()
        }
    }

    #[test]
    fn hits_are_put_beside_their_keys() {
        let found = beside(&["a", "b", "a", "c"], "O7", vec![answer("a", "7"), answer("a", "7")])
            .expect("in step");
        assert_eq!(
            found.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, false, true, false]
        );
    }

    #[test]
    fn an_answer_to_another_question_is_noticed() {
        for answers in [
            vec![answer("z", "7")],
            vec![answer("a", "6")],
            vec![answer("b", "7"), answer("a", "7")],
        ] {
            assert!(matches!(beside(&["a", "b"], "O7", answers), Err(Fault::Misplaced)));
        }
        assert!(matches!(
            written("O7", Some(MetaValue { status: Some(Status::Stored), ..answer("a", "6") })),
            Err(Fault::Misplaced)
        ));
        assert!(matches!(written("O7", None), Err(Fault::Misplaced)));
    }
}
