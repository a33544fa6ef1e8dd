//! From names, URLs and the environment to adapters and their caches.

#![cfg(all(feature = "memory", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod environment;
mod options;
#[path = "../own_process/mod.rs"]
mod own_process;
mod tables;

use larder::{
    AsyncCacheWrapper, AsyncMemoryCache, CacheWrapper, DEFAULT_TTL, Error, ErrorKind, Expiry,
    IntoAdapter,
};
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
        "off" => true,
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

/// The error of a wrong name or URL, with everything that can be printed of it.
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
fn sizes_have_units() {
    for size in ["67108864", "64MiB", "64KiB", "1GB", "900kB"] {
        of_url(&format!("memory:?max_bytes={size}"));
    }
    // An entry of more than the bound is refused, whatever the unit that says it.
    let small = of_url("memory:?max_bytes=1kB");
    assert_eq!(small.set("key", "x".repeat(4_000)).unwrap_err().kind(), ErrorKind::TooLarge);
    for (kind, url, names) in [
        ("redis", "redis://h", &["max_value_bytes", "big_value_bytes", "max_batch_bytes"][..]),
        ("memcached", "memcached://h", &["max_value_bytes", "max_batch_bytes"]),
        ("sqlite", "sqlite::memory:", &["max_bytes", "max_value_bytes", "max_batch_bytes"]),
    ] {
        for name in names {
            is(kind, &format!("{url}?{name}=2MiB"));
            if is_here(kind) {
                let said = refused(&format!("{url}?{name}=2Mib"));
                assert!(
                    said.contains(&format!(
                        "`{name}` must be a whole number of bytes, or a size such as"
                    )),
                    "{said}"
                );
            }
        }
    }
}

#[test]
fn two_slashes_and_nothing_behind_them_are_a_url() {
    for url in ["memory://", "MEMORY://?default_ttl=60", "off://", "sqlite://", "redis://"] {
        is(url.to_lowercase().split(':').next().unwrap(), url);
    }
    lives(&of_url("memory://?default_ttl=60"), Duration::from_secs(60));
    for path in ["memory:/", "memory:///", "memory://localhost", "off:/"] {
        refused(path);
    }
}

#[test]
fn an_address_without_a_scheme_gets_an_error_with_its_url() {
    for address in ["localhost:6379", "127.0.0.1:6379", "cache-1.internal:11211", "[::1]:6379"] {
        for behind in ["", "/2", "?prefix=p:"] {
            let said = refused(&format!("{address}{behind}"));
            assert!(said.contains(&format!("`redis://{address}`")), "{said}");
            assert!(said.contains(&format!("`memcached://{address}`")), "{said}");
        }
    }
    // What may hold a password is not repeated.
    assert!(!refused("ann:hunter2@localhost:6379").contains("hunter2"));
    assert!(refused("localhost:port").contains("unknown URL scheme `localhost`"));
}

#[test]
fn a_plus_is_a_plus_everywhere_in_a_url() {
    let cache = of_url("memory:?shared=true&prefix=shop+eu:");
    cache.set("key", 1).unwrap();
    let whole = CacheWrapper::new(AsyncMemoryCache::shared()).unwrap();
    assert_eq!(whole.get::<i32>("shop+eu:key").unwrap(), Some(1));
    let cache = of_url("memory:?shared=true&prefix=a%20b%2Bc%26d=e:&&");
    cache.set("key", 2).unwrap();
    assert_eq!(whole.get::<i32>("a b+c&d=e:key").unwrap(), Some(2));
    assert!(refused("memory:?prefix=%ff").contains("not UTF-8"));
}

#[test]
fn white_space_around_a_name_or_a_url_is_none_of_it() {
    for name in
        [" memory", "memory\n", "\tMemoryCache ", "memory: ", "\nmemory:?default_ttl=60\r\n"]
    {
        is("memory", name);
    }
    lives(&of_url("memory:?default_ttl=60\n"), Duration::from_secs(60));
    AsyncMemoryCache::from_url("memory:?max_entries=5\n").unwrap();
    // Inside it is what it is.
    refused("memory :");
    refused("memory:? default_ttl=60");
}

#[cfg(feature = "memcached")]
#[test]
fn hosts_that_cannot_be_are_refused_at_once() {
    for host in ["[::1", "lo cal", "lo\\cal", "a\tb", "lo%20cal", "%5B::1"] {
        let said = refused(&format!("memcached://{host}:11211"));
        assert!(!said.contains(host), "{said}");
    }
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
