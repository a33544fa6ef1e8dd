//! Reads of several keys: a few statements, and a result for each key.

use super::AsyncSqliteCache;
use super::connection::database::Role::Read;
use super::reads::{Found, GetMany};
use super::statements::CHUNK;
use crate::error::{Error, Result};
use crate::value::CacheValue;

impl AsyncSqliteCache {
    /// Reads several keys, and makes an answer of each value that is found, with its expiry in
    /// milliseconds since 1970.
    pub(super) async fn read_many<T>(
        &self,
        keys: &[&str],
        answer: impl Fn(CacheValue, Option<i64>) -> T + Send,
    ) -> Result<Vec<Result<Option<T>>>> {
        let keys = self.full_keys("get_many", keys)?;
        let mut results = Vec::with_capacity(keys.len());
        let mut given_up = None;
        for chunk in keys.chunks(CHUNK) {
            let found = match &given_up {
                Some(error) => Err(Error::clone(error)),
                None => self.engine.call(Read, GetMany(chunk.to_vec())).await,
            };
            match found {
                Ok(found) => {
                    let codec = self.settings.codec;
                    let open = |key: &String, Found { value, expires_at }| {
                        answer(CacheValue::from_stored(key, value, codec), expires_at)
                    };
                    let pairs = chunk.iter().zip(found);
                    results
                        .extend(pairs.map(|(key, found)| Ok(found.map(|found| open(key, found)))));
                }
                Err(error) => {
                    results.extend(chunk.iter().map(|key| {
                        Err(self.name(error.clone(), "get_many").with_key(self.bare(key)))
                    }));
                    given_up = Some(error).filter(Error::is_retryable);
                }
            }
        }
        Ok(results)
    }
}
