//! A near level before redis, beside memory, redis alone, and moka in front of redis by hand.

use super::server::Server;
use super::{KEYS, PATIENCE, ROUNDS, RUNTIME, TTL, key, rate, value};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::memory::{Load, ready};
use crate::run::Run;
use larder::{AsyncCacheWrapper, AsyncMemoryCache};
use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Values are near for longer than a line takes.
const LONG: &str = "near_bound=1h&near_ttl=1h";
/// Hardly a value stays near.
const MISSES: &str = "near_bound=1h&near_ttl=1h&near_entries=1";
const FAR: &str = "larder, redis alone";
const NO_TAG: &str = "larder, no tag";
const NEVER: &str = "larder, no tag in the cache";
const TAG_NOTE: &str = "All entries are in one cache: a read of one without a tag looks at a bit.";
const UNTAGGED_NOTE: &str = "The same reads of 1,000 entries without tags. One cache has as many entries with tags beside them, which it has read; the \
     other never met a tag.";
const HIT_NOTE: &str = "A value of 100 bytes as a `String`, entries with a deadline each.";
const ZIPF_NOTE: &str = "95 % reads, a read that misses writes; 5 % writes; Zipf 0.99 over 1,000 keys; 2 workers, 64 tasks; calls a second. moka has a time \
     to live of 100 ms in front of larder's redis, and is emptied of a key by this process's own writes.";

static HOT: LazyLock<Load> = LazyLock::new(|| Load::uniform(KEYS));
static ZIPF: LazyLock<Load> = LazyLock::new(|| Load::zipf(KEYS, 0.99));

pub(super) fn run(run: &mut Run) {
    let lines = [
        "near/hit",
        "near/tag",
        "near/miss-1",
        "near/miss-256",
        "near/write",
        "near/mixed",
        "tags/redis",
    ];
    if !lines.iter().any(|id| run.wants(id)) {
        return;
    }
    let Some(server) = Server::redis() else { return };
    let url = format!("redis://127.0.0.1:{}?{PATIENCE}", server.port);
    let far = cache(&url);
    fill(&far);
    let near = |settings: &str| cache(&format!("near+{url}&{settings}"));
    run.line(
        Line::new("near/hit", "near hit before redis, 1k hot keys", Unit::Nanos)
            .goal(Goal::at_most_more(10.0, "larder, memory"))
            .note(HIT_NOTE),
        || hits(near(LONG)),
    );
    for (id, title, tasks, goal) in [
        ("near/miss-1", "near miss, redis GET 100 B, 1 task", 1, 0.95),
        ("near/miss-256", "near miss, redis GET 100 B, 256 tasks", 256, 0.71),
    ] {
        run.line(
            Line::new(id, title, Unit::PerSecond)
                .goal(Goal::at_least_times(goal, FAR))
                .rounds(ROUNDS),
            || vec![gets("larder, near+redis", near(MISSES), tasks), gets(FAR, far.clone(), tasks)],
        );
    }
    run.line(
        Line::new(
            "near/write",
            "SET with expiry 100 B through a near level, 1 task",
            Unit::PerSecond,
        )
        .goal(Goal::at_least_times(0.99, FAR))
        .rounds(ROUNDS),
        || vec![sets("larder, near+redis", near(LONG)), sets(FAR, far.clone())],
    );
    run.line(
        Line::new("near/mixed", "95/5 before redis, Zipf 0.99", Unit::PerSecond)
            .goal(Goal::at_least_times(6.0, FAR))
            .rounds(ROUNDS)
            .note(ZIPF_NOTE),
        || {
            vec![
                mixed("larder, near+redis, all keys near", Larder(near(""))),
                mixed("larder, near+redis, a tenth near", Larder(near("near_entries=100"))),
                mixed(FAR, Larder(far.clone())),
                mixed("moka in front, by hand", ByHand::new(far.clone())),
            ]
        },
    );
    of_tags(run, &url);
}

/// What tags cost, and what entries without tags cost beside them.
fn of_tags(run: &mut Run, url: &str) {
    run.line(
        Line::new("near/tag", "near hit before redis, entries with tags, 1k hot keys", Unit::Nanos)
            .goal(Goal::at_most_times(2.2, NO_TAG))
            .note(TAG_NOTE),
        || tagged(&cache(&format!("near+{url}&{LONG}"))),
    );
    run.line(
        Line::new("tags/redis", "redis GET 100 B without tags, 64 tasks", Unit::PerSecond)
            .goal(Goal::at_least_times(0.97, NEVER))
            .rounds(ROUNDS)
            .note(UNTAGGED_NOTE),
        || untagged(cache(url), cache(url)),
    );
}

/// Reads of entries without tags, from a cache that has tagged entries and from one that has met none.
fn untagged(beside: AsyncCacheWrapper, never: AsyncCacheWrapper) -> Vec<Contestant<'static>> {
    let cache = beside.clone();
    RUNTIME.block_on(async move {
        for number in 0..KEYS {
            let (tagged, own) = (format!("tagged/{number}"), format!("user:{number}"));
            cache
                .ttl(TTL * 60)
                .tags([own.as_str(), "all"])
                .set(&tagged, value())
                .await
                .expect("set");
            cache.get::<String>(&tagged).await.expect("get").expect("it is there");
        }
    });
    vec![gets("larder, tagged entries beside", beside, 64), gets(NEVER, never, 64)]
}

fn cache(url: &str) -> AsyncCacheWrapper {
    AsyncCacheWrapper::new(url).expect("a URL")
}

fn fill(cache: &AsyncCacheWrapper) {
    let cache = cache.clone();
    RUNTIME.block_on(async move {
        for number in 0..KEYS {
            cache.ttl(TTL * 60).set(key(number), value()).await.expect("set");
        }
    });
}

fn hits(near: AsyncCacheWrapper) -> Vec<Contestant<'static>> {
    let memory = cache("memory");
    RUNTIME.block_on(async {
        for number in 0..KEYS {
            memory.ttl(TTL * 60).set(key(number), value()).await.expect("set");
            // Twice: what is decoded first is remembered.
            for _ in 0..2 {
                near.get::<String>(key(number)).await.expect("get").expect("it is there");
            }
        }
    });
    let bare =
        AsyncCacheWrapper::new(AsyncMemoryCache::builder().encoded().build()).expect("memory");
    fill(&bare);
    let [mut a, mut b, mut c] = [(); 3].map(|()| HOT.asked());
    vec![
        Contestant::work("larder, near+redis", move || ready(near.get::<String>(a()))),
        Contestant::work("larder, memory", move || ready(memory.get::<String>(b()))),
        Contestant::work("larder, memory, decoded each time", move || {
            ready(bare.get::<String>(c()))
        }),
    ]
}

/// Each key under a tag of its own, and all under the others.
fn tagged(near: &AsyncCacheWrapper) -> Vec<Contestant<'static>> {
    let hit = |name: &'static str, tags: usize| {
        let of = move |number: usize| -> Vec<String> {
            let own = (tags > 0).then(|| format!("user:{number}"));
            own.into_iter().chain((1..tags).map(|tag| format!("team:{tag}"))).collect()
        };
        let cache = near.namespace(format!("tags-{tags}"));
        RUNTIME.block_on(async {
            for number in 0..KEYS {
                let entry = cache.ttl(TTL * 60).tags(of(number));
                entry.set(key(number), value()).await.expect("set");
                // Twice: what is decoded first is remembered.
                for _ in 0..2 {
                    cache.get::<String>(key(number)).await.expect("get").expect("it is there");
                }
            }
        });
        let mut asked = HOT.asked();
        Contestant::work(name, move || ready(cache.get::<String>(asked())))
    };
    vec![hit("larder, one tag", 1), hit(NO_TAG, 0), hit("larder, three tags", 3)]
}

fn gets(name: &str, cache: AsyncCacheWrapper, tasks: usize) -> Contestant<'static> {
    let round = move || {
        let cache = cache.clone();
        rate(tasks, move |number| {
            let cache = cache.clone();
            async move {
                let found: Option<String> = cache.get(key(number)).await.expect("get");
                black_box(found.expect("it is there"));
            }
        })
    };
    Contestant::round(name, round)
}

fn sets(name: &str, cache: AsyncCacheWrapper) -> Contestant<'static> {
    let round = move || {
        let cache = cache.clone();
        rate(1, move |number| {
            let cache = cache.clone();
            async move { cache.ttl(TTL * 60).set(key(number), value()).await.expect("set") }
        })
    };
    Contestant::round(name, round)
}

/// Reads and writes a key.
trait Reads: Clone + Send + Sync + 'static {
    fn read(&self, key: &str) -> impl Future<Output = Option<String>> + Send;
    fn write(&self, key: &str) -> impl Future<Output = ()> + Send;
}

#[derive(Clone)]
struct Larder(AsyncCacheWrapper);

impl Reads for Larder {
    async fn read(&self, key: &str) -> Option<String> {
        self.0.get(key).await.expect("get")
    }

    async fn write(&self, key: &str) {
        self.0.ttl(TTL * 60).set(key, value()).await.expect("set");
    }
}

/// What people write: a cache in memory with a short life, in front of redis.
#[derive(Clone)]
struct ByHand {
    near: moka::future::Cache<String, Arc<str>>,
    far: AsyncCacheWrapper,
}

impl ByHand {
    fn new(far: AsyncCacheWrapper) -> Self {
        let near = moka::future::Cache::builder()
            .max_capacity(100_000)
            .time_to_live(Duration::from_millis(100))
            .build();
        Self { near, far }
    }
}

impl Reads for ByHand {
    async fn read(&self, key: &str) -> Option<String> {
        if let Some(found) = self.near.get(key).await {
            return Some(found.as_ref().to_owned());
        }
        let found: Option<String> = self.far.get(key).await.expect("get");
        if let Some(found) = &found {
            self.near.insert(key.to_owned(), found.as_str().into()).await;
        }
        found
    }

    async fn write(&self, key: &str) {
        self.far.ttl(TTL * 60).set(key, value()).await.expect("set");
        self.near.invalidate(key).await;
    }
}

fn mixed(name: &str, cache: impl Reads) -> Contestant<'static> {
    let round = move || {
        let cache = cache.clone();
        rate(64, move |number| {
            let cache = cache.clone();
            async move {
                // `number` goes through the places of the order.
                let key = ZIPF.at(number.wrapping_mul(7_919));
                if number % 20 == 0 {
                    return cache.write(key).await;
                }
                if black_box(cache.read(key).await).is_none() {
                    cache.write(key).await;
                }
                if number % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        })
    };
    Contestant::round(name, round)
}
