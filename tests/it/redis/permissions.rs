//! Users who may not run every command, servers on which commands have other names, and servers in
//! other modes.

use super::{PATIENT, prefix, put, text};
use crate::support::{Proxy, Redis, eventually};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncRedisCache, CacheValue, Codec, Entry, ErrorKind,
    EventKind, Expiry, RedisBuilder,
};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MINUTES: Expiry = Expiry::After(Duration::from_secs(600));
const SECONDS: Expiry = Expiry::After(Duration::from_secs(30));
const BIG: usize = 300_000;

/// A user of the server that these tests share, who has all rights but those that `rules` take
/// away.
fn user(rules: &str) -> RedisBuilder {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    let server = SERVER.get_or_init(Redis::start);
    let (name, password) = server.user(rules);
    RedisBuilder::from_url(server.url())
        .unwrap()
        .user(name)
        .password(password)
        .prefix(prefix())
        .op_timeout(PATIENT)
}

fn cache(rules: &str) -> AsyncRedisCache {
    user(rules).build().unwrap()
}

fn big() -> String {
    "b".repeat(BIG)
}

fn outcome<T>(answer: larder::Result<T>) -> Result<T, String> {
    answer.map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        error.to_string()
    })
}

/// The verbs that fail with an error of the server's; all others do what they should.
async fn failing(cache: &AsyncRedisCache) -> Vec<&'static str> {
    let mut failing = Vec::new();
    macro_rules! verb {
        ($name:literal, $call:expr, $check:expr) => {
            match outcome($call.await) {
                Ok(answer) => assert!($check(&answer), "{}: {answer:?}", $name),
                Err(error) => {
                    println!("{}: {error}", $name);
                    failing.push($name);
                }
            }
        };
    }
    let is = |value: &'static str| {
        move |found: &Option<CacheValue>| {
            found.as_ref().and_then(|found| found.decode::<String>().ok()).as_deref() == Some(value)
        }
    };
    let value = |text: &str| CacheValue::new(text.to_owned());
    let fine = |(): &()| true;

    verb!("connect", cache.connect(), fine);
    verb!("ping", cache.ping(), fine);
    verb!("set", cache.set("k", value("v"), MINUTES), fine);
    verb!("get", cache.get("k"), is("v"));
    verb!("set", cache.set("k", value("v"), SECONDS), fine);
    verb!("contains", cache.contains("k"), |there: &bool| *there);
    verb!("contains", cache.contains("nothing"), |there: &bool| !there);
    verb!("expiry", cache.expiry("k"), |left: &Option<Expiry>| left.is_some());
    verb!("touch", cache.touch("k", MINUTES), |there: &bool| *there);
    verb!("touch", cache.touch("k", SECONDS), |there: &bool| *there);
    verb!("touch", cache.touch("nothing", Expiry::Never), |there: &bool| !there);
    verb!("touch", cache.touch("k", Expiry::Never), |there: &bool| *there);
    verb!("update_timeout", cache.update_timeout("k", MINUTES), is("v"));
    verb!("update_timeout", cache.update_timeout("k", SECONDS), is("v"));
    verb!("add", cache.add("k", value("other"), MINUTES), |added: &bool| !added);
    verb!("replace", cache.replace("k", value("v"), MINUTES), |replaced: &bool| *replaced);
    verb!("take", cache.take("k"), is("v"));
    if !failing.contains(&"take") {
        assert!(cache.add("k", value("v"), SECONDS).await.unwrap());
    }
    verb!("remove", cache.remove("k"), |removed: &bool| *removed);
    verb!("remove", cache.remove("k"), |removed: &bool| !removed);

    // Whatever was idle is asked for a sign of life before what must not be sent twice.
    tokio::time::sleep(Duration::from_millis(20)).await;
    verb!("add", cache.add("idle", value("v"), MINUTES), |added: &bool| *added);

    verb!("set big", cache.set("big", value(&big()), MINUTES), fine);
    verb!("get", cache.contains("big"), |there: &bool| *there);
    assert_eq!(text(cache, "big").await.unwrap(), Some(big()));
    verb!("set big", cache.replace("big", value(&big()), Expiry::Never), |done: &bool| *done);
    verb!("set big", cache.add("big", value(&big()), SECONDS), |done: &bool| !done);
    if let Ok(left) = cache.expiry("big").await {
        assert_eq!(left, Some(Expiry::Never));
    }

    verb!("incr", cache.incr("n", 2, MINUTES), |sum: &i64| *sum == 2);
    verb!("incr", cache.incr("n", 3, MINUTES), |sum: &i64| *sum == 5);
    cache.set("header", CacheValue::new(40), MINUTES).await.unwrap();
    verb!("incr", cache.incr("header", 2, MINUTES), |sum: &i64| *sum == 42);
    if let Ok(Some(Expiry::After(left))) = cache.expiry("header").await {
        assert!(left > Duration::from_secs(500), "the expiry was lost: {left:?}");
    }

    let entries = [
        Entry::new("a", value("1"), MINUTES),
        Entry::new("b", value("2"), SECONDS),
        Entry::new("c", value(&big()), MINUTES),
    ];
    let stored =
        async { cache.set_many(&entries).await?.into_iter().collect::<larder::Result<()>>() };
    verb!("set_many", stored, fine);
    let keys = ["a", "b", "nothing"];
    let found = async {
        cache
            .get_many(&keys)
            .await?
            .into_iter()
            .collect::<larder::Result<Vec<Option<CacheValue>>>>()
    };
    verb!("get_many", found, |found: &Vec<Option<CacheValue>>| {
        found[0].is_some() && found[1].is_some() && found[2].is_none()
    });
    let removed = async {
        cache
            .remove_many(&["a", "nothing"])
            .await?
            .into_iter()
            .collect::<larder::Result<Vec<bool>>>()
    };
    verb!("remove_many", removed, |removed: &Vec<bool>| removed[..] == [true, false]);

    loads_are_stored(cache).await;
    verb!("clear", cache.clear(""), fine);
    if !failing.contains(&"clear") {
        for key in ["idle", "big", "n", "header", "b", "c"] {
            assert!(text(cache, key).await.unwrap().is_none(), "{key} was not cleared");
        }
    }
    failing.sort_unstable();
    failing.dedup();
    failing
}

/// Whatever a server thinks of claims: one load a key, its value stored, bytes that cannot be read
/// healed, and a refresh replaces.
async fn loads_are_stored(adapter: &AsyncRedisCache) {
    let cache = AsyncCacheWrapper::new(adapter.clone()).unwrap();
    let loads = Arc::new(AtomicUsize::new(0));
    for _ in 0..5 {
        let counter = loads.clone();
        let load = async move {
            counter.fetch_add(1, Ordering::Relaxed);
            "loaded".to_owned()
        };
        let found: String = cache.get_or_set_async("load", load).await.unwrap();
        assert_eq!(found, "loaded");
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1, "it was not stored");
    let leased: u32 = cache
        .view()
        .lease(Duration::from_secs(5))
        .get_or_set_async("leased", async { 7 })
        .await
        .unwrap();
    assert_eq!((leased, cache.get::<u32>("leased").await.unwrap()), (7, Some(7)));
    let newer: u32 =
        cache.view().force_refresh().get_or_set_async("leased", async { 8 }).await.unwrap();
    assert_eq!((newer, cache.get::<u32>("leased").await.unwrap()), (8, Some(8)));
    for round in 0..2 {
        let batches = loads.clone();
        let load = move |missing: Vec<String>| {
            batches.fetch_add(1, Ordering::Relaxed);
            async move { missing.into_iter().map(|key| (key, 9u32)).collect::<Vec<_>>() }
        };
        let found = cache.get_or_set_many_async(["leased", "many 1", "many 2"], load).await;
        assert_eq!(found.unwrap(), [Some(8), Some(9), Some(9)], "round {round}");
    }
    assert_eq!(loads.load(Ordering::Relaxed), 2, "the batch was not stored");
    let large: String = cache.get_or_set_async("large", async { big() }).await.unwrap();
    assert!(large == big() && cache.get::<String>("large").await.unwrap() == Some(big()));
}

macro_rules! without {
    ($($name:ident: $rules:literal => $failing:expr;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let failing: Vec<&str> = failing(&cache($rules)).await;
                let expected: Vec<&str> = $failing.to_vec();
                assert_eq!(failing, expected, "the rules `{}`", $rules);
            }
        )*
    };
}

// What docs/redis-permissions.md says is lost without each command.
without! {
    nothing_is_lost_without_limits: "+@all" => [];
    nothing_is_lost_without_mget: "-mget" => [];
    nothing_is_lost_without_unlink: "-unlink" => [];
    nothing_is_lost_without_del: "-del" => [];
    only_removals_are_lost_without_unlink_and_del: "-unlink -del" =>
        ["clear", "remove", "remove_many"];
    nothing_is_lost_without_getex: "-getex" => [];
    only_take_is_lost_without_getdel: "-getdel" => ["take"];
    only_touch_is_lost_without_pexpire: "-pexpire" => ["touch"];
    only_touch_is_lost_without_persist: "-persist" => ["touch"];
    nothing_is_lost_without_exists: "-exists" => [];
    only_expiry_is_lost_without_pttl: "-pttl" => ["expiry"];
    nothing_is_lost_without_ping: "-ping" => [];
    nothing_is_lost_without_echo: "-echo" => [];
    nothing_is_lost_without_ping_and_echo: "-ping -echo" => [];
    nothing_is_lost_without_client: "-client" => [];
    nothing_is_lost_without_hello: "-hello" => [];
    only_clear_is_lost_without_scan: "-scan" => ["clear"];
    nothing_is_lost_without_evalsha: "-evalsha" => [];
    nothing_is_lost_without_eval: "-eval" => [];
    nothing_is_lost_without_scripts: "-@scripting" => [];
    nothing_is_lost_without_time: "-time" => [];
    nothing_is_lost_without_strlen: "-strlen" => [];
    nothing_is_lost_without_getrange: "-getrange" => [];
    nothing_is_lost_without_rename: "-rename" => [];
    nothing_is_lost_without_sorted_sets: "-@sortedset" => [];
    only_incr_is_lost_without_incrby: "-incrby" => ["incr"];
    nothing_is_lost_without_transactions: "-@transaction" => [];
    nothing_is_lost_without_scripts_and_transactions: "-@scripting -@transaction" => [];
    nothing_is_lost_without_scripts_and_exec: "-@scripting -exec" => [];
    nothing_is_lost_without_scripts_and_unlink: "-@scripting -unlink" => [];
    nothing_is_lost_to_readers_and_writers_with_scripts:
        "-@all +@read +@write +@scripting +@connection" => [];
    nothing_is_lost_to_readers_and_writers: "-@all +@read +@write +@connection" => [];
}

/// The commands that the page lists, and no other.
#[tokio::test]
async fn the_rules_of_the_page_are_enough() {
    let page = include_str!("../../../docs/redis-permissions.md");
    let commands = page.split("```").filter(|block| block.contains("ACL SETUSER"));
    let rules: Vec<String> = commands
        .map(|block| {
            let words = block.split_whitespace().map(|word| word.trim_matches('\''));
            words.filter(|word| word.starts_with('+')).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(rules.len(), 2, "with scripts, and without");
    assert!(rules.iter().all(|rules| rules.contains("+client|kill")), "{rules:?}");
    for (n, rules) in rules.into_iter().enumerate() {
        let rules = format!("resetkeys ~page{n}:* -@all {rules}");
        let cache = user(&rules).prefix(format!("page{n}:")).build().unwrap();
        assert_eq!(failing(&cache).await, [""; 0], "{rules}");
    }
}

/// The server does not know a command at all, and quotes in its error what it was sent.
fn renamed(commands: &[&str]) -> Redis {
    let args: Vec<&str> =
        commands.iter().flat_map(|command| ["--rename-command", command, ""]).collect();
    Redis::start_with(&args)
}

#[tokio::test]
async fn commands_with_other_names_break_no_connection() {
    let server = renamed(&["EVAL", "EVALSHA"]);
    let adapter = super::on(&server).build().unwrap();
    assert_eq!(failing(&adapter).await, [""; 0]);
    let before: usize = server.info("total_connections_received").parse().unwrap();
    let cache = AsyncCacheWrapper::new(adapter).unwrap();
    for n in 0..300 {
        let found: u32 = cache.get_or_set_async(format!("k{n}"), async move { n }).await.unwrap();
        assert_eq!((found, cache.get::<u32>(format!("k{n}")).await.unwrap()), (n, Some(n)));
    }
    let after: usize = server.info("total_connections_received").parse().unwrap();
    assert_eq!(after, before);
}

/// A server quotes the beginning of what it was sent: bytes of a value, or half a character of a
/// key.
#[tokio::test]
async fn an_error_that_is_not_text_breaks_no_connection() {
    let server = renamed(&["SET", "GETDEL", "PTTL", "EVAL", "EVALSHA"]);
    let cache = super::on(&server).codec(Codec::MessagePack).prefix("p:").build().unwrap();
    cache.connect().await.unwrap();
    let before: usize = server.info("total_connections_received").parse().unwrap();
    for len in 1..130 {
        let key = format!("{}清", "k".repeat(len));
        let error = put(&cache, &key, "value").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
        assert!(error.to_string().contains("`SET`"), "{error}");
        assert!(!error.to_string().contains("value"), "{error}");
        assert_eq!(cache.take(&key).await.unwrap_err().kind(), ErrorKind::Backend);
        assert_eq!(cache.expiry(&key).await.unwrap_err().kind(), ErrorKind::Backend);
        assert!(cache.get(&key).await.unwrap().is_none());
    }
    let after: usize = server.info("total_connections_received").parse().unwrap();
    assert_eq!(after, before);
}

#[tokio::test]
async fn that_scripts_are_refused_is_emitted_once() {
    let cache = AsyncCacheWrapper::new(cache("-@scripting")).unwrap();
    let events = Arc::new(AtomicUsize::new(0));
    let counter = events.clone();
    cache.observe(move |event| {
        if event.kind == EventKind::BackendError {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    for n in 0..20 {
        let _: u32 = cache.get_or_set_async(format!("k{n}"), async move { n }).await.unwrap();
    }
    assert_eq!(events.load(Ordering::Relaxed), 1);
}

/// Counters of a user who may not run scripts are as exact as those of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_are_exact_without_scripts() {
    let cache = cache("-@scripting");
    cache.set("n", CacheValue::new(1_000), MINUTES).await.unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    cache.incr("n", 1, MINUTES).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(cache.incr("n", 0, MINUTES).await.unwrap(), 2_000);
    assert_eq!(cache.incr("new", 5, SECONDS).await.unwrap(), 5);
    assert!(matches!(cache.expiry("new").await.unwrap(), Some(Expiry::After(_))));
    cache.incr("max", i64::MAX, MINUTES).await.unwrap();
    assert_eq!(cache.incr("max", 1, MINUTES).await.unwrap_err().kind(), ErrorKind::Overflow);
    put(&cache, "text", "no number").await.unwrap();
    assert_eq!(cache.incr("text", 1, MINUTES).await.unwrap_err().kind(), ErrorKind::NotANumber);
    assert_eq!(text(&cache, "text").await.unwrap().as_deref(), Some("no number"));
}

/// The lock for rewriting a counter has expired by the time at which its holder writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_is_rewritten_late_loses_nothing() {
    let server = Redis::start();
    let proxy = Proxy::start(server.addr());
    let (name, password) = server.user("-@scripting");
    let cache = |url: &str| {
        let builder = RedisBuilder::from_url(url).unwrap().user(&name).password(&password);
        builder.prefix("late:").op_timeout(PATIENT).build().unwrap()
    };
    let (late, prompt) = (cache(&proxy.url(server.url())), cache(server.url()));
    prompt.set("n", CacheValue::new(1_000), MINUTES).await.unwrap();
    // The word is in the write only.
    proxy.keep_requests_from(b"KEEPTTL");
    let rewriting = tokio::spawn(async move { late.incr("n", 1, MINUTES).await });
    eventually("the number is written", PATIENT, async || proxy.sent() == 1).await;
    for sum in 1_001..=1_010 {
        assert_eq!(prompt.incr("n", 1, MINUTES).await.unwrap(), sum);
    }
    proxy.release_kept();
    assert_eq!(rewriting.await.unwrap().unwrap(), 1_011);
    assert_eq!(prompt.incr("n", 0, MINUTES).await.unwrap(), 1_011);
    assert!(matches!(prompt.expiry("n").await.unwrap(), Some(Expiry::After(_))));
}

/// Without a mark on the server, a load that was claimed before a `clear` is not stored after it
/// either.
#[tokio::test]
async fn a_clear_without_a_mark_ends_claims() {
    let clearing = user("-zadd").prefix("shared-clear:").build().unwrap();
    let loading = user("+@all").prefix("shared-clear:").build().unwrap();
    let claim = loading.claim("k", None).await.unwrap().unwrap();
    assert!(claim.token().is_some());
    clearing.clear("").await.unwrap();
    let value = CacheValue::new("old".to_owned());
    assert!(!loading.set_claimed("k", value, MINUTES, &claim).await.unwrap());
    assert!(loading.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_in_cluster_mode_is_refused_when_it_is_connected() {
    let server = Redis::start_cluster();
    let cache = super::on(&server).build().unwrap();
    let mut errors = vec![cache.connect().await.unwrap_err()];
    for n in 0..5 {
        errors.push(put(&cache, &format!("k{n}"), "v").await.unwrap_err());
        errors.push(cache.get_many(&["a", "b"]).await.unwrap_err_or_first());
    }
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("cluster"), "{error}");
    }
    assert_eq!(server.int(&["DBSIZE"]), 0, "half a cache");
}

trait FirstError {
    fn unwrap_err_or_first(self) -> larder::Error;
}

impl<T: std::fmt::Debug> FirstError for larder::Result<Vec<larder::Result<T>>> {
    fn unwrap_err_or_first(self) -> larder::Error {
        match self {
            Err(error) => error,
            Ok(answers) => answers.into_iter().next().unwrap().unwrap_err(),
        }
    }
}

/// The names of auxiliary keys are refused as keys.
#[tokio::test]
async fn names_of_larders_own_are_no_keys() {
    let cache = cache("+@all");
    for key in ["k\0larder:claim", "\0larder:clears", "n\0larder:counter"] {
        assert_eq!(put(&cache, key, "v").await.unwrap_err().kind(), ErrorKind::InvalidKey);
        assert_eq!(cache.get(key).await.unwrap_err().kind(), ErrorKind::InvalidKey);
        assert_eq!(cache.remove_many(&["k", key]).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    }
    put(&cache, "\0larder:", "v").await.unwrap();
}
