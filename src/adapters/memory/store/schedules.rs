//! Atomic steps under many thread schedules.

use super::{Bounds, Store, Stored};
use crate::adapters::memory::sweeper::Sweeps;
use crate::expiry::Lifetime;
use crate::sync::under_many_schedules;
use crate::value::CacheValue;
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;

const BOUNDS: Bounds = Bounds { max_entries: 100, max_bytes: 1 << 20, max_value_bytes: 1 << 20 };
const KEY: &str = "k";

fn store(value: Option<i64>) -> Arc<Store> {
    let store = Store::new(BOUNDS);
    if let Some(value) = value {
        assert_eq!(store.set(KEY, CacheValue::new(value), 8, Lifetime::Never), Stored::Yes);
    }
    Arc::new(store)
}

fn number(value: &CacheValue) -> i64 {
    value.decode().expect("a number")
}

fn read(store: &Store) -> Option<i64> {
    store.get(KEY).map(|value| number(&value))
}

fn add(store: &Store, by: i64) -> i64 {
    let sum = store.change(KEY, Lifetime::Never, |old| {
        let sum = old.map_or(0, number) + by;
        Ok((CacheValue::new(sum), 8, sum))
    });
    sum.expect("no error").expect("not too large")
}

/// Runs `step` beside a `clear`. Returns the result of the step, and the value afterwards.
fn beside_a_clear<R: Send + 'static>(step: fn(&Store) -> R) -> (R, Option<i64>) {
    let store = store(Some(5));
    let clearing = store.clone();
    let clearing = thread::spawn(move || clearing.clear(""));
    let came_to = step(&store);
    clearing.join().expect("no panic");
    (came_to, read(&store))
}

#[test]
fn nothing_comes_back_after_a_clear() {
    under_many_schedules(|| {
        let (sum, left) = beside_a_clear(|store| add(store, 1));
        assert!(matches!((sum, left), (6, None) | (1, Some(1))), "{sum} {left:?}");
    });
    under_many_schedules(|| {
        let (_, left) = beside_a_clear(|store| store.touch(KEY, Lifetime::Never).is_some());
        assert_eq!(left, None, "before or after: it is cleared");
    });
    under_many_schedules(|| {
        let (_, left) =
            beside_a_clear(|store| store.set_if(true, KEY, CacheValue::new(7), 8, Lifetime::Never));
        assert_eq!(left, None, "before: it is cleared; after: there was nothing to replace");
    });
    under_many_schedules(|| {
        let (stored, left) = beside_a_clear(|store| {
            store.set_if(false, KEY, CacheValue::new(7), 8, Lifetime::Never)
        });
        assert!(
            matches!((stored, left), (None, None) | (Some(Stored::Yes), Some(7))),
            "{stored:?} {left:?}"
        );
    });
}

#[test]
fn a_sweep_overlooks_nobody() {
    const SOON: Lifetime = Lifetime::For(Duration::from_secs(30));
    let steps: [fn(&Store) -> bool; 2] = [
        |store| store.set(KEY, CacheValue::new(1), 8, SOON) == Stored::Yes,
        |store| store.touch(KEY, SOON).is_some(),
    ];
    for step in steps {
        under_many_schedules(move || {
            let store = store(Some(5));
            let sweeping = store.clone();
            let sweeping = thread::spawn(move || sweeping.sweep());
            assert!(step(&store));
            sweeping.join().expect("no panic");
            let ends = store.peek(KEY, |node| node.deadline).expect("it is there");
            assert!(store.earliest_end.get() <= ends, "it will never be swept");
        });
    }
}

#[test]
fn a_counter_loses_nothing() {
    under_many_schedules(|| {
        let store = store(None);
        let adders = [1, 10].map(|by| {
            let store = store.clone();
            thread::spawn(move || {
                add(&store, by);
                add(&store, by);
            })
        });
        let taken = store.take(KEY).map_or(0, |value| number(&value));
        store.touch(KEY, Lifetime::Never);
        adders.into_iter().for_each(|adder| adder.join().expect("no panic"));
        assert_eq!(taken + read(&store).unwrap_or(0), 22);
    });
}

#[test]
fn one_of_many_adds_is_the_first() {
    under_many_schedules(|| {
        let store = store(None);
        let adders = [1, 2, 3].map(|value| {
            let store = store.clone();
            thread::spawn(move || {
                store.set_if(false, KEY, CacheValue::new(value), 8, Lifetime::Never).map(|_| value)
            })
        });
        let firsts: Vec<i64> =
            adders.into_iter().filter_map(|adder| adder.join().expect("no panic")).collect();
        assert_eq!(firsts, [read(&store).expect("one is there")]);
    });
}
