//! Compares the engine with a map that follows what the engine displaces.

use super::*;
use std::collections::HashMap;

pub(super) const WEIGHT: u32 = 10;

fn entry(value: u64, weight: u32) -> Entry {
    Entry::new(CacheValue::new(value), u64::MAX, weight)
}

pub(super) fn room_for(entries: u64, shards: usize) -> Engine {
    Engine::new(Size { entries, bytes: entries * u64::from(WEIGHT) }, shards)
}

pub(super) fn put(engine: &Engine, key: &str, value: u64, weight: u32) -> Displaced {
    let mut displaced = Displaced::default();
    engine.insert(key, entry(value, weight), &mut displaced);
    displaced
}

pub(super) fn read(engine: &Engine, key: &str) -> Option<u64> {
    engine.look(key, true, |node| node.value.decode().expect("a number"))
}

/// After random operations the engine holds the same as the map: the last value of every key that
/// was neither removed nor displaced.
#[test]
fn it_agrees_with_a_map() {
    for shards in [1, 4] {
        let capacity = 4_000 * shards as u64;
        let engine = Engine::new(Size { entries: u64::MAX, bytes: capacity }, shards);
        let mut random = fastrand::Rng::with_seed(7);
        let mut map: HashMap<String, (u64, u32)> = HashMap::new();
        let mut evicted = 0;
        for step in 0..60_000u64 {
            let key = format!("k{}", random.u64(..300 * shards as u64).min(random.u64(..400)));
            match random.u8(..20) {
                0 => assert_eq!(engine.remove(&key).is_some(), map.remove(&key).is_some()),
                1 if step % 997 == 0 => {
                    let odd = |value: u64| value % 2 == 1;
                    engine.retain(|node| odd(node.value.decode().expect("a number")), drop);
                    map.retain(|_, (value, _)| odd(*value));
                }
                2..8 => {
                    let weight = random.u32(1..=200);
                    let displaced = put(&engine, &key, step, weight);
                    for gone in displaced.iter().filter(|gone| gone.evicted) {
                        assert_ne!(gone.key, key, "what was just stored is not evicted");
                        let (value, _) = map.remove(gone.key.as_str()).expect("it was there");
                        assert_eq!(gone.entry.value.decode::<u64>().expect("a number"), value);
                        evicted += 1;
                    }
                    let replaced = displaced
                        .iter()
                        .find(|gone| !gone.evicted)
                        .map(|gone| gone.entry.value.decode::<u64>().expect("a number"));
                    assert_eq!(replaced, map.insert(key, (step, weight)).map(|(value, _)| value));
                }
                _ => assert_eq!(read(&engine, &key), map.get(&key).map(|(value, _)| *value)),
            }
            assert_eq!(engine.len(), map.len());
            let weight: u64 = if step % 64 == 0 {
                map.values().map(|(_, weight)| u64::from(*weight)).sum()
            } else {
                0
            };
            assert!(weight <= capacity, "{weight} of {capacity}");
        }
        assert!(evicted > 1_000, "{evicted}");
    }
}

#[test]
fn nothing_goes_as_long_as_there_is_room() {
    let engine = room_for(1_000, 1);
    for at in 0..1_000 {
        assert_eq!(put(&engine, &format!("k{at}"), at, WEIGHT).iter().count(), 0);
    }
    assert!((0..1_000).all(|at| read(&engine, &format!("k{at}")) == Some(at)));
    assert_eq!(put(&engine, "one more", 1, WEIGHT).iter().filter(|gone| gone.evicted).count(), 1);
}

/// With keys that are spread unevenly and have any weight, both bounds are reached and none is
/// exceeded.
#[test]
fn as_many_fit_as_there_is_room_for_in_all_shards_together() {
    for shards in [1, 8, 64] {
        let (entries, bytes) = (1_000, 1_000 * u64::from(WEIGHT));
        let engine = Engine::new(Size { entries, bytes: u64::MAX }, shards);
        for at in 0..entries {
            assert_eq!(put(&engine, &format!("k{at}"), at, at as u32 + 1).iter().count(), 0);
        }
        for at in 0..entries {
            put(&engine, &format!("more {at}"), at, 1);
            assert_eq!(engine.len() as u64, entries);
        }
        let engine = Engine::new(Size { entries: u64::MAX, bytes }, shards);
        for at in 0..entries {
            assert_eq!(put(&engine, &format!("k{at}"), at, WEIGHT).iter().count(), 0);
        }
        // An entry that needs the room of all shards.
        let displaced = put(&engine, "huge", 1, bytes as u32);
        assert_eq!((displaced.iter().count() as u64, engine.len()), (entries, 1));
        assert_eq!(put(&engine, "huge", 2, 5 * WEIGHT).iter().count(), 1);
        for at in 0..entries - 5 {
            assert_eq!(put(&engine, &format!("k{at}"), at, WEIGHT).iter().count(), 0);
        }
        assert_eq!(
            put(&engine, "huge", 3, 6 * WEIGHT).iter().filter(|gone| gone.evicted).count(),
            1
        );
        assert_eq!(read(&engine, "huge"), Some(3));
    }
}

/// Two threads each hold a part of the room that both need.
#[test]
fn two_that_need_nearly_everything_do_not_wait_for_each_other() {
    let engine = room_for(100, 8);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let engine = &engine;
            scope.spawn(move || {
                for at in 0..500 {
                    put(engine, &format!("{thread} {at}"), at, 80 * WEIGHT);
                    put(engine, &format!("small {thread} {at}"), at, WEIGHT);
                    assert!(engine.len() <= 100);
                }
            });
        }
    });
}

#[test]
fn a_scan_leaves_what_is_used() {
    let engine = room_for(1_000, 1);
    let hot: Vec<String> = (0..500).map(|at| format!("hot {at}")).collect();
    for _ in 0..2 {
        for key in &hot {
            if read(&engine, key).is_none() {
                put(&engine, key, 1, WEIGHT);
            }
        }
    }
    for at in 0..100_000 {
        put(&engine, &format!("once {at}"), 1, WEIGHT);
        read(&engine, &hot[at % hot.len()]);
    }
    assert!(hot.iter().all(|key| read(&engine, key).is_some()));
}

/// A key that comes back soon after it was evicted is not put through the small queue again.
#[test]
fn who_comes_back_is_known() {
    let engine = room_for(100, 1);
    let fill = |from: u64| {
        (from..from + 100).for_each(|at| drop(put(&engine, &format!("filler {at}"), at, WEIGHT)))
    };
    fill(0);
    put(&engine, "k", 1, WEIGHT);
    fill(100);
    assert_eq!(read(&engine, "k"), None, "it went, unused");
    put(&engine, "k", 2, WEIGHT);
    fill(200);
    assert_eq!(read(&engine, "k"), Some(2), "the fillers went before it");
}

#[test]
fn a_heavier_value_makes_room_and_stays() {
    let engine = room_for(10, 1);
    (0..10).for_each(|at| drop(put(&engine, &format!("k{at}"), at, WEIGHT)));
    let displaced = put(&engine, "k0", 77, 9 * WEIGHT);
    assert_eq!(displaced.iter().filter(|gone| gone.evicted).count(), 8);
    assert_eq!((read(&engine, "k0"), engine.len()), (Some(77), 2));
}

#[test]
fn ghosts_are_remembered_for_as_long_as_asked_and_once() {
    let mut ghosts = ghosts::Ghosts::default();
    assert!(!ghosts.take(1, 100), "nothing was evicted yet");
    (1..=1_000).for_each(|tag| ghosts.add(tag, 100));
    assert!(!ghosts.take(10, 100));
    let known = (901..=1_000).filter(|tag| ghosts.take(*tag, 100)).count();
    assert!(known > 60, "a full bucket forgets, not more: {known}");
    assert!((901..=1_000).all(|tag| !ghosts.take(tag, 100)), "once");
}

/// Threads read, write and sweep the same keys: every value that is read was written under its key.
#[test]
fn many_threads() {
    let engine = room_for(200, 4);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for step in 0..20_000u64 {
                    let at = random.u64(..500);
                    let key = format!("k{at}");
                    match random.u8(..10) {
                        0 => drop(engine.remove(&key)),
                        1 if step % 50 == 0 => engine.retain(
                            |node| node.value.decode::<u64>().expect("a number") % 3 > 0,
                            drop,
                        ),
                        2..5 => drop(put(engine, &key, at + 1_000 * step, WEIGHT)),
                        _ => assert!(read(engine, &key).is_none_or(|value| value % 1_000 == at)),
                    }
                }
            });
        }
    });
    let mut left = 0;
    engine.retain(|_| false, |_| left += 1);
    assert!(left <= 200, "{left}");
    assert_eq!(engine.len(), 0);
}
