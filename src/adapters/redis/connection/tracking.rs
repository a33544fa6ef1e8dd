//! What a server tells over one connection: which of the keys that were read through it have changed.
//! So the connection is a source for a near level.
//!
//! The server tells in order with its answers. Whatever had changed when it executed a command has
//! been told before that command is answered, so an answer proves what is near until the time at
//! which its command was sent.

use super::wire::Listener;
use crate::adapter::{AskedAt, Source, SourceId};
use crate::adapters::redis::reply::Reply;
use crate::key::Scope;
use crate::runtime::lock;
use futures_util::future::BoxFuture;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker, ready};

/// The part of a connection that a near level sees.
///
/// A source is used under the lock, and never outside of it: so it has ended when
/// [`end`](Tracking::end) returns.
pub(in crate::adapters::redis) struct Tracking {
    /// The keys of the cache are those below its prefix.
    scope: Scope,
    /// Whether there is a source: a look that takes no lock.
    is_open: AtomicBool,
    state: Mutex<State>,
}

enum State {
    /// Nobody follows.
    Closed,
    Open(Open),
    /// The near level is gone, or another one follows: what the server tells over this connection is
    /// of no use.
    Unfollowed,
    /// The connection is over. No source is opened any more.
    Ended,
}

struct Open {
    source: Arc<Source>,
    /// Ready when the near level wants an answer. Polled for the task that asks.
    wanted: BoxFuture<'static, bool>,
    /// Of the task that asks.
    asker: Option<Waker>,
}

/// What a push says.
#[derive(Debug, PartialEq)]
enum Told<'p> {
    /// These keys have changed.
    Keys(&'p [Reply]),
    /// Any key may have changed: the server was flushed.
    All,
    /// Something else.
    Nothing,
}

impl Tracking {
    pub(super) fn new(scope: Scope) -> Self {
        Self { scope, is_open: AtomicBool::new(false), state: Mutex::new(State::Closed) }
    }

    /// Opens the source, when the server has confirmed that it tells. A connection that has ended in
    /// the meantime stays without one.
    pub(super) fn open(&self, source: Source) {
        let source = Arc::new(source);
        let mut state = lock(&self.state);
        if matches!(*state, State::Closed) {
            *state = State::Open(Open { wanted: wanted(&source), source, asker: None });
            self.is_open.store(true, Ordering::Release);
        }
    }

    /// The source, while it is open.
    pub(super) fn source(&self) -> Option<SourceId> {
        self.with_source(Source::id)
    }

    /// Ends the source with its connection. When it returns, nothing is near for which the source
    /// vouched.
    pub(in crate::adapters::redis) fn end(&self) {
        self.close(State::Ended);
    }

    /// Ends the source of a connection that goes on: its near level does not hear it any more.
    pub(in crate::adapters::redis) fn unfollow(&self) {
        self.close(State::Unfollowed);
    }

    /// Whether the server still tells a near level that does not follow any more.
    pub(super) fn is_unfollowed(&self) -> bool {
        matches!(*lock(&self.state), State::Unfollowed)
    }

    fn close(&self, closed: State) {
        self.is_open.store(false, Ordering::Release);
        let before = {
            let mut state = lock(&self.state);
            if matches!(*state, State::Ended) {
                return;
            }
            mem::replace(&mut *state, closed)
        };
        if let State::Open(Open { source, wanted, asker }) = before {
            drop((wanted, source));
            if let Some(asker) = asker {
                asker.wake();
            }
        }
    }

    /// Waits until the near level wants an answer; `false` if the source has ended, or ends now
    /// because its near level is gone.
    pub(super) async fn wants_answer(&self) -> bool {
        let is_followed = poll_fn(|context| {
            let mut state = lock(&self.state);
            let State::Open(open) = &mut *state else { return Poll::Ready(None) };
            open.asker = Some(context.waker().clone());
            let is_followed = ready!(open.wanted.as_mut().poll(context));
            open.wanted = wanted(&open.source);
            Poll::Ready(Some(is_followed))
        });
        match is_followed.await {
            Some(true) => true,
            Some(false) => {
                self.unfollow();
                false
            }
            None => false,
        }
    }

    fn with_source<T>(&self, act: impl FnOnce(&Source) -> T) -> Option<T> {
        if !self.is_open.load(Ordering::Acquire) {
            return None;
        }
        match &*lock(&self.state) {
            State::Open(open) => Some(act(&open.source)),
            State::Closed | State::Unfollowed | State::Ended => None,
        }
    }

    /// A key as the cache knows it; `None` for one that is not of the cache. All keys of the cache
    /// are UTF-8.
    fn own<'k>(&self, key: &'k Reply) -> Option<&'k str> {
        let Reply::Bulk(key) = key else { return None };
        std::str::from_utf8(key).ok()?.strip_prefix(self.scope.prefix())
    }
}

impl Listener for Tracking {
    fn pushed(&self, push: Vec<Reply>) {
        let told = told(&push);
        if told == Told::Nothing {
            return;
        }
        self.with_source(|source| match told {
            Told::Keys(keys) => {
                keys.iter().filter_map(|key| self.own(key)).for_each(|key| source.forget(key));
            }
            Told::All => source.forget_prefix(""),
            Told::Nothing => {}
        });
    }

    fn sending(&self) -> Option<u64> {
        self.with_source(|source| source.now().0)
    }

    fn answered(&self, sent_at: u64) {
        self.with_source(|source| source.confirm(AskedAt(sent_at)));
    }

    fn ended(&self) {
        self.end();
    }
}

impl fmt::Debug for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracking").field("source", &self.source()).finish_non_exhaustive()
    }
}

fn wanted(source: &Arc<Source>) -> BoxFuture<'static, bool> {
    let source = source.clone();
    Box::pin(async move { source.wanted().await })
}

/// A push about changed keys is the word `invalidate` and a list of keys, or nil for all keys.
fn told(push: &[Reply]) -> Told<'_> {
    let is_about_keys = match push.first() {
        Some(Reply::Bulk(kind)) => &**kind == b"invalidate",
        Some(Reply::Simple(kind)) => kind == "invalidate",
        _ => false,
    };
    match push.get(1) {
        _ if !is_about_keys => Told::Nothing,
        Some(Reply::Array(keys)) if keys.iter().all(|key| matches!(key, Reply::Bulk(_))) => {
            Told::Keys(keys)
        }
        _ => Told::All,
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests;
