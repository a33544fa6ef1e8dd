//! Claims of many keys: `get_or_claim_many` and `set_claimed_many`.

use super::*;
use crate::adapter::{ClaimedEntry, FoundOrClaimed};
use crate::testing::cases::keys;

fn entry<'a>(key: &'a str, value: CacheValue, claim: &'a Claim) -> ClaimedEntry<'a> {
    ClaimedEntry::new(Entry::new(key, value, LONG), claim)
}

/// The claims of keys of which none has a value. A key that comes without a claim is claimed by
/// itself.
async fn claim_all(f: &Fixture, keys: &[&str]) -> Outcome<Vec<Claim>> {
    let found = f.get_or_claim_many(keys).await?;
    check_eq!(found.len(), keys.len(), "the number of answers of get_or_claim_many");
    let mut claims = Vec::new();
    for (key, found) in keys.iter().zip(found) {
        claims.push(match found? {
            FoundOrClaimed::Claimed(claim) => claim,
            FoundOrClaimed::Missing => claimed(f, key, None).await?,
            FoundOrClaimed::Found(_) => {
                check!(false, "get_or_claim_many finds a value under {key:?}, which is missing");
                return Ok(claims);
            }
        });
    }
    Ok(claims)
}

pub(crate) async fn batches_read_or_claim(f: &Fixture) -> Outcome {
    check_eq!(f.get_or_claim_many(&[]).await?.len(), 0, "get_or_claim_many of nothing");
    check_eq!(f.set_claimed_many(&[]).await?.len(), 0, "set_claimed_many of nothing");
    // More than one step of any store.
    let keys: Vec<String> = (0..1_203).map(|number| format!("k{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let is_live = |at: usize| at.is_multiple_of(3);
    let live = (0..keys.len()).filter(|at| is_live(*at));
    let live: Vec<_> = live.map(|at| Entry::new(keys[at], CacheValue::new(at), LONG)).collect();
    f.put_many(&live).await?;
    let found = f.get_or_claim_many(&keys).await?;
    check_eq!(found.len(), keys.len(), "the number of answers of get_or_claim_many");
    let mut claims = Vec::new();
    for (at, found) in found.into_iter().enumerate() {
        let (key, found) = (keys[at], found?);
        match found {
            FoundOrClaimed::Found(value) => {
                check!(is_live(at), "get_or_claim_many finds {key:?}, which is missing");
                check_eq!(value.decode::<usize>()?, at, "what get_or_claim_many finds");
            }
            FoundOrClaimed::Claimed(claim) => {
                check!(!is_live(at), "get_or_claim_many claims {key:?}, which is live");
                claims.push((at, claim));
            }
            FoundOrClaimed::Missing => {
                check!(!is_live(at), "get_or_claim_many misses {key:?}, which is live");
                claims.push((at, claimed(f, key, None).await?));
            }
        }
    }
    let entries: Vec<_> =
        claims.iter().map(|(at, claim)| entry(keys[*at], CacheValue::new(*at), claim)).collect();
    let stored = f.set_claimed_many(&entries).await?;
    check_eq!(stored.len(), entries.len(), "the number of answers of set_claimed_many");
    for stored in stored {
        check_eq!(stored?, true, "set_claimed_many of a key that has not changed");
    }
    for (at, found) in f.get_many(&keys).await?.into_iter().enumerate() {
        check_eq!(decoded::<usize>(found?)?, Some(at), "the value of {} in the end", keys[at]);
    }
    Ok(())
}

pub(crate) async fn batches_lose_to_changes(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    let keys = ["a", "written", "b", "removed", "c"];
    let claims = claim_all(f, &keys).await?;
    f.put("written", "newer").await?;
    f.remove("removed").await?;
    let entries = keys.iter().zip(&claims);
    let entries: Vec<_> =
        entries.map(|(key, claim)| entry(key, CacheValue::new("loaded"), claim)).collect();
    let mut held = Vec::new();
    for stored in f.set_claimed_many(&entries).await? {
        held.push(stored?);
    }
    check_eq!(held, [true, false, true, false, true], "set_claimed_many after two changes");
    let left = f.texts(&keys).await?;
    let expected = [Some("loaded"), Some("newer"), Some("loaded"), None, Some("loaded")];
    check_eq!(left, expected.map(|text| text.map(str::to_owned)), "the values in the end");
    let claims = claim_all(f, &["d", "e"]).await?;
    f.clear("").await?;
    let entries = [
        entry("d", CacheValue::new("late"), &claims[0]),
        entry("e", CacheValue::new("late"), &claims[1]),
    ];
    for stored in f.set_claimed_many(&entries).await? {
        check_eq!(stored?, false, "set_claimed_many after a clear");
    }
    check_eq!(f.texts(&["d", "e"]).await?, [None, None], "cleared keys after set_claimed_many");
    Ok(())
}

pub(crate) async fn batches_fail_key_by_key(f: &Fixture) -> Outcome {
    let keys = ["good", "odd", "brief", "large", "last"];
    let claims = claim_all(f, &keys).await?;
    let unwritable = CacheValue::new(std::collections::HashMap::from([(vec![1u8], f64::NAN)]));
    let large = CacheValue::new("x".repeat(300_000));
    let mut entries = vec![
        entry("good", CacheValue::new("v"), &claims[0]),
        entry("odd", unwritable, &claims[1]),
        entry("brief", CacheValue::new("v"), &claims[2]),
        entry("large", large, &claims[3]),
        entry("last", CacheValue::new("v"), &claims[4]),
    ];
    entries[2].entry.expiry = Duration::ZERO.into();
    let stored = f.set_claimed_many(&entries).await?;
    check_eq!(stored.len(), keys.len(), "the number of answers of set_claimed_many");
    for (key, stored) in keys.iter().zip(stored) {
        match (*key, stored) {
            ("odd", Err(error)) => {
                check_kind!(Err::<(), _>(error), ErrorKind::Encode, "an odd value in a batch");
            }
            ("large", Err(error)) => {
                check_kind!(Err::<(), _>(error), ErrorKind::TooLarge, "a large value in a batch");
            }
            (key, stored) => check_eq!(stored?, true, "set_claimed_many of {key:?}"),
        }
    }
    let small = f.texts(&["good", "brief", "last"]).await?;
    let expected = [Some("v"), None, Some("v")].map(|text| text.map(str::to_owned));
    check_eq!(small, expected, "the others of a batch with an odd and a large value");
    check_kind!(
        f.get_or_claim_many(&["k", ""]).await,
        ErrorKind::InvalidKey,
        "get_or_claim_many with an empty key"
    );
    let entries = [
        entry("good", CacheValue::new("newer"), &claims[0]),
        entry("", CacheValue::new("newer"), &claims[0]),
    ];
    check_kind!(
        f.set_claimed_many(&entries).await,
        ErrorKind::InvalidKey,
        "set_claimed_many with an empty key"
    );
    check_eq!(f.text("good").await?.as_deref(), Some("v"), "after the refused batch");
    Ok(())
}

pub(crate) async fn batches_of_hostile_keys(f: &Fixture) -> Outcome {
    let keys = keys::hostile();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let claims = claim_all(f, &keys).await?;
    let entries: Vec<_> = keys
        .iter()
        .zip(&claims)
        .enumerate()
        .map(|(at, (key, claim))| entry(key, CacheValue::new(at), claim))
        .collect();
    for (key, stored) in keys.iter().zip(f.set_claimed_many(&entries).await?) {
        check_eq!(stored?, true, "set_claimed_many of {key:?}");
    }
    for (at, key) in keys.iter().enumerate() {
        check_eq!(f.read::<usize>(key).await?, Some(at), "the value of {key:?}");
    }
    Ok(())
}
