//! A near level that keeps no values and notes what its sources say: for tests of adapters that
//! follow.

use super::{AskedAt, Follower, OpensSources, SourceId, Vouches};
use crate::runtime::lock;
use futures_util::future::BoxFuture;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// What a near level notes.
pub(crate) trait Records: Send + Sync + 'static {
    /// The name of another source, which is open from now on; `None` if there can be no other.
    fn opened(&self) -> Option<SourceId>;
    /// The time now, by its clock.
    fn now(&self) -> AskedAt;
    fn forgot(&self, source: SourceId, key: &str);
    fn forgot_below(&self, source: SourceId, prefix: &str);
    fn confirmed(&self, source: SourceId, asked_at: AskedAt);
    fn ended(&self, source: SourceId);
}

/// A near level, until it is dropped. Its sources write into the notes also after that.
pub(crate) struct Recorder<R> {
    notes: Arc<R>,
    wants: Arc<Wants>,
}

/// Who waits until a source is wanted.
#[derive(Default)]
struct Wants {
    open: Mutex<Vec<(SourceId, Arc<Notify>)>>,
    is_gone: AtomicBool,
}

impl Wants {
    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::SeqCst)
    }

    fn all(&self) {
        lock(&self.open).iter().for_each(|(_, wanted)| wanted.notify_one());
    }
}

impl<R: Records> Recorder<R> {
    pub(crate) fn of(notes: R) -> Arc<Self> {
        Arc::new(Self { notes: Arc::new(notes), wants: Arc::default() })
    }

    pub(crate) fn follower(&self) -> Follower {
        let Self { notes, wants } = self;
        Follower::new(Arc::new(Home { notes: notes.clone(), wants: wants.clone() }))
    }

    /// The notes, for a test that outlives the near level.
    #[cfg(all(test, feature = "redis"))]
    pub(crate) fn notes(&self) -> Arc<R> {
        self.notes.clone()
    }

    /// Wants all open sources confirmed.
    pub(crate) fn want(&self) {
        self.wants.all();
    }
}

impl<R> Deref for Recorder<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.notes
    }
}

impl<R> Drop for Recorder<R> {
    fn drop(&mut self) {
        // First the note, then the wake-up: who is woken looks at the note.
        self.wants.is_gone.store(true, Ordering::SeqCst);
        self.wants.all();
    }
}

struct Home<R> {
    notes: Arc<R>,
    wants: Arc<Wants>,
}

impl<R: Records> OpensSources for Home<R> {
    fn open(&self) -> Option<Box<dyn Vouches>> {
        if self.is_gone() {
            return None;
        }
        let (id, wanted) = (self.notes.opened()?, Arc::<Notify>::default());
        lock(&self.wants.open).push((id, wanted.clone()));
        Some(Box::new(Stream { id, notes: self.notes.clone(), wants: self.wants.clone(), wanted }))
    }

    fn is_gone(&self) -> bool {
        self.wants.is_gone()
    }
}

/// A source.
struct Stream<R: Records> {
    id: SourceId,
    notes: Arc<R>,
    wants: Arc<Wants>,
    wanted: Arc<Notify>,
}

impl<R: Records> Vouches for Stream<R> {
    fn id(&self) -> SourceId {
        self.id
    }

    fn now(&self) -> AskedAt {
        self.notes.now()
    }

    fn forget(&self, key: &str) {
        self.notes.forgot(self.id, key);
    }

    fn forget_prefix(&self, prefix: &str) {
        self.notes.forgot_below(self.id, prefix);
    }

    fn confirm(&self, asked_at: AskedAt) {
        self.notes.confirmed(self.id, asked_at);
    }

    fn wanted(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            if !self.wants.is_gone() {
                self.wanted.notified().await;
            }
            !self.wants.is_gone()
        })
    }
}

impl<R: Records> Drop for Stream<R> {
    fn drop(&mut self) {
        lock(&self.wants.open).retain(|(_, wanted)| !Arc::ptr_eq(wanted, &self.wanted));
        self.notes.ended(self.id);
    }
}
