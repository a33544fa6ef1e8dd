//! The engine under many thread schedules.

use super::tests::{WEIGHT, put, read, room_for};
use super::{CacheValue, Engine, Gone};
use crate::sync::under_many_schedules;
use shuttle::thread;
use std::sync::{Arc, Mutex};

fn number(value: &CacheValue) -> u64 {
    value.decode().expect("a number")
}

/// The values that have left the engine. The lock is std's, because it must not be a step of the
/// schedule.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u64>>>);

impl Out {
    fn note(&self, gone: &Gone) {
        self.0.lock().expect("no thread panics with it").push(number(&gone.entry.value));
    }
}

fn put_in(engine: &Engine, key: &str, value: u64, out: &Out) {
    put(engine, key, value, WEIGHT).iter().for_each(|gone| out.note(gone));
}

/// Every entry leaves the engine exactly once: replaced, evicted, removed or swept.
#[test]
fn nothing_is_lost_and_nothing_comes_out_twice() {
    under_many_schedules(|| {
        let (engine, out) = (Arc::new(room_for(2, 1)), Out::default());
        let work: [fn(&Engine, &Out); 3] = [
            |engine, out| {
                put_in(engine, "a", 1, out);
                put_in(engine, "b", 2, out);
                put_in(engine, "a", 3, out);
            },
            |engine, out| {
                put_in(engine, "b", 4, out);
                put_in(engine, "c", 5, out);
                engine.remove("a").iter().for_each(|gone| out.note(gone));
            },
            |engine, out| {
                engine.retain(|node| number(&node.value) % 2 == 1, |gone| out.note(&gone));
                read(engine, "b");
                put_in(engine, "c", 6, out);
            },
        ];
        let threads = work.map(|work| {
            let (engine, out) = (engine.clone(), out.clone());
            thread::spawn(move || {
                work(&engine, &out);
                assert!(engine.len() <= 2, "more than there is room for");
            })
        });
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let left = engine.len();
        let mut swept = 0;
        engine.retain(
            |_| false,
            |gone| {
                swept += 1;
                out.note(&gone);
            },
        );
        assert_eq!((swept, engine.len()), (left, 0));
        let mut all = out.0.lock().expect("no thread panics with it").clone();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4, 5, 6]);
    });
}

/// One thread writes, others read: no reader sees an older value after a newer one, or a value
/// after its removal.
#[test]
fn what_is_read_never_goes_back() {
    under_many_schedules(|| {
        let engine = Arc::new(room_for(4, 1));
        let readers = [true, false].map(|counts_as_use| {
            let engine = engine.clone();
            thread::spawn(move || {
                let mut last = 0;
                for _ in 0..4 {
                    let seen = engine.look("k", counts_as_use, |node| number(&node.value));
                    assert!(seen.is_none_or(|seen| seen >= last), "{seen:?} after {last}");
                    last = seen.unwrap_or(last);
                    if last == 3 {
                        assert_ne!(
                            engine.look("k", counts_as_use, |node| number(&node.value)),
                            Some(2)
                        );
                    }
                }
            })
        });
        for value in 1..=3 {
            put(&engine, "k", value, WEIGHT);
        }
        assert!(engine.remove("k").is_some());
        assert_eq!(read(&engine, "k"), None, "it was removed");
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
    });
}
