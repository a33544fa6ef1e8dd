//! Random operations against a map that is known to be right.

use super::*;
use std::collections::BTreeMap;

const OPERATIONS: usize = 1_000;
const KEYS: [&str; 14] =
    ["a", "b", "a:b", "a:c", "a b", "A", "%", "_", "*", "\r\n", "清", "\0", "a\0", "l:l:l"];
const PREFIXES: [&str; 5] = ["a:", "l:", "%:", "l:l:", ""];

/// The seed of this run: `LARDER_SEED`, or a new one. Every failure prints it.
pub(super) fn seed() -> u64 {
    std::env::var("LARDER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..))
}

#[derive(Clone, Debug, PartialEq)]
enum Known {
    Text(String),
    Number(i64),
}

struct Model {
    entries: BTreeMap<String, (Known, bool)>,
    random: fastrand::Rng,
}

impl Model {
    fn key(&mut self) -> &'static str {
        KEYS[self.random.usize(..KEYS.len())]
    }

    fn known(&mut self) -> Known {
        match self.random.u8(..3) {
            0 => Known::Text((0..self.random.usize(..60)).map(|_| self.random.char(..)).collect()),
            1 => Known::Number(self.random.i64(..)),
            _ => Known::Number(self.random.i64(-20..20)),
        }
    }

    /// A random lifetime that outlasts the run, or zero in one of eight cases. `Some(true)` means
    /// for ever, `None` zero.
    fn expiry(&mut self) -> (Expiry, Option<bool>) {
        match self.random.u8(..8) {
            0 => (Duration::ZERO.into(), None),
            1..=3 => (Expiry::Never, Some(true)),
            _ => ((90 * DAY).into(), Some(false)),
        }
    }

    fn store(&mut self, key: &str, value: Known, lasting: Option<bool>) {
        match lasting {
            Some(for_ever) => drop(self.entries.insert(key.to_owned(), (value, for_ever))),
            None => drop(self.entries.remove(key)),
        }
    }

    fn value(&self, key: &str) -> Option<Known> {
        self.entries.get(key).map(|(value, _)| value.clone())
    }

    fn expiry_of(&self, key: &str) -> Option<bool> {
        self.entries.get(key).map(|(_, for_ever)| *for_ever)
    }
}

fn carried(value: &Known) -> CacheValue {
    match value {
        Known::Text(text) => CacheValue::new(text.clone()),
        Known::Number(number) => CacheValue::new(*number),
    }
}

/// Reads a found value as the type that the model expects. A mismatch is returned as the other
/// type.
fn seen(found: Option<CacheValue>, expected: Option<&Known>) -> Outcome<Option<Known>> {
    let Some(found) = found else { return Ok(None) };
    Ok(Some(match expected {
        Some(Known::Text(_)) => Known::Text(found.decode()?),
        _ => Known::Number(found.decode()?),
    }))
}

pub(crate) async fn random_operations(f: &Fixture) -> Outcome {
    let seed = seed();
    let mut model = Model { entries: BTreeMap::new(), random: fastrand::Rng::with_seed(seed) };
    for number in 0..OPERATIONS {
        let verb = Verb::ALL[model.random.usize(..Verb::ALL.len())];
        if !f.suite.offers(verb) {
            continue;
        }
        let done = match verb {
            Verb::Get | Verb::Contains | Verb::Expiry | Verb::GetMany => {
                look(f, &mut model, verb).await
            }
            Verb::Set | Verb::Add | Verb::Replace | Verb::SetMany => {
                write(f, &mut model, verb).await
            }
            Verb::Incr => incr(f, &mut model).await,
            Verb::Touch | Verb::UpdateTimeout => renew(f, &mut model, verb).await,
            Verb::Remove | Verb::Take | Verb::RemoveMany => remove(f, &mut model, verb).await,
            Verb::Clear if model.random.u8(..4) == 0 => clear(f, &mut model).await,
            _ => Ok(()),
        };
        done.map_err(|failure| {
            failure.prefixed(format_args!("LARDER_SEED={seed}, operation {number}"))
        })?;
    }
    for key in KEYS {
        let known = model.value(key);
        let found = seen(f.get(key).await?, known.as_ref())?;
        check_eq!(found, known, "LARDER_SEED={seed}: {key:?} in the end");
    }
    Ok(())
}

async fn look(f: &Fixture, model: &mut Model, verb: Verb) -> Outcome {
    let key = model.key();
    let known = model.value(key);
    match verb {
        Verb::Get => check_eq!(seen(f.get(key).await?, known.as_ref())?, known, "get of {key:?}"),
        Verb::Contains => check_eq!(f.contains(key).await?, known.is_some(), "contains of {key:?}"),
        Verb::Expiry => {
            let found = f.expiry(key).await?.map(|expiry| expiry == Expiry::Never);
            check_eq!(found, model.expiry_of(key), "whether {key:?} never expires");
        }
        _ => {
            let keys: Vec<&str> = (0..model.random.usize(..6)).map(|_| model.key()).collect();
            let found = f.get_many(&keys).await?;
            check_eq!(found.len(), keys.len(), "results of get_many of {keys:?}");
            for (key, found) in keys.iter().zip(found) {
                let known = model.value(key);
                check_eq!(seen(found?, known.as_ref())?, known, "get_many of {key:?}");
            }
        }
    }
    Ok(())
}

async fn write(f: &Fixture, model: &mut Model, verb: Verb) -> Outcome {
    let (key, value, (expiry, lasting)) = (model.key(), model.known(), model.expiry());
    let live = model.value(key).is_some();
    let writes = match verb {
        Verb::Add => !live,
        Verb::Replace => live,
        _ => true,
    };
    match verb {
        Verb::Set => f.set(key, carried(&value), expiry).await?,
        Verb::Add => {
            check_eq!(f.add(key, carried(&value), expiry).await?, writes, "add of {key:?}")
        }
        Verb::Replace => {
            check_eq!(f.replace(key, carried(&value), expiry).await?, writes, "replace of {key:?}")
        }
        _ => {
            let other = model.key();
            f.put_many(&[
                Entry::new(other, carried(&value), expiry),
                Entry::new(key, carried(&value), expiry),
            ])
            .await?;
            model.store(other, value.clone(), lasting);
        }
    }
    if writes {
        model.store(key, value, lasting);
    }
    Ok(())
}

async fn incr(f: &Fixture, model: &mut Model) -> Outcome {
    let (key, (expiry, lasting)) = (model.key(), model.expiry());
    let by = if model.random.bool() { model.random.i64(-10..10) } else { model.random.i64(..) };
    match model.value(key) {
        Some(Known::Text(_)) if f.suite.codec == Codec::Raw => {}
        Some(Known::Text(_)) => check_kind!(
            f.incr(key, by, expiry).await,
            ErrorKind::NotANumber,
            "incr of {key:?}, a text"
        ),
        Some(Known::Number(old)) => match old.checked_add(by) {
            None => check_kind!(
                f.incr(key, by, expiry).await,
                ErrorKind::Overflow,
                "incr of {key:?}, {old} by {by}"
            ),
            Some(sum) => {
                check_eq!(f.incr(key, by, expiry).await?, sum, "incr of {key:?}, {old} by {by}");
                model.store(key, Known::Number(sum), model.expiry_of(key));
            }
        },
        None => {
            check_eq!(f.incr(key, by, expiry).await?, by, "incr of {key:?}, which is missing");
            model.store(key, Known::Number(by), lasting);
        }
    }
    Ok(())
}

async fn renew(f: &Fixture, model: &mut Model, verb: Verb) -> Outcome {
    let (key, (expiry, lasting)) = (model.key(), model.expiry());
    let known = model.value(key);
    if verb == Verb::Touch {
        check_eq!(f.touch(key, expiry).await?, known.is_some(), "touch of {key:?}");
    } else {
        check_eq!(
            seen(f.update_timeout(key, expiry).await?, known.as_ref())?,
            known,
            "update_timeout of {key:?}"
        );
    }
    if let Some(known) = known {
        model.store(key, known, lasting);
    }
    Ok(())
}

async fn remove(f: &Fixture, model: &mut Model, verb: Verb) -> Outcome {
    let key = model.key();
    let known = model.value(key);
    match verb {
        Verb::Remove => check_eq!(f.remove(key).await?, known.is_some(), "remove of {key:?}"),
        Verb::Take => {
            check_eq!(seen(f.take(key).await?, known.as_ref())?, known, "take of {key:?}")
        }
        _ => {
            let removed = f
                .remove_many(&[key])
                .await?
                .into_iter()
                .collect::<crate::error::Result<Vec<_>>>()?;
            check_eq!(removed, [known.is_some()], "remove_many of {key:?}");
        }
    }
    model.entries.remove(key);
    Ok(())
}

async fn clear(f: &Fixture, model: &mut Model) -> Outcome {
    let prefix = PREFIXES[model.random.usize(..PREFIXES.len())];
    f.clear(prefix).await?;
    model.entries.retain(|key, _| !key.starts_with(prefix));
    Ok(())
}
