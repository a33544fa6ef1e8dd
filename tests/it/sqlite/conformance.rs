//! The suite that every adapter passes.

use super::{PATIENT, fresh, fresh_path, on};
use crate::wrapper::through::Through;
use larder::testing::{Suite, conformance};
use larder::{AsyncCacheWrapper, AsyncSqliteCache, Codec};

fn patient_memory() -> AsyncSqliteCache {
    AsyncSqliteCache::builder().in_memory().op_timeout(PATIENT).build().unwrap()
}

fn through_a_namespace() -> Through {
    Through::over(AsyncCacheWrapper::new(fresh()).unwrap(), &["users_%"])
}

conformance!(file, fresh());
conformance!(memory, patient_memory());
conformance!(with_prefix, on(&fresh_path()).prefix("a_%\0b:").build().unwrap());
conformance!(
    json,
    on(&fresh_path()).codec(Codec::Json).build().unwrap(),
    Suite::new().codec(Codec::Json)
);
conformance!(
    one_reader,
    on(&fresh_path()).pool_size(1).max_value_bytes(1_000_000).build().unwrap(),
    Suite::new().max_value(1_000_000)
);
conformance!(through_a_wrapper_and_a_namespace, through_a_namespace());
conformance!(never_together, on(&fresh_path()).max_batch(1).build().unwrap());
