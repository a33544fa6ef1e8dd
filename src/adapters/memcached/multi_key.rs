//! Operations on many keys: the keys are sent lane by lane, and each key has its own result.

use super::connection::command::{Command, Reply};
use super::connection::{Stored, Want, Write};
use super::errors::{BACKEND, about};
use super::judging::Found;
use super::keys::Key;
use super::ops::Each;
use super::{AsyncMemcachedCache, Place};
use crate::adapter::Entry;
use crate::error::{Error, ErrorKind, Result};
use futures_util::future::join_all;

impl AsyncMemcachedCache {
    /// Reads keys, and makes an answer of each value that is found.
    pub(super) async fn fetch_batch<T>(
        &self,
        keys: &[&str],
        answer: fn(Found) -> T,
    ) -> Result<Vec<Result<Option<T>>>> {
        let wires =
            self.keys(keys).map_err(|error| error.with_backend(BACKEND).with_op("get_many"))?;
        let mut results = unset(keys.len());
        let command = |keys, reply| Command::Fetch(keys, Want::Value, reply);
        self.ask_each("get_many", wires, |key| key, command, &mut results).await;
        let results = finished("get_many", keys, results);
        Ok(results.into_iter().map(|result| result.map(|found| found.map(answer))).collect())
    }

    pub(super) async fn store_batch(&self, entries: &[Entry<'_>]) -> Result<Vec<Result<()>>> {
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key).collect();
        let wires =
            self.keys(&keys).map_err(|error| error.with_backend(BACKEND).with_op("set_many"))?;
        let mut results = unset(entries.len());
        let stored: Vec<Result<Stored>> = wires
            .iter()
            .zip(entries)
            .map(|((_, key), entry)| self.stored_under(key.text(), &entry.value))
            .collect();
        let counts = last_of_each(&wires, |at| {
            stored[at].as_ref().err().is_none_or(|error| error.kind() == ErrorKind::TooLarge)
        });
        let (mut writes, mut gone) = (Vec::new(), Vec::new());
        for ((at, key), (entry, stored)) in wires.into_iter().zip(entries.iter().zip(stored)) {
            match (stored, self.ttl(entry.expiry)) {
                (Ok(stored), Some(ttl)) if counts[at] => {
                    writes.push((at, Write { key, stored, ttl }))
                }
                (stored, _) if counts[at] => gone.push((at, key, stored.map(drop))),
                (stored, _) => results[at] = Some(stored.map(drop)),
            }
        }
        self.ask_each("set_many", writes, |write| &write.key, Command::Store, &mut results).await;
        self.remove_for(gone, &mut results).await;
        Ok(finished("set_many", &keys, results))
    }

    pub(super) async fn remove_batch(&self, keys: &[&str]) -> Result<Vec<Result<bool>>> {
        let wires =
            self.keys(keys).map_err(|error| error.with_backend(BACKEND).with_op("remove_many"))?;
        let mut results = unset(keys.len());
        self.ask_each("remove_many", wires, |key| key, Command::Remove, &mut results).await;
        Ok(finished("remove_many", keys, results))
    }

    /// Checks and encodes all keys of a batch; returns the first error.
    fn keys(&self, keys: &[&str]) -> Result<Vec<(usize, Key)>> {
        keys.iter().enumerate().map(|(at, key)| Ok((at, self.key(key)?))).collect()
    }

    /// Removes the keys whose new values are not stored. The result of each key is the given one,
    /// or the error of its removal.
    async fn remove_for(
        &self,
        gone: Vec<(usize, Key, Result<()>)>,
        results: &mut [Option<Result<()>>],
    ) {
        let mut removed = unset(results.len());
        let mut outcomes = Vec::with_capacity(gone.len());
        let mut keys = Vec::with_capacity(gone.len());
        for (at, key, outcome) in gone {
            outcomes.push((at, outcome));
            keys.push((at, key));
        }
        self.ask_each("set_many", keys, |key| key, Command::Remove, &mut removed).await;
        for (at, outcome) in outcomes {
            results[at] = Some(match removed[at].take() {
                Some(Err(error)) => Err(error),
                _ => outcome,
            });
        }
    }

    /// Sends the items of a batch to their lanes, and puts the answers into the order of the batch.
    async fn ask_each<I, T>(
        &self,
        op: &'static str,
        items: Vec<(usize, I)>,
        key: impl Fn(&I) -> &Key,
        command: impl Fn(Vec<I>, Reply<Each<T>>) -> Command,
        results: &mut [Option<Result<T>>],
    ) {
        let lanes = self.inner.config.pool_size;
        let mut batches: Vec<(Vec<usize>, Vec<I>)> = Vec::new();
        batches.resize_with(self.inner.servers.len() * lanes, Default::default);
        for (at, item) in items {
            let Place { server, lane } = self.place(key(&item));
            let (places, batch) = &mut batches[server * lanes + lane];
            places.push(at);
            batch.push(item);
        }
        let batches = batches.into_iter().enumerate().filter(|(_, (_, batch))| !batch.is_empty());
        let asked = batches.map(|(at, (places, batch))| {
            let place = Place { server: at / lanes, lane: at % lanes };
            let command = &command;
            async move { (places, self.ask(place, |reply| command(batch, reply)).await) }
        });
        for (places, answer) in join_all(asked).await {
            match answer {
                Ok(each) => {
                    places.into_iter().zip(each).for_each(|(at, result)| results[at] = Some(result))
                }
                Err(error) => places
                    .into_iter()
                    .for_each(|at| results[at] = Some(Err(error.clone().with_op(op)))),
            }
        }
    }
}

/// Which entries are sent: of several for one key, only the last one that has an effect. Sorted by
/// hashes, which are known, because a table would hash the texts.
fn last_of_each(keys: &[(usize, Key)], has_effect: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut sorted: Vec<(u32, usize)> =
        keys.iter().filter(|(at, _)| has_effect(*at)).map(|(at, key)| (key.hash(), *at)).collect();
    let text = |at: usize| keys[at].1.text();
    sorted.sort_unstable_by(|(hash, at), (other_hash, other)| {
        hash.cmp(other_hash).then_with(|| text(*at).cmp(text(*other))).then(at.cmp(other))
    });
    let mut is_last = vec![false; keys.len()];
    for (place, (_, at)) in sorted.iter().enumerate() {
        let next = sorted.get(place + 1);
        is_last[*at] = next.is_none_or(|(_, next)| text(*next) != text(*at));
    }
    is_last
}

/// Unwraps the results of a batch, all of which are set by now.
fn finished<T>(op: &'static str, keys: &[&str], results: Vec<Option<Result<T>>>) -> Vec<Result<T>> {
    let missing = || Err(Error::new(ErrorKind::Backend).with_message("the key got no result"));
    let results = results.into_iter().map(|result| result.unwrap_or_else(missing));
    results.zip(keys).map(|(result, key)| result.map_err(|error| about(error, op, key))).collect()
}

fn unset<T>(count: usize) -> Vec<Option<T>> {
    std::iter::repeat_with(|| None).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_entries_for_one_key_the_last_one_with_an_effect_is_sent() {
        let texts = ["a", "b", "a", "c", "b", "a", "d"];
        let keys: Vec<(usize, Key)> =
            texts.into_iter().enumerate().map(|(at, text)| (at, Key::new(text))).collect();
        assert_eq!(
            last_of_each(&keys, |at| at != 5 && at != 6),
            [false, false, true, true, true, false, false]
        );
    }
}
