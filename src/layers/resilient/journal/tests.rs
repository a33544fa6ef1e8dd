use super::*;

const FOREVER: Expiry = Expiry::Never;

fn journal(entries: usize, bytes: usize) -> Journal {
    Journal::new(&Config { recovery_entries: entries, recovery_bytes: bytes, ..Config::default() })
}

fn value(text: &str) -> CacheValue {
    CacheValue::new(text.to_owned())
}

/// The keys in the order in which they are written, a removal with a minus before it.
fn order(journal: &Journal) -> Vec<String> {
    let written = |noted: Noted| match noted.write {
        Write::Set { .. } => noted.key.to_string(),
        Write::Remove => format!("-{}", noted.key),
    };
    journal.after(0, usize::MAX).into_iter().map(written).collect()
}

#[test]
fn the_latest_write_of_a_key_is_what_counts() {
    let journal = journal(10, 10_000);
    journal.set("a", value("1"), FOREVER, false);
    journal.set("b", value("2"), FOREVER, false);
    journal.remove("a", false);
    assert_eq!(order(&journal), ["b", "-a"]);
    journal.set("b", value("3"), FOREVER, false);
    assert_eq!(order(&journal), ["-a", "b"]);
    assert_eq!(journal.len(), 2);
    let seen = journal.look("b").flatten().map(|value| value.decode::<String>());
    assert_eq!(seen.and_then(Result::ok).as_deref(), Some("3"));
    assert!(matches!(journal.look("a"), Some(None)) && journal.look("c").is_none());
}

#[test]
fn what_was_noted_since_stays() {
    let journal = journal(10, 10_000);
    journal.remove("a", false);
    let begun = journal.after(0, 1).remove(0);
    journal.set("a", value("newer"), FOREVER, false);
    journal.done(&begun.key, begun.number);
    assert_eq!(order(&journal), ["a"]);
    let newer = journal.after(begun.number, 1).remove(0);
    journal.done(&newer.key, newer.number);
    assert!(journal.is_empty());
}

#[test]
fn a_lifetime_of_zero_is_a_removal() {
    let journal = journal(10, 10_000);
    journal.set("a", value("1"), Expiry::After(Duration::ZERO), false);
    journal.set("b", value("1"), Expiry::At(SystemTime::UNIX_EPOCH), false);
    assert_eq!(order(&journal), ["-a", "-b"]);
}

#[test]
fn the_oldest_gives_way_to_the_bound() {
    let journal = journal(3, 10_000);
    let mut lost = Vec::new();
    for n in 0..5 {
        lost.extend(journal.remove(&format!("k{n}"), false));
    }
    assert_eq!(lost, ["k0".into(), "k1".into()] as [Arc<str>; 2]);
    assert_eq!(order(&journal), ["-k2", "-k3", "-k4"]);
    assert_eq!(journal.len(), 3);
}

#[test]
fn values_give_way_before_keys() {
    let journal = journal(100, 3_000);
    let big = "x".repeat(700);
    for key in ["a", "b", "c"] {
        assert!(journal.set(key, value(&big), FOREVER, false).is_empty());
    }
    assert_eq!(order(&journal), ["a", "b", "c"]);
    assert!(journal.set("d", value(&big), FOREVER, false).is_empty());
    assert_eq!(order(&journal), ["-a", "b", "c", "d"]);
    let lost = journal.set("e", value(&"x".repeat(10_000)), FOREVER, false);
    assert!(lost.is_empty());
    assert_eq!(order(&journal), ["-a", "-b", "-c", "-d", "-e"]);
    let lost: Vec<_> = (0..20).flat_map(|n| journal.remove(&format!("k{n}"), false)).collect();
    assert!(!lost.is_empty() && lock(&journal.book).bytes <= 3_000);
    for noted in journal.after(0, usize::MAX) {
        journal.done(&noted.key, noted.number);
    }
    assert_eq!((lock(&journal.book).bytes, journal.len()), (0, 0));
}

#[test]
fn a_clear_is_all_there_is_to_know() {
    let journal = journal(10, 10_000);
    journal.remove("users:1", false);
    journal.remove("posts:1", false);
    journal.clear("users:", false);
    assert_eq!(order(&journal), ["-posts:1"]);
    journal.set("users:2", value("after the clear"), FOREVER, false);
    assert_eq!(journal.len(), 3);
    assert!(
        matches!(journal.look("users:1"), Some(None))
            && matches!(journal.look("users:2"), Some(Some(_)))
    );
    journal.clear("users:admin:", false);
    assert_eq!(journal.len(), 3, "it is part of the other");
    journal.clear("", false);
    assert_eq!((journal.len(), order(&journal).len()), (1, 0));
    let clear = journal.first_clear().expect("one");
    journal.cleared(clear.number);
    assert!(journal.is_empty());
}

#[test]
fn clears_are_bounded_too() {
    let journal = journal(3, 10_000);
    for n in 0..4 {
        journal.clear(&format!("n{n}:"), false);
    }
    assert_eq!((journal.len(), &*journal.first_clear().expect("one").prefix), (1, ""));
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_is_waited_for_until_it_was_tried() {
    let journal = Arc::new(journal(10, 10_000));
    let patience = Duration::from_millis(100);
    assert!(journal.settled(About::Key("a"), patience).await);
    journal.remove("a", false);
    journal.clear("users:", false);
    assert!(journal.settled(About::Key("b"), patience).await, "nothing is noted about it");
    let begun = Instant::now();
    for about in
        [About::Key("a"), About::Key("users:1"), About::Prefix(""), About::Prefix("users:1:")]
    {
        assert!(!journal.settled(about, patience).await);
    }
    assert_eq!(begun.elapsed(), patience * 4, "each has waited");

    let waits = tokio::spawn({
        let journal = journal.clone();
        async move { journal.settled(About::Key("a"), Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    let noted = journal.after(0, 1).remove(0);
    journal.done(&noted.key, noted.number);
    assert!(waits.await.expect("no panic"));

    journal.all_tried();
    let begun = Instant::now();
    assert!(!journal.settled(About::Key("users:1"), patience).await);
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits for a backend that is away");
}
