//! A server that sends what no server sends: malformed replies, and replies without an end.

use super::{PATIENT, prefix, put, text};
use crate::support::alone::{alone, resident};
use crate::support::hostile::{
    Hostile, LONG, Nonsense, endless, in_little_memory, is_of_backend, slow,
};
use crate::support::{Redis, eventually};
use larder::{AsyncCacheAdapter, AsyncRedisCache, RedisBuilder};
use std::time::Duration;

const OP_TIMEOUT: Duration = Duration::from_millis(250);

const KINDS: [Nonsense; 30] = [
    endless(b"$1152921504606846976\r\n", LONG),
    endless(b"$99999999999999999999999\r\n", LONG),
    endless(b"$1000000\r\n", LONG),
    slow(b"$60000000\r\n", b"a"),
    endless(b"$-5\r\n", LONG),
    endless(b"$\r\n", LONG),
    endless(b"$?\r\n", b";4\r\naaaa\r\n"),
    endless(b"$3\r\nabcde", LONG),
    endless(b"*1152921504606846976\r\n", b"$1\r\na\r\n"),
    endless(b"*1000000\r\n", b":1\r\n"),
    endless(b"*1000\r\n", b"*1000\r\n"),
    endless(b"*-7\r\n", b"*-7\r\n"),
    endless(b"", b"*1\r\n"),
    slow(b"", b"*1\r\n"),
    endless(b"+", LONG),
    endless(b"-ERR ", LONG),
    endless(b":", b"1"),
    endless(b"(", b"1"),
    endless(b",", b"1"),
    endless(b"%1152921504606846976\r\n", b"+a\r\n"),
    endless(b"~1152921504606846976\r\n", b"+a\r\n"),
    endless(b"=1152921504606846976\r\ntxt:", LONG),
    endless(b"!1152921504606846976\r\n", LONG),
    endless(b"", b"|1\r\n+a\r\n+b\r\n"),
    endless(b"", b">2\r\n+a\r\n+b\r\n"),
    endless(b"HTTP/1.1 200 OK\r\n", b"Header: value\r\n"),
    endless(b"", b"\0\0\0\0"),
    endless(b"", b"\r\n"),
    endless(b"#x\r\n", b"#x\r\n"),
    // The answer is right, and what comes between two calls is not.
    endless(b"$-1\r\n$60000000\r\n", b"+OK\r\n"),
];

async fn meets(hostile: &Hostile, cache: &AsyncRedisCache, nonsense: Nonsense) {
    match hostile.during(cache.get("k"), b"\r\nGET\r\n", nonsense).await {
        Ok(found) => {
            assert!(nonsense.first.starts_with(b"$-1") && found.is_none(), "{nonsense}");
        }
        Err(error) => assert!(is_of_backend(&error), "{nonsense}: {error:?}"),
    }
    eventually(
        "another connection answers",
        PATIENT,
        async || matches!(text(cache, "k").await, Ok(Some(found)) if found == "v"),
    )
    .await;
    hostile.is_heard_no_more().await;
}

#[test]
fn whatever_is_sent_takes_little_memory_and_one_connection() {
    alone("redis::hostile::whatever_is_sent_takes_little_memory_and_one_connection", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Redis::start();
            let (hostile, addr) = Hostile::start(server.addr()).await;
            let mut start = None;
            for resp3 in [false, true] {
                let url = server.url().replace(&server.addr().to_string(), &addr.to_string());
                let builder = RedisBuilder::from_url(&url).unwrap().prefix(prefix());
                let cache = builder.op_timeout(OP_TIMEOUT).resp3(resp3).build().unwrap();
                eventually("it is stored", PATIENT, async || put(&cache, "k", "v").await.is_ok())
                    .await;
                for nonsense in KINDS {
                    let start = *start.get_or_insert_with(resident);
                    in_little_memory(start, nonsense, meets(&hostile, &cache, nonsense)).await;
                }
            }
        });
    });
}
