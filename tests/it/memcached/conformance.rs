//! The suite that every adapter passes.

use super::{on, on_three_servers, patient, prefix};
use crate::support::Memcached;
use crate::wrapper::through::Through;
use larder::testing::{Suite, Verb, conformance};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, Codec, IntoAdapter, MemcachedBuilder};
use std::sync::{Arc, OnceLock};

/// The limits of a server with default settings.
const LIMIT: usize = (1 << 20) - 512;

fn suite() -> Suite {
    Suite::new().whole_seconds().max_value(LIMIT).except([Verb::Keys])
}

/// As in a cache that is created from a URL: with a resilient layer around the adapter.
fn by_url() -> Arc<dyn AsyncCacheAdapter> {
    format!("{}?prefix={}&op_timeout=10s", Memcached::shared().url(), prefix())
        .into_adapter()
        .expect("a URL")
}

fn on_unix_socket() -> MemcachedBuilder {
    static SERVER: OnceLock<Memcached> = OnceLock::new();
    on(SERVER.get_or_init(Memcached::start_unix))
}

fn through_a_namespace() -> Through {
    Through::over(AsyncCacheWrapper::new(patient(on(Memcached::shared()))).unwrap(), &["users *"])
}

// Four times, because each takes seconds: the cases are spread over them.
conformance!(plain, patient(on(Memcached::shared())), suite());
conformance!(
    json_behind_a_prefix_in_one_lane_over_a_unix_socket,
    patient(
        on_unix_socket()
            .prefix(format!("{}users *[a-z]?\\%:", prefix()))
            .pool_size(1)
            .codec(Codec::Json)
    ),
    suite().codec(Codec::Json)
);
conformance!(
    raw_on_several_servers,
    patient(on_three_servers().codec(Codec::Raw)),
    suite().codec(Codec::Raw)
);
conformance!(through_a_wrapper_and_a_namespace, through_a_namespace(), suite());
conformance!(never_together, patient(on(Memcached::shared()).max_batch(1)), suite());
conformance!(in_a_resilient_layer, by_url(), suite());
