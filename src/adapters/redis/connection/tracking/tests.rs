//! What is told over a connection, with a test as the near level and as the server.
#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use super::*;
use crate::adapter::{Follower, Recorder, Records};
use futures_util::FutureExt;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Wake};

/// What the sources of a near level say, line by line.
#[derive(Default)]
struct Ledger {
    lines: Mutex<Vec<String>>,
    clock: AtomicU64,
}

impl Ledger {
    fn write(&self, line: impl Into<String>) {
        lock(&self.lines).push(line.into());
    }

    /// What was written since the last look.
    fn lines(&self) -> Vec<String> {
        mem::take(&mut *lock(&self.lines))
    }
}

impl Records for Ledger {
    fn opened(&self) -> Option<SourceId> {
        self.write("opened");
        Some(SourceId { number: 5, life: 7 })
    }

    fn now(&self) -> AskedAt {
        AskedAt(self.clock.fetch_add(1, Ordering::SeqCst))
    }

    fn forgot(&self, _: SourceId, key: &str) {
        self.write(format!("forget {key}"));
    }

    fn forgot_below(&self, _: SourceId, prefix: &str) {
        self.write(format!("forget {prefix}*"));
    }

    fn confirmed(&self, _: SourceId, AskedAt(time): AskedAt) {
        self.write(format!("confirm {time}"));
    }

    fn ended(&self, _: SourceId) {
        self.write("ended");
    }
}

fn ledger() -> (Arc<Recorder<Ledger>>, Follower) {
    let ledger = Recorder::of(Ledger::default());
    let follower = ledger.follower();
    (ledger, follower)
}

fn tracking() -> Tracking {
    Tracking::new(Scope::prefixed("app:"))
}

/// A source that is open.
fn opened() -> (Arc<Recorder<Ledger>>, Arc<Tracking>) {
    let ((ledger, follower), tracking) = (ledger(), tracking());
    tracking.open(follower.source().unwrap());
    assert_eq!(ledger.lines(), ["opened"]);
    (ledger, Arc::new(tracking))
}

fn bulk(bytes: &[u8]) -> Reply {
    Reply::Bulk(bytes.to_vec().into())
}

fn invalidate(keys: &[&[u8]]) -> Vec<Reply> {
    vec![bulk(b"invalidate"), Reply::Array(keys.iter().map(|key| bulk(key)).collect())]
}

#[test]
fn the_keys_of_the_cache_are_forgotten_without_its_prefix() {
    let (ledger, tracking) = opened();
    tracking.pushed(invalidate(&[b"app:a", b"other:a", b"ap", b"app:", b"app:\xff", b"app:\0b"]));
    assert_eq!(ledger.lines(), ["forget a", "forget ", "forget \0b"]);
    let everything = Tracking::new(Scope::default());
    let (ledger, follower) = self::ledger();
    everything.open(follower.source().unwrap());
    everything.pushed(invalidate(&[b"app:a", b"\xff"]));
    assert_eq!(ledger.lines(), ["opened", "forget app:a"]);
}

#[test]
fn a_flush_forgets_all_and_so_does_what_nobody_understands() {
    let (ledger, tracking) = opened();
    tracking.pushed(vec![bulk(b"invalidate"), Reply::Nil]);
    assert_eq!(ledger.lines(), ["forget *"]);
    for odd in
        [vec![bulk(b"invalidate")], vec![bulk(b"invalidate"), Reply::Array(vec![Reply::Nil])]]
    {
        tracking.pushed(odd);
        assert_eq!(ledger.lines(), ["forget *"]);
    }
    tracking.pushed(vec![bulk(b"message"), bulk(b"channel"), bulk(b"text")]);
    tracking.pushed(Vec::new());
    assert!(ledger.lines().is_empty());
}

#[test]
fn without_a_source_nothing_is_told_and_no_time_is_asked_for() {
    let tracking = tracking();
    assert_eq!((tracking.source(), tracking.sending()), (None, None));
    tracking.pushed(invalidate(&[b"app:a"]));
    tracking.answered(3);
    let (ledger, follower) = ledger();
    tracking.open(follower.source().unwrap());
    assert_eq!(tracking.source(), Some(SourceId { number: 5, life: 7 }));
    assert_eq!((tracking.sending(), tracking.sending()), (Some(0), Some(1)));
    tracking.answered(1);
    tracking.end();
    assert_eq!((tracking.source(), tracking.sending()), (None, None));
    tracking.answered(2);
    tracking.pushed(invalidate(&[b"app:a"]));
    assert_eq!(ledger.lines(), ["opened", "confirm 1", "ended"]);
}

#[test]
fn a_connection_that_has_ended_opens_no_source() {
    let (tracking, (ledger, follower)) = (tracking(), ledger());
    tracking.ended();
    tracking.open(follower.source().unwrap());
    assert_eq!(ledger.lines(), ["opened", "ended"]);
    assert_eq!(tracking.source(), None);
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_source_ends_at_once_while_a_task_waits_for_its_questions() {
    let (ledger, tracking) = opened();
    let woken = Arc::new(Woken::default());
    let waker = woken.clone().into();
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(tracking.wants_answer());
    for _ in 0..3 {
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        ledger.want();
        assert!(woken.0.swap(false, Ordering::SeqCst));
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(true));
        waiting.set(tracking.wants_answer());
    }
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    tracking.end();
    assert_eq!(ledger.lines(), ["ended"]);
    assert!(woken.0.load(Ordering::SeqCst));
    assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(false));
    assert_eq!(tracking.wants_answer().now_or_never(), Some(false));
}

#[test]
fn a_source_without_its_near_level_ends_and_the_server_is_to_stop() {
    let (ledger, tracking) = opened();
    assert!(!tracking.is_unfollowed());
    let lines = ledger.notes();
    drop(ledger);
    assert_eq!(tracking.wants_answer().now_or_never(), Some(false));
    assert_eq!(lines.lines(), ["ended"]);
    assert!(tracking.is_unfollowed());
    // On a connection that has ended nothing is to be stopped.
    tracking.ended();
    assert!(!tracking.is_unfollowed());
}
