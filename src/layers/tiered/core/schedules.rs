//! The core under many thread schedules: hits, reads, own writes, and invalidations.

use super::{Answer, Begun, Bounds, Changed, Core, Joining, NEVER, Rule, Rules};
use crate::adapter::SourceId;
use crate::layers::tiered::map::{Map, Seen};
use crate::sync::under_many_schedules;
use shuttle::sync::atomic::{AtomicU32, Ordering};
use shuttle::thread;
use std::sync::{Arc, Mutex};

const KEY: &str = "users:7";
const AGE: u64 = 100;
const BOUNDS: Bounds = Bounds { age: AGE, ttl: 10 * AGE };

/// A node and a store with one key, which has the value 1 and gets the value 2.
struct Setting {
    core: Core<Map, u64>,
    store: AtomicU32,
}

impl Setting {
    fn without(broken: Option<Rule>) -> Arc<Self> {
        let core = Core::new(Map::of_the_engine(), BOUNDS, Rules::without(broken));
        Arc::new(Self { core, store: AtomicU32::new(1) })
    }

    fn change(&self) {
        self.store.store(2, Ordering::SeqCst);
    }

    fn present(&self) -> u32 {
        self.store.load(Ordering::SeqCst)
    }

    /// Reads the store, and keeps what it has.
    fn read(&self, source: Option<SourceId>) {
        let Begun::Sent(read) = self.core.begin_read(KEY, 0, Joining::No, || 0) else {
            panic!("nothing is joined")
        };
        let value = Seen { state: self.present(), through: 0 };
        drop(self.core.end_read(read, KEY, Answer::Value { value, left: NEVER, source }));
    }

    fn hit(&self, now: u64) -> Option<u32> {
        let may_serve = |source| self.core.may_serve(source, now).is_proven;
        self.core.near().look(KEY, now, may_serve).map(|seen| seen.state)
    }
}

/// A read beside a change, and its invalidation.
fn read_beside(broken: Option<Rule>, invalidate: fn(&Core<Map, u64>)) {
    under_many_schedules(move || {
        let setting = Setting::without(broken);
        let source = setting.core.open().expect("a free number");
        setting.core.confirm(&source, 0);
        let (reading, id) = (setting.clone(), source.id());
        let reader = thread::spawn(move || reading.read(Some(id)));
        setting.change();
        invalidate(&setting.core);
        setting.core.confirm(&source, 10);
        reader.join().expect("no panic");
        assert_ne!(setting.hit(50), Some(1), "it was invalidated");
        assert_eq!(setting.core.in_flight(), 0);
    });
}

fn invalidate_key(core: &Core<Map, u64>) {
    drop(core.forget(KEY));
}

#[test]
fn a_value_that_is_invalidated_during_its_read_is_not_kept() {
    read_beside(None, invalidate_key);
    read_beside(None, |core| drop(core.forget_prefix("users:")));
    read_beside(None, |core| drop(core.forget_prefix("")));
}

#[test]
#[should_panic(expected = "it was invalidated")]
fn without_its_token_it_is() {
    read_beside(Some(Rule::Token), invalidate_key);
}

#[test]
#[should_panic(expected = "it was invalidated")]
fn in_two_steps_it_is() {
    read_beside(Some(Rule::OneStep), invalidate_key);
}

/// A hit whose proof is late, beside a source that invalidates it and is confirmed.
fn hit_beside(
    hit: fn(&Setting, u64) -> Option<u32>,
    order: fn(&mut dyn FnMut(), &mut dyn FnMut()),
) {
    under_many_schedules(move || {
        let setting = Setting::without(None);
        let source = setting.core.open().expect("a free number");
        setting.core.confirm(&source, 0);
        setting.read(Some(source.id()));
        assert_eq!(setting.hit(AGE - 1), Some(1));
        let hitting = setting.clone();
        let hitter = thread::spawn(move || hit(&hitting, AGE + 50));
        setting.change();
        order(&mut || invalidate_key(&setting.core), &mut || setting.core.confirm(&source, AGE));
        assert_ne!(hitter.join().expect("no panic"), Some(1), "older than the bound");
    });
}

#[test]
fn no_hit_is_older_than_the_bound() {
    hit_beside(Setting::hit, |invalidate, confirm| {
        invalidate();
        confirm();
    });
}

#[test]
#[should_panic(expected = "older than the bound")]
fn confirmed_before_it_is_invalidated_it_is() {
    hit_beside(Setting::hit, |invalidate, confirm| {
        confirm();
        invalidate();
    });
}

#[test]
#[should_panic(expected = "older than the bound")]
fn proven_after_the_look_it_is() {
    let in_two_steps = |setting: &Setting, now: u64| {
        let mut source = 0;
        let look = |of| {
            source = of;
            true
        };
        let seen = setting.core.near().look(KEY, now, look)?;
        setting.core.may_serve(source, now).is_proven.then_some(seen.state)
    };
    hit_beside(in_two_steps, |invalidate, confirm| {
        invalidate();
        confirm();
    });
}

/// A read beside the end of its source, whose number the next one has.
fn read_beside_an_end(broken: Option<Rule>) {
    under_many_schedules(move || {
        let setting = Setting::without(broken);
        let source = setting.core.open().expect("a free number");
        setting.core.confirm(&source, 0);
        let (reading, id) = (setting.clone(), source.id());
        let reader = thread::spawn(move || {
            reading.read(Some(id));
            // Near values that are there before the sweep.
            reading.read(Some(id));
        });
        setting.core.end(source, 1);
        assert_eq!(setting.hit(1), None, "its source has ended");
        setting.core.sweep();
        let next = setting.core.open().expect("a free number");
        assert_eq!(next.id().number, id.number, "the number is used again");
        setting.core.confirm(&next, 10);
        reader.join().expect("no panic");
        assert_eq!(setting.hit(50), None, "its source has ended");
    });
}

#[test]
fn nothing_of_an_ended_source_is_served() {
    read_beside_an_end(None);
}

#[test]
#[should_panic(expected = "its source has ended")]
fn without_a_sweep_it_is() {
    read_beside_an_end(Some(Rule::Sweep));
}

#[test]
#[should_panic(expected = "its source has ended")]
fn swept_too_early_it_is() {
    read_beside_an_end(Some(Rule::SweepWaits));
}

/// An own write beside a read, by age. When the write has returned, nothing older is served, and
/// no read that may have seen older is joined.
fn read_beside_a_write(broken: Option<Rule>) {
    under_many_schedules(move || {
        let setting = Setting::without(broken);
        let (reading, seen) = (setting.clone(), Arc::new(Mutex::new(None)));
        let noted = seen.clone();
        let reader = thread::spawn(move || {
            let core = &reading.core;
            let Begun::Sent(read) = core.begin_read(KEY, 0, Joining::Allowed, || 1) else {
                return;
            };
            let value = Seen { state: reading.present(), through: 0 };
            *noted.lock().expect("no panic") = Some(value.state);
            drop(core.end_read(read, KEY, Answer::Value { value, left: NEVER, source: None }));
        });
        drop(setting.core.begin_write(Changed::Key(KEY)));
        setting.change();
        drop(setting.core.end_write(Changed::Key(KEY)));
        assert_ne!(setting.hit(1), Some(1), "its own write");
        match setting.core.begin_read(KEY, 1, Joining::Allowed, || 2) {
            Begun::Sent(read) => assert_eq!(setting.core.abandon_read(read), Some(2)),
            Begun::Joined(_) => {
                reader.join().expect("no panic");
                assert_eq!(*seen.lock().expect("no panic"), Some(2), "its own write");
                return;
            }
        }
        reader.join().expect("no panic");
        assert_eq!(setting.core.in_flight(), 0);
    });
}

#[test]
fn own_writes_are_seen() {
    read_beside_a_write(None);
}

#[test]
#[should_panic(expected = "its own write")]
fn left_to_the_source_they_are_not() {
    read_beside_a_write(Some(Rule::OwnWrites));
}

#[test]
#[should_panic(expected = "its own write")]
fn joined_after_a_void_they_are_not() {
    read_beside_a_write(Some(Rule::JoinsUnvoided));
}

#[test]
fn one_of_many_misses_is_sent() {
    under_many_schedules(|| {
        let setting = Setting::without(None);
        let sent = Arc::new(AtomicU32::new(0));
        let callers = [(); 3].map(|()| {
            let (setting, sent) = (setting.clone(), sent.clone());
            thread::spawn(move || match setting.core.begin_read(KEY, 0, Joining::Allowed, || 0) {
                Begun::Sent(read) => {
                    sent.fetch_add(1, Ordering::SeqCst);
                    Some(read)
                }
                Begun::Joined(_) => None,
            })
        });
        let reads = callers.into_iter().filter_map(|caller| caller.join().expect("no panic"));
        let reads: Vec<_> = reads.collect();
        assert_eq!((reads.len(), sent.load(Ordering::SeqCst)), (1, 1));
        for read in reads {
            assert_eq!(setting.core.abandon_read(read), Some(0));
        }
        assert_eq!(setting.core.in_flight(), 0);
    });
}

#[test]
fn one_caller_has_the_proof_renewed() {
    under_many_schedules(|| {
        let setting = Setting::without(None);
        let source = setting.core.open().expect("a free number");
        setting.core.confirm(&source, 0);
        let number = source.id().number;
        let callers = [AGE / 2 + 1, AGE - 1, AGE + 1].map(|now| {
            let setting = setting.clone();
            thread::spawn(move || setting.core.may_serve(number, now).wants_renewal)
        });
        let asked = callers.into_iter().map(|caller| caller.join().expect("no panic"));
        assert_eq!(asked.filter(|asks| *asks).count(), 1);
        setting.core.confirm(&source, AGE);
        assert!(setting.core.may_serve(number, 2 * AGE - 1).wants_renewal, "and again");
    });
}
