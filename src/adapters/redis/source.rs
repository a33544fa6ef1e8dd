//! Where connections come from.

use super::endpoint::Endpoint;
use super::errors::Failure;
use super::link::ClientId;
use super::wire::{Wire, config};
use crate::{Error, ErrorKind};
use deadpool_redis::{Connection, Manager, Pool};
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, Value};
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
    /// `own` is where a source that needs a pool, and is none, keeps the one it makes.
    pub(super) async fn connect(&self, own: &OnceLock<Pool>) -> Result<Wire, Failure> {
        let pool = match (self, own.get()) {
            (Self::Endpoint(endpoint), _) if !endpoint.tls => return Wire::open(endpoint).await,
            (Self::Pool(pool), _) | (_, Some(pool)) => pool,
            (Self::Client(client), None) => {
                let pool = pool(client.get_connection_info().clone())?;
                own.get_or_init(|| pool)
            }
            (Self::Endpoint(endpoint), None) => {
                let pool = pool(endpoint.encrypted()?)?;
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

/// What the server calls this connection; `None` if it does not say.
pub(super) async fn identify(
    connection: &mut MultiplexedConnection,
) -> Result<Option<ClientId>, Failure> {
    let answer = connection.send_packed_command(redis::cmd("CLIENT").arg("INFO")).await?;
    Ok(match answer {
        Value::BulkString(info) => ClientId::parse(&String::from_utf8_lossy(&info)),
        Value::VerbatimString { text, .. } => ClientId::parse(&text),
        Value::ServerError(error) if error.code() == "NOAUTH" => {
            return Err(Failure::from(redis::RedisError::from(error)));
        }
        _ => None,
    })
}

/// rustls has no crypto provider of its own: the first handshake without one panics. A pool does not tell whether it encrypts.
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
        // An error says that the program has chosen one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// A file that was named in the configuration, read when a connection needs it.
pub(super) fn unreadable(path: &std::path::Path, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Config)
        .with_message(format!("the file `{}` cannot be read", path.display()))
        .with_source(cause)
}
