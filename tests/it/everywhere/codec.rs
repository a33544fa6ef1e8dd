//! A view's own codec, on stores that others write to: some keys are shared with programs in other
//! languages, over the connections of the rest.

use super::on_each_store;
use crate::claims::Shared;
use larder::{AsyncCacheWrapper, Codec, ErrorKind};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

on_each_store!(
    a_view_writes_and_reads_as_another_program_does,
    every_verb_of_a_view_has_its_codec,
    a_header_is_believed_before_the_view,
    text_is_text_and_a_counter_counts_in_either_program,
    what_cannot_be_told_apart_is_refused,
);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
}

fn ada() -> User {
    User { name: "Ada".to_owned(), age: 36 }
}

const ADA: &str = r#"{"name":"Ada","age":36}"#;

async fn text(other: &AsyncCacheWrapper, key: &str) -> Option<String> {
    other.get::<String>(key).await.unwrap()
}

async fn a_view_writes_and_reads_as_another_program_does(shared: Shared) {
    // The other program writes and reads the text itself.
    let (cache, other) = (shared.cache(), shared.with("codec=raw"));
    let json = cache.codec(Codec::Json);
    json.set("user", ada()).await.unwrap();
    assert_eq!(text(&other, "user").await.as_deref(), Some(ADA));
    other.set("theirs", r#"{ "age": 7, "name": "Grace", "more": null }"#).await.unwrap();
    let grace = User { name: "Grace".to_owned(), age: 7 };
    assert_eq!(json.get("theirs").await.unwrap(), Some(grace));
    assert_eq!(cache.get::<User>("theirs").await.unwrap(), None, "without the view it is foreign");
    assert_eq!(cache.stats().decode_errors, 1);
    let blocking = cache.blocking();
    let read = move || blocking.codec(Codec::Json).get::<User>("user").unwrap();
    assert_eq!(tokio::task::spawn_blocking(read).await.unwrap(), Some(ada()));
    other.set("user", "no JSON").await.unwrap();
    assert_eq!(json.get::<User>("user").await.unwrap_err().kind(), ErrorKind::Decode);
}

async fn every_verb_of_a_view_has_its_codec(shared: Shared) {
    let (cache, other) = (shared.cache(), shared.with("codec=raw"));
    let json = cache.ttl(HOUR).codec(Codec::Json).into_cache();
    assert!(json.add("add", ada()).await.unwrap());
    assert!(json.replace("add", ada()).await.unwrap());
    json.set_many([("many", ada()), ("more", ada())]).await.unwrap();
    json.set_each([("each", ada(), larder::Expiry::Never)]).await.unwrap();
    assert_eq!(json.get_or_set("set", ada()).await.unwrap(), ada());
    assert_eq!(json.get_or_set_with("with", |_| ada()).await.unwrap(), ada());
    assert_eq!(json.get_or_set_async("async", async { ada() }).await.unwrap(), ada());
    assert_eq!(json.get_or_load_here("here", || async { ada() }).await.unwrap(), ada());
    let leased = json.view().lease(HOUR).get_or_set_async("lease", async { ada() });
    assert_eq!(leased.await.unwrap(), ada());
    let loads = |keys: Vec<String>| async { keys.into_iter().map(|key| (key, ada())) };
    json.get_or_set_many_async(["load", "many"], loads).await.unwrap();
    let keys = ["add", "many", "more", "each", "set", "with", "async", "here", "lease", "load"];
    for key in keys {
        assert_eq!(text(&other, key).await.as_deref(), Some(ADA), "{key}");
    }

    // What the other program has written is a hit for every verb.
    let theirs = keys.map(|key| (key, r#"{"name":"Grace","age":7}"#));
    other.ttl(HOUR).set_many(theirs).await.unwrap();
    let grace = || Some(User { name: "Grace".to_owned(), age: 7 });
    assert_eq!(json.get("add").await.unwrap(), grace());
    assert_eq!(json.get_many::<User, _>(["many", "no"]).await.unwrap(), [grace(), None]);
    assert_eq!(json.get_or_set("set", ada()).await.ok(), grace());
    assert_eq!(json.get_or_set_async("async", async { ada() }).await.ok(), grace());
    assert_eq!(json.get_or_load_here("here", || async { ada() }).await.ok(), grace());
    let leased = json.view().lease(HOUR).get_or_set_async("lease", async { ada() });
    assert_eq!(leased.await.ok(), grace());
    assert_eq!(json.get_or_set_many_async(["load"], loads).await.unwrap(), [grace()]);
    assert_eq!(json.update_timeout("with", HOUR).await.ok(), grace());
    assert_eq!(json.take("each").await.unwrap(), grace());
    assert!(json.contains("more").await.unwrap() && json.remove("more").await.unwrap());
    assert_eq!(json.stats().decode_errors, 0);
}

async fn a_header_is_believed_before_the_view(shared: Shared) {
    let cache = shared.cache();
    cache.set("user", ada()).await.unwrap();
    assert_eq!(cache.codec(Codec::Json).get("user").await.unwrap(), Some(ada()));
    assert_eq!(cache.codec(Codec::Raw).get("user").await.unwrap(), Some(ada()));

    // The other way round: an adapter of plain JSON, and a view whose values have a header.
    let plain = shared.with("codec=json");
    let packed = plain.codec(Codec::MessagePack);
    packed.ttl(Duration::from_millis(1)).set("gone", f64::NAN).await.unwrap();
    packed.set("packed", vec![f64::INFINITY]).await.unwrap();
    let infinite = Some(vec![f64::INFINITY]);
    assert_eq!(plain.get("packed").await.unwrap(), infinite, "JSON has no such number");
    assert_eq!(cache.get("packed").await.unwrap(), infinite);
    plain.set("text", "plain").await.unwrap();
    assert_eq!(packed.get::<String>("text").await.unwrap().as_deref(), Some("plain"));
}

async fn text_is_text_and_a_counter_counts_in_either_program(shared: Shared) {
    let (cache, other) = (shared.cache(), shared.with("codec=raw"));
    let raw = cache.codec(Codec::Raw);
    let texts = ["42", "", "007", "null", "\u{c1}", "\r\nget x", "[1,2"];
    for odd in texts.into_iter().chain(["42 ", "7\n", "1 2 ", "3\t", "007 ", " 5", "-5 "]) {
        raw.set("text", odd).await.unwrap();
        assert_eq!(text(&other, "text").await.as_deref(), Some(odd));
        assert_eq!(raw.get::<String>("text").await.unwrap().as_deref(), Some(odd));
    }
    let bytes: Vec<u8> = (0..=255).rev().collect();
    raw.set("bytes", bytes.clone()).await.unwrap();
    assert_eq!(raw.get::<Vec<u8>>("bytes").await.unwrap(), Some(bytes));

    let json = cache.codec(Codec::Json);
    json.set("n", 40).await.unwrap();
    assert_eq!(json.incr("n", 1).await.unwrap(), 41);
    assert_eq!(other.incr("n", 1).await.unwrap(), 42);
    assert_eq!(cache.incr("n", 1).await.unwrap(), 43);
    assert_eq!(json.get::<u8>("n").await.unwrap(), Some(43));
    assert_eq!(json.get::<f64>("n").await.unwrap(), Some(43.0));
    assert_eq!(raw.get::<String>("n").await.unwrap().as_deref(), Some("43"));
    assert_eq!(cache.get::<u64>("n").await.unwrap(), Some(43));
}

async fn what_cannot_be_told_apart_is_refused(shared: Shared) {
    let (cache, other) = (shared.cache(), shared.with("codec=raw"));
    cache.set("k", 1u8).await.unwrap();
    let kinds = [
        (cache.codec(Codec::Json).set("k", f64::NAN).await, ErrorKind::Encode),
        (cache.codec(Codec::Raw).set("k", ada()).await, ErrorKind::Encode),
        (cache.codec(Codec::Raw).set("k", b"\xC1LD, and more".to_vec()).await, ErrorKind::Encode),
        (cache.codec(Codec::Json).stale_for(HOUR).set("k", 2u8).await, ErrorKind::Unsupported),
        (other.codec(Codec::MessagePack).set("k", 2u8).await, ErrorKind::Unsupported),
    ];
    for (at, (refused, kind)) in kinds.into_iter().enumerate() {
        assert_eq!(refused.unwrap_err().kind(), kind, "{at}");
    }
    assert_eq!(cache.get("k").await.unwrap(), Some(1u8), "the older value stays");
    let strict = cache.codec(Codec::Json).fail_open(false);
    let refused = strict.get_or_set("none", f64::NAN).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Encode);
    let opened = cache.codec(Codec::Json).get_or_set("none", f64::NAN).await.unwrap();
    assert!(opened.is_nan() && !cache.contains("none").await.unwrap());
}
