//! A lane's own connection: opened when it is needed, abandoned when it cannot be trusted.

use super::client::Client;
use super::connector::Connector;
use super::{Condition, Draft, Item, Want, Wants, Write, Written};
use crate::adapters::memcached::errors::Fault;
use crate::adapters::memcached::late::{BROKEN_FOR, LATE_FOR, Late};
use crate::adapters::memcached::server::Server;
use crate::adapters::memcached::stamps::Stamping;
use crate::adapters::memcached::ttl::Ttl;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

/// The number of deadlines without an answer after which the connection is abandoned. The first one
/// is not enough: a write whose caller has given up may still be in flight, and a later write to
/// the same key, on a new connection, could reach the server before it.
const PATIENCE: u32 = 2;

pub(in crate::adapters::memcached) struct Session {
    pub(in crate::adapters::memcached) server: Arc<Server>,
    connector: Arc<Connector>,
    connection: Option<Connection>,
    asked: u32,
    /// Writes that were never answered and may still take effect.
    pub(in crate::adapters::memcached) unsure: Vec<Arc<Late>>,
    /// Writes that a fence keeps off, with the fence's number.
    pub(in crate::adapters::memcached) fenced: Vec<(u64, Arc<Late>)>,
    /// Whether a change of the clear log was never answered, and may still take effect.
    pub(in crate::adapters::memcached) log_in_doubt: bool,
}

struct Connection {
    client: Client,
    generation: u64,
    used: Instant,
}

impl Session {
    pub(in crate::adapters::memcached) fn new(
        server: Arc<Server>,
        connector: Arc<Connector>,
    ) -> Self {
        Self {
            server,
            connector,
            connection: None,
            asked: 0,
            unsure: Vec::new(),
            fenced: Vec::new(),
            log_in_doubt: false,
        }
    }

    /// Abandons the connection, which is not used again.
    pub(in crate::adapters::memcached) fn abandon(&mut self) {
        self.connection = None;
    }

    /// When the connection last answered.
    pub(in crate::adapters::memcached) fn answered(&self) -> Option<Instant> {
        self.connection.as_ref().map(|connection| connection.used)
    }

    /// The client, on a connection of the present generation.
    async fn client(&mut self) -> Result<&mut Client> {
        let generation = self.server.generation();
        if self.connection.as_ref().is_some_and(|connection| {
            connection.generation != generation || connection.client.is_closed()
        }) {
            self.abandon();
        }
        if self.connection.is_none() {
            let client = self.open().await?;
            self.connection = Some(Connection { client, generation, used: Instant::now() });
        }
        self.connection
            .as_mut()
            .map(|connection| &mut connection.client)
            .ok_or_else(|| self.server.unavailable("has no connection"))
    }

    async fn open(&self) -> Result<Client> {
        let server = &self.server;
        if let Some(cause) = server.availability.closed_by() {
            return Err(server.turned_away(cause));
        }
        let error = match timeout(server.op_timeout, self.connector.open()).await {
            Ok(Ok(client)) => {
                server.availability.open();
                return Ok(client);
            }
            Ok(Err(fault)) => server.error(fault),
            Err(_) => server.timeout(),
        };
        if server.availability.close(&error) {
            runtime::spawn(try_again(Arc::downgrade(server), self.connector.clone()));
        }
        Err(error)
    }

    /// How long an answer may take before the connection is abandoned.
    fn patience(&self) -> Duration {
        self.server.op_timeout.saturating_mul(PATIENCE)
    }

    /// Translates the answer to a read or a removal, and abandons the connection if necessary.
    fn settle<T>(&mut self, answer: Result<Result<T, Fault>, Elapsed>) -> Result<T> {
        match answer {
            Ok(Ok(answer)) => {
                self.note_answer();
                Ok(answer)
            }
            Ok(Err(fault)) => self.fail(fault, Vec::new),
            Err(_) => {
                self.abandon();
                Err(self.server.timeout())
            }
        }
    }

    /// The same for a write. If no answer arrives in time, the write and its connection are
    /// abandoned, and a task reads from the connection until the answer arrives: from then on the
    /// write cannot take effect late.
    fn settle_write<T>(
        &mut self,
        answer: Result<Result<T, Fault>, Elapsed>,
        wires: impl FnOnce() -> Vec<String>,
    ) -> Result<T> {
        match answer {
            Ok(Ok(answer)) => {
                self.note_answer();
                Ok(answer)
            }
            Ok(Err(fault)) => self.fail(fault, wires),
            Err(_) => {
                if let Some(Connection { client, .. }) = self.connection.take() {
                    self.outlast(client, wires());
                }
                Err(self.server.timeout())
            }
        }
    }

    fn note_answer(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.used = Instant::now();
        }
    }

    /// Abandons the connection if necessary. Writes that were sent over it to these wire keys may
    /// then still take effect.
    fn fail<T>(&mut self, fault: Fault, wires: impl FnOnce() -> Vec<String>) -> Result<T> {
        let given_up = match (&fault, &self.connection) {
            (Fault::Broken(_), Some(connection)) => {
                self.server.broke(connection.generation);
                true
            }
            (Fault::Misplaced | Fault::Unbounded { .. }, _) => true,
            (Fault::TooLarge | Fault::Refused(_) | Fault::Broken(_), _) => false,
        };
        if given_up {
            self.abandon();
            // Stamped values can be fenced off. For others there is no answer to wait for, as the
            // connection is closed at both ends.
            if self.server.stamping == Stamping::Stamped {
                self.doubt(&Late::new(wires(), BROKEN_FOR));
            }
        }
        Err(self.server.error(fault))
    }

    fn doubt(&mut self, late: &Arc<Late>) {
        if late.wires.is_empty() {
            return;
        }
        match self.server.stamping {
            Stamping::Stamped => self.unsure.push(late.clone()),
            Stamping::Plain => self.server.in_doubt.add(late.clone()),
        }
    }

    fn outlast(&mut self, client: Client, wires: Vec<String>) {
        if wires.is_empty() {
            return;
        }
        let late = Late::new(wires, LATE_FOR);
        self.doubt(&late);
        let Ok(permit) = self.server.listeners.clone().try_acquire_owned() else { return };
        runtime::spawn(async move {
            let _permit = permit;
            // Without an answer, the connection is closed here.
            let _ = timeout(LATE_FOR, client.outlast()).await;
            late.end();
        });
    }

    /// Fails if a late write may still change one of these keys: an acknowledged operation on such
    /// a key could be undone.
    fn is_settled(&self, wires: &[&str]) -> Result<()> {
        if self.server.in_doubt.has(|late| wires.contains(&late)) {
            Err(self.server.doubt())
        } else {
            Ok(())
        }
    }

    /// The first of `count` numbers by which answers name their requests.
    fn opaques(&mut self, count: usize) -> u32 {
        let first = self.asked;
        self.asked = first.wrapping_add(count as u32);
        first
    }

    /// Reads items in one round trip. Reads are idempotent: if the connection turns out to be
    /// broken, the read is sent again over a new one.
    pub(in crate::adapters::memcached) async fn read<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        want: Want,
    ) -> Result<Vec<Option<Item>>> {
        self.read_and_touch(keys, want, None).await
    }

    /// Reads items, of the first of which the value, whatever is wanted of the others.
    pub(in crate::adapters::memcached) async fn read_behind_value(
        &mut self,
        keys: &[&str],
        want: Want,
    ) -> Result<Vec<Option<Item>>> {
        self.read_again(keys, Wants { first: Want::Value, others: want }, None).await
    }

    /// Reads items, and gives them a lifetime if there is one.
    pub(in crate::adapters::memcached) async fn read_and_touch<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        want: Want,
        ttl: Option<Ttl>,
    ) -> Result<Vec<Option<Item>>> {
        self.read_again(keys, want.into(), ttl).await
    }

    async fn read_again<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        wants: Wants,
        ttl: Option<Ttl>,
    ) -> Result<Vec<Option<Item>>> {
        let reused = self.connection.is_some();
        match self.read_once(keys, wants, ttl).await {
            Err(error) if reused && self.was_closed(&error) => {
                self.read_once(keys, wants, ttl).await
            }
            answer => answer,
        }
    }

    /// Whether there is a connection, which the server may have closed.
    pub(in crate::adapters::memcached) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether an operation failed because the server had closed the connection.
    pub(in crate::adapters::memcached) fn was_closed(&self, error: &Error) -> bool {
        self.connection.is_none() && error.kind() == ErrorKind::Unavailable
    }

    async fn read_once<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        wants: Wants,
        ttl: Option<Ttl>,
    ) -> Result<Vec<Option<Item>>> {
        let opaque = self.opaques(1);
        let patience = self.patience();
        let client = self.client().await?;
        let answer = timeout(patience, client.get(keys, wants, ttl, opaque)).await;
        self.settle(answer)
    }

    /// Writes one item under a condition.
    pub(in crate::adapters::memcached) async fn write(
        &mut self,
        key: &str,
        draft: Draft,
        condition: Condition,
    ) -> Result<Written> {
        self.is_settled(&[key])?;
        let opaque = self.opaques(1);
        let patience = self.patience();
        let client = self.client().await?;
        let answer = timeout(patience, client.set(key, &draft, condition, opaque)).await;
        // A late compare-and-set fails by itself; it needs no fencing.
        let may_be_late =
            !matches!(condition, Condition::Unchanged(_)) && key != self.server.log_key;
        self.settle_write(answer, || if may_be_late { vec![key.to_owned()] } else { Vec::new() })
    }

    /// Removes one item under a condition.
    pub(in crate::adapters::memcached) async fn delete(
        &mut self,
        key: &str,
        condition: Condition,
    ) -> Result<Written> {
        self.is_settled(&[key])?;
        let opaque = self.opaques(1);
        let patience = self.patience();
        let client = self.client().await?;
        let answer = timeout(patience, client.delete(key, condition, opaque)).await;
        self.settle(answer)
    }

    /// Stores items in one round trip, in their order, and returns whether all of them were stored.
    /// `seq` is the present sequence number of the clear log. An error that is not retryable
    /// concerns one of the items, and the server does not say which.
    pub(in crate::adapters::memcached) async fn store_all(
        &mut self,
        writes: &[Write],
        seq: u64,
    ) -> Result<bool> {
        let first = self.opaques(writes.len());
        let patience = self.patience();
        let stamping = self.server.stamping;
        let client = self.client().await?;
        let (mut shape, mut words) = (None, String::new());
        for (opaque, Write { key, stored, ttl }) in numbered(first, writes) {
            let of_this = (*ttl, stamping.flags(seq, stored.may_be_stale));
            if shape.replace(of_this) != Some(of_this) {
                words = format!(" F{} {ttl}", of_this.1);
            }
            client.add_to_set_all(key.wire(), &stored.bytes, &words, opaque);
        }
        let answer = timeout(patience, client.set_all(first, writes.len())).await;
        let wires = || writes.iter().map(|write| write.key.wire().to_owned()).collect();
        Ok(self.settle_write(answer, wires)?.is_empty())
    }

    /// Removes items in one round trip, and returns the places among them of those that did not
    /// exist. A quiet `md` answers nothing in this case, so each removal is a replacement that has
    /// already expired: the server refuses it if there is nothing to replace.
    pub(in crate::adapters::memcached) async fn delete_all(
        &mut self,
        wires: &[&str],
    ) -> Result<Vec<usize>> {
        let first = self.opaques(wires.len());
        let patience = self.patience();
        let client = self.client().await?;
        let words = format!("{} {}", Condition::Present, Ttl::PAST);
        for (opaque, wire) in numbered(first, wires) {
            client.add_to_set_all(wire, &[], &words, opaque);
        }
        // A late removal causes a miss at most, which is never wrong.
        let answer = timeout(patience, client.set_all(first, wires.len())).await;
        self.settle_write(answer, Vec::new)
    }

    /// Asks for a sign of life, again over a new connection if the connection turns out to be broken.
    pub(in crate::adapters::memcached) async fn ping(&mut self) -> Result<()> {
        let reused = self.connection.is_some();
        match self.ping_once().await {
            Err(error) if reused && self.was_closed(&error) => self.ping_once().await,
            answer => answer,
        }
    }

    async fn ping_once(&mut self) -> Result<()> {
        let patience = self.patience();
        let client = self.client().await?;
        let answer = timeout(patience, client.ping()).await;
        self.settle(answer)
    }
}

/// Items with their numbers, of which `first` is the first.
fn numbered<T>(first: u32, items: &[T]) -> impl Iterator<Item = (u32, &T)> {
    items.iter().enumerate().map(move |(at, item)| (first.wrapping_add(at as u32), item))
}

/// Tries to connect until it succeeds, and leaves the connection to the next caller. Ends with the
/// adapter.
async fn try_again(server: Weak<Server>, connector: Arc<Connector>) {
    loop {
        let plan = server.upgrade().and_then(|server| {
            Some((server.availability.pause(server.op_timeout)?, server.op_timeout))
        });
        let Some((pause, patience)) = plan else { return };
        sleep(pause).await;
        let connected = timeout(patience, connector.check()).await;
        let Some(server) = server.upgrade() else { return };
        match connected {
            Ok(Ok(())) => return server.availability.open(),
            Ok(Err(fault)) => server.availability.still_closed_by(&server.error(fault)),
            Err(_) => server.availability.still_closed_by(&server.timeout()),
        }
    }
}
