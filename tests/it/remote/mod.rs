//! What holds of every server on a network: one set of tests, run against each of them.

// clippy allows it in `#[test]`s, and not in the functions that they share.
#![allow(clippy::unwrap_used)]

mod cancel;
mod deadlines;
mod forks;
mod keys;
mod large;
pub(crate) mod order;
pub(crate) mod outage;
mod recovery;
mod runtimes;
mod scheduling;
mod together;

use crate::support::server::Server;
pub(crate) use crate::support::values::{PATIENT, percentile, put, soak, text, value_of};
use crate::support::{Memcached, Redis};
use larder::{AsyncCacheAdapter, Codec, MemcachedBuilder, RedisBuilder};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) type Cache = Arc<dyn AsyncCacheAdapter>;

/// How an adapter differs from the defaults, in the words that both builders have.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    prefix: String,
    pool_size: Option<usize>,
    op_timeout: Option<Duration>,
    codec: Codec,
    max_value_bytes: Option<usize>,
    max_batch: Option<usize>,
    batch_above: Option<usize>,
}

impl Setup {
    /// Defaults, and a prefix that no other test has.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("r{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            prefix,
            pool_size: None,
            op_timeout: None,
            codec: Codec::default(),
            max_value_bytes: None,
            max_batch: None,
            batch_above: None,
        }
    }

    pub(crate) fn patient() -> Self {
        Self::new().op_timeout(PATIENT)
    }

    pub(crate) fn pool_size(self, pool_size: usize) -> Self {
        Self { pool_size: Some(pool_size), ..self }
    }

    pub(crate) fn op_timeout(self, op_timeout: Duration) -> Self {
        Self { op_timeout: Some(op_timeout), ..self }
    }

    pub(crate) fn codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    pub(crate) fn max_batch(self, max_batch: usize) -> Self {
        Self { max_batch: Some(max_batch), ..self }
    }

    /// Where calls can go alone at all: memcached's lanes take them one after another.
    pub(crate) fn batch_above(self, batch_above: usize) -> Self {
        Self { batch_above: Some(batch_above), ..self }
    }

    pub(crate) fn max_value_bytes(self, max_value_bytes: usize) -> Self {
        Self { max_value_bytes: Some(max_value_bytes), ..self }
    }
}

/// A server, and the adapter that speaks to it.
pub(crate) trait Remote: Deref<Target = Server> + Send + Sync + Sized + 'static {
    const KIND: &'static str;
    /// An address at which no server listens.
    const NOWHERE: &'static str;
    /// What would do harm if it reached the server as a command.
    const COMMANDS: &'static [&'static str];
    /// How many connections `connect` opens where three are allowed.
    const OPENED_OF_THREE: usize;

    /// A server of its own on a free port.
    fn start() -> Self;
    /// The one for tests that do not disturb it.
    fn shared() -> &'static Self;
    /// Where it is.
    fn url(&self) -> &str;
    /// An adapter for a server or for a proxy before it.
    fn adapter(url: &str, setup: Setup) -> Cache;
    /// Connections accepted since it started.
    fn accepted(&self) -> usize;
    /// Connections that are open, beside the test's own.
    fn open(&self) -> usize;

    fn cache(&self, setup: Setup) -> Cache {
        Self::adapter(self.url(), setup)
    }
}

macro_rules! build {
    ($builder:expr, $setup:expr) => {{
        let (builder, setup): (_, Setup) = ($builder, $setup);
        let mut builder = builder.prefix(setup.prefix).codec(setup.codec);
        if let Some(pool_size) = setup.pool_size {
            builder = builder.pool_size(pool_size);
        }
        if let Some(op_timeout) = setup.op_timeout {
            builder = builder.op_timeout(op_timeout);
        }
        if let Some(max_value_bytes) = setup.max_value_bytes {
            builder = builder.max_value_bytes(max_value_bytes);
        }
        if let Some(max_batch) = setup.max_batch {
            builder = builder.max_batch(max_batch);
        }
        Arc::new(builder.build().unwrap())
    }};
}

impl Remote for Redis {
    const KIND: &'static str = "redis";
    const NOWHERE: &'static str = "redis://127.0.0.1:1";
    const COMMANDS: &'static [&'static str] = &[
        "*1\r\n$8\r\nFLUSHALL\r\n",
        "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
        "\r\nFLUSHALL\r\n",
        "\r\nSET canary dead\r\n",
        "$4\r\nPING\r\n",
    ];
    const OPENED_OF_THREE: usize = 3;

    fn start() -> Self {
        Redis::start()
    }

    fn shared() -> &'static Self {
        Redis::shared()
    }

    fn url(&self) -> &str {
        self.url()
    }

    fn adapter(url: &str, setup: Setup) -> Cache {
        let builder = RedisBuilder::from_url(url).unwrap();
        let builder = match setup.batch_above {
            Some(batch_above) => builder.batch_above(batch_above),
            None => builder,
        };
        build!(builder, setup)
    }

    fn accepted(&self) -> usize {
        self.info("total_connections_received").parse().unwrap()
    }

    fn open(&self) -> usize {
        self.clients().len()
    }
}

impl Remote for Memcached {
    const KIND: &'static str = "memcached";
    const NOWHERE: &'static str = "memcached://127.0.0.1:1";
    const COMMANDS: &'static [&'static str] = &[
        "x\r\nflush_all\r\n",
        "\r\nx\r\nflush_all\r\n",
        "\r\nflush_all\r\n",
        "\r\nset canary 0 0 4\r\ndead\r\n",
        "~e",
        "~h",
        "~r",
        "~p",
        "~e%20",
    ];
    const OPENED_OF_THREE: usize = 1;

    fn start() -> Self {
        Memcached::start()
    }

    fn shared() -> &'static Self {
        Memcached::shared()
    }

    fn url(&self) -> &str {
        self.url()
    }

    fn adapter(url: &str, setup: Setup) -> Cache {
        build!(MemcachedBuilder::from_url(url).unwrap(), setup)
    }

    fn accepted(&self) -> usize {
        usize::try_from(self.stat("total_connections")).unwrap()
    }

    fn open(&self) -> usize {
        // One is the server's own socket, and one asks.
        usize::try_from(self.stat("curr_connections").saturating_sub(2)).unwrap()
    }
}

/// Makes tests of generic functions, one for each server.
macro_rules! on_each {
    (async $($name:ident),+ $(,)?) => {
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name::<crate::support::Redis>().await;
            })+
        }
        mod memcached {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name::<crate::support::Memcached>().await;
            })+
        }
    };
    (blocking $($name:ident),+ $(,)?) => {
        mod redis {
            $(#[test]
            fn $name() {
                super::$name::<crate::support::Redis>();
            })+
        }
        mod memcached {
            $(#[test]
            fn $name() {
                super::$name::<crate::support::Memcached>();
            })+
        }
    };
}
pub(crate) use on_each;
