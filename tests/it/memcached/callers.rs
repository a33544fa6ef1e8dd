//! Callers that run their own commands, and stop in the middle.

use super::{CODECS, on, patient, put, text};
use crate::support::Memcached;
use crate::support::values::PATIENT;
use larder::{AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Expiry};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use tokio::time::timeout;

/// A cache with one connection, which is open.
async fn connected(server: &Memcached, codec: larder::Codec) -> AsyncMemcachedCache {
    let cache = patient(on(server).codec(codec).pool_size(1));
    put(&cache, "k", "zero").await.unwrap();
    cache
}

fn value(text: &str) -> CacheValue {
    CacheValue::new(text.to_owned())
}

/// Polls a call so that its command has begun.
async fn begin<T>(mut call: Pin<&mut impl Future<Output = T>>) {
    let is_ready = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await;
    assert!(!is_ready, "the runtime has not looked at the socket since");
}

#[tokio::test]
async fn a_caller_that_is_not_polled_holds_up_no_other() {
    let server = Memcached::shared();
    for codec in CODECS {
        let cache = connected(server, codec).await;
        let mut first = pin!(cache.set("k", value("first"), Expiry::Default));
        begin(first.as_mut()).await;
        let others = async {
            put(&cache, "k", "second").await.unwrap();
            text(&cache, "k").await.unwrap()
        };
        let found = timeout(PATIENT, others).await.expect("the others are served");
        assert_eq!(found.as_deref(), Some("second"), "{codec}");
        first.await.unwrap();
        assert_eq!(text(&cache, "k").await.unwrap().as_deref(), Some("second"), "{codec}");
    }
}

#[tokio::test]
async fn what_a_dropped_caller_has_begun_is_done_before_what_comes_later() {
    let server = Memcached::shared();
    for codec in CODECS {
        let cache = connected(server, codec).await;
        for n in 0..20 {
            let begun = format!("begun {n}");
            {
                let mut first = pin!(cache.set("k", value(&begun), Expiry::Default));
                begin(first.as_mut()).await;
            }
            if n % 2 == 0 {
                assert!(cache.remove("k").await.unwrap());
                assert_eq!(text(&cache, "k").await.unwrap(), None, "{codec}");
            } else {
                assert_eq!(text(&cache, "k").await.unwrap(), Some(begun), "{codec}");
            }
        }
    }
}
