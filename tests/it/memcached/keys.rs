//! Keys and values of any bytes.

use super::{on, put};
use crate::support::Memcached;
use larder::AsyncCacheAdapter;

/// Answers that fill all buffers while the requests are still being sent.
#[tokio::test]
async fn large_answers_do_not_block_the_questions() {
    let cache = on(Memcached::shared()).op_timeout(super::PATIENT).pool_size(1).build().unwrap();
    let key = "k".repeat(200);
    put(&cache, &key, &"x".repeat(20_000)).await.unwrap();
    let keys = vec![key.as_str(); 3_000];
    let found = cache.get_many(&keys).await.unwrap();
    assert!(found.into_iter().all(|found| found.unwrap().is_some()));
}
