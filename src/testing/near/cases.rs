//! The cases. The table has the name and the description of each.

use super::level::Level;
use super::nodes::{Nodes, PATIENCE, PAUSE};
use crate::adapter::{AsyncCacheAdapter, Entry};
use crate::error::Result;
use crate::expiry::Expiry;
use crate::testing::cases::keys;
use crate::testing::harness::{Failure, Outcome, check};
use crate::value::CacheValue;
use futures_util::future::BoxFuture;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: Expiry = Expiry::After(Duration::from_secs(1_000));

fn value(text: &str) -> CacheValue {
    CacheValue::new(text.to_owned())
}

/// How a client changes the entry `k`.
type Change = (&'static str, fn(Arc<dyn AsyncCacheAdapter>) -> BoxFuture<'static, Result<()>>);

macro_rules! changes {
    ($($verb:ident($($argument:expr),*),)*) => {
        [$((stringify!($verb), |client| {
            Box::pin(async move { client.$verb("k", $($argument),*).await.map(drop) })
        })),*]
    };
}

/// Every verb of one key that changes what is there.
static CHANGES: [Change; 7] = changes! {
    set(value("set"), Expiry::Never),
    replace(value("replaced"), Expiry::Never),
    touch(LONG),
    update_timeout(LONG),
    remove(),
    take(),
    set(value("short"), Expiry::After(Duration::ZERO)),
};

pub(super) async fn answers_name_a_source(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    nodes.put("k", "text").await?;
    nodes.vouched("k", "text").await?;
    check!(nodes.read("missing").await?.is_none(), "what was never written is found");
    Ok(())
}

pub(super) async fn nobody_vouches_unfollowed(nodes: Nodes) -> Outcome {
    nodes.put("k", "text").await?;
    for client in [&nodes.near, &nodes.other] {
        unvouched(client, "a source vouches, and for whom?").await?;
    }
    nodes.follow()?;
    nodes.vouched("k", "text").await?;
    unvouched(&nodes.other, "a client that nobody follows names a source").await
}

/// Checks that a client finds the entry `k`, and names no source.
async fn unvouched(client: &Arc<dyn AsyncCacheAdapter>, otherwise: &str) -> Outcome {
    let found = client.get_near("k").await?;
    check!(found.is_some_and(|found| found.source.is_none()), "{otherwise}");
    Ok(())
}

pub(super) async fn nobody_vouches_without_a_source(nodes: Nodes) -> Outcome {
    let nodes = Nodes { level: Level::without_sources(), ..nodes };
    nodes.follow()?;
    for text in ["first", "second"] {
        nodes.put("k", text).await?;
        unvouched(&nodes.near, "an answer names a source that was never opened").await?;
    }
    Ok(())
}

pub(super) async fn proofs_come_when_wanted(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    nodes.put("k", "text").await?;
    let source = nodes.vouched("k", "text").await?;
    for _ in 0..5 {
        // A change of nothing: what counts is the time.
        let Some(now) = nodes.change(&[], async { Ok(()) }).await? else { continue };
        nodes.proven(source, now).await?;
    }
    Ok(())
}

pub(super) async fn changes_of_others_are_told(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    let other = nodes.other.clone();
    are_told(&nodes, &other).await
}

pub(super) async fn own_changes_are_told(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    let near = nodes.near.clone();
    are_told(&nodes, &near).await
}

async fn are_told(nodes: &Nodes, client: &Arc<dyn AsyncCacheAdapter>) -> Outcome {
    for (verb, change) in CHANGES {
        nodes.put("k", "text").await?;
        let source = nodes.vouched("k", "text").await?;
        let Some(at) = nodes.change(&["k"], change(client.clone())).await? else { continue };
        nodes.proven(source, at).await.map_err(|failure| failure.prefixed(verb))?;
    }
    // A counter, which is text.
    client.set("n", CacheValue::new(1), Expiry::Never).await?;
    let incr = async || client.incr("n", 1, Expiry::Never).await;
    if nodes.change(&["n"], incr()).await?.is_some() {
        let source = counted(nodes, 2).await?;
        let Some(at) = nodes.change(&["n"], incr()).await? else { return Ok(()) };
        nodes.proven(source, at).await.map_err(|failure| failure.prefixed("incr"))?;
        counted(nodes, 3).await?;
    }
    Ok(())
}

/// Reads the counter until a source vouches for it.
async fn counted(nodes: &Nodes, expected: i64) -> Outcome<u16> {
    let begun = Instant::now();
    loop {
        if let Some((entry, Some(source))) = nodes.read("n").await? {
            let found: i64 = entry.value.decode()?;
            check!(found == expected, "a counter is {found} instead of {expected}");
            return Ok(source);
        }
        check!(begun.elapsed() < PATIENCE, "no source vouches for a counter");
        tokio::time::sleep(PAUSE).await;
    }
}

pub(super) async fn clears_are_told(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    for client in [&nodes.other, &nodes.near] {
        for (prefix, stays) in [("users:", true), ("", false)] {
            nodes.put("users:7", "text").await?;
            nodes.put("user", "text").await?;
            let source = nodes.vouched("users:7", "text").await?;
            let same = nodes.vouched("user", "text").await?;
            let gone: &[&str] = if stays { &["users:7"] } else { &["users:7", "user"] };
            let Some(at) = nodes.change(gone, client.clear(prefix)).await? else { continue };
            nodes.proven(source, at).await?;
            nodes.proven(same, at).await?;
            check!(nodes.read("users:7").await?.is_none(), "it is there after `clear({prefix:?})`");
            check!(
                nodes.read("user").await?.is_some() == stays,
                "`clear({prefix:?})` clears something else"
            );
        }
    }
    Ok(())
}

pub(super) async fn batches_are_told(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    let keys: Vec<String> = (0..40).map(|number| format!("k{number}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let set = async |client: &Arc<dyn AsyncCacheAdapter>, text: &str| {
        let entries: Vec<_> =
            names.iter().map(|key| Entry::new(key, value(text), Expiry::Never)).collect();
        client.set_many(&entries).await?.into_iter().collect::<Result<()>>()
    };
    set(&nodes.other, "old").await?;
    nodes.vouched(&keys[0], "old").await?;
    for client in [&nodes.other, &nodes.near] {
        for removes in [false, true] {
            set(client, "old").await?;
            let asked = nodes.level.asks();
            let mut sources = Vec::new();
            for (key, entry) in names.iter().zip(nodes.near.get_many_near(&names).await?) {
                let Some(entry) = entry? else {
                    check!(false, "{key:?} is missing in a batch");
                    continue;
                };
                sources.extend(nodes.noted(key, (asked, asked), &entry)?);
            }
            let change = async {
                if removes {
                    return client.remove_many(&names).await.map(drop);
                }
                set(client, "new").await
            };
            let Some(at) = nodes.change(&names, change).await? else { continue };
            sources.dedup();
            for source in sources {
                nodes.proven(source, at).await?;
            }
        }
    }
    Ok(())
}

pub(super) async fn changes_are_told_again(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    nodes.put("k", "0").await?;
    for number in 1..=20 {
        let source = nodes.vouched("k", &(number - 1).to_string()).await?;
        let next = nodes.other.set("k", value(&number.to_string()), Expiry::Never);
        let Some(at) = nodes.change(&["k"], next).await? else { continue };
        nodes.proven(source, at).await?;
    }
    Ok(())
}

pub(super) async fn keys_are_told_as_they_are(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    let keys = keys::hostile();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut last = None;
    for key in &names {
        nodes.put(key, key).await?;
        let source = nodes.vouched(key, key).await?;
        let removed = nodes.other.remove(key);
        if let Some(at) = nodes.change(&[key], removed).await? {
            last = Some((source, at));
        }
    }
    // Proofs come in order: one for the last change is one for all.
    let Some((source, at)) = last else { return Ok(()) };
    nodes.proven(source, at).await
}

pub(super) async fn changes_amid_reads_are_told(nodes: Nodes) -> Outcome {
    static KEYS: [&str; 4] = ["a", "b", "c", "d"];
    nodes.follow()?;
    for key in KEYS {
        nodes.put(key, "0").await?;
        nodes.vouched(key, "0").await?;
    }
    let until = Instant::now() + Duration::from_millis(500);
    // Each key has one writer, whose numbers say which of two values is the newer.
    let writer = |client: Arc<dyn AsyncCacheAdapter>, keys: &'static [&'static str]| {
        let nodes = nodes.clone();
        crate::runtime::spawn(async move {
            for version in 1.. {
                if Instant::now() >= until {
                    break;
                }
                for key in keys {
                    client.set(key, value(&version.to_string()), Expiry::Never).await?;
                    nodes.level.changed(&[key], version);
                }
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..8))).await;
            }
            Outcome::Ok(())
        })
    };
    let reader = || {
        let nodes = nodes.clone();
        crate::runtime::spawn(async move {
            while Instant::now() < until {
                let key = KEYS[fastrand::usize(..KEYS.len())];
                let asked = nodes.level.asks();
                if let Some(entry) = nodes.near.get_near(key).await? {
                    let version = entry.value.decode::<String>()?.parse().unwrap_or(0);
                    nodes.noted(key, (asked, version), &entry)?;
                }
                nodes.level.want();
                tokio::time::sleep(Duration::from_micros(fastrand::u64(..2_000))).await;
            }
            Outcome::Ok(())
        })
    };
    let (others, own) = KEYS.split_at(2);
    let tasks = [
        writer(nodes.other.clone(), others),
        writer(nodes.near.clone(), own),
        reader(),
        reader(),
        reader(),
    ];
    for task in tasks {
        task.await.map_err(|gone| Failure::new(gone, Location::caller()))??;
    }
    nodes.check_proofs()
}

pub(super) async fn close_proves_nothing(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    for round in 0..3 {
        let text = format!("text {round}");
        nodes.put("k", &text).await?;
        nodes.put("other", &text).await?;
        nodes.vouched("k", &text).await?;
        nodes.near.close().await?;
        nodes.change(&["k"], nodes.other.set("k", value("changed"), Expiry::Never)).await?;
        // Opened again by the next call: the proofs of the new source say nothing of the old one.
        let source = nodes.vouched("other", &text).await?;
        let now = nodes.change(&[], async { Ok(()) }).await?;
        if let Some(now) = now {
            nodes.proven(source, now).await?;
        }
        nodes.vouched("k", "changed").await?;
    }
    nodes.check_proofs()
}

pub(super) async fn sources_end_with_the_adapter(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    nodes.put("k", "text").await?;
    nodes.vouched("k", "text").await?;
    let Nodes { near, other, level } = nodes;
    drop(near);
    let left = Nodes { near: other.clone(), other, level };
    left.eventually(|| left.level.open() == 0, "an end of the sources of what was dropped").await
}

pub(super) async fn outlives_its_near_level(nodes: Nodes) -> Outcome {
    nodes.follow()?;
    nodes.put("k", "first").await?;
    nodes.vouched("k", "first").await?;
    let Nodes { near, other, level } = nodes;
    drop(level);
    for text in ["second", "third"] {
        other.set("k", value(text), Expiry::Never).await?;
        let found = near.get_near("k").await?;
        let found = found.map(|found| found.value.decode::<String>()).transpose()?;
        check!(found.as_deref() == Some(text), "{found:?} is read instead of {text:?}");
    }
    // And another near level can follow.
    let nodes = Nodes { near, other, level: Level::new() };
    nodes.follow()?;
    nodes.vouched("k", "third").await?;
    Ok(())
}
