//! Tables, as a configuration file has them: the words of URLs, read by serde.

use super::is_here;
use larder::{AsyncCacheWrapper, CacheConfig, CacheWrapper, ErrorKind, IntoAdapter, MemoryBuilder};
use serde::Deserialize;
use std::time::Duration;

fn memory(table: &str) -> Result<MemoryBuilder, String> {
    serde_json::from_str(table).map_err(|error| error.to_string())
}

fn config(table: &str) -> Result<CacheConfig, String> {
    serde_json::from_str(table).map_err(|error| error.to_string())
}

fn cache(table: &str) -> CacheWrapper {
    CacheWrapper::new(config(table).unwrap()).unwrap()
}

fn same<B: std::fmt::Debug>(of_url: larder::Result<B>, of_table: serde_json::Result<B>) {
    assert_eq!(format!("{:?}", of_table.unwrap()), format!("{:?}", of_url.unwrap()));
}

#[cfg(all(feature = "redis", feature = "memcached", feature = "sqlite"))]
#[test]
fn a_table_says_what_a_url_says() {
    use larder::{MemcachedBuilder, RedisBuilder, SqliteBuilder};
    let shared = "prefix=p%3A&default_ttl=5m&codec=json&op_timeout=250ms&pool_size=3&max_batch=9\
                  &max_batch_bytes=2MiB&max_value_bytes=1000";
    let words = r#""prefix": "p:", "default_ttl": "5m", "codec": "json", "op_timeout": 0.25,
        "pool_size": 3, "max_batch": "9", "max_batch_bytes": "2MiB", "max_value_bytes": 1000"#;
    same(
        RedisBuilder::from_url(&format!(
            "redis://ada:s%40cret@h:7/2?{shared}&big_value_bytes=7&batch_above=2&resp3=on"
        )),
        serde_json::from_str(&format!(
            r#"{{ {words}, "host": "h", "port": 7, "db": 2, "user": "ada", "password": "s@cret",
                "big_value_bytes": 7, "batch_above": 2, "resp3": true }}"#
        )),
    );
    same(
        MemcachedBuilder::from_url(&format!("memcached://a:1,b?{shared}")),
        serde_json::from_str(&format!(r#"{{ {words}, "server": ["a:1", "b"] }}"#)),
    );
    same(
        SqliteBuilder::from_url(&format!("sqlite:x%3F.db?{shared}&max_bytes=1GiB&purge_every=60")),
        serde_json::from_str(&format!(
            r#"{{ {words}, "path": "x?.db", "max_bytes": "1GiB", "purge_every": 60 }}"#
        )),
    );
    let socket = serde_json::from_str::<RedisBuilder>(r#"{ "unix_socket": "/run/r.sock" }"#);
    assert!(format!("{:?}", socket.unwrap()).contains("/run/r.sock"));
    let secure = serde_json::from_str::<RedisBuilder>(r#"{ "tls": true, "host": "::1" }"#);
    assert!(secure.unwrap().build().is_ok() == cfg!(feature = "tls"));
    let defaults = serde_json::from_str::<RedisBuilder>("{}");
    assert_eq!(
        format!("{:?}", defaults.unwrap()),
        format!("{:?}", larder::AsyncRedisCache::builder())
    );
}

#[test]
fn an_unknown_word_is_an_error_with_the_known_ones() {
    let error = memory(r#"{ "max_entries": 5, "max_entires": 6 }"#).unwrap_err();
    let known = "unknown setting `max_entires`; `memory:` takes: prefix, default_ttl, codec, \
                 max_entries, max_bytes, max_value_bytes, encoded, shared";
    assert!(error.contains(known), "{error}");
    let error = config(r#"{ "adapter": "memory", "max_entires": 6 }"#).unwrap_err();
    assert!(error.contains("max_value_bytes, encoded, shared, idle, stale_for"), "{error}");
    if is_here("redis") {
        let error = config(r#"{ "adapter": "redis", "hosts": "a" }"#).unwrap_err();
        assert!(error.contains("takes: host, port, tls, unix_socket, db"), "{error}");
        let error = config(r#"{ "adapter": "redis://a", "host": "b" }"#).unwrap_err();
        assert!(error.contains("unknown setting `host`; `redis:` takes: db, user"), "{error}");
        for beside in [r#""host": "a""#, r#""port": 7"#] {
            let wrong =
                format!(r#"{{ "adapter": "redis", "unix_socket": "/run/r.sock", {beside} }}"#);
            let error = config(&wrong).unwrap_err();
            assert!(error.contains("`unix_socket` is an address by itself"), "{error}");
        }
    }
    for (wrong, words) in [
        (r#"{ "adapter": "oracle" }"#, "unknown adapter `oracle`; there are: memory"),
        (r#"{ "max_entries": 5 }"#, "no `adapter`"),
        (r#"{ "adapter": "memory", "prefix": "a", "prefix": "b" }"#, "`prefix` is given twice"),
        (r#"{ "adapter": "memory:?prefix=a", "prefix": "b" }"#, "`prefix` is given twice"),
        (r#"{ "adapter": "memory", "prefix": { "a": 1 } }"#, "expected a text, a number"),
        (r#"{ "adapter": "memory", "prefix": ["a", "b"] }"#, "`prefix` is one value, and not a"),
        (r#"{ "adapter": ["memory"] }"#, "`adapter` is one value, and not a list"),
        (r#"{ "adapter": "memory", "adapter": "off" }"#, "`adapter` is given twice"),
        ("7", "expected a table of settings, or the name or URL of an adapter"),
    ] {
        let error = config(wrong).unwrap_err();
        assert!(error.contains(words), "{wrong}: {error}");
    }
}

#[test]
fn a_value_that_cannot_be_is_an_error_with_what_can_be() {
    for (wrong, words) in [
        (r#"{ "default_ttl": "soon" }"#, "the setting `default_ttl` must be `never`, seconds"),
        (r#"{ "default_ttl": -1 }"#, "the setting `default_ttl` must be `never`, seconds"),
        (r#"{ "max_entries": 1.5 }"#, "the setting `max_entries` must be a whole number"),
        (r#"{ "max_entries": -1 }"#, "the setting `max_entries` must be a whole number"),
        (r#"{ "max_bytes": "64mb" }"#, "the setting `max_bytes` must be a whole number of bytes"),
        (r#"{ "shared": "yes" }"#, "the setting `shared` must be true or false"),
        (r#"{ "shared": 1 }"#, "the setting `shared` must be true or false"),
        (r#"{ "codec": "yaml" }"#, "the setting `codec` must be msgpack, json or raw"),
        (r#"{ "stale_for": "1h" }"#, "the setting `stale_for` is an option of a cache"),
        (r#"{ "adapter": "memory" }"#, "unknown setting `adapter`"),
        (r#"{ "prefix": ["a"] }"#, "the setting `prefix` is one value, and not a list"),
    ] {
        let error = memory(wrong).unwrap_err();
        assert!(error.contains(words), "{wrong}: {error}");
    }
    let error = config(r#"{ "adapter": "memory", "idle": 0 }"#).unwrap_err();
    assert!(error.contains("`idle` is more than zero"), "{error}");
}

/// Whoever reads the setting, and from what: a table of a cache, a table of the adapter, its URL.
#[cfg(all(feature = "redis", feature = "memcached", feature = "sqlite"))]
#[test]
fn a_number_with_which_nothing_would_work_is_refused_when_it_is_read() {
    use larder::{AsyncMemoryCache, MemcachedBuilder, RedisBuilder, SqliteBuilder};
    let by_table = |adapter: &str, table: &str| match adapter {
        "redis" => serde_json::from_str::<RedisBuilder>(table).map(drop),
        "memcached" => serde_json::from_str::<MemcachedBuilder>(table).map(drop),
        "sqlite" => serde_json::from_str::<SqliteBuilder>(table).map(drop),
        _ => serde_json::from_str::<MemoryBuilder>(table).map(drop),
    };
    let by_url = |adapter: &str, query: &str| match adapter {
        "redis" => RedisBuilder::from_url(&format!("redis://h?{query}")).map(drop),
        "memcached" => MemcachedBuilder::from_url(&format!("memcached://h?{query}")).map(drop),
        "sqlite" => SqliteBuilder::from_url(&format!("sqlite:x.db?{query}")).map(drop),
        _ => AsyncMemoryCache::from_url(&format!("memory:?{query}")).map(drop),
    };
    for (adapter, name, values) in [
        ("redis", "op_timeout", &["0", "0ms", "1e-10"][..]),
        ("redis", "pool_size", &["0", "65"]),
        ("redis", "max_value_bytes", &["0", "1GiB"]),
        ("redis", "max_batch", &["0"]),
        ("memcached", "op_timeout", &["0", "0ms", "1e-10"]),
        ("memcached", "pool_size", &["0", "65", "18446744073709551615"]),
        ("memcached", "max_value_bytes", &["0"]),
        ("memcached", "max_batch", &["0"]),
        ("sqlite", "op_timeout", &["0", "0ms", "1e-10"]),
        ("sqlite", "pool_size", &["0", "65"]),
        ("sqlite", "max_bytes", &["0", "1kB"]),
        ("sqlite", "max_value_bytes", &["0"]),
        ("sqlite", "purge_every", &["0"]),
        ("sqlite", "max_batch", &["0"]),
        ("memory", "max_entries", &["0"]),
        ("memory", "max_bytes", &["0"]),
        ("memory", "max_value_bytes", &["0", "0MiB"]),
    ] {
        for value in values {
            let what = format!("{adapter}: {name}={value}");
            let word = format!(r#""{name}": "{value}""#);
            let of_cache = config(&format!(r#"{{ "adapter": "{adapter}", {word} }}"#));
            assert!(of_cache.expect_err(&what).contains(name), "{what}");
            let of_adapter = by_table(adapter, &format!("{{ {word} }}")).expect_err(&what);
            assert!(of_adapter.to_string().contains(name), "{what}: {of_adapter}");
            let of_url = by_url(adapter, &format!("{name}={value}")).expect_err(&what);
            assert_eq!(of_url.kind(), ErrorKind::Config, "{what}");
            assert!(of_url.to_string().contains(name), "{what}: {of_url}");
        }
    }
    // The address of a URL is before its parameters.
    for (adapter, word, url) in [
        ("redis", r#""port": 0"#, "redis://h:0"),
        ("redis", r#""host": "a b""#, "redis://a b"),
        ("memcached", r#""server": ["a", "b:0"]"#, "memcached://a,b:0"),
        ("memcached", r#""server": ["a", "A:11211"]"#, "memcached://a,A:11211"),
        ("sqlite", r#""path": "folder/""#, "sqlite:folder/"),
    ] {
        config(&format!(r#"{{ "adapter": "{adapter}", {word} }}"#)).expect_err(word);
        by_table(adapter, &format!("{{ {word} }}")).expect_err(word);
        let of_url = match adapter {
            "redis" => RedisBuilder::from_url(url).map(drop),
            "memcached" => MemcachedBuilder::from_url(url).map(drop),
            _ => SqliteBuilder::from_url(url).map(drop),
        };
        assert_eq!(of_url.expect_err(url).kind(), ErrorKind::Config, "{url}");
    }
    for word in [r#""near_entries": 0"#, r#""near_bound": 0"#, r#""near_ttl": 0"#] {
        config(&format!(r#"{{ "adapter": "near+redis", {word} }}"#)).expect_err(word);
    }
    // What goes together is judged when the adapter is built: code may add the rest.
    let user = serde_json::from_str::<RedisBuilder>(r#"{ "user": "ada" }"#).unwrap();
    assert_eq!(user.clone().build().unwrap_err().kind(), ErrorKind::Config);
    user.password("secret").build().unwrap();
}

#[test]
fn a_table_gives_options_to_its_cache() {
    let table = r#"{ "adapter": "MEM", "default_ttl": 60, "skip_none": true, "jitter": null,
                     "encoded": true, "max_entries": 10000 }"#;
    let cache = cache(table);
    assert_eq!(cache.get_or_set("none", None::<u8>).unwrap(), None);
    assert!(!cache.contains("none").unwrap());
    cache.set("k", 1u8).unwrap();
    let larder::Expiry::After(left) = cache.expiry("k").unwrap().unwrap() else { panic!("never") };
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(1), "{left:?}");
    // An adapter by itself has no calls that would have options.
    let error = config(table).unwrap().into_adapter().unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("options of a cache"));
    let plain = config(r#"{ "adapter": "memory:?max_entries=5" }"#).unwrap();
    assert_eq!(plain.clone().into_adapter().unwrap().backend(), "memory");
    let builder = AsyncCacheWrapper::builder(plain).ttl(Duration::from_secs(5)).build().unwrap();
    builder.blocking().set("k", 1u8).unwrap();
}

#[test]
fn a_name_or_url_stands_for_a_table() {
    for (text, kind) in [(r#""ram""#, "memory"), (r#""off:""#, "off")] {
        assert_eq!(cache(text).adapter().unwrap().backend(), kind);
    }
}

#[test]
fn toml_is_read_like_json() {
    #[derive(Deserialize)]
    struct App {
        sessions: CacheConfig,
        pages: MemoryBuilder,
        rates: CacheConfig,
    }
    let app: App = toml::from_str(
        r#"
        rates = "memory:?jitter=0.1"

        [sessions]
        adapter = "memory"
        idle = "10m"
        max_bytes = "64MiB"
        encoded = true

        [pages]
        max_entries = 10_000
        default_ttl = 1.5
        "#,
    )
    .unwrap();
    let sessions = CacheWrapper::new(app.sessions).unwrap();
    sessions.set("k", 1u8).unwrap();
    let left = sessions.expiry("k").unwrap().unwrap();
    assert!(matches!(left, larder::Expiry::After(left) if left > Duration::from_secs(400)));
    assert_eq!(app.pages.build().entry_count(), 0);
    CacheWrapper::new(app.rates).unwrap().set("eur", 1.08).unwrap();
    let error = toml::from_str::<App>("rates = \"memory\"\nsessions = { adapter = \"x\" }")
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("unknown adapter `x`"), "{error}");
}

#[test]
fn neither_a_debug_nor_an_error_shows_a_password() {
    if !is_here("redis") {
        return;
    }
    let table = r#"{ "adapter": "redis", "password": "hunter2", "db": 1 }"#;
    let shown = format!("{:?}", config(table).unwrap());
    assert!(shown.contains("password") && !shown.contains("hunter2"), "{shown}");
    for wrong in [
        r#"{ "adapter": "redis://:hunter2@h", "nope": 1 }"#,
        r#"{ "adapter": "redis", "password": "hunter2", "db": "x" }"#,
        r#"{ "adapter": "redis", "password": "hunter2", "hunter2?": 1 }"#,
        r#"{ "adapter": "redis", "password": ["hunter2"], "port": 65536 }"#,
    ] {
        let error = config(wrong).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
