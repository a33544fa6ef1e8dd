//! Options that a URL gives to the calls of a cache.

use super::{is_here, of_url, refused};
use larder::{
    AsyncCacheWrapper, AsyncMemoryCache, CacheWrapper, ErrorKind, Expiry, IntoAdapter, Loaded,
};
use std::cell::Cell;
use std::time::{Duration, Instant};

const URLS: [(&str, &str); 8] = [
    ("memory", "memory:"),
    ("redis", "redis://127.0.0.1:1"),
    ("memcached", "memcached://127.0.0.1:1"),
    ("sqlite", "sqlite::memory:"),
    ("off", "off:"),
    ("redis", "near+redis://127.0.0.1:1"),
    ("memcached", "near+memcached://127.0.0.1:1"),
    ("sqlite", "near+sqlite::memory:"),
];

/// An entry that has just expired, of a cache whose URL gives these options.
fn with_an_expired_entry(options: &str) -> CacheWrapper {
    let cache = of_url(&format!("memory:?{options}"));
    cache.ttl(Duration::from_millis(1)).set("key", 1).unwrap();
    // By another face, which does not see what is stale.
    let plain = CacheWrapper::new(cache.adapter().unwrap()).unwrap();
    let begun = Instant::now();
    while plain.get::<i32>("key").unwrap().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not expire");
        std::thread::sleep(Duration::from_millis(1));
    }
    cache
}

fn fails(cache: &CacheWrapper) -> larder::Result<i32> {
    cache.try_get_or_set_async("key", async { Err::<i32, _>("the source is away") })
}

/// How often a loader runs for three calls, the first of which finds a value.
fn loads_of_three_hits(cache: &CacheWrapper) -> u32 {
    let loads = Cell::new(0);
    cache.add("hit", 0u32).unwrap();
    for _ in 0..3 {
        let load = |_: &str| loads.replace(loads.get() + 1);
        cache.get_or_set_with("hit", load).unwrap();
    }
    loads.get()
}

#[test]
fn every_backend_takes_options() {
    for (kind, url) in URLS.into_iter().filter(|(kind, _)| is_here(kind)) {
        let options = "skip_near=on&stale_for=1h&soft_timeout=100ms&hard_timeout=2s&throttle=5&lease=10s&refresh_ahead=0.8&early_refresh=1&jitter=0.1&skip_none=on&force_refresh=false&allow_stale=off";
        let cache = AsyncCacheWrapper::new(format!("{url}?{options}&default_ttl=60")).unwrap();
        assert_eq!(cache.adapter().unwrap().backend(), kind);
        AsyncCacheWrapper::new(format!("{url}?idle=5m&jitter=0.1")).unwrap();
        for (wrong, word) in [
            ("jitter=-1", "`jitter`"),
            ("jitter=lots", "`jitter`"),
            ("refresh_ahead=2", "`refresh_ahead`"),
            ("stale_for=never", "`stale_for`"),
            ("skip_none=1", "`skip_none`"),
            ("stale_for=1h&stale_for=2h", "`stale_for` is given twice"),
            ("ttl=5m", "unknown URL parameter `ttl`"),
        ] {
            let error = AsyncCacheWrapper::new(format!("{url}?{wrong}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}?{wrong}");
            assert!(error.to_string().contains(word), "{error}");
        }
        let unknown = AsyncCacheWrapper::new(format!("{url}?no_such=1")).unwrap_err().to_string();
        assert!(unknown.contains("stale_for, soft_timeout, hard_timeout"), "{unknown}");
    }
}

/// An adapter by itself has no calls to give them to: they would be lost in silence.
#[test]
fn an_adapter_by_itself_refuses_the_options_of_a_cache() {
    let by_name = refused("memory:?stale_for=1h");
    assert!(by_name.contains("`stale_for` is an option of a cache"), "{by_name}");
    let error = AsyncMemoryCache::from_url("memory:?jitter=0.1").unwrap_err();
    assert!(error.to_string().contains("`jitter` is an option of a cache"), "{error}");
    assert!("memory:?prefix=p:".into_adapter().is_ok());
}

#[test]
fn stale_for_and_allow_stale_of_a_url() {
    assert_eq!(fails(&with_an_expired_entry("stale_for=1h")).unwrap(), 1);
    let strict = with_an_expired_entry("stale_for=1h");
    assert_eq!(strict.get::<i32>("key").unwrap(), None);
    assert!(!strict.contains("key").unwrap() && !strict.remove("key").unwrap());
    // What code says is louder.
    let strict = with_an_expired_entry("stale_for=1h").stale_for(Duration::ZERO).into_cache();
    assert_eq!(fails(&strict).unwrap_err().kind(), ErrorKind::Load);

    let lenient = with_an_expired_entry("stale_for=1h&allow_stale=true");
    assert_eq!(lenient.get::<i32>("key").unwrap(), Some(1));
    assert_eq!(lenient.get_many::<i32, _>(["key"]).unwrap(), [Some(1)]);
    assert!(lenient.contains("key").unwrap());
    assert_eq!(lenient.namespace("other").get::<i32>("key").unwrap(), None);
}

#[test]
fn limits_of_a_url() {
    let cache = of_url("memory:?hard_timeout=10ms");
    let late = cache.get_or_set_async("slow", std::future::pending::<i32>());
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    let cache = with_an_expired_entry("stale_for=1h&soft_timeout=0");
    assert_eq!(cache.get_or_set_async("key", std::future::pending::<i32>()).unwrap(), 1);
}

#[test]
fn throttle_of_a_url() {
    for (throttle, expected) in [("1h", 1), ("0", 3)] {
        let cache = with_an_expired_entry(&format!("stale_for=1h&throttle={throttle}"));
        let (sender, loads) = std::sync::mpsc::channel();
        for _ in 0..3 {
            let sender = sender.clone();
            let load = async move {
                sender.send(()).unwrap();
                Err::<i32, _>("the source is away")
            };
            assert_eq!(cache.try_get_or_set_async("key", load).unwrap(), 1);
        }
        assert_eq!(loads.try_iter().count(), expected, "throttle={throttle}");
    }
}

#[test]
fn refreshes_of_a_url() {
    assert_eq!(loads_of_three_hits(&of_url("memory:")), 0);
    assert_eq!(loads_of_three_hits(&of_url("memory:?early_refresh=inf")), 3);
    assert_eq!(
        loads_of_three_hits(&of_url("memory:?early_refresh=inf").early_refresh(0.0).into_cache()),
        0
    );
    assert_eq!(loads_of_three_hits(&of_url("memory:?force_refresh=true")), 3);
    assert_eq!(loads_of_three_hits(&of_url("memory:?force_refresh=false")), 0);
    // Due after a millisecond of 300 s.
    let (eager, begun) = (of_url("memory:?refresh_ahead=0.000001"), Instant::now());
    while loads_of_three_hits(&eager) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is never refreshed");
    }
}

#[test]
fn jitter_and_skip_none_of_a_url() {
    let hour = Duration::from_secs(3600);
    let cache = of_url("memory:?jitter=1&default_ttl=1h");
    let lasting = |cache: &CacheWrapper, key: &str| match cache.expiry(key).unwrap() {
        Some(Expiry::After(lasting)) => lasting,
        other => panic!("{other:?}"),
    };
    let keys: Vec<String> = (0..64).map(|key| key.to_string()).collect();
    cache.set_many(keys.iter().map(|key| (key, 1))).unwrap();
    assert!(keys.iter().any(|key| lasting(&cache, key) > hour));
    cache.jitter(0.0).set_many(keys.iter().map(|key| (key, 1))).unwrap();
    assert!(keys.iter().all(|key| lasting(&cache, key) <= hour));
    keys.iter().for_each(|key| cache.set(key, 1).unwrap());
    assert!(keys.iter().any(|key| lasting(&cache, key) > hour));
    keys.iter().for_each(|key| assert!(cache.remove(key).unwrap() && cache.add(key, 1).unwrap()));
    assert!(keys.iter().any(|key| lasting(&cache, key) > hour));

    let cache = of_url("memory:?skip_none=on");
    assert_eq!(cache.get_or_set_loaded_with("none", |_| Loaded::new(None::<u8>)).unwrap(), None);
    assert!(!cache.contains("none").unwrap());
}

#[test]
fn options_belong_to_their_url_and_go_with_it() {
    let keeps_none = |cache: &CacheWrapper| {
        cache.remove("none").unwrap();
        cache.get_or_set("none", None::<u8>).unwrap();
        cache.contains("none").unwrap()
    };
    let cache = of_url("memory:?skip_none=on");
    let view = cache.ttl(Expiry::Never);
    let owned = view.into_cache();
    assert!(!keeps_none(&cache) && !keeps_none(&owned));
    cache.reset_adapter().unwrap();
    assert!(!keeps_none(&cache), "another adapter of the same configuration");
    cache.set_adapter("memory").unwrap();
    assert!(keeps_none(&cache) && keeps_none(&owned));
    cache.swap_adapter("memory:?skip_none=on").unwrap();
    assert!(!keeps_none(&cache) && !keeps_none(&owned));
    // What a builder says is the cache's, whatever its adapter.
    let built = AsyncCacheWrapper::builder("memory:?jitter=0.1").skip_none().build().unwrap();
    built.set_adapter("memory").unwrap();
    assert!(!keeps_none(&built.blocking()));
}
