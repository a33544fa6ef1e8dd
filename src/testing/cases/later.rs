//! Writes and removals that are dropped in flight, and later ones of the same keys.

use super::*;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select};
use std::pin::pin;
use tokio::task::yield_now;

const TURNS: usize = 196;
const GONE: Expiry = Expiry::After(Duration::ZERO);

/// The keys of a turn: a store may have them in several places, and clears them together.
struct Turn {
    prefix: String,
    keys: [String; 3],
}

impl Turn {
    fn new(number: usize) -> Self {
        let prefix = format!("later {number:03} ");
        let keys = ["a", "b", "c"].map(|name| format!("{prefix}{name}"));
        Self { prefix, keys }
    }

    fn names(&self) -> [&str; 3] {
        [&*self.keys[0], &*self.keys[1], &*self.keys[2]]
    }

    fn entries(&self, value: &'static str) -> [Entry<'_>; 3] {
        self.names().map(|key| Entry::new(key, CacheValue::new(value), LONG))
    }
}

/// What a later call left under its key.
#[derive(Debug)]
enum Left {
    /// This.
    Known(Option<String>),
    /// What was there: it depends on what became of the dropped call.
    AsItWas,
    /// The key was missing, and nothing was written: the dropped call may still take effect.
    Nothing,
}

impl Left {
    fn text(text: &str) -> Self {
        Self::Known(Some(text.to_owned()))
    }
}

/// What a key holds, as text.
async fn shown(f: &Fixture, key: &str) -> Outcome<Option<String>> {
    let Some(found) = f.get(key).await? else { return Ok(None) };
    let text = found.decode::<String>().or_else(|_| found.decode::<i64>().map(|n| n.to_string()));
    Ok(Some(text?))
}

/// Puts a text, a number, a counter or nothing under each key.
async fn prepare(f: &Fixture, turn: &Turn, random: &mut fastrand::Rng) -> Outcome {
    for key in &turn.keys {
        match random.u8(..4) {
            0 => f.put(key, "older").await?,
            1 => f.put(key, 7i64).await?,
            2 if f.suite.offers(Verb::Incr) => drop(f.incr(key, 5, LONG).await?),
            _ => {}
        }
    }
    Ok(())
}

/// A write or a removal, by a verb that goes with `number`.
fn earlier<'f>(
    f: &'f Fixture,
    turn: &'f Turn,
    entries: &'f [Entry<'f>],
    names: &'f [&'f str],
    number: usize,
) -> BoxFuture<'f, ()> {
    let (key, value) = (&*turn.keys[0], || CacheValue::new("dropped"));
    match number % 14 {
        0 => f.set(key, value(), LONG).map(drop).boxed(),
        1 => f.remove(key).map(drop).boxed(),
        2 => f.add(key, value(), LONG).map(drop).boxed(),
        3 => f.replace(key, value(), LONG).map(drop).boxed(),
        4 => f.take(key).map(drop).boxed(),
        5 => f.set_many(entries).map(drop).boxed(),
        6 => f.remove_many(names).map(drop).boxed(),
        7 => f.clear(&turn.prefix).map(drop).boxed(),
        8 => f.incr(key, 1, LONG).map(drop).boxed(),
        9 => f.touch(key, GONE).map(drop).boxed(),
        10 => f.update_timeout(key, GONE).map(drop).boxed(),
        11 => f.set(key, value(), GONE).map(drop).boxed(),
        12 => f.clear(key).map(drop).boxed(),
        _ => f.set_many(&entries[..1]).map(drop).boxed(),
    }
}

/// Begins a call and drops it: after one look, after some, or after some milliseconds.
async fn begin_and_drop(call: BoxFuture<'_, ()>, random: &mut fastrand::Rng) {
    match random.u8(..3) {
        0 => drop(call.now_or_never()),
        1 => {
            let some_looks = async {
                for _ in 0..random.u8(1..40) {
                    yield_now().await;
                }
            };
            drop(select(call, pin!(some_looks)).await);
        }
        _ => {
            let in_flight = Duration::from_millis(random.u64(1..30));
            let _dropped = tokio::time::timeout(in_flight, call).await;
        }
    }
}

/// A write or a removal of one key that is waited for.
async fn later(f: &Fixture, key: &str, random: &mut fastrand::Rng) -> Outcome<Left> {
    let value = || CacheValue::new("later");
    let left = match random.u8(..12) {
        0 => f.remove(key).await.map(|_| Left::Known(None)),
        1 => f.clear(key).await.map(|()| Left::Known(None)),
        2 => {
            f.put_many(&[Entry::new(key, value(), LONG)]).await?;
            Ok(Left::text("later"))
        }
        3 => f.put(key, 11i64).await.map(|()| Left::text("11")),
        4 => f
            .add(key, value(), LONG)
            .await
            .map(|added| if added { Left::text("later") } else { Left::AsItWas }),
        5 => f
            .replace(key, value(), LONG)
            .await
            .map(|replaced| if replaced { Left::text("later") } else { Left::Nothing }),
        6 => f.take(key).await.map(|_| Left::Known(None)),
        7 => f.touch(key, LONG).await.map(
            |touched| {
                if touched { Left::AsItWas } else { Left::Nothing }
            },
        ),
        8 | 9 => match f.incr(key, 1, LONG).await {
            Ok(sum) => Ok(Left::text(&sum.to_string())),
            Err(error) if error.kind() == ErrorKind::NotANumber => Ok(Left::AsItWas),
            Err(error) => Err(error),
        },
        _ => f.put(key, "later").await.map(|()| Left::text("later")),
    };
    match left {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            Ok(f.put(key, "later").await.map(|()| Left::text("later"))?)
        }
        left => Ok(left?),
    }
}

pub(crate) async fn later_writes_win(f: &Fixture) -> Outcome {
    let seed = model::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut expected = Vec::new();
    for number in 0..TURNS {
        let turn = Turn::new(number);
        prepare(f, &turn, &mut random).await?;
        let (entries, names) = (turn.entries("dropped"), turn.names());
        begin_and_drop(earlier(f, &turn, &entries, &names, number), &mut random).await;
        for key in &turn.keys {
            let left = later(f, key, &mut random).await?;
            let there = shown(f, key).await?;
            match left {
                Left::Nothing => continue,
                Left::AsItWas => {}
                Left::Known(left) => {
                    check_eq!(there, left, "seed {seed}: {key:?} after the later one");
                }
            }
            expected.push((key.clone(), there));
        }
    }
    // A call that is still in flight has very probably taken effect by then.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for (key, left) in expected {
        check_eq!(shown(f, &key).await?, left, "seed {seed}: {key:?} in the end");
    }
    Ok(())
}
