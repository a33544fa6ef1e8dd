//! Last words: what is done in `Drop` and in the destructors of thread-locals.

use crate::work::slow;
use larder::{ErrorKind, awaitable, cached};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

/// Does something when it is dropped, and counts that it did.
pub(crate) struct OnDrop(pub(crate) fn());

pub(crate) static DROPPED: AtomicU32 = AtomicU32::new(0);

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)();
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static HELD: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
}

pub(crate) fn hold(work: fn()) {
    HELD.with(|held| held.replace(Some(OnDrop(work))));
}

/// What a thread can still do while its locals are destroyed, and perhaps tokio's own with them.
pub(crate) fn farewell() {
    // Keys of its own, for several threads may end at once.
    static TURN: AtomicU32 = AtomicU32::new(0);
    let own = format!("farewell {}", TURN.fetch_add(1, Ordering::Relaxed));
    let (cache, slow) = (cached().namespace(&own), slow().namespace(&own));
    assert_eq!(cache.get::<u8>("none").unwrap(), None);
    cache.set("farewell", 7).unwrap();
    assert_eq!(cache.get::<u8>("farewell").unwrap(), Some(7));
    assert!(cache.touch("farewell", larder::Expiry::Never).unwrap());
    assert_eq!(cache.get_or_set("farewell", 8).unwrap(), 7);
    assert_eq!(cache.get_or_set_with("farewell too", |_| 8).unwrap(), 8);
    assert_eq!(cache.incr("farewells", 1).unwrap(), 1);
    assert_eq!(cache.get_many::<u8, _>(["farewell"]).unwrap(), [Some(7)]);
    assert!(cache.remove(["farewell", "farewell too", "farewells"]).unwrap());
    assert_eq!(awaitable(async { 7 }).wait(), 7);
    // What has to wait for a timer says so, or works where tokio is still there.
    let is_fine = |result: larder::Result<()>| match result {
        Ok(()) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
    };
    is_fine(cache.get_or_set_async("farewell", async { 7 }).map(drop));
    is_fine(slow.get::<u8>("farewell").map(drop));
    is_fine(slow.set("farewell", 7));
    is_fine(slow.remove("farewell").map(drop));
    is_fine(slow.set_many([("farewell", 7)]));
    is_fine(slow.get_or_set("farewell", 7).map(drop));
    is_fine(slow.clear());
    is_fine(slow.ping());
    cache.remove("farewell").unwrap();
}
