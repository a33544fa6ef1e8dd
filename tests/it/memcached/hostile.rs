//! A server that sends what no server sends: malformed answers, answers to other requests, and
//! answers without an end.

use super::{PATIENT, prefix, put, text};
use crate::support::alone::{alone, resident};
use crate::support::hostile::{
    Hostile, LONG, Nonsense, endless, in_little_memory, is_of_backend, slow,
};
use crate::support::{Memcached, eventually};
use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Codec, Entry, Expiry, Result};
use std::time::Duration;

const OP_TIMEOUT: Duration = Duration::from_millis(100);

const LONG_ERROR: &[u8] = &{
    let (begin, end) = (b"SERVER_ERROR ", b"\r\n");
    let mut line = [b'a'; 3_000];
    line.split_at_mut(begin.len()).0.copy_from_slice(begin);
    line.split_at_mut(3_000 - end.len()).1.copy_from_slice(end);
    line
};

const KINDS: [Nonsense; 34] = [
    endless(b"VA 1073741824 t-1 c5\r\n", LONG),
    endless(b"VA 1152921504606846976\r\n", LONG),
    endless(b"VA 99999999999999999999999\r\n", LONG),
    endless(b"VA 16777216 f0 c5 t-1\r\n", LONG),
    slow(b"VA 16000000 f0\r\n", b"a"),
    endless(b"VA -5\r\n", LONG),
    endless(b"VA \r\n", LONG),
    endless(b"VA 3\r\nabcde", LONG),
    endless(b"", b"VA 0\r\n\r\n"),
    endless(b"", LONG),
    slow(b"", b"V"),
    endless(b"", b"HD\r\n"),
    endless(b"", b"HD O0\r\n"),
    endless(b"", b"HD O999999999999999999999999\r\n"),
    endless(b"", b"EN\r\n"),
    endless(b"", b"MN\r\n"),
    endless(b"", b"NS O3\r\n"),
    endless(b"", b"NF\r\n"),
    endless(b"", b"EX\r\n"),
    endless(b"", b"VERSION 1.6.40\r\n"),
    endless(b"", b"VALUE k 0 1\r\nx\r\nEND\r\n"),
    endless(b"", b"STORED\r\n"),
    endless(b"", b"ERROR\r\n"),
    endless(b"", b"ERROR Too many open connections\r\n"),
    endless(b"", b"CLIENT_ERROR bad command line format\r\n"),
    endless(b"", b"SERVER_ERROR out of memory storing object\r\n"),
    endless(b"", LONG_ERROR),
    endless(b"SERVER_ERROR ", LONG),
    endless(b"HTTP/1.1 200 OK\r\n", b"Header: value\r\n"),
    endless(b"", b"\0\0\0\0"),
    endless(b"", b"\r\n"),
    endless(b"", b"\n"),
    endless(b"\x81\0\0\0", b"\xff"),
    // The answer is right, and what comes between two calls is not.
    endless(b"EN\r\nVA 16777216 f0\r\n", LONG),
];

/// What is asked, and the word of the request that gets nonsense.
const VERBS: [(&str, &[u8]); 7] = [
    ("get", b"mg "),
    ("get_many", b"mg "),
    ("set", b"ms "),
    ("set_many", b"ms "),
    ("remove", b"md "),
    ("incr", b"mg "),
    ("clear", b"ms "),
];

async fn ask(cache: &AsyncMemcachedCache, verb: &str) -> Result<()> {
    let value = || CacheValue::new("v".to_owned());
    let minute = Expiry::After(Duration::from_secs(60));
    match verb {
        "get" => cache.get("k").await.map(drop),
        "get_many" => {
            cache.get_many(&["k", "l", "m"]).await?.into_iter().try_for_each(|each| each.map(drop))
        }
        "set" => cache.set("k", value(), minute).await,
        "set_many" => {
            let entries = ["k", "l", "m"].map(|key| Entry::new(key, value(), minute));
            cache.set_many(&entries).await?.into_iter().collect()
        }
        "remove" => cache.remove("k").await.map(drop),
        "incr" => cache.incr("n", 1, minute).await.map(drop),
        _ => cache.clear("c").await,
    }
}

async fn meets(hostile: &Hostile, cache: &AsyncMemcachedCache, nonsense: Nonsense, verb: usize) {
    let (verb, word) = VERBS[verb];
    eventually("it is stored", PATIENT, async || put(cache, "k", "v").await.is_ok()).await;
    if let Err(error) = hostile.during(ask(cache, verb), word, nonsense).await {
        assert!(is_of_backend(&error), "{verb}, {nonsense}: {error:?}");
        let words = error.to_string();
        assert!(words.len() < 400 && !words.contains('\0'), "{verb}, {nonsense}: {words}");
    }
    eventually("another connection answers", PATIENT, async || {
        matches!(put(cache, "k", "w").await, Ok(()))
    })
    .await;
    let found = text(cache, "k").await;
    assert_eq!(found.ok().flatten().as_deref(), Some("w"), "{verb}, {nonsense}");
    hostile.is_heard_no_more().await;
}

#[test]
fn whatever_is_sent_takes_little_memory_and_one_connection() {
    alone("memcached::hostile::whatever_is_sent_takes_little_memory_and_one_connection", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Memcached::start();
            let target = server.url().trim_start_matches("memcached://").parse().unwrap();
            let (hostile, addr) = Hostile::start(target).await;
            let builder = AsyncMemcachedCache::builder().server(addr.to_string()).pool_size(1);
            let caches = [Codec::MessagePack, Codec::Raw].map(|codec| {
                let builder = builder.clone().prefix(prefix()).codec(codec);
                builder.op_timeout(OP_TIMEOUT).build().unwrap()
            });
            for cache in &caches {
                eventually("it is stored", PATIENT, async || put(cache, "k", "v").await.is_ok())
                    .await;
            }
            let start = resident();
            for (at, nonsense) in KINDS.into_iter().enumerate() {
                // Each kind meets some verbs, and each verb some kinds.
                for verb in [at % 2, 2 + at % 5] {
                    let what = format!("{nonsense}, {}", VERBS[verb].0);
                    let met = meets(&hostile, &caches[verb % 2], nonsense, verb);
                    in_little_memory(start, what, met).await;
                }
            }
        });
    });
}
