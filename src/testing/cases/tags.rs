//! Values with tags: the adapter keeps the tags, and the cache reads their records.

use super::*;
use crate::adapter::Presence;
use crate::clock;
use crate::codec::{Tag, Tags};
use crate::meta::Meta;

/// A value with tags whose logical end, if any, is `end_ms` milliseconds away.
fn tagged(value: u64, end_ms: Option<i64>) -> Outcome<CacheValue> {
    let mut meta = Meta::default();
    if let Some(end_ms) = end_ms {
        meta.end_at(clock::now_ms().saturating_add_signed(end_ms));
        meta.keep_stale();
    }
    Ok(CacheValue::known(value, meta).tagged(tags()?))
}

fn tags() -> Outcome<Tags> {
    let tag = |name: &str, generation| Tag {
        record: crate::key::record_key("ns:", name).into(),
        generation,
    };
    let tags = Tags::new("ns:", vec![tag("user:7", 7), tag("\u{df}\0", u64::MAX)]);
    tags.ok_or_else(|| Failure::new("tags that are too long", Location::caller()))
}

/// Stores a value with tags. Returns `None` for a store that cannot note them, after checking that a
/// codec without a header refuses them.
async fn keep(f: &Fixture, key: &str) -> Outcome<Option<()>> {
    let stored = f.set(key, tagged(5, None)?, LONG).await;
    if f.suite.codec != Codec::MessagePack {
        check_kind!(stored, ErrorKind::Unsupported, "a value with tags under a plain codec");
        check!(f.get(key).await?.is_none(), "a value with tags that was refused is stored");
        return Ok(None);
    }
    stored?;
    // The cache gives no tags to what it stores where nothing can be noted beside a value.
    Ok(f.has_logical_ends().then_some(()))
}

async fn check_tags(f: &Fixture, key: &str, what: &str) -> Outcome {
    let Some(found) = f.get(key).await? else {
        return Err(Failure::new(format_args!("nothing after {what}"), Location::caller()));
    };
    check_eq!(found.tags(), Some(&tags()?), "the tags after {what}");
    check_eq!(found.decode::<u64>()?, 5, "the value after {what}");
    Ok(())
}

pub(crate) async fn are_read_back(f: &Fixture) -> Outcome {
    let Some(()) = keep(f, "set").await? else { return Ok(()) };
    check_tags(f, "set", "set").await?;
    let [one, two] = [tagged(5, None)?, tagged(5, None)?];
    f.put_many(&[Entry::new("one", one, LONG), Entry::new("two", two, LONG)]).await?;
    check_tags(f, "two", "set_many").await?;
    let found = f.get_many(&["one", "none", "two"]).await?;
    for (at, expected) in [(0, Some(tags()?)), (1, None), (2, Some(tags()?))] {
        let tags = found[at].as_ref().ok().and_then(|found| found.as_ref()?.tags().cloned());
        check_eq!(tags, expected, "the tags of place {at} of get_many");
    }
    if f.offers(Verb::Add).await? {
        check!(f.add("add", tagged(5, None)?, LONG).await?, "add of a missing key");
        check_tags(f, "add", "add").await?;
    }
    if f.offers(Verb::Replace).await? {
        f.put("replace", 1u64).await?;
        check!(f.replace("replace", tagged(5, None)?, LONG).await?, "replace of a live key");
        check_tags(f, "replace", "replace").await?;
    }
    if let Some(claim) = f.claim("claimed", None).await? {
        check!(f.set_claimed("claimed", tagged(5, None)?, LONG, &claim).await?, "set_claimed");
        check_tags(f, "claimed", "set_claimed").await?;
    }
    Ok(())
}

pub(crate) async fn presence_is_tagged(f: &Fixture) -> Outcome {
    let Some(()) = keep(f, "k").await? else { return Ok(()) };
    check_eq!(f.presence("k").await?, Presence::Tagged, "of a value with tags");
    for (key, end) in [("kept", 30_000), ("stale", -1_000)] {
        f.set(key, tagged(5, Some(end))?, LONG).await?;
        check_eq!(f.presence(key).await?, Presence::Tagged, "of a value with tags, {key}");
        check_eq!(f.remove(key).await?, key == "kept", "remove of one that is {key}");
    }
    check_eq!(f.presence("none").await?, Presence::Missing, "of a missing key");
    Ok(())
}

pub(crate) async fn presence_in_batches(f: &Fixture) -> Outcome {
    f.put("plain", 5u64).await?;
    f.put("empty", "").await?;
    f.put("with a\0zero", 5u64).await?;
    if let Some(()) = keep(f, "tagged").await? {
        for (key, end) in [("kept", 30_000), ("stale", -1_000)] {
            f.set(key, tagged(5, Some(end))?, LONG).await?;
            super::stale::keep(f, &format!("{key} untagged"), 5, end).await?;
        }
    }
    let some = ["none", "tagged", "plain", "stale", "tagged", "kept", "empty", "with a\0zero"];
    let some = some.into_iter().chain(["stale untagged", "kept untagged"]);
    let many: Vec<String> = (0..3_000).map(|number| format!("missing {number}")).collect();
    let keys: Vec<&str> = many.iter().map(String::as_str).chain(some).collect();
    let answers = f.presence_many(&keys).await?;
    check_eq!(answers.len(), keys.len(), "one answer for each key");
    for (key, answer) in keys.iter().zip(answers).skip(many.len() - 1) {
        let (alone, together) = (f.presence(key).await?, answer?);
        let agree = match (alone, together) {
            // The rest of its life is asked for at two times.
            (Presence::Kept(_), Presence::Kept(_)) => true,
            (alone, together) => alone == together,
        };
        check!(agree, "of {key:?}: {together:?} in a batch, {alone:?} alone");
    }
    check_eq!(f.presence_many(&[]).await?.len(), 0, "of no keys");
    check_kind!(f.presence_many(&["plain", ""]).await, ErrorKind::InvalidKey, "the empty key");
    Ok(())
}

pub(crate) async fn stay_through_touch(f: &Fixture) -> Outcome {
    let Some(()) = keep(f, "k").await? else { return Ok(()) };
    check!(f.touch("k", LONG).await?, "touch of a value with tags");
    check_tags(f, "k", "touch").await?;
    let found = f.update_timeout("k", LONG).await?;
    check_eq!(found.and_then(|found| found.tags().cloned()), Some(tags()?), "update_timeout");
    check_tags(f, "k", "update_timeout").await
}

pub(crate) async fn incr_is_refused(f: &Fixture) -> Outcome {
    let Some(()) = keep(f, "k").await? else { return Ok(()) };
    check_kind!(f.incr("k", 1, LONG).await, ErrorKind::Unsupported, "incr of a tagged number");
    check_tags(f, "k", "a refused incr").await
}

pub(crate) async fn take_gives_them(f: &Fixture) -> Outcome {
    let Some(()) = keep(f, "k").await? else { return Ok(()) };
    let taken = f.take("k").await?;
    check_eq!(taken.and_then(|taken| taken.tags().cloned()), Some(tags()?), "of what was taken");
    check!(f.get("k").await?.is_none(), "take leaves a value with tags");
    Ok(())
}

pub(crate) async fn an_untagged_write_drops_them(f: &Fixture) -> Outcome {
    let Some(()) = keep(f, "k").await? else { return Ok(()) };
    f.put("k", 5u64).await?;
    check!(f.get("k").await?.is_some_and(|found| found.tags().is_none()), "tags are left");
    check_eq!(f.presence("k").await?, Presence::Live, "of a value that has no tags any more");
    Ok(())
}
