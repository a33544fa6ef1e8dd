//! The suite that every adapter passes. Variations share runs, for a machine has few cores.

use super::{on, prefix};
use crate::support::Redis;
use crate::wrapper::through::Through;
use larder::layers::Tiered;
use larder::testing::{CASES, Suite, conformance};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, AsyncRedisCache, Codec, IntoAdapter,
    RedisBuilder,
};
use std::sync::{Arc, OnceLock};

/// Patience for a machine on which everything else is tested at the same time.
fn patient(builder: RedisBuilder) -> AsyncRedisCache {
    builder.op_timeout(super::PATIENT).build().unwrap()
}

fn on_unix_socket() -> RedisBuilder {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    on(SERVER.get_or_init(Redis::start_unix))
}

fn odd_prefix() -> String {
    format!("{}users:*[a-z]?\\:", prefix())
}

fn through_a_namespace() -> Through {
    Through::over(AsyncCacheWrapper::new(patient(on(Redis::shared()))).unwrap(), &["users*"])
}

/// As a cache has it that is given a URL: with a resilient layer around it.
fn by_url() -> Arc<dyn AsyncCacheAdapter> {
    let url = Redis::shared().url();
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}prefix={}&op_timeout=10s", prefix()).into_adapter().unwrap()
}

conformance!(plain, patient(on(Redis::shared())));
conformance!(
    json_behind_a_prefix,
    patient(on(Redis::shared()).codec(Codec::Json).prefix(odd_prefix())),
    Suite::new().codec(Codec::Json)
);
conformance!(resp3_over_a_unix_socket, patient(on_unix_socket().resp3(true)));
conformance!(
    raw_and_everything_big_on_one_lane,
    patient(on(Redis::shared()).codec(Codec::Raw).pool_size(1).big_value_bytes(0)),
    Suite::new().codec(Codec::Raw)
);
conformance!(through_a_wrapper_and_a_namespace, through_a_namespace());
conformance!(always_together, patient(on(Redis::shared()).batch_above(0)));
conformance!(never_together, patient(on(Redis::shared()).max_batch(1)));
conformance!(in_a_resilient_layer, by_url());

/// On a server that evicts nothing, and is made full in the middle of the case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_becomes_full() {
    let server = Arc::new(Redis::start_with(&["--maxmemory-policy", "noeviction"]));
    let filled = server.clone();
    let suite = Suite::new().filling(move |is_full| {
        filled.text(&["CONFIG", "SET", "maxmemory", if is_full { "1" } else { "0" }]);
    });
    let case = CASES.iter().find(|case| case.name() == "housekeeping::refused").unwrap();
    for batch_above in [0, 16] {
        let fresh = async || patient(on(&server).batch_above(batch_above));
        case.run(fresh, &suite).await.unwrap();
        let near = AsyncMemoryCache::new;
        case.run(async || Tiered::new(near(), fresh().await), &suite).await.unwrap();
    }
}
