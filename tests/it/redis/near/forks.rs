//! The child of a fork, which has none of its parent's tasks.

use super::Redis;
use crate::support::alone::{alone, in_fork};
use crate::support::wait_until;
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheWrapper};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: usize = 20;

static DROPPED: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Serialize, Deserialize)]
struct Counted(String);

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn what_is_told_and_what_expires_is_given_back_in_the_child_of_a_fork() {
    let name =
        "redis::near::forks::what_is_told_and_what_expires_is_given_back_in_the_child_of_a_fork";
    alone(name, || {
        let server = Redis::start();
        if !super::tells(&server) {
            return;
        }
        let url = format!("near+{}?prefix=p:&op_timeout=60s&near_bound=60s", server.url());
        let near = CacheWrapper::new(url.as_str()).unwrap();
        let store = Arc::new(AsyncMemoryCache::new());
        let shared: Arc<dyn AsyncCacheAdapter> = store.clone();
        let memory = AsyncCacheWrapper::new(shared).unwrap().blocking();
        let brief = Duration::from_millis(20);
        // Both sweeps run.
        memory.ttl(brief).set("parent", 1u8).unwrap();
        near.set("parent", Counted("value".into())).unwrap();
        near.get::<Counted>("parent").unwrap();
        wait_until("the parent sweeps", PATIENCE, || store.entry_count() == 0);
        in_fork(|| {
            memory.ttl(brief).set("child", 1u8).unwrap();
            for number in 0..KEYS {
                let key = format!("k{number}");
                near.set(&key, Counted("value".into())).unwrap();
                wait_until("it is near", PATIENCE, || {
                    near.get::<Counted>(&key).unwrap();
                    near.stats().near.is_some_and(|near| near.kept > number as u64)
                });
                // The object that stands beside the bytes.
                near.get::<Counted>(&key).unwrap();
            }
            let before = DROPPED.load(Ordering::SeqCst);
            for number in 0..KEYS {
                server.int(&["DEL", &format!("p:k{number}")]);
            }
            wait_until("what was told is dropped", PATIENCE, || {
                DROPPED.load(Ordering::SeqCst) >= before + KEYS
            });
            wait_until("what has expired is given back", PATIENCE, || {
                // A write notices that nobody sweeps.
                memory.ttl(brief).set("other", 1u8).unwrap();
                memory.remove("other").unwrap();
                store.entry_count() == 0
            });
        });
    });
}
