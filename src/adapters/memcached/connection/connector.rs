//! Opens connections.

use super::address::Address;
use super::client::Client;
use super::{Condition, Draft, Written};
use crate::adapters::memcached::errors::Fault;
use crate::adapters::memcached::keys;
use crate::adapters::memcached::ttl::Ttl;
use crate::runtime::lock;
use bytes::Bytes;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a connection may wait to be used. Nobody notices meanwhile that the server closes it.
const KEPT: Duration = Duration::from_secs(1);

/// A value of so many bytes is read whatever the limit for writing is: other processes may have
/// another limit.
const READ: usize = 16 << 20;

/// Opens the connections of one runtime to one server.
#[derive(Debug)]
pub(in crate::adapters::memcached) struct Connector {
    address: Address,
    /// As many bytes of one value are read.
    most: usize,
    /// A connection that was opened to check whether the server is available again.
    spare: Mutex<Option<(Client, Instant)>>,
}

impl Connector {
    /// Writes are bounded by `max_value_bytes`, and reads, too, from [`READ`] on.
    pub(in crate::adapters::memcached) fn new(address: Address, max_value_bytes: usize) -> Self {
        Self { address, most: max_value_bytes.max(READ), spare: Mutex::default() }
    }

    /// A new connection, or the one that [`check`](Self::check) has opened.
    pub(super) async fn open(&self) -> Result<Client, Fault> {
        let spare = lock(&self.spare).take();
        match spare {
            Some((client, opened)) if opened.elapsed() <= KEPT => Ok(client),
            _ => self.connect().await,
        }
    }

    /// Opens a connection for the next caller of [`open`](Self::open).
    pub(super) async fn check(&self) -> Result<(), Fault> {
        let client = self.connect().await?;
        *lock(&self.spare) = Some((client, Instant::now()));
        Ok(())
    }

    async fn connect(&self) -> Result<Client, Fault> {
        let socket = self.address.connect().await.map_err(Fault::Broken)?;
        let mut client = Client::new(socket, self.most);
        // Servers before 1.6 do not know the command and would run the value as a command, so the
        // value is a harmless one. The key never exists, so nothing is stored.
        let bytes = Bytes::from_static(b"mn");
        let draft = Draft { bytes, flags: 0, ttl: Ttl::PAST };
        match client.set(&keys::probe(), &draft, Condition::Present, 0).await? {
            Written::Refused => Ok(client),
            Written::Done { .. } => Err(Fault::Misplaced),
        }
    }
}
