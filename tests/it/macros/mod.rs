//! Functions under the attribute macros, on every backend.

// clippy allows it in `#[test]`s, and not in the functions that they share.
#![allow(clippy::unwrap_used)]

mod drops;
mod failures;
mod forms;
mod keys;
mod tags;

use larder::{AsyncCacheWrapper, ErrorKind};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// For what is sure to happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A source that counts its loads, and lets each of them wait until the gate is open.
#[derive(Clone)]
struct Source {
    runs: Arc<AtomicU32>,
    gate: Arc<Semaphore>,
}

impl Source {
    fn open() -> Self {
        Self::with(Semaphore::MAX_PERMITS)
    }

    fn closed() -> Self {
        Self::with(0)
    }

    fn with(permits: usize) -> Self {
        Self { runs: Arc::default(), gate: Arc::new(Semaphore::new(permits)) }
    }

    fn let_go(&self) {
        self.gate.add_permits(1_000);
    }

    /// A load: it counts, and waits for the gate.
    async fn load(&self) -> u32 {
        let run = self.count();
        self.gate.acquire().await.unwrap().forget();
        run
    }

    fn count(&self) -> u32 {
        self.runs.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

/// The error of an application.
#[derive(Clone, Debug, PartialEq)]
enum AppError {
    NotFound(u64),
    Cache(ErrorKind),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for AppError {}

impl From<larder::Error> for AppError {
    fn from(error: larder::Error) -> Self {
        Self::Cache(error.kind())
    }
}

fn memory() -> AsyncCacheWrapper {
    AsyncCacheWrapper::new("memory").unwrap()
}

/// The same test on each backend.
macro_rules! on_each_backend {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::macros::memory()).await;
            })+
        }
        crate::macros::on_each_backend!(@ redis $($name)+);
        crate::macros::on_each_backend!(@ memcached $($name)+);
        crate::macros::on_each_backend!(@ sqlite $($name)+);
    };
    (@ $store:ident $($name:ident)+) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let store = crate::claims::Shared::$store();
                super::$name(store.cache()).await;
            })+
        }
    };
}
use on_each_backend;
