//! An adapter that tells of changes, and the same with one bug at a time: `near_conformance!` must
//! find each.

use crate::adapter::{AsyncCacheAdapter, Follower, NearEntry, Source};
use crate::adapters::memory::AsyncMemoryCache;
use crate::error::Result;
use crate::expiry::{Expiry, Lifetime};
use crate::runtime::lock;
use crate::testing::near::{MakingTwo, outcome};
use crate::testing::near_conformance;
use crate::testing::tests::found_in_some_runs;
use crate::value::CacheValue;
use async_trait::async_trait;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;

/// A mistake of an adapter's author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    FollowsNobody,
    NamesTheSourceOfOthers,
    NamesAnEndedSource,
    TellsAfterItReturns,
    TellsBeforeItChanges,
    TellsNoRemovals,
    TellsNoTouches,
    TellsNoClears,
    TellsNothingOfItsOwn,
    TellsOnce,
    TellsTrimmedKeys,
}

/// What the clients of one store share.
struct Store {
    entries: AsyncMemoryCache,
    sources: Mutex<Vec<(Weak<Source>, usize)>>,
    bug: Bug,
}

/// A client. Its number says which changes are its own.
struct Client {
    store: Arc<Store>,
    number: usize,
    followed: Mutex<Option<Followed>>,
}

struct Followed {
    source: Arc<Source>,
    proves: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.proves.abort();
    }
}

fn clients(bug: Bug) -> (Client, Client) {
    let entries = AsyncMemoryCache::builder().encoded().build();
    let store = Arc::new(Store { entries, sources: Mutex::default(), bug });
    let client = |number| Client { store: store.clone(), number, followed: Mutex::default() };
    (client(0), client(1))
}

impl Store {
    fn tell(&self, by: usize, tell: impl Fn(&Source)) {
        let mut sources = lock(&self.sources);
        let is_own = |of: usize| of == by && self.bug == Bug::TellsNothingOfItsOwn;
        let hearing = sources.iter().filter(|(_, of)| !is_own(*of));
        hearing.filter_map(|(source, _)| source.upgrade()).for_each(|source| tell(&source));
        if self.bug == Bug::TellsOnce {
            sources.clear();
        }
    }

    fn told(&self, by: usize, key: &str) {
        let key = if self.bug == Bug::TellsTrimmedKeys { key.trim() } else { key };
        self.tell(by, |source| source.forget(key));
    }
}

impl Client {
    /// Makes a change, and tells of it.
    async fn change<T>(&self, key: &str, change: impl Future<Output = Result<T>>) -> Result<T> {
        let (store, by) = (&self.store, self.number);
        match store.bug {
            Bug::TellsBeforeItChanges => {
                store.told(by, key);
                tokio::time::sleep(Duration::from_millis(5)).await;
                change.await
            }
            Bug::TellsAfterItReturns => {
                let changed = change.await;
                let (store, key) = (store.clone(), key.to_owned());
                drop(tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    store.told(by, &key);
                }));
                changed
            }
            _ => {
                let changed = change.await;
                store.told(by, key);
                changed
            }
        }
    }
}

#[async_trait]
impl AsyncCacheAdapter for Client {
    async fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        self.store.entries.get(key).await
    }

    async fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        self.change(key, self.store.entries.set(key, value, expiry)).await
    }

    async fn remove(&self, key: &str) -> Result<bool> {
        let removal = self.store.entries.remove(key);
        if self.store.bug == Bug::TellsNoRemovals {
            return removal.await;
        }
        self.change(key, removal).await
    }

    async fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        let touch = self.store.entries.update_timeout(key, expiry);
        if self.store.bug == Bug::TellsNoTouches {
            return touch.await;
        }
        self.change(key, touch).await
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.store.entries.clear(prefix).await?;
        if self.store.bug != Bug::TellsNoClears {
            self.store.tell(self.number, |source| source.forget_prefix(prefix));
        }
        Ok(())
    }

    async fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        self.change(key, self.store.entries.incr(key, by, expiry)).await
    }

    async fn get_near(&self, key: &str) -> Result<Option<NearEntry>> {
        // Noted before the read: a change since then is told.
        let source = match self.store.bug {
            Bug::NamesTheSourceOfOthers => {
                lock(&self.store.sources).iter().find_map(|(source, _)| source.upgrade())
            }
            _ => lock(&self.followed).as_ref().map(|followed| followed.source.clone()),
        };
        let Some(value) = self.get(key).await? else { return Ok(None) };
        let entry = NearEntry::new(value, Lifetime::Never);
        Ok(Some(match source {
            Some(source) => entry.vouched_by(source.id()),
            None => entry,
        }))
    }

    fn follow(&self, follower: Follower) -> bool {
        let Some(source) = follower.source().map(Arc::new) else { return true };
        if self.store.bug == Bug::FollowsNobody {
            return false;
        }
        lock(&self.store.sources).push((Arc::downgrade(&source), self.number));
        let asks = source.clone();
        let proves = tokio::spawn(async move {
            while asks.wanted().await {
                // The store is in this process, and has told all that has changed.
                asks.confirm(asks.now());
            }
        });
        *lock(&self.followed) = Some(Followed { source, proves });
        true
    }

    async fn close(&self) -> Result<()> {
        if self.store.bug == Bug::NamesAnEndedSource {
            // It goes on naming the source, and tells it nothing.
            lock(&self.store.sources).clear();
        }
        Ok(())
    }
}

near_conformance!(right, clients(Bug::None));

/// Checks that the named case fails on an adapter with this bug, with a message.
fn is_caught(bug: Bug, name: &str) {
    let both = || -> MakingTwo {
        Box::pin(async move {
            let (near, other) = clients(bug);
            (Arc::new(near) as _, Arc::new(other) as _)
        })
    };
    let failure = found_in_some_runs(|| outcome(name, both));
    assert!(failure.to_string().contains("checked at"), "{failure}");
}

macro_rules! bugs {
    ($($bug:ident $test:ident $case:literal,)*) => {$(
        #[test]
        fn $test() {
            is_caught(Bug::$bug, $case);
        }
    )*};
}

bugs! {
    FollowsNobody follows_nobody "answers_name_a_source",
    NamesTheSourceOfOthers names_the_source_of_others "nobody_vouches_unfollowed",
    NamesAnEndedSource names_a_source_that_hears_nothing "close_proves_nothing",
    TellsAfterItReturns tells_after_it_returns "changes_of_others_are_told",
    TellsBeforeItChanges tells_before_it_changes "changes_amid_reads_are_told",
    TellsNoRemovals tells_no_removals "changes_of_others_are_told",
    TellsNoTouches tells_no_touches "changes_of_others_are_told",
    TellsNoClears tells_no_clears "clears_are_told",
    TellsNothingOfItsOwn tells_nothing_of_its_own "own_changes_are_told",
    TellsOnce tells_once "changes_are_told_again",
    TellsTrimmedKeys tells_trimmed_keys "keys_are_told_as_they_are",
}
