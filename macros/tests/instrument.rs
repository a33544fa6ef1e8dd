//! `#[tracing::instrument]` with the attribute macros, above and below them: the span is that of a
//! load. A hit opens none.

#![deny(warnings)]

use larder::{AsyncCacheWrapper, CacheWrapper, async_trait, cached, evicts, puts};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, instrument};

/// Counts the spans that are opened, by name.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<BTreeMap<&'static str, usize>>>);

impl Spans {
    fn opened(&self, name: &str) -> usize {
        self.0.lock().expect("no panic").get(name).copied().unwrap_or_default()
    }
}

impl Subscriber for Spans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        *self.0.lock().expect("no panic").entry(span.metadata().name()).or_default() += 1;
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Clone, Debug, PartialEq)]
enum AppError {
    NotFound,
    Cache,
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for AppError {}

impl From<larder::Error> for AppError {
    fn from(_: larder::Error) -> Self {
        Self::Cache
    }
}

#[derive(Clone)]
struct Db {
    cache: AsyncCacheWrapper,
    blocking: CacheWrapper,
}

impl Db {
    fn new() -> Self {
        let cache = AsyncCacheWrapper::new("memory").expect("memory");
        Self { blocking: cache.blocking(), cache }
    }
}

#[cached(key = "above:{id}", cache = &db.cache, ttl = "5m")]
#[instrument(name = "above", skip(db), fields(id = %id), err, ret)]
async fn above(db: &Db, id: u64) -> Result<u64, AppError> {
    if id == 0 { Err(AppError::NotFound) } else { Ok(id + 1) }
}

#[instrument(name = "below", skip(db), fields(id = %id), err, ret)]
#[cached(key = "below:{id}", cache = &db.cache, ttl = "5m")]
async fn below(db: &Db, id: u64) -> Result<u64, AppError> {
    if id == 0 { Err(AppError::NotFound) } else { Ok(id + 1) }
}

#[cached(key = "here above:{id}", cache = &db.cache, here, skip(names))]
#[instrument(name = "here above", skip_all)]
async fn here_above<T>(db: &Db, id: u64, names: &mut Vec<&T>) -> String
where
    T: fmt::Display + Sync + ?Sized,
{
    names.pop().map_or_else(String::new, |name| format!("{name} {id}"))
}

#[instrument(name = "here below", skip_all)]
#[cached(key = "here below:{id}", cache = &db.cache, here, skip(names))]
async fn here_below<T>(db: &Db, id: u64, names: &mut Vec<&T>) -> String
where
    T: fmt::Display + Sync + ?Sized,
{
    names.pop().map_or_else(String::new, |name| format!("{name} {id}"))
}

#[cached(key = "blocking above:{id}", cache = &db.blocking)]
#[instrument(name = "blocking above", skip(db))]
fn blocking_above(db: &Db, id: u64) -> u64 {
    id + 1
}

#[instrument(name = "blocking below", skip(db), level = "debug")]
#[cached(key = "blocking below:{id}", cache = &db.blocking)]
fn blocking_below(db: &Db, id: u64) -> u64 {
    id + 1
}

impl Db {
    #[cached(key = "method above:{id}", cache = self.cache)]
    #[instrument(name = "method above", skip(self))]
    async fn method_above(&self, id: u64) -> u64 {
        id + 1
    }

    #[instrument(name = "method below", skip(self))]
    #[cached(key = "method below:{id}", cache = self.cache)]
    async fn method_below(&self, id: u64) -> u64 {
        id + 1
    }
}

#[async_trait]
trait Users {
    async fn below(&self, id: u64) -> u64;
}

#[async_trait]
impl Users for Db {
    #[instrument(name = "trait below", skip(self))]
    #[cached(key = "trait below:{id}", cache = self.cache)]
    async fn below(&self, id: u64) -> u64 {
        id + 1
    }
}

#[evicts("above:{id}", cache = &db.cache)]
#[instrument(name = "evicts above", skip(db))]
async fn evicts_above(db: &Db, id: u64) -> u64 {
    id
}

#[instrument(name = "evicts below", skip(db))]
#[evicts("below:{id}", cache = &db.cache)]
async fn evicts_below(db: &Db, id: u64) -> u64 {
    id
}

#[puts("above:{id}", cache = &db.cache)]
#[instrument(name = "puts above", skip(db))]
async fn puts_above(db: &Db, id: u64) -> u64 {
    id
}

#[instrument(name = "puts below", skip(db))]
#[puts("below:{id}", cache = &db.cache)]
async fn puts_below(db: &Db, id: u64) -> u64 {
    id
}

fn traced(work: impl Future<Output = ()>) -> Spans {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    larder::awaitable(async {
        work.await;
        Ok::<(), larder::Error>(())
    })
    .wait()
    .expect("it ends");
    spans
}

#[test]
fn a_function_with_a_span_runs_and_opens_it_once_for_the_same_arguments() {
    let spans = traced(async {
        let db = Db::new();
        for _ in 0..3 {
            assert_eq!((above(&db, 1).await, below(&db, 1).await), (Ok(2), Ok(2)));
            let mut names = vec!["second", "first"];
            assert_eq!(here_above(&db, 1, &mut names).await, "first 1");
            let mut names = vec!["second", "first"];
            assert_eq!(here_below(&db, 1, &mut names).await, "first 1");
            assert_eq!((blocking_above(&db, 1), blocking_below(&db, 1)), (2, 2));
            assert_eq!((db.method_above(1).await, db.method_below(1).await), (2, 2));
            assert_eq!(Users::below(&db, 1).await, 2);
        }
    });
    for name in [
        "above",
        "below",
        "here above",
        "here below",
        "blocking above",
        "blocking below",
        "method above",
        "method below",
        "trait below",
    ] {
        assert_eq!(spans.opened(name), 1, "{name}: {spans:?}");
    }
}

#[test]
fn each_failure_runs_the_function_again() {
    let spans = traced(async {
        let db = Db::new();
        for _ in 0..2 {
            assert_eq!(above(&db, 0).await, Err(AppError::NotFound));
            assert_eq!(below(&db, 0).await, Err(AppError::NotFound));
        }
        assert_eq!((above::refresh(&db, 1).await, below::refresh(&db, 1).await), (Ok(2), Ok(2)));
    });
    assert_eq!((spans.opened("above"), spans.opened("below")), (3, 3));
}

#[test]
fn writers_with_a_span_write() {
    let spans = traced(async {
        let db = Db::new();
        assert_eq!((puts_above(&db, 7).await, puts_below(&db, 7).await), (7, 7));
        assert_eq!((above(&db, 7).await, below(&db, 7).await), (Ok(7), Ok(7)));
        assert_eq!((evicts_above(&db, 7).await, evicts_below(&db, 7).await), (7, 7));
        assert_eq!((above(&db, 7).await, below(&db, 7).await), (Ok(8), Ok(8)));
    });
    for name in ["puts above", "puts below", "evicts above", "evicts below", "above", "below"] {
        assert_eq!(spans.opened(name), 1, "{name}: {spans:?}");
    }
}
