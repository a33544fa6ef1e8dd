//! Reads of several keys: a few statements, and a result for each key.

use super::AsyncSqliteCache;
use super::connection::database::Role::Read;
use super::job::Command;
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
        let (full, codec) = (self.full_keys("get_many", keys)?, self.settings.codec);
        let found = self.read_in_chunks("get_many", &full, GetMany).await;
        let open = |key: &String, Found { value, expires_at }| {
            answer(CacheValue::from_stored(key, value, codec), expires_at)
        };
        let pairs = full.iter().zip(found);
        Ok(pairs.map(|(key, found)| Ok(found?.map(|found| open(key, found)))).collect())
    }

    /// Asks about keys, with the prefix, by a command for each chunk of them.
    pub(super) async fn read_in_chunks<T, C: Command<Output = Vec<T>>>(
        &self,
        op: &'static str,
        keys: &[String],
        command: impl Fn(Vec<String>) -> C,
    ) -> Vec<Result<T>> {
        let ask = |chunk: &[String]| self.engine.call(Read, command(chunk.to_vec()));
        self.in_chunks(op, keys, ask).await
    }

    /// Asks by chunks, and has a result for each key. If the database cannot be asked, the further
    /// chunks fail as well.
    pub(super) async fn in_chunks<'k, T, F>(
        &self,
        op: &'static str,
        keys: &'k [String],
        ask: impl Fn(&'k [String]) -> F,
    ) -> Vec<Result<T>>
    where
        F: Future<Output = Result<Vec<T>>>,
    {
        let mut results = Vec::with_capacity(keys.len());
        let mut given_up = None;
        for chunk in keys.chunks(CHUNK) {
            let answers = match &given_up {
                Some(error) => Err(Error::clone(error)),
                None => ask(chunk).await,
            };
            match answers {
                Ok(answers) => results.extend(answers.into_iter().map(Ok)),
                Err(error) => {
                    results.extend(
                        chunk
                            .iter()
                            .map(|key| Err(self.name(error.clone(), op).with_key(self.bare(key)))),
                    );
                    given_up = Some(error).filter(Error::is_retryable);
                }
            }
        }
        results
    }
}
