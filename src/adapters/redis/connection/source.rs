//! Where connections come from.

use super::connection::Link;
use super::endpoint::Endpoint;
use super::handed_in::config;
use super::open::{Opening, open};
use crate::adapters::redis::errors::Failure;
use deadpool_redis::{Connection, Manager, Pool};
use redis::{Client, ConnectionAddr};
use std::fmt;
use std::sync::OnceLock;

/// The server as it was configured, or what the user opened connections with before.
#[derive(Clone)]
pub(in crate::adapters::redis) enum Source {
    Endpoint(Endpoint),
    Client(Client),
    Pool(Pool),
}

impl Source {
    /// Opens a connection, or takes one out of a pool for good: the pool would `UNWATCH` and `PING`
    /// at every checkout.
    ///
    /// `own` is where a client keeps the pool that is made for it.
    pub(super) async fn connect(
        &self,
        own: &OnceLock<Pool>,
        opening: Opening<'_>,
    ) -> Result<Link, Failure> {
        let pool = match (self, own.get()) {
            (Self::Endpoint(endpoint), _) => {
                return open(endpoint, opening).await.map(Link::Driven);
            }
            (Self::Pool(pool), _) | (_, Some(pool)) => pool,
            (Self::Client(client), None) => {
                let pool = pool(client.get_connection_info().clone())?;
                own.get_or_init(|| pool)
            }
        };
        Ok(Link::HandedIn(Connection::take(pool.get().await?).into()))
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

/// The driver's connections need it where they encrypt, and a pool does not say whether it does.
#[cfg(feature = "tls")]
pub(in crate::adapters::redis) fn prepare_tls(source: &Source) {
    let encrypts = match source {
        Source::Endpoint(_) => false,
        Source::Client(client) => {
            matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
        }
        Source::Pool(_) => true,
    };
    if encrypts {
        super::tls::prepare();
    }
}
