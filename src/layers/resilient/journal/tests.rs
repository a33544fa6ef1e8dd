use super::*;

impl Journal {
    fn next(&self) -> u64 {
        lock(&self.book).number + 1
    }

    fn set(&self, key: &str, value: CacheValue, expiry: Expiry, tried: bool) -> Vec<Arc<str>> {
        let draft = self.draft(&value, expiry, Instant::now());
        self.note(key, draft, self.next(), standing(tried)).lost
    }

    fn remove(&self, key: &str, tried: bool) -> Vec<Arc<str>> {
        self.note(key, Draft::removal(Instant::now()), self.next(), standing(tried)).lost
    }

    fn clear(&self, prefix: &str, tried: bool) {
        self.note_clear(prefix, self.next(), standing(tried));
    }
}

fn standing(tried: bool) -> Standing {
    if tried { Standing::Failed } else { Standing::Pending }
}

const FOREVER: Expiry = Expiry::Never;

fn journal(entries: usize, bytes: usize) -> Journal {
    Journal::new(&Config { recovery_entries: entries, recovery_bytes: bytes, ..Config::default() })
}

fn value(text: &str) -> CacheValue {
    CacheValue::new(text.to_owned())
}

/// The keys in the order in which they are written. A minus marks a removal.
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
    let seen = journal.look("b").flatten().map(|(value, _)| value.decode::<String>());
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
    assert_eq!((journal.len(), &*journal.first_clear().expect("one").prefix), (1, "n"));
}

#[test]
fn an_overflow_of_clears_costs_keys_with_similar_names_only() {
    let journal = journal(10_000, 1_000_000);
    for n in 0..1_000 {
        journal.clear(&format!("user:{n}:"), false);
        journal.clear(&format!("sh\u{f6}p:{n}:"), false);
    }
    assert!(journal.len() <= MAX_CLEARS);
    for n in 0..1_000 {
        for key in [format!("user:{n}:k"), format!("sh\u{f6}p:{n}:k")] {
            assert!(matches!(journal.look(&key), Some(None)), "{key}");
        }
    }
    for other in ["users", "shop:1:k", "session:1", "u"] {
        assert!(journal.look(other).is_none(), "{other}");
    }
}

#[test]
fn what_was_sent_later_is_what_counts_whatever_fails_first() {
    let journal = journal(10, 10_000);
    let draft = |text| journal.draft(&value(text), FOREVER, Instant::now());
    let note = |key, text, ticket| drop(journal.note(key, draft(text), ticket, Standing::Pending));
    note("a", "newer", 5);
    note("a", "older", 4);
    assert_eq!(journal.after(0, 1)[0].ticket, 5);
    journal.superseded("a", 5);
    assert_eq!(order(&journal), ["a"], "a write is not older than itself");
    journal.doubted("a", 6);
    assert_eq!(order(&journal), ["-a"]);
    journal.superseded("a", 6);
    assert!(journal.is_empty());

    note("users:1", "before", 7);
    note("users:2", "after", 9);
    journal.note_clear("users:", 8, Standing::Pending);
    assert_eq!(order(&journal), ["users:2"]);
    note("users:3", "sent before the clear", 7);
    assert_eq!(order(&journal), ["users:2"]);
    journal.superseded_under("users:", 10);
    assert!(journal.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_is_waited_for_until_it_was_tried() {
    let journal = Arc::new(journal(10, 10_000));
    let patience = Duration::from_millis(100);
    assert_eq!(journal.settled(Subject::Key("a"), patience).await, Standing::Free);
    journal.remove("a", false);
    journal.clear("users:", false);
    assert_eq!(
        journal.settled(Subject::Key("b"), patience).await,
        Standing::Free,
        "nothing is noted about it"
    );
    let begun = Instant::now();
    for about in [
        Subject::Key("a"),
        Subject::Key("users:1"),
        Subject::Prefix(""),
        Subject::Prefix("users:1:"),
    ] {
        assert_eq!(journal.settled(about, patience).await, Standing::Failed);
    }
    assert_eq!(begun.elapsed(), patience * 4, "each has waited");

    let waits = tokio::spawn({
        let journal = journal.clone();
        async move { journal.settled(Subject::Key("a"), Duration::from_secs(60)).await }
    });
    tokio::task::yield_now().await;
    let noted = journal.after(0, 1).remove(0);
    journal.done(&noted.key, noted.number);
    assert_eq!(waits.await.expect("no panic"), Standing::Free);

    journal.all_are(Standing::Failed);
    let begun = Instant::now();
    assert_eq!(journal.settled(Subject::Key("users:1"), patience).await, Standing::Failed);
    assert_eq!(begun.elapsed(), Duration::ZERO, "no call waits for a backend that is away");
}
