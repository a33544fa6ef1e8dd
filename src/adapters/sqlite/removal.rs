//! The removal of many keys, in steps: a statement holds the lock that every writer of the file
//! needs, for as long as it takes to free the pages of its rows.

use super::AsyncSqliteCache;
use super::connection::database::Role::Write;
use super::job::Command;
use super::reads::as_json;
use super::statements::{counts, padded};
use super::time;
use crate::codec::{Codec, HEAD};
use crate::error::Result;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _, query};
use std::collections::HashSet;

/// The most bytes of values that one step removes, unless it removes a single value.
const STEP_BYTES: u64 = 4 << 20;

/// Removes some of the keys, from the first on.
struct RemoveSome {
    keys: Vec<String>,
    codec: Codec,
}

/// What a step did.
struct Removed {
    /// The keys that were live and not past their logical end.
    live: HashSet<String>,
    /// The keys that are left for the next step.
    left: Vec<String>,
}

impl RemoveSome {
    /// How many of the keys one step removes.
    async fn count(&self, on: &mut SqliteConnection) -> sqlx::Result<usize> {
        // SQLite knows the length of a value without reading it.
        let mut sizes = vec![0; self.keys.len()];
        let sql = "SELECT wanted.key, length(cached.value) FROM json_each(?1) AS wanted \
                   CROSS JOIN larder_cache AS cached ON cached.key = wanted.value";
        for row in query(sql).bind(as_json(&self.keys)?).fetch_all(on).await? {
            let (at, bytes): (i64, i64) = (row.try_get_unchecked(0)?, row.try_get_unchecked(1)?);
            if let Some(size) = usize::try_from(at).ok().and_then(|at| sizes.get_mut(at)) {
                *size = u64::try_from(bytes).unwrap_or(0);
            }
        }
        let mut bytes = 0;
        let within = sizes.iter().take_while(|size| {
            bytes += **size;
            bytes <= STEP_BYTES
        });
        Ok(within.count().max(1).min(self.keys.len()))
    }
}

impl Command for RemoveSome {
    type Output = Removed;
    const BRIEF: bool = false;

    async fn run(&self, on: &mut SqliteConnection) -> sqlx::Result<Removed> {
        let (now, left) = self.keys.split_at(self.count(&mut *on).await?);
        let (count, marks) = padded(now.len());
        let sql = format!(
            "DELETE FROM larder_cache WHERE key IN ({marks}) \
             RETURNING key, expires_at IS NULL OR expires_at > ?, substr(value, 1, ?)"
        );
        let mut delete = query(AssertSqlSafe(sql));
        for key in now {
            delete = delete.bind(&**key);
        }
        for _ in now.len()..count {
            delete = delete.bind(None::<&str>);
        }
        let mut live = HashSet::new();
        for row in delete.bind(time::now()).bind(HEAD as i64).fetch_all(on).await? {
            if counts(&row, 1, self.codec)? {
                live.insert(row.try_get_unchecked(0)?);
            }
        }
        Ok(Removed { live, left: left.to_vec() })
    }
}

impl AsyncSqliteCache {
    pub(super) async fn remove_batch(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        let keys = self.full_keys("remove_many", keys)?;
        let remove = |chunk| self.remove_chunk(chunk);
        Ok(self.in_chunks("remove_many", &keys, remove).await)
    }

    /// Removes keys, and returns which of them were live. Each step has the deadline of a call.
    async fn remove_chunk(&self, chunk: &[String]) -> Result<Vec<bool>> {
        let (mut live, codec) = (HashSet::new(), self.settings.codec);
        let mut keys = chunk.to_vec();
        while !keys.is_empty() {
            let step = self.engine.call(Write, RemoveSome { keys, codec }).await?;
            live.extend(step.live);
            keys = step.left;
        }
        // A key that is named twice was live only once.
        Ok(chunk.iter().map(|key| live.remove(key)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::AsyncCacheAdapter;
    use crate::expiry::Expiry;
    use crate::value::CacheValue;

    #[tokio::test]
    async fn one_step_removes_a_few_megabytes_or_one_value() {
        let cache = AsyncSqliteCache::in_memory();
        let keys = ["none", "a", "b", "c", "none either", "d", "small"];
        for key in ["a", "b", "c", "d"] {
            let value = CacheValue::new("x".repeat(1_800_000));
            cache.set(key, value, Expiry::Never).await.unwrap();
        }
        cache.set("small", CacheValue::new(1), Expiry::Never).await.unwrap();
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let (keys, codec) = (owned(&keys), cache.settings.codec);
        let step = cache.engine.call(Write, RemoveSome { keys, codec }).await.unwrap();
        assert_eq!(step.live, HashSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!(step.left, owned(&["c", "none either", "d", "small"]));

        let large = CacheValue::new("x".repeat(9_000_000));
        cache.set("large", large, Expiry::Never).await.unwrap();
        let keys = ["large", "a", "c", "large", "d", "none", "small"];
        let removed = cache.remove_many(&keys).await.unwrap().into_iter();
        let removed: Vec<bool> = removed.map(|removed| removed.unwrap()).collect();
        assert_eq!(removed, [true, false, true, false, true, false, true]);
        assert!(!cache.contains("large").await.unwrap());
    }
}
