//! Functions whose entries have tags, and functions that remove by tag.

use super::drops::drop_when;
use super::{AppError, PATIENCE, Source, memory, on_each_backend};
use crate::claims::Shared;
use crate::trials::within;
use larder::{AsyncCacheWrapper, CacheWrapper, ErrorKind, async_trait, cached, evicts, puts};
use std::fmt;
use std::time::Duration;

on_each_backend!(
    removing_a_tag_removes_what_functions_have_cached_with_it,
    two_different_arguments_never_share_a_tag,
    what_stands_beside_a_function_gives_its_tags,
    writers_give_and_remove_tags,
    a_tag_that_is_removed_during_a_load_wins,
);

/// The same over a near level.
macro_rules! over_a_near_level {
    ($($name:ident),+ $(,)?) => {
        mod near_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::claims::Shared::redis().near("near_bound=10s")).await;
            })+
        }
    };
}

over_a_near_level!(
    removing_a_tag_removes_what_functions_have_cached_with_it,
    two_different_arguments_never_share_a_tag,
    what_stands_beside_a_function_gives_its_tags,
    writers_give_and_remove_tags,
    a_tag_that_is_removed_during_a_load_wins,
);

#[derive(Clone)]
struct Team {
    name: String,
    number: Option<u64>,
}

#[cached(
    key = "detached:{id}", cache = cache, skip(source, team), refresh_ahead = 0.9, ttl = "1h",
    tags("all", "team:{team.name}", "user:{id}")
)]
async fn detached(
    cache: &AsyncCacheWrapper,
    source: &Source,
    team: Team,
    id: u64,
) -> Result<u32, AppError> {
    drop(team);
    Ok(source.load().await + u32::from(id == 0))
}

#[cached(key = "here:{id}", cache = cache, skip(source), here, tags("all", "user:{id}"))]
async fn here(cache: &AsyncCacheWrapper, source: &mut Source, id: String) -> u32 {
    drop(id);
    source.load().await
}

#[cached(key = "blocking:{id}", cache = cache, skip(source), tags("all", format!("user:{id}")))]
fn blocking(cache: &CacheWrapper, source: &Source, id: u64) -> u32 {
    source.count() + u32::from(id == 0)
}

#[cached(cache = cache, name = "listed", skip(cache, source), tags("all", "user:{first}"))]
async fn listed(cache: &AsyncCacheWrapper, source: Source, (first, mut last): (u64, u64)) -> u32 {
    last += first;
    source.load().await + u32::from(last == 0)
}

#[derive(Clone)]
struct Shop {
    name: &'static str,
    cache: AsyncCacheWrapper,
    source: Source,
}

impl Shop {
    #[cached(
        key = "price:{self.name}:{id}", cache = self.cache,
        tags("all", "user:{id}", "shop:{self.name.len()}")
    )]
    async fn price(&self, id: u64) -> Result<u32, AppError> {
        Ok(self.source.load().await + u32::from(id == 0))
    }
}

#[async_trait]
trait Stock {
    async fn boxed(&self, id: u64) -> u32;
}

#[async_trait]
impl Stock for Shop {
    #[cached(key = "boxed:{id}", cache = self.cache, tags("all", "user:{id}"))]
    async fn boxed(&self, id: u64) -> u32 {
        self.source.load().await + u32::from(id == 0)
    }
}

trait Native {
    fn native(&self, id: u64) -> impl Future<Output = u32> + Send;
}

impl Native for Shop {
    #[cached(key = "native:{id}", cache = self.cache, here, tags("all", "user:{id}"))]
    async fn native(&self, id: u64) -> u32 {
        self.source.load().await + u32::from(id == 0)
    }
}

/// Calls each function once; how many of them ran.
async fn call_all(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> u32 {
    let before = source.runs();
    let team = Team { name: "blue".to_owned(), number: None };
    detached(cache, source, team, id).await.unwrap();
    here(cache, &mut source.clone(), id.to_string()).await;
    listed(cache, source.clone(), (id, 3)).await;
    let shop = Shop { name: "corner", cache: cache.clone(), source: source.clone() };
    shop.price(id).await.unwrap();
    shop.boxed(id).await;
    shop.native(id).await;
    let (blocking_cache, counted) = (cache.blocking(), source.clone());
    let call = move || blocking(&blocking_cache, &counted, id);
    tokio::task::spawn_blocking(call).await.unwrap();
    source.runs() - before
}

async fn removing_a_tag_removes_what_functions_have_cached_with_it(cache: AsyncCacheWrapper) {
    let source = Source::open();
    assert_eq!(call_all(&cache, &source, 7).await, 7);
    assert_eq!(call_all(&cache, &source, 8).await, 7);
    assert_eq!(call_all(&cache, &source, 7).await, 0, "hits");
    cache.remove_tags(["user:7"]).await.unwrap();
    assert_eq!(detached::peek(&cache, 7).await.unwrap(), None);
    assert!(detached::peek(&cache, 8).await.unwrap().is_some());
    assert_eq!(call_all(&cache, &source, 8).await, 0, "another tag");
    assert_eq!(call_all(&cache, &source, 7).await, 7);
    assert_eq!(call_all(&cache, &source, 7).await, 0);
    cache.remove_tags(["team:blue", "shop:6"]).await.unwrap();
    assert_eq!(call_all(&cache, &source, 7).await, 2);
    cache.remove_tags(["all"]).await.unwrap();
    assert_eq!(call_all(&cache, &source, 7).await, 7);
    assert_eq!(call_all(&cache, &source, 8).await, 7);
}

#[cached(
    key = "page:{of}:{by}", cache = cache, skip(source), namespace = "a:b", tags("{of}:{by}")
)]
async fn page(cache: &AsyncCacheWrapper, source: &Source, of: &str, by: &str) -> String {
    source.load().await;
    format!("{of} {by}")
}

#[evicts(tags("{of}:{by}"), cache = cache, namespace = "a:b")]
async fn remove_pages(cache: &AsyncCacheWrapper, of: &str, by: &str) -> usize {
    of.len() + by.len()
}

async fn two_different_arguments_never_share_a_tag(cache: AsyncCacheWrapper) {
    let source = Source::open();
    let all = [("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c"), ("", "a:b:c"), ("a:b:c", "")];
    for (of, by) in all {
        page(&cache, &source, of, by).await;
    }
    assert_eq!(source.runs(), 5);
    for (at, (of, by)) in all.into_iter().enumerate() {
        // The namespace is that of the function, and no other.
        cache.remove_tags([format!("{of}:{by}")]).await.unwrap();
        assert!(page::peek(&cache, of, by).await.unwrap().is_some());
        remove_pages(&cache, of, by).await;
        assert_eq!(page::peek(&cache, of, by).await.unwrap(), None, "{of} {by}");
        for (of, by) in &all[at + 1..] {
            assert!(page::peek(&cache, of, by).await.unwrap().is_some(), "{of} {by}");
        }
    }
    page(&cache, &source, "a:b", "c").await;
    cache.namespace("a:b").remove_tags(["a%3Ab:c"]).await.unwrap();
    assert_eq!(page::peek(&cache, "a:b", "c").await.unwrap(), None);
}

async fn what_stands_beside_a_function_gives_its_tags(cache: AsyncCacheWrapper) {
    let source = Source::open();
    let team = || Team { name: "red".to_owned(), number: Some(1) };
    for tag in ["all", "team:red", "user:7"] {
        detached::put(&cache, team(), 7, 70).await.unwrap();
        assert_eq!(detached(&cache, &source, team(), 7).await, Ok(70));
        cache.remove_tags([tag]).await.unwrap();
        assert_eq!(detached::peek(&cache, 7).await.unwrap(), None, "put, {tag}");
        let refreshed = detached::refresh(&cache, &source, team(), 7).await.unwrap();
        assert_eq!(detached::refresh(&cache, &source, team(), 7).await, Ok(refreshed + 1));
        assert_eq!(detached(&cache, &source, team(), 7).await, Ok(refreshed + 1));
        cache.remove_tags([tag]).await.unwrap();
        assert_eq!(detached::peek(&cache, 7).await.unwrap(), None, "refresh, {tag}");
    }
    let (blocking_cache, counted) = (cache.blocking(), source.clone());
    let calls = move || {
        blocking::put(&blocking_cache, 7, 70).unwrap();
        assert_eq!(blocking(&blocking_cache, &counted, 7), 70);
        blocking_cache.remove_tags(["user:7"]).unwrap();
        assert_eq!(blocking::peek(&blocking_cache, 7).unwrap(), None);
        blocking::refresh(&blocking_cache, &counted, 7);
        blocking_cache.remove_tags(["all"]).unwrap();
        assert_eq!(blocking::peek(&blocking_cache, 7).unwrap(), None);
    };
    tokio::task::spawn_blocking(calls).await.unwrap();
    let shop = Shop { name: "corner", cache: cache.clone(), source };
    shop.price_refresh(1).await.unwrap();
    assert!(cache.contains("price:corner:1").await.unwrap());
    cache.remove_tags(["shop:6"]).await.unwrap();
    assert!(!cache.contains("price:corner:1").await.unwrap());
}

#[puts("made:{id}", cache = cache, tags("made", "of:{team.name}", "at:{result}", result + 1))]
async fn make(cache: &AsyncCacheWrapper, id: u64, team: Team) -> Result<u64, AppError> {
    team.number.map(|number| number + id).ok_or(AppError::NotFound(id))
}

#[puts("made:{id}", cache = cache, namespace = "n", tags("of:{id}"))]
fn make_blocking(cache: &CacheWrapper, id: u64) -> u64 {
    id
}

#[evicts(
    tags("of:{team}"), detached(id), "made:{id}", tags_of(id), cache = cache,
)]
async fn change(
    cache: &AsyncCacheWrapper,
    team: String,
    id: u64,
    fails: bool,
) -> Result<String, AppError> {
    if fails { Err(AppError::NotFound(id)) } else { Ok(team) }
}

/// A call in an attribute is that of a cached function, whatever its name begins with.
#[cached(key = "tags of:{id}", cache = cache)]
async fn tags_of(cache: &AsyncCacheWrapper, id: u64) -> u64 {
    id
}

#[evicts(tags("of:{id}"), cache = cache, namespace = "n")]
fn change_blocking(cache: &CacheWrapper, id: u64) {
    assert!(id > 0, "the body panics");
}

#[evicts(tags("made"), cache = cache)]
async fn change_slowly(cache: &AsyncCacheWrapper, source: &Source) -> Result<u32, AppError> {
    Ok(source.load().await)
}

async fn writers_give_and_remove_tags(cache: AsyncCacheWrapper) {
    let team = |number| Team { name: "blue".to_owned(), number };
    for tag in ["made", "of:blue", "at:12", "13"] {
        assert_eq!(make(&cache, 7, team(Some(5))).await, Ok(12));
        assert_eq!(make(&cache, 8, team(None)).await, Err(AppError::NotFound(8)));
        assert_eq!(cache.get("made:7").await.unwrap(), Some(12u64));
        cache.remove_tags(["at:7"]).await.unwrap();
        assert!(cache.contains("made:7").await.unwrap());
        cache.remove_tags([tag]).await.unwrap();
        assert!(!cache.contains("made:7").await.unwrap(), "{tag}");
    }
    for id in [7, 8, 9] {
        make(&cache, id, team(Some(5))).await.unwrap();
        detached::put(&cache, team(None), id, 1).await.unwrap();
        tags_of(&cache, id).await;
    }
    let failed = change(&cache, "blue".to_owned(), 7, true).await;
    assert_eq!(failed, Err(AppError::NotFound(7)));
    assert!(cache.contains("made:7").await.unwrap(), "a failure removes nothing");
    change(&cache, "red".to_owned(), 7, false).await.unwrap();
    for (key, is_there) in
        [("made:7", false), ("detached:7", false), ("tags of:7", false), ("made:8", true)]
    {
        assert_eq!(cache.contains(key).await.unwrap(), is_there, "{key}");
    }
    change(&cache, "blue".to_owned(), 8, false).await.unwrap();
    for (key, is_there) in [("made:9", false), ("detached:9", true), ("tags of:9", true)] {
        assert_eq!(cache.contains(key).await.unwrap(), is_there, "{key}");
    }
    let calls = cache.blocking();
    let calls = move || {
        make_blocking(&calls, 1);
        assert_eq!(calls.get("n:made:1").unwrap(), Some(1u64));
        calls.remove_tags(["of:1"]).unwrap();
        assert!(calls.contains("n:made:1").unwrap(), "the tags of another namespace");
        change_blocking(&calls, 1);
        assert!(!calls.contains("n:made:1").unwrap());
    };
    tokio::task::spawn_blocking(calls).await.unwrap();
    make(&cache, 7, team(Some(5))).await.unwrap();
    let source = Source::closed();
    drop_when(change_slowly(&cache, &source), || source.runs() == 1).await;
    let gone = async {
        while cache.contains("made:7").await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    within(PATIENCE, "a task removes the tags", gone).await;
}

async fn a_tag_that_is_removed_during_a_load_wins(cache: AsyncCacheWrapper) {
    let source = Source::closed();
    let team = Team { name: "blue".to_owned(), number: None };
    let (first, counted, of) = (cache.clone(), source.clone(), team.clone());
    let load = tokio::spawn(async move { detached(&first, &counted, of, 7).await });
    crate::trials::eventually("the load begins", || source.runs() == 1).await;
    cache.remove_tags(["team:blue"]).await.unwrap();
    source.let_go();
    assert_eq!(within(PATIENCE, "its value", load).await.unwrap(), Ok(1));
    assert_eq!(detached::peek(&cache, 7).await.unwrap(), None, "dead on arrival");
    assert_eq!(detached(&cache, &source, team, 7).await, Ok(2));
}

/// Its `Display` fails.
#[derive(Clone)]
struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Err(fmt::Error)
    }
}

#[cached(key = "optional:{id}", cache = cache, skip(source, tag), tags("a", "{tag}"))]
async fn optional(cache: &AsyncCacheWrapper, source: &Source, id: u64, tag: &str) -> u32 {
    source.load().await + u32::from(id == 0)
}

#[cached(key = "optional:{id}", cache = cache, skip(source, tag), tags("a", "{tag}"))]
async fn try_optional(
    cache: &AsyncCacheWrapper,
    source: &Source,
    id: u64,
    tag: &str,
) -> Result<u32, AppError> {
    Ok(source.load().await + u32::from(id == 0))
}

#[cached(key = "optional:{id}", cache = cache, skip(source, tag), here, tags("a", "{tag}"))]
async fn silent(
    cache: &AsyncCacheWrapper,
    source: &Source,
    id: u64,
    tag: Silent,
) -> Result<u32, AppError> {
    Ok(source.load().await + u32::from(id == 0))
}

#[evicts(tags("a", "{tag}"), "free", cache = cache)]
async fn remove_optional(cache: &AsyncCacheWrapper, tag: &str) -> usize {
    tag.len()
}

#[puts("made:{result}", cache = cache, tags("a", "{tag}"))]
async fn put_optional(cache: &AsyncCacheWrapper, tag: &str) -> usize {
    tag.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_cannot_be_one_is_an_error_and_stores_nothing() {
    let (cache, source) = (memory(), Source::open());
    let refused = Err(AppError::Cache(ErrorKind::InvalidKey));
    assert_eq!(try_optional(&cache, &source, 1, "").await, refused);
    assert_eq!(silent(&cache, &source, 1, Silent).await, refused);
    assert_eq!(source.runs(), 0);
    assert_eq!(optional(&cache, &source, 1, "").await, 1, "uncached");
    assert_eq!(optional(&cache, &source, 1, "").await, 2);
    let error = optional::put(&cache, 1, "", 7).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    assert_eq!(put_optional(&cache, "").await, 0);
    assert_eq!(cache.stats().sets, 0);
    assert_eq!(optional(&cache, &source, 1, "b").await, 3);
    assert_eq!(optional(&cache, &source, 1, "b").await, 3);
    assert_eq!(put_optional(&cache, "b").await, 1);
    cache.set("free", 1).await.unwrap();
    remove_optional(&cache, "").await;
    for key in ["optional:1", "made:1", "free"] {
        assert!(
            !cache.contains(key).await.unwrap(),
            "the other tag and the key are removed: {key}"
        );
    }
}

/// How long a load takes at least.
const COST: Duration = Duration::from_millis(20);

// With this cost, and an hour to go, the entry is refreshed early by a draw of more than 0.87.
#[cached(
    key = "drawn:{id}", cache = cache, skip(source), ttl = "1h", early = 90_000.0,
    tags("user:{id}")
)]
async fn drawn(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> u32 {
    tokio::time::sleep(COST).await;
    source.count() + u32::from(id == 0)
}

#[cached(
    key = "drawn:{id}", cache = cache, skip(source), ttl = "1h", early = 90_000.0, here,
    tags("user:{id}")
)]
async fn drawn_here(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> u32 {
    tokio::time::sleep(COST).await;
    source.count() + u32::from(id == 0)
}

#[cached(
    key = "drawn:{id}", cache = cache, skip(source), ttl = "1h", early = 90_000.0,
    tags("user:{id}")
)]
fn drawn_blocking(cache: &CacheWrapper, source: &Source, id: u64) -> u32 {
    std::thread::sleep(COST);
    source.count() + u32::from(id == 0)
}

/// A seed whose first draw refreshes the entry early, and whose second draw would not, also if the
/// load took a hundred times as long.
fn seed_that_refreshes_once() -> u64 {
    let is_wanted = |seed: &u64| {
        let mut random = fastrand::Rng::with_seed(*seed);
        random.f64() > 0.99 && random.f64() < 0.001
    };
    (0..).find(is_wanted).unwrap()
}

/// The look for a hit, which needs no tags, and the call after it are one call.
#[tokio::test]
async fn a_call_with_tags_draws_once_for_an_early_refresh() {
    let (cache, source, seed) = (memory(), Source::open(), seed_that_refreshes_once());
    assert_eq!(drawn(&cache, &source, 7).await, 1);
    fastrand::seed(seed);
    assert_eq!(drawn(&cache, &source, 7).await, 2);
    fastrand::seed(seed);
    assert_eq!(drawn_here(&cache, &source, 7).await, 3);
    fastrand::seed(seed);
    assert_eq!(drawn_blocking(&cache.blocking(), &source, 7), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_near_asks_no_far_store() {
    let shared = Shared::redis();
    let (cache, source) = (shared.near("near_bound=10s"), Source::open());
    let team = || Team { name: "blue".to_owned(), number: None };
    detached(&cache, &source, team(), 7).await.unwrap();
    let settled = async {
        loop {
            let before = cache.stats().near.unwrap().far_reads;
            detached(&cache, &source, team(), 7).await.unwrap();
            if cache.stats().near.unwrap().far_reads == before {
                break;
            }
        }
    };
    within(PATIENCE, "entry and records are near", settled).await;
    assert_eq!(source.runs(), 1);
    shared.cache().remove_tags(["user:7"]).await.unwrap();
    let removed = async {
        while detached(&cache, &source, team(), 7).await == Ok(1) {
            tokio::task::yield_now().await;
        }
    };
    within(PATIENCE, "the removal elsewhere is seen here", removed).await;
    assert_eq!(source.runs(), 2);
}
