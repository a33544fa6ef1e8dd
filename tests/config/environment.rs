//! What the environment says, each in a process of its own.

use super::own_process::{self, own_process};
use super::{everything_of, is, lives, of_url, refused};
use larder::{
    AsyncCacheWrapper, AsyncMemoryCache, CacheWrapper, DEFAULT_TTL, ErrorKind, Expiry, adapter_set,
    async_adapter_set, async_cached, cached,
};
use std::time::Duration;

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

own_process! {
    fn a_cache_of_ones_own_as_the_environment_says("LARDER_URL" = "memory:?default_ttl=60&skip_none=on") {
        let cache = AsyncCacheWrapper::from_env().unwrap().blocking();
        lives(&cache, Duration::from_secs(60));
        assert_eq!(cache.get_or_set("none", None::<u8>).unwrap(), None);
        assert!(!cache.contains("none").unwrap(), "the URL says `skip_none`");
        assert!(!cached().contains("key").unwrap(), "it is not the global one");
        lives(&CacheWrapper::from_env().unwrap(), Duration::from_secs(60));
    }

    fn a_cache_of_ones_own_where_nothing_is_set() {
        assert_eq!(AsyncCacheWrapper::from_env().unwrap().adapter().unwrap().backend(), "memory");
    }

    fn a_cache_of_ones_own_that_there_is_not("LARDER_URL" = "oracle", "LARDER_TTL" = "90") {
        let error = AsyncCacheWrapper::from_env().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("LARDER_URL: "), "{error}");
    }

    fn options_of_the_global_cache("LARDER_URL" = "memory:?skip_none=on&jitter=0.5") {
        for cache in [cached(), &async_cached().blocking(), &cached().namespace("users"), &cached().ttl(Expiry::Never).into_cache()] {
            assert_eq!(cache.get_or_set("none", None::<u8>).unwrap(), None);
            assert!(!cache.contains("none").unwrap());
        }
        // They belong to the URL, and go with it.
        async_adapter_set("memory").unwrap();
        assert_eq!(cached().get_or_set("none", None::<u8>).unwrap(), None);
        assert!(cached().contains("none").unwrap());
        // Its own, where the blocking cache is given a URL of its own.
        adapter_set("memory:?skip_none=true").unwrap();
        assert_eq!(cached().get_or_set("none", None::<u8>).unwrap(), None);
        assert!(!cached().contains("none").unwrap());
    }

    fn an_option_that_there_is_not("LARDER_URL" = "memory:?stale_fro=1h") {
        let said = complaint();
        assert!(said.contains("LARDER_URL: ") && said.contains("unknown URL parameter `stale_fro`; `memory:` takes: prefix"), "{said}");
        assert!(said.contains("stale_for, soft_timeout"), "{said}");
    }

    fn white_space_around_a_variable_is_none_of_it("LARDER_URL" = " memory:?default_ttl=60\n", "LARDER_TTL" = "90 ") {
        lives(cached(), Duration::from_secs(60));
        lives(&of_url("memory"), Duration::from_secs(90));
    }

    fn white_space_around_an_alias("LARDER_URL" = "memory\r\n", "PRIVEX_REDIS_PORT" = "6379\n", "PRIVEX_REDIS_HOST" = " localhost\t") {
        lives(cached(), DEFAULT_TTL);
        is("redis", "redis");
    }

    fn nothing_but_white_space_is_unset("LARDER_URL" = " \n", "LARDER_TTL" = "\t") {
        lives(cached(), DEFAULT_TTL);
    }
}

#[cfg(feature = "redis")]
own_process! {
    fn a_port_of_zero("PRIVEX_REDIS_PORT" = "0") {
        assert!(refused("redis").contains("PRIVEX_REDIS_PORT must not be 0"));
    }

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
    own_process::run(
        "config::environment::the_python_redis_is_the_one_that_is_asked",
        &environment,
        || {
            // It never answers.
            assert!(cached().get::<u8>("key").unwrap_err().is_retryable());
        },
    );
    // Of the two processes that run this only the outer one's listener is called.
    if !own_process::is_child() {
        listener.accept().unwrap();
    }
}

#[cfg(feature = "memcached")]
own_process! {
    fn a_memcached_port_of_zero("PRIVEX_MEMCACHED_PORT" = "00") {
        assert!(refused("memcached").contains("PRIVEX_MEMCACHED_PORT must not be 0"));
    }

    fn a_bad_memcached_port("PRIVEX_MEMCACHED_PORT" = "65536") {
        assert!(refused("memcached").contains("PRIVEX_MEMCACHED_PORT must be a whole number up to 65535"));
    }

    fn the_python_memcached("PRIVEX_ASYNC_CACHE_ADAPTER" = "memcached", "PRIVEX_MEMCACHED_HOST" = "cache.example", "PRIVEX_MEMCACHED_PORT" = "11311") {
        assert_eq!(larder::async_adapter_get().unwrap().backend(), "memcached");
    }
}
