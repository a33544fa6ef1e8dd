//! What functions in every form give, and how often they run.

use super::{AppError, PATIENCE, Source, on_each_backend};
use crate::trials::within;
use futures_util::future::join_all;
use larder::{AsyncCacheWrapper, CacheWrapper, async_trait, cached, evicts, puts};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

on_each_backend!(
    functions_run_once_for_the_same_arguments,
    functions_that_fail_store_nothing_and_return_their_own_error,
    functions_that_borrow_are_run_in_their_callers,
    methods_run_once_for_what_their_keys_name,
    a_function_that_calls_itself_runs_once_for_each_number,
    only_what_is_wanted_is_stored,
    writers_remove_and_store_what_others_have_cached,
    companions_read_write_and_remove_the_entry_of_a_call,
    a_thousand_calls_at_once_are_one_run,
    generic_constants_are_arguments,
    options_see_the_arguments,
);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

#[cached(key = "plain:{id}", cache = cache, skip(source), ttl = "5m")]
async fn plain(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> User {
    User { id, name: format!("load {}", source.load().await) }
}

#[cached(key = "pair:{tenant}:{name}", cache = cache, skip(source))]
async fn pair(cache: &AsyncCacheWrapper, source: Source, tenant: &str, name: &str) -> String {
    source.load().await;
    format!("{tenant} and {name}")
}

#[cached(cache = cache, skip(cache, source), name = "listed")]
async fn listed(cache: &AsyncCacheWrapper, source: &Source, ids: &[u64], all: bool) -> u64 {
    source.load().await;
    ids.iter().sum::<u64>() + u64::from(all)
}

struct Path<T>(T);

#[cached(key = "path:{id}", cache = cache, skip(source))]
async fn path(
    cache: &AsyncCacheWrapper,
    source: &Source,
    Path(mut id): Path<u64>,
    (_a, _b): (u8, u8),
) -> u64 {
    source.load().await;
    id += 1;
    id
}

#[cached(key = "blocking:{id}", cache = cache, skip(source))]
fn blocking(cache: &CacheWrapper, source: &Source, id: u64) -> Result<u64, AppError> {
    source.count();
    if id == 0 { Err(AppError::NotFound(id)) } else { Ok(id * 2) }
}

async fn functions_run_once_for_the_same_arguments(cache: AsyncCacheWrapper) {
    let source = Source::open();
    for _ in 0..3 {
        let user = User { id: 7, name: "load 1".to_owned() };
        assert_eq!(plain(&cache, &source, 7).await, user);
    }
    assert_eq!(plain(&cache, &source, 8).await.name, "load 2");
    for (tenant, name) in [("a:b", "c"), ("a", "b:c"), ("a:b", "c"), ("", ""), ("%", "{x}")] {
        let expected = format!("{tenant} and {name}");
        assert_eq!(pair(&cache, source.clone(), tenant, name).await, expected);
    }
    assert_eq!(source.runs(), 2 + 4);
    for _ in 0..2 {
        assert_eq!(listed(&cache, &source, &[1, 2], true).await, 4);
        assert_eq!(listed(&cache, &source, &[1, 2], false).await, 3);
        assert_eq!(path(&cache, &source, Path(1), (2, 3)).await, 2);
        assert_eq!(path(&cache, &source, Path(1), (4, 5)).await, 2);
    }
    assert_eq!(source.runs(), 6 + 3);
    assert_eq!(cache.get::<u64>("listed:[1,2]:true").await.unwrap(), Some(4));
    let (blocking_cache, counted) = (cache.blocking(), source.clone());
    let calls = move || {
        let all = [1, 1, 0, 0].map(|id| blocking(&blocking_cache, &counted, id));
        assert_eq!(all[..2], [Ok(2), Ok(2)]);
        assert_eq!(all[2..], [Err(AppError::NotFound(0)), Err(AppError::NotFound(0))]);
    };
    tokio::task::spawn_blocking(calls).await.unwrap();
    assert_eq!(source.runs(), 9 + 3);
}

#[cached(key = "fails:{id}", cache = cache, skip(source))]
async fn fails(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> Result<u64, AppError> {
    source.load().await;
    if id == 0 {
        return Err(AppError::NotFound(id));
    }
    Ok(id)
}

#[cached(key = "wraps:{id}", cache = cache, skip(source), errors = wrap)]
async fn wraps(
    cache: &AsyncCacheWrapper,
    source: &Source,
    id: u64,
) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    source.load().await;
    Err(AppError::NotFound(id))?
}

fn text(error: larder::Error) -> String {
    error.load_error::<AppError>().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cached(key = "by:{id}", cache = cache, errors = text)]
async fn by(cache: &AsyncCacheWrapper, id: u64) -> Result<u64, String> {
    Err(format!("no {id}"))
}

async fn functions_that_fail_store_nothing_and_return_their_own_error(cache: AsyncCacheWrapper) {
    let source = Source::closed();
    let all = join_all((0..10).map(|_| fails(&cache, &source, 0)));
    let let_go = async {
        crate::trials::eventually("they wait", || cache.stats().joined == 9).await;
        source.let_go();
    };
    let (all, ()) = tokio::join!(within(PATIENCE, "one load", all), let_go);
    assert!(
        all.into_iter().all(|answer| answer == Err(AppError::NotFound(0))),
        "each caller's own"
    );
    assert_eq!(source.runs(), 1);
    assert_eq!(fails(&cache, &source, 0).await, Err(AppError::NotFound(0)));
    assert_eq!((fails(&cache, &source, 1).await, fails(&cache, &source, 1).await), (Ok(1), Ok(1)));
    assert_eq!(source.runs(), 3);
    let error = wraps(&cache, &source, 5).await.unwrap_err();
    let error = error.downcast_ref::<larder::Error>().unwrap();
    assert!(error.load_error::<AppError>().is_some(), "{error:?}");
    assert!(by(&cache, 5).await.unwrap_err().contains("the loader failed"));
}

/// It cannot be cloned.
struct Client(Source);

trait Asked {
    fn asked(&self) -> u32;
}

impl Asked for Client {
    fn asked(&self) -> u32 {
        self.0.count()
    }
}

#[cached(key = "client:{id}", cache = cache, skip(client), here)]
async fn client(
    cache: &AsyncCacheWrapper,
    client: &(impl Asked + Sync),
    id: impl Display,
) -> String {
    format!("{id} {}", client.asked())
}

#[cached(key = "lines:{name}", cache = cache, skip(lines), here)]
async fn lines<'a, T: ?Sized + Display>(
    cache: &AsyncCacheWrapper,
    lines: &'a mut Vec<String>,
    name: &'a T,
) -> usize {
    lines.push(name.to_string());
    lines.len()
}

async fn functions_that_borrow_are_run_in_their_callers(cache: AsyncCacheWrapper) {
    let asked = Client(Source::open());
    for _ in 0..2 {
        assert_eq!(client(&cache, &asked, "x").await, "x 1");
    }
    let mut all = Vec::new();
    assert_eq!((lines(&cache, &mut all, "a").await, lines(&cache, &mut all, "a").await), (1, 1));
    assert_eq!(lines(&cache, &mut all, "b").await, 2);
    assert_eq!((all, asked.0.runs()), (vec!["a".to_owned(), "b".to_owned()], 1));
}

#[derive(Clone)]
struct Shop {
    tenant: String,
    cache: AsyncCacheWrapper,
    source: Source,
}

impl Shop {
    #[cached(key = "user:{self.tenant}:{id}", cache = self.cache)]
    async fn user(&self, id: u64) -> Result<u32, AppError> {
        if id == 0 { Err(AppError::NotFound(id)) } else { Ok(self.source.load().await) }
    }

    #[cached(key = "shared:{id}", cache = self.cache, refresh_ahead = 0.8)]
    async fn shared(self: &Arc<Self>, id: u64) -> u32 {
        self.source.load().await + u32::from(id == 0)
    }
}

#[async_trait]
trait Stock {
    async fn boxed(&self, article: &str) -> Result<u32, AppError>;
}

#[async_trait]
impl Stock for Shop {
    #[cached(key = "boxed:{self.tenant}:{article}", cache = self.cache)]
    async fn boxed(&self, article: &str) -> Result<u32, AppError> {
        if article.is_empty() {
            return Err(AppError::NotFound(0));
        }
        Ok(self.source.load().await)
    }
}

trait Native {
    fn native(&self, id: u64) -> impl Future<Output = u32> + Send;
}

impl Native for Shop {
    #[cached(key = "native:{id}", cache = self.cache, here)]
    async fn native(&self, id: u64) -> u32 {
        self.source.load().await + u32::from(id == 0)
    }
}

async fn methods_run_once_for_what_their_keys_name(cache: AsyncCacheWrapper) {
    let source = Source::open();
    let shop = |tenant: &str| Shop {
        tenant: tenant.to_owned(),
        cache: cache.clone(),
        source: source.clone(),
    };
    let (one, two) = (Arc::new(shop("a:b")), Arc::new(shop("a")));
    for _ in 0..2 {
        assert_eq!((one.user(7).await, two.user(7).await), (Ok(1), Ok(2)));
        assert_eq!((one.boxed("x").await, two.boxed("x").await), (Ok(3), Ok(4)));
        assert_eq!((one.shared(1).await, one.native(1).await), (5, 6));
        assert_eq!(one.boxed("").await, Err(AppError::NotFound(0)));
    }
    assert_eq!(one.user_key(7), "user:a%3Ab:7");
    assert!(one.user_invalidate(7).await.unwrap());
    assert_eq!((one.user(7).await, two.user(7).await), (Ok(7), Ok(2)));
    assert_eq!((one.user_refresh(7).await, one.user(7).await), (Ok(8), Ok(8)));
    assert_eq!((one.user_uncached(7).await, one.user(7).await), (Ok(9), Ok(8)));
}

#[cached(key = "fib:{n}", cache = cache, skip(source))]
async fn fib(cache: &AsyncCacheWrapper, source: &Source, n: u64) -> u64 {
    source.load().await;
    if n < 2 {
        return n;
    }
    fib(cache, source, n - 1).await + fib(cache, source, n - 2).await
}

async fn a_function_that_calls_itself_runs_once_for_each_number(cache: AsyncCacheWrapper) {
    let source = Source::open();
    let fib = fib(&cache, &source, 20);
    assert_eq!(within(PATIENCE, "no deadlock", fib).await, 6_765);
    assert_eq!(source.runs(), 21);
}

#[cached(key = "even:{n}", cache = cache, skip(source), only_if = |n| n % 2 == 0, skip_none)]
async fn even(cache: &AsyncCacheWrapper, source: &Source, n: u32) -> u32 {
    source.load().await + n
}

#[cached(key = "some:{n}", cache = cache, skip(source), skip_none)]
async fn some(cache: &AsyncCacheWrapper, source: &Source, n: u32) -> Option<u32> {
    source.load().await;
    (n > 0).then_some(n)
}

async fn only_what_is_wanted_is_stored(cache: AsyncCacheWrapper) {
    let source = Source::open();
    assert_eq!(even(&cache, &source, 0).await, 1);
    assert_eq!((even(&cache, &source, 0).await, even(&cache, &source, 0).await), (2, 2));
    for _ in 0..2 {
        assert_eq!(
            (some(&cache, &source, 0).await, some(&cache, &source, 1).await),
            (None, Some(1))
        );
    }
    assert_eq!(source.runs(), 2 + 3);
}

#[evicts(plain(id), "pair:{tenant}:{name}", format!("free:{id}"), cache = cache)]
async fn change(
    cache: &AsyncCacheWrapper,
    id: u64,
    tenant: String,
    name: &str,
) -> Result<usize, AppError> {
    if name.is_empty() {
        return Err(AppError::NotFound(id));
    }
    Ok(tenant.len() + name.len())
}

#[puts("plain:{result.id}", cache = cache, ttl = "5m")]
async fn create(cache: &AsyncCacheWrapper, id: u64, name: String) -> Result<User, AppError> {
    if name.is_empty() { Err(AppError::NotFound(id)) } else { Ok(User { id, name }) }
}

#[evicts(plain(id), cache = cache)]
fn remove(cache: &CacheWrapper, id: u64) -> u64 {
    id
}

async fn writers_remove_and_store_what_others_have_cached(cache: AsyncCacheWrapper) {
    let source = Source::open();
    assert_eq!(plain(&cache, &source, 7).await.name, "load 1");
    pair(&cache, source.clone(), "a:b", "c").await;
    cache.set("free:7", 1).await.unwrap();
    let failed = change(&cache, 7, "a:b".to_owned(), "").await;
    assert_eq!(failed, Err(AppError::NotFound(7)));
    assert!(cache.contains("free:7").await.unwrap(), "a failure removes nothing");
    assert_eq!(change(&cache, 7, "a:b".to_owned(), "c").await, Ok(4));
    for key in ["plain:7", "pair:a%3Ab:c", "free:7"] {
        assert!(!cache.contains(key).await.unwrap(), "{key}");
    }
    let grace = User { id: 7, name: "Grace".to_owned() };
    assert_eq!(create(&cache, 7, "Grace".to_owned()).await, Ok(grace.clone()));
    assert_eq!(create(&cache, 8, String::new()).await, Err(AppError::NotFound(8)));
    assert_eq!(plain(&cache, &source, 7).await, grace);
    let blocking = cache.blocking();
    tokio::task::spawn_blocking(move || remove(&blocking, 7)).await.unwrap();
    assert_eq!(plain::peek(&cache, 7).await.unwrap(), None);
}

async fn companions_read_write_and_remove_the_entry_of_a_call(cache: AsyncCacheWrapper) {
    let source = Source::open();
    assert_eq!(plain::peek(&cache, 7).await.unwrap(), None);
    let user = plain(&cache, &source, 7).await;
    assert_eq!(plain::peek(&cache, 7).await.unwrap(), Some(user));
    assert_eq!(plain::key(7), "plain:7");
    let ada = User { id: 7, name: "Ada".to_owned() };
    plain::put(&cache, 7, ada.clone()).await.unwrap();
    assert_eq!(plain(&cache, &source, 7).await, ada);
    let expiry = cache.expiry(plain::key(7)).await.unwrap();
    let larder::Expiry::After(left) = expiry.unwrap() else { panic!("{expiry:?}") };
    assert!(left.as_secs() > 200 && left.as_secs() <= 300, "put keeps the options: {left:?}");
    assert_eq!(plain::refresh(&cache, &source, 7).await.name, "load 2");
    assert_eq!(plain::uncached(&cache, &source, 7).await.name, "load 3");
    assert_eq!(plain(&cache, &source, 7).await.name, "load 2");
    assert!(plain::invalidate(&cache, 7).await.unwrap());
    assert!(!plain::invalidate(&cache, 7).await.unwrap());
    assert_eq!(plain(&cache, &source, 7).await.name, "load 4");
}

#[cached(key = "here:{id}", cache = cache, skip(source), here)]
async fn here(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> u32 {
    source.load().await + u32::from(id == 0)
}

async fn a_thousand_calls_at_once_are_one_run(cache: AsyncCacheWrapper) {
    let (detached, carried, boxed) = (Source::closed(), Source::closed(), Source::closed());
    let shop = Shop { tenant: "t".to_owned(), cache: cache.clone(), source: boxed.clone() };
    let calls = (0..1_000u32).map(|at| {
        let (cache, shop) = (cache.clone(), shop.clone());
        let (detached, carried) = (detached.clone(), carried.clone());
        tokio::spawn(async move {
            match at % 3 {
                0 => plain(&cache, &detached, 1).await.name,
                1 => here(&cache, &carried, 1).await.to_string(),
                _ => shop.boxed("x").await.unwrap().to_string(),
            }
        })
    });
    let calls: Vec<_> = calls.collect();
    crate::trials::eventually("all wait", || cache.stats().joined == 997).await;
    for source in [&detached, &carried, &boxed] {
        source.let_go();
    }
    for call in within(PATIENCE, "three loads", join_all(calls)).await {
        assert!(call.unwrap().ends_with('1'));
    }
    assert_eq!((detached.runs(), carried.runs(), boxed.runs()), (1, 1, 1));
}

#[cached(key = "constant:{N}:{id}", cache = cache, skip(source), tags("n:{N}"))]
async fn constant<const N: usize>(cache: &AsyncCacheWrapper, source: &Source, id: u64) -> u64 {
    source.load().await;
    id + N as u64
}

#[cached(cache = cache, name = "listed constant", skip(cache, source))]
async fn listed_constant<const N: usize, const IS_ODD: bool>(
    cache: &AsyncCacheWrapper,
    source: &Source,
    ids: &[u64],
) -> bool {
    source.load().await;
    ids.len() % N == usize::from(IS_ODD)
}

#[cached(key = format!("written:{}:{id}", LETTER), cache = cache, skip(source))]
fn written_constant<const LETTER: char>(cache: &CacheWrapper, source: &Source, id: u64) -> String {
    source.count();
    format!("{LETTER}{id}")
}

struct Grid<const WIDTH: usize>;

impl<const WIDTH: usize> Grid<WIDTH> {
    #[cached(key = "cell:{N}:{at}", cache = cache, skip(self, source), here)]
    pub(super) async fn cell<const N: u8>(
        &self,
        cache: &AsyncCacheWrapper,
        source: &Source,
        at: usize,
    ) -> usize {
        source.load().await;
        at + WIDTH + usize::from(N)
    }
}

#[evicts(constant::<2>(id), "constant:{N}:{id}", tags("none:{N}"), cache = cache)]
async fn change_constant<const N: usize>(cache: &AsyncCacheWrapper, id: u64) -> usize {
    id as usize + N
}

#[puts("constant:{N}:{result}", cache = cache, tags("n:{N}"))]
async fn put_constant<const N: usize>(cache: &AsyncCacheWrapper) -> u64 {
    N as u64
}

async fn generic_constants_are_arguments(cache: AsyncCacheWrapper) {
    let source = Source::open();
    for _ in 0..2 {
        assert_eq!(constant::<1>(&cache, &source, 7).await, 8);
        assert_eq!(constant::<2>(&cache, &source, 7).await, 9);
        assert!(listed_constant::<2, false>(&cache, &source, &[1, 2]).await);
        assert!(!listed_constant::<2, true>(&cache, &source, &[1, 2]).await);
        assert_eq!(Grid::<3>.cell::<1>(&cache, &source, 4).await, 8);
        assert_eq!(Grid::<3>.cell::<2>(&cache, &source, 4).await, 9);
    }
    assert_eq!(source.runs(), 6);
    assert_eq!(constant::key::<3>(7), "constant:3:7");
    assert_eq!(listed_constant::key::<1, true>(&[5]), "listed constant:[5]:1:true");
    assert_eq!(Grid::<3>.cell_key::<1>(&cache, 4), "cell:1:4");
    let (blocking_cache, counted) = (cache.blocking(), source.clone());
    let calls = move || {
        assert_eq!(written_constant::<'a'>(&blocking_cache, &counted, 1), "a1");
        assert_eq!(written_constant::<'b'>(&blocking_cache, &counted, 1), "b1");
        assert_eq!(written_constant::key::<'c'>(1), "written:c:1");
    };
    tokio::task::spawn_blocking(calls).await.unwrap();
    change_constant::<1>(&cache, 7).await;
    assert_eq!(constant::peek::<1>(&cache, 7).await.unwrap(), None);
    assert_eq!(constant::peek::<2>(&cache, 7).await.unwrap(), None);
    put_constant::<5>(&cache).await;
    constant::put::<4>(&cache, 5, 40).await.unwrap();
    cache.remove_tags(["n:5"]).await.unwrap();
    assert_eq!(constant::peek::<5>(&cache, 5).await.unwrap(), None);
    assert_eq!(constant::peek::<4>(&cache, 5).await.unwrap(), Some(40));
}

/// An argument as a framework has it.
struct With<T>(T);

#[cached(key = "lasting:{id}", cache = cache, ttl = ttl, idle = *idle, skip(ttl, idle, limit, source),
    hard_timeout = limit)]
async fn lasting(
    With(cache): With<AsyncCacheWrapper>,
    source: &Source,
    id: u64,
    ttl: Duration,
    (idle, _): (Duration, u8),
    limit: Duration,
) -> Result<u64, AppError> {
    source.load().await;
    drop(cache);
    Ok(id)
}

#[cached(key = "lasting here:{id}", cache = cache, namespace = tenant, skip(source), here)]
async fn lasting_here(
    With(cache): With<&AsyncCacheWrapper>,
    source: &Source,
    With(tenant): With<&str>,
    id: u64,
) -> u64 {
    source.load().await;
    assert!(cache.adapter().is_ok());
    id + tenant.len() as u64
}

async fn options_see_the_arguments(cache: AsyncCacheWrapper) {
    let (source, minute) = (Source::open(), Duration::from_secs(60));
    let lasting_of =
        |ttl, idle| lasting(With(cache.clone()), &source, 7, ttl, (idle, 0), Duration::MAX);
    for _ in 0..2 {
        assert_eq!(lasting_of(60 * minute, minute).await, Ok(7));
        assert_eq!(lasting_here(With(&cache), &source, With("a"), 7).await, 8);
    }
    assert_eq!(source.runs(), 2);
    assert!(cache.contains("a:lasting here:7").await.unwrap());
    let left = async || match cache.expiry("lasting:7").await.unwrap() {
        Some(larder::Expiry::After(left)) => left,
        other => panic!("{other:?}"),
    };
    assert!(left().await <= minute, "the idle time of the call");
    // Beside the function: what is written takes the arguments of the options, too.
    lasting::put(&cache, 7, 60 * minute, (30 * minute, 0), 70).await.unwrap();
    let of_put = left().await;
    assert!(of_put > 20 * minute && of_put <= 30 * minute, "{of_put:?}");
    assert_eq!(lasting::peek(&cache, 7, (minute, 0)).await.unwrap(), Some(70));
    assert!(lasting::invalidate(&cache, 7).await.unwrap());
}
