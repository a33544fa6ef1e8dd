//! From names, URLs and the environment to adapters. What the environment says is tested in processes of their own.

#![cfg(all(feature = "memory", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod own_process;

use larder::{
    AsyncCacheWrapper, AsyncMemoryCache, CacheWrapper, DEFAULT_TTL, Error, ErrorKind, Expiry,
    IntoAdapter, adapter_set, async_adapter_set, async_cached, cached,
};
use own_process::own_process;
use proptest::prelude::*;
use std::error::Error as _;
use std::time::Duration;

/// Every name of API.md, by kind.
const NAMES: [(&str, &[&str]); 4] = [
    (
        "memory",
        &[
            "memory",
            "mem",
            "ram",
            "MemoryCache",
            "MemoryAdapter",
            "AsyncMemoryCache",
            "AsyncMemoryAdapter",
        ],
    ),
    ("redis", &["redis", "RedisCache", "RedisAdapter", "AsyncRedisCache", "AsyncRedisAdapter"]),
    (
        "memcached",
        &[
            "memcached",
            "memcache",
            "mcache",
            "MemcachedCache",
            "MemcachedAdapter",
            "AsyncMemcachedCache",
            "AsyncMemcachedAdapter",
        ],
    ),
    (
        "sqlite",
        &[
            "sqlite3",
            "sqlite",
            "sqlitedb",
            "SqliteCache",
            "SqliteAdapter",
            "AsyncSqliteCache",
            "AsyncSqliteAdapter",
        ],
    ),
];

const URLS: [(&str, &[&str]); 4] = [
    ("memory", &["memory:", "MEMORY:", "memory:?max_entries=10000", "memory:?"]),
    (
        "redis",
        &[
            "redis://localhost",
            "redis://127.0.0.1:6379",
            "redis://:secret@127.0.0.1:6379/2",
            "redis://user:secret@[::1]:6379/0",
            "redis+unix:///run/redis.sock",
            "valkey://localhost",
            #[cfg(any(feature = "tls", not(feature = "redis")))]
            "rediss://localhost",
        ],
    ),
    (
        "memcached",
        &[
            "memcached://localhost:11211",
            "memcached://one:11211,two:11212",
            "memcached+unix:///run/memcached.sock",
        ],
    ),
    (
        "sqlite",
        &[
            "sqlite::memory:",
            "sqlite:cache.db",
            "sqlite:///tmp/never-opened/cache.db",
            "sqlite3:cache.db",
        ],
    ),
];

fn is_here(kind: &str) -> bool {
    match kind {
        "memory" => cfg!(feature = "memory"),
        "redis" => cfg!(feature = "redis"),
        "memcached" => cfg!(feature = "memcached"),
        "sqlite" => cfg!(feature = "sqlite"),
        other => panic!("{other}"),
    }
}

/// An adapter of that kind, or the error that says which feature it needs and what there is.
fn is(kind: &str, name: &str) {
    match name.into_adapter() {
        Ok(adapter) => assert_eq!(adapter.backend(), kind, "{name}"),
        Err(error) => {
            assert!(!is_here(kind), "{name}: {error}");
            let here: Vec<_> =
                NAMES.iter().map(|(kind, _)| *kind).filter(|kind| is_here(kind)).collect();
            let said = error.to_string();
            assert!(
                said.contains(&format!(
                    "adapter `{kind}` needs the feature `{kind}`; available here: {}",
                    here.join(", ")
                )),
                "{said}"
            );
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }
}

/// The error that a wrong name or URL gives, with everything that anybody could print of it.
fn refused(name: &str) -> String {
    let error = name.into_adapter().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    everything_of(&error)
}

fn everything_of(error: &Error) -> String {
    let mut all = format!("{error} {error:?} {error:#?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        all = format!("{all} {error} {error:?}");
        cause = error.source();
    }
    all
}

/// Within a second of what it should be: time goes by.
fn lives(cache: &CacheWrapper, ttl: Duration) {
    cache.set("key", 1).unwrap();
    let Some(Expiry::After(left)) = cache.expiry("key").unwrap() else {
        panic!("lives for ever, or not at all")
    };
    assert!(left <= ttl && left + Duration::from_secs(20) > ttl, "{left:?} of {ttl:?}");
}

fn of_url(url: &str) -> CacheWrapper {
    CacheWrapper::new(url).unwrap()
}

#[test]
fn every_name_in_any_case() {
    for (kind, names) in NAMES {
        for name in names {
            // The sqlite adapter's default is a file in the working directory, opened lazily.
            is(kind, name);
            is(kind, &name.to_uppercase());
            is(kind, &name.to_lowercase());
        }
    }
}

#[test]
fn every_form_of_url() {
    for (kind, urls) in URLS {
        for url in urls {
            is(kind, url);
        }
    }
    if cfg!(feature = "tls") || !cfg!(feature = "redis") {
        is("redis", "rediss://localhost");
    }
}

#[test]
fn the_parameters_of_a_url_count() {
    lives(&of_url("memory:"), DEFAULT_TTL);
    lives(&of_url("memory:?default_ttl=60"), Duration::from_secs(60));
    lives(&of_url("memory:?default_ttl=2m"), Duration::from_secs(120));
    lives(&of_url("memory:?default%5Fttl=90"), Duration::from_secs(90));
    let endless = of_url("memory:?default_ttl=never");
    endless.set("key", 1).unwrap();
    assert_eq!(endless.expiry("key").unwrap(), Some(Expiry::Never));
    let vanishing = of_url("memory:?default_ttl=0");
    vanishing.set("key", 1).unwrap();
    assert!(!vanishing.contains("key").unwrap());

    let shared = of_url("memory:?shared=true&prefix=app:");
    shared.set("key", 1).unwrap();
    let whole = CacheWrapper::new(AsyncMemoryCache::shared()).unwrap();
    assert_eq!(whole.get::<i32>("app:key").unwrap(), Some(1));
    assert_eq!(of_url("memory:?codec=json&encoded=true").get_or_set("key", vec![1]).unwrap(), [1]);
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let said = refused("oracle");
    assert!(
        said.contains("unknown adapter `oracle`; there are: memory, mem, ram, redis, memcached"),
        "{said}"
    );
    let said = refused("gopher://localhost");
    assert!(
        said.contains("unknown URL scheme `gopher`; there are: memory, redis, rediss"),
        "{said}"
    );
    let said = refused("memory:?colour=red&max_entries=1");
    assert!(said.contains("unknown URL parameter `colour`; `memory:` takes: prefix, default_ttl, codec, max_entries"), "{said}");
    let said = refused("memory:?max_entries=1&max_entries=2");
    assert!(said.contains("the URL parameter `max_entries` is given twice"), "{said}");
    let said = refused("memory:?default_ttl=1&default%5Fttl=2");
    assert!(said.contains("the URL parameter `default_ttl` is given twice"), "{said}");
    let said = refused("memory:somewhere");
    assert!(said.contains("a memory URL is `memory:`"), "{said}");
    for nothing in ["", ":", "://", "?"] {
        refused(nothing);
    }
}

#[test]
fn garbage_values_are_refused_by_parameter() {
    let cases = [
        ("max_entries", &["", "-1", "1.5", "many", "99999999999999999999"][..]),
        ("max_bytes", &["", "1kb", "-1"]),
        ("default_ttl", &["", "-1", "soon", "nan", "inf", "1e400", "5 parsecs"]),
        ("encoded", &["", "yes", "TRUE "]),
        ("shared", &["", "2"]),
        ("codec", &["", "xml"]),
    ];
    for (parameter, values) in cases {
        for value in values {
            let said = refused(&format!("memory:?{parameter}={value}"));
            assert!(
                said.contains(&format!("the URL parameter `{parameter}` must be")),
                "{parameter}={value}: {said}"
            );
        }
    }
}

#[test]
fn a_password_is_in_no_error() {
    const SECRET: &str = "hunter2";
    let urls = [
        "gopher://user:hunter2@localhost",
        "redis:///:hunter2@localhost",
        "redis://:hunter2@localhost:notaport/0",
        "redis://:hunter2@localhost/notadb",
        "redis://:hunter2@localhost/0?colour=red",
        "redis://:hunter2@local host/0",
        "redis://:a?hunter2@localhost/0",
        "redis://:a?hunter2=b@localhost/0",
        "redis://:a#hunter2@localhost/0",
        "redis://:a/hunter2@localhost/0",
        "redis://user:hunter2",
        "redis://:%ff-hunter2@localhost",
        "redis//:hunter2@localhost",
        "redis:hunter2@localhost",
        "hunter2@localhost",
        "//:hunter2@localhost",
        "hunter2@localhost:6379",
        "memcached://user:hunter2@localhost",
        "memory://user:hunter2@localhost",
        "memory:?hunter2@localhost",
        "sqlite://user:hunter2@localhost?colour=red",
        "redis+unix://:hunter2@/run?colour=red",
    ];
    for url in urls {
        // Some of them are adapters where the feature is on: odd, but not wrong.
        match url.into_adapter() {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Config, "{url}");
                assert!(!everything_of(&error).contains(SECRET), "{url}: {error:?}");
            }
            Ok(adapter) => {
                let cache = AsyncCacheWrapper::new(adapter.clone()).unwrap();
                let printed = format!("{adapter:?} {adapter:#?} {cache:?} {:?}", cache.blocking());
                assert!(!printed.contains(SECRET), "{url}: {printed}");
            }
        }
    }
}

#[cfg(feature = "redis")]
#[test]
fn a_password_is_in_no_adapter_and_no_failure() {
    // Nobody listens there, and the password is as it would be.
    for url in
        ["redis://user:hunter2@127.0.0.1:1/0", "redis://127.0.0.1:1/0?user=user&password=hunter2"]
    {
        let adapter = larder::AsyncRedisCache::from_url(url).unwrap();
        let cache = CacheWrapper::new(adapter.clone()).unwrap();
        let error = cache.get::<u8>("key").unwrap_err();
        assert!(error.is_retryable(), "{error}");
        let printed = format!("{adapter:?} {adapter:#?} {cache:?} {}", everything_of(&error));
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

#[test]
fn an_error_is_short_whatever_was_given() {
    for long in [
        "x".repeat(1 << 20),
        format!("{}:", "x".repeat(1 << 20)),
        format!("memory:?{}=1", "x".repeat(1 << 20)),
    ] {
        let error = long.into_adapter().unwrap_err();
        assert!(error.to_string().len() < 500, "{} bytes", error.to_string().len());
    }
}

/// The layer's parameters are for caches that are given a URL, and are as strict as the others.
#[test]
#[cfg(all(feature = "redis", feature = "memcached"))]
fn the_layer_around_redis_and_memcached_has_parameters_of_its_own() {
    for scheme in ["redis://:hunter2@localhost/1", "memcached://one,two"] {
        let url = |parameters: &str| format!("{scheme}?{parameters}");
        for good in [
            "resilient=off",
            "breaker=off&prefix=p:",
            "prefix=p:&retry=0&op_timeout=1s",
            "recovery=false&fail_open=on",
            "resilient=true&breaker=on&retry=5",
        ] {
            assert!(url(good).into_adapter().is_ok(), "{good}");
        }
        for (bad, word) in [
            ("breaker=maybe", "breaker"),
            ("retry=often", "retry"),
            ("breaker=on&breaker=off", "breaker"),
            ("resilient=off&nosuch=1", "nosuch"),
            ("breakers=off", "breakers"),
        ] {
            let error = url(bad).into_adapter().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(
                error.to_string().contains(&format!("`{word}`"))
                    && !error.to_string().contains("hunter2"),
                "{error}"
            );
        }
    }
    for by_hand in [
        larder::AsyncRedisCache::new("redis://:hunter2@localhost?breaker=off").map(drop),
        larder::AsyncMemcachedCache::new("memcached://localhost?breaker=off").map(drop),
    ] {
        let message = by_hand.unwrap_err().to_string();
        assert!(
            message.contains("`breaker`") && message.contains("larder::layers::Resilient"),
            "{message}"
        );
    }
    assert!(
        "memory:?breaker=off".into_adapter().is_err()
            && "sqlite::memory:?resilient=on".into_adapter().is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("LARDER_SOAK").is_some() { 200_000 } else { 2_000 }))]

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _either = text.into_adapter().map(|adapter| format!("{adapter:?}"));
    }

    #[test]
    fn no_url_makes_it_panic(url in "(memory|redis|rediss|redis\\+unix|valkey|memcached|memcached\\+unix|sqlite|sqlite3)(:|://|:///)\\PC{0,30}") {
        let _either = url.into_adapter().map(|adapter| format!("{adapter:?}"));
    }

    #[test]
    fn no_parameter_makes_it_panic(
        name in "(prefix|default_ttl|codec|max_entries|max_bytes|encoded|shared|op_timeout|pool_size|db|user|password|resp3)",
        value in "(\\PC{0,20}|[-+0-9.eE]{1,12}(ms|s|m|h|d|y)?)",
        scheme in "(memory:|redis://h|memcached://h|sqlite::memory:)",
    ) {
        if let Err(error) = format!("{scheme}?{name}={value}").into_adapter() {
            prop_assert_eq!(error.kind(), ErrorKind::Config);
        }
    }
}

/// What the global cache says to a bad environment.
fn complaint() -> String {
    let error = cached().set("key", 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    everything_of(&error)
}

own_process! {
    fn nothing_set() {
        lives(cached(), DEFAULT_TTL);
    }

    fn empty_is_unset(
        "LARDER_URL" = "", "LARDER_TTL" = "", "PRIVEX_ASYNC_CACHE_ADAPTER" = "", "PRIVEX_CACHE_ADAPTER" = "", "PRIVEX_CACHE_TIMEOUT" = "",
        "PRIVEX_REDIS_HOST" = "", "PRIVEX_REDIS_PORT" = "", "PRIVEX_REDIS_DB" = ""
    ) {
        lives(cached(), DEFAULT_TTL);
        is("redis", "redis");
    }

    fn an_alias("LARDER_URL" = "ram") {
        lives(cached(), DEFAULT_TTL);
    }

    fn a_url("LARDER_URL" = "memory:?default_ttl=60") {
        lives(cached(), Duration::from_secs(60));
        // Of the global cache only.
        lives(&of_url("memory"), DEFAULT_TTL);
    }

    fn the_environments_expiry("LARDER_TTL" = "90", "PRIVEX_CACHE_TIMEOUT" = "120") {
        lives(cached(), Duration::from_secs(90));
        lives(&of_url("memory:?max_entries=5"), Duration::from_secs(90));
        lives(&of_url("memory:?prefix=default_ttl="), Duration::from_secs(90));
        lives(&of_url("memory:?prefix=my_default_ttl=5"), Duration::from_secs(90));
        // A URL says it louder, code louder still, and a call loudest.
        lives(&of_url("memory:?default_ttl=60"), Duration::from_secs(60));
        lives(&of_url("memory:?default%5Fttl=60"), Duration::from_secs(60));
        let coded = AsyncMemoryCache::builder().default_ttl(Duration::from_secs(30)).build();
        lives(&CacheWrapper::new(coded).unwrap(), Duration::from_secs(30));
        lives(&of_url("memory").with_ttl(Duration::from_secs(45)), Duration::from_secs(45));
        cached().ttl(Expiry::Never).set("for ever", 1).unwrap();
        assert_eq!(cached().expiry("for ever").unwrap(), Some(Expiry::Never));
    }

    fn the_environments_expiry_beside_its_url("LARDER_URL" = "memory:?default_ttl=60", "LARDER_TTL" = "90") {
        lives(cached(), Duration::from_secs(60));
    }

    fn a_fraction_of_a_second("LARDER_TTL" = "1500ms") {
        cached().set("key", 1).unwrap();
        let Some(Expiry::After(left)) = cached().expiry("key").unwrap() else { panic!("gone at once, or never") };
        assert!(left > Duration::from_secs(1) && left <= Duration::from_millis(1500), "{left:?}");
    }

    fn an_expiry_of_never("PRIVEX_CACHE_TIMEOUT" = "never") {
        cached().set("key", 1).unwrap();
        assert_eq!(cached().expiry("key").unwrap(), Some(Expiry::Never));
    }

    fn the_python_expiry("PRIVEX_CACHE_TIMEOUT" = "120") {
        lives(cached(), Duration::from_secs(120));
    }

    fn the_python_adapter("PRIVEX_CACHE_ADAPTER" = "MemoryCache") {
        lives(cached(), DEFAULT_TTL);
    }

    fn the_async_python_adapter_first("PRIVEX_ASYNC_CACHE_ADAPTER" = "memory:?default_ttl=60", "PRIVEX_CACHE_ADAPTER" = "oracle") {
        lives(cached(), Duration::from_secs(60));
    }

    fn larders_own_name_first("LARDER_URL" = "memory:?default_ttl=60", "PRIVEX_ASYNC_CACHE_ADAPTER" = "oracle") {
        lives(cached(), Duration::from_secs(60));
    }

    fn an_adapter_that_there_is_not("LARDER_URL" = "oracle") {
        let said = complaint();
        assert!(said.contains("LARDER_URL: ") && said.contains("unknown adapter `oracle`; there are: memory"), "{said}");
        assert_eq!(larder::async_adapter_get().unwrap_err().kind(), ErrorKind::Config);
        // Said in code it is well again, for both.
        async_adapter_set("memory").unwrap();
        lives(cached(), DEFAULT_TTL);
    }

    fn a_python_adapter_that_there_is_not("PRIVEX_CACHE_ADAPTER" = "oracle") {
        assert!(complaint().contains("PRIVEX_CACHE_ADAPTER: "));
        adapter_set("memory").unwrap();
        lives(cached(), DEFAULT_TTL);
        // That was the blocking one's own.
        let error = larder::awaitable(async_cached().get::<u8>("key")).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    fn code_says_it_louder("LARDER_URL" = "oracle", "LARDER_TTL" = "soon") {
        async_adapter_set(AsyncMemoryCache::new()).unwrap();
        lives(cached(), DEFAULT_TTL);
    }

    fn a_url_with_a_password("LARDER_URL" = "redis://user:hunter2@localhost:port/0") {
        let said = complaint();
        assert!(said.contains("LARDER_URL: ") && !said.contains("hunter2"), "{said}");
    }

    fn a_bad_expiry("LARDER_TTL" = "soon") {
        let said = complaint();
        assert!(said.contains("LARDER_TTL must be `never`, seconds, or a time such as"), "{said}");
    }

    fn a_bad_python_expiry("PRIVEX_CACHE_TIMEOUT" = "-1") {
        assert!(complaint().contains("PRIVEX_CACHE_TIMEOUT must be"));
    }
}

#[cfg(feature = "redis")]
own_process! {
    fn a_bad_port("PRIVEX_REDIS_PORT" = "port") {
        assert!(refused("redis").contains("PRIVEX_REDIS_PORT must be a whole number up to 65535"));
        // A URL leaves nothing open.
        is("redis", "redis://localhost");
    }

    fn a_bad_database("PRIVEX_REDIS_DB" = "-1") {
        assert!(refused("redis").contains("PRIVEX_REDIS_DB must be a whole number"));
    }

    fn a_bad_host("PRIVEX_REDIS_HOST" = "user:hunter2@localhost") {
        let said = refused("redis");
        assert!(said.contains("PRIVEX_REDIS_HOST must be a host name or an IP address") && !said.contains("hunter2"), "{said}");
    }

    fn the_python_redis("PRIVEX_CACHE_ADAPTER" = "redis", "PRIVEX_REDIS_HOST" = "::1", "PRIVEX_REDIS_DB" = "3") {
        assert_eq!(larder::async_adapter_get().unwrap().backend(), "redis");
    }
}

#[cfg(feature = "redis")]
#[test]
fn the_python_redis_is_the_one_that_is_asked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let environment = [
        ("PRIVEX_CACHE_ADAPTER", "redis"),
        ("PRIVEX_REDIS_HOST", "localhost"),
        ("PRIVEX_REDIS_PORT", &port),
    ];
    own_process::run("config::the_python_redis_is_the_one_that_is_asked", &environment, || {
        // It never answers.
        assert!(cached().get::<u8>("key").unwrap_err().is_retryable());
    });
    // Of the two processes that run this only the outer one's listener is called.
    if !own_process::is_child() {
        listener.accept().unwrap();
    }
}

#[cfg(feature = "memcached")]
own_process! {
    fn a_bad_memcached_port("PRIVEX_MEMCACHED_PORT" = "65536") {
        assert!(refused("memcached").contains("PRIVEX_MEMCACHED_PORT must be a whole number up to 65535"));
    }

    fn the_python_memcached("PRIVEX_ASYNC_CACHE_ADAPTER" = "memcached", "PRIVEX_MEMCACHED_HOST" = "cache.example", "PRIVEX_MEMCACHED_PORT" = "11311") {
        assert_eq!(larder::async_adapter_get().unwrap().backend(), "memcached");
    }
}
