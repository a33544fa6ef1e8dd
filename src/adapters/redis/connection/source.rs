//! Where connections come from.

use super::endpoint::Endpoint;
use super::errors::{Failure, Fate, in_cluster_mode};
use super::link::ClientId;
use super::replies::Bounds;
use super::wire::{Progress, Wire, config};
use crate::error::ErrorKind;
use deadpool_redis::{Connection, Manager, Pool};
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, Pipeline, Value};
use std::fmt;
use std::sync::OnceLock;

/// The server as it was configured, or what the user opened connections with before.
#[derive(Clone)]
pub(super) enum Source {
    Endpoint(Endpoint),
    Client(Client),
    Pool(Pool),
}

impl Source {
    /// Opens a connection, or takes one out of a pool for good: the pool would `UNWATCH` and `PING` at every checkout.
    ///
    /// `own` is where a client keeps the pool that is made for it.
    pub(super) async fn connect(
        &self,
        own: &OnceLock<Pool>,
        bounds: Bounds,
        progress: &Progress,
    ) -> Result<Wire, Failure> {
        let pool = match (self, own.get()) {
            (Self::Endpoint(endpoint), _) => return Wire::open(endpoint, bounds, progress).await,
            (Self::Pool(pool), _) | (_, Some(pool)) => pool,
            (Self::Client(client), None) => {
                let pool = pool(client.get_connection_info().clone())?;
                own.get_or_init(|| pool)
            }
        };
        Ok(Connection::take(pool.get().await?).into())
    }
}

/// The endpoint, without its secrets.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Client(client) => match client.get_connection_info().addr() {
                ConnectionAddr::Tcp(host, port) => write!(f, "redis://{host}:{port}"),
                ConnectionAddr::TcpTls { host, port, .. } => write!(f, "rediss://{host}:{port}"),
                ConnectionAddr::Unix(path) => write!(f, "redis+unix://{}", path.display()),
                _ => f.write_str("a client that was handed in"),
            },
            Self::Pool(_) => f.write_str("a pool that was handed in"),
        }
    }
}

fn pool(info: redis::ConnectionInfo) -> Result<Pool, Failure> {
    let manager = Manager::new_with_config(info, config())?;
    let failed = |_| {
        Failure::from(redis::RedisError::from((redis::ErrorKind::InvalidClientConfig, "no pool")))
    };
    Pool::builder(manager).build().map_err(failed)
}

/// What the server calls this connection, `None` if it does not say; an error for a server that is not one for a cache.
pub(super) async fn identify(
    connection: &mut MultiplexedConnection,
) -> Result<Option<ClientId>, Failure> {
    let mut questions = Pipeline::with_capacity(2);
    questions.cmd("CLIENT").arg("INFO");
    // Without arguments it changes nothing, and says in which mode the server is.
    questions.cmd("HELLO");
    let answers = connection.send_packed_commands(&questions, 0, 2).await?;
    let [client, server] = <[Value; 2]>::try_from(answers).map_err(|_| Failure::out_of_step())?;
    match mode(&server) {
        Some("cluster") => return Err(in_cluster_mode()),
        Some("sentinel") => {
            let message = "this is a sentinel, which stores nothing, and not a server";
            return Err(Failure::new(ErrorKind::Config, message, Fate::Drop));
        }
        _ => {}
    }
    Ok(match client {
        Value::BulkString(info) => ClientId::parse(&String::from_utf8_lossy(&info)),
        Value::VerbatimString { text, .. } => ClientId::parse(&text),
        Value::ServerError(error) if error.code() == "NOAUTH" => {
            return Err(Failure::from(redis::RedisError::from(error)));
        }
        _ => None,
    })
}

/// Which of the modes that are of no use here a server says that it is in, in either version of the protocol.
fn mode(hello: &Value) -> Option<&'static str> {
    let mode = match hello {
        Value::Map(fields) => {
            fields.iter().find(|(name, _)| text(name) == Some("mode")).map(|(_, mode)| mode)
        }
        Value::Array(fields) => fields
            .chunks_exact(2)
            .find(|field| text(&field[0]) == Some("mode"))
            .map(|field| &field[1]),
        _ => None,
    };
    let mode = mode.and_then(text)?;
    ["cluster", "sentinel"].into_iter().find(|known| *known == mode)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// A pool does not tell whether it encrypts.
#[cfg(feature = "tls")]
pub(super) fn prepare_tls(source: &Source) {
    let encrypts = match source {
        Source::Endpoint(endpoint) => endpoint.tls,
        Source::Client(client) => {
            matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
        }
        Source::Pool(_) => true,
    };
    if encrypts {
        super::tls::prepare();
    }
}
