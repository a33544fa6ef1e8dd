//! The core, step by step.

use super::{
    Answer, BY_AGE, Begun, Bounds, Changed, Core, Joining, NEVER, Read, Rules, is_good_for,
};
use crate::adapter::SourceId;
use crate::layers::tiered::map::{Map, Seen};

const AGE: u64 = 100;
const TTL: u64 = 1_000;

fn core() -> Core<Map, u64> {
    Core::new(Map::of_the_engine(), Bounds { age: AGE, ttl: TTL }, Rules::default())
}

fn send(core: &Core<Map, u64>, key: &str, now: u64) -> Read {
    match core.begin_read(key, now, Joining::No, || now) {
        Begun::Sent(read) => read,
        Begun::Joined(_) => panic!("it must not join"),
    }
}

/// Whether a read may join one, and which.
fn joins(core: &Core<Map, u64>, key: &str, now: u64) -> Option<u64> {
    match core.begin_read(key, now, Joining::Allowed, || now) {
        Begun::Joined(read) => Some(read),
        Begun::Sent(read) => {
            core.abandon_read(read);
            None
        }
    }
}

/// Ends a read with a value. Returns whether it is kept.
fn end(core: &Core<Map, u64>, key: &str, read: Read, left: u64, source: Option<SourceId>) -> bool {
    let value = Seen { state: 1, through: 0 };
    let ended = core.end_read(read, key, Answer::Value { value, left, source });
    assert_eq!(ended.kept, ended.refused.is_none());
    ended.kept
}

fn fill(core: &Core<Map, u64>, key: &str, now: u64, source: Option<SourceId>) {
    assert!(end(core, key, send(core, key, now), NEVER, source), "nothing speaks against it");
}

fn is_hit(core: &Core<Map, u64>, key: &str, now: u64) -> bool {
    let may_serve = |source| core.may_serve(source, now).is_proven;
    core.near().look(key, now, may_serve).is_some()
}

#[test]
fn a_value_by_age_is_near_until_the_bound_after_it_was_asked_for() {
    let core = core();
    fill(&core, "k", 1_000, None);
    assert!(is_hit(&core, "k", 1_000 + AGE - 1));
    assert!(!is_hit(&core, "k", 1_000 + AGE));
    assert!(core.may_serve(BY_AGE, NEVER).is_proven);
}

#[test]
fn a_value_of_a_source_is_near_while_the_source_is_confirmed() {
    let core = core();
    let source = core.open().expect("a free number");
    fill(&core, "k", 0, Some(source.id()));
    assert!(!is_hit(&core, "k", 0), "it was never confirmed");
    core.confirm(&source, 50);
    assert!(is_hit(&core, "k", 50 + AGE - 1));
    assert!(!is_hit(&core, "k", 50 + AGE), "bypassed");
    core.confirm(&source, 300);
    assert!(is_hit(&core, "k", 300), "and served again");
    core.confirm(&source, 200);
    assert!(is_hit(&core, "k", 300 + AGE - 1), "the latest question counts");
    core.confirm(&source, TTL);
    assert!(!is_hit(&core, "k", TTL), "nothing is near for longer than that");
}

#[test]
fn the_life_of_a_value_counts_from_when_it_was_asked_for() {
    let core = core();
    assert!(end(&core, "k", send(&core, "k", 0), 30, None));
    assert!(is_hit(&core, "k", 29) && !is_hit(&core, "k", 30));
    let (read, value) = (send(&core, "k", 50), Seen { state: 1, through: 0 });
    let ended = core.end_read(read, "k", Answer::Value { value, left: 30, source: None });
    assert!(
        is_good_for(79, ended.deadline) && !is_good_for(80, ended.deadline),
        "for callers that have joined"
    );
}

#[test]
fn the_end_of_a_source_takes_its_values_only() {
    let core = core();
    let [one, other] = [(); 2].map(|()| core.open().expect("a free number"));
    for source in [&one, &other] {
        core.confirm(source, 0);
    }
    let (ended, late) = (one.id(), send(&core, "late", 0));
    fill(&core, "one", 0, Some(ended));
    fill(&core, "other", 0, Some(other.id()));
    fill(&core, "by age", 0, None);
    core.end(one, 1);
    assert!(!is_hit(&core, "one", 1) && is_hit(&core, "other", 1) && is_hit(&core, "by age", 1));
    assert!(!end(&core, "late", late, NEVER, Some(ended)), "nobody vouches for it");
    core.sweep();
    let next = core.open().expect("a free number");
    assert_eq!(next.id().number, ended.number, "used again");
    core.confirm(&next, 0);
    assert!(!is_hit(&core, "one", 1), "but not for what was there before");
}

/// Whether a value is served as stale for 50 after the end of its proof.
fn is_stale_hit(core: &Core<Map, u64>, key: &str, now: u64) -> bool {
    let may_serve = |source, deadline| core.may_serve_stale(source, deadline, now, 50);
    core.near().look_past(key, may_serve).is_some()
}

#[test]
fn a_value_by_age_is_stale_for_a_time_after_its_deadline() {
    let core = core();
    fill(&core, "k", 1_000, None);
    assert!(is_stale_hit(&core, "k", 1_000), "although it is proven");
    assert!(is_stale_hit(&core, "k", 1_000 + AGE + 49));
    assert!(!is_stale_hit(&core, "k", 1_000 + AGE + 50));
    assert!(end(&core, "k", send(&core, "k", 2_000), 30, None));
    assert!(is_stale_hit(&core, "k", 2_079) && !is_stale_hit(&core, "k", 2_080), "its own life");
}

#[test]
fn a_value_of_a_source_is_stale_for_a_time_after_its_proof_or_the_end_of_its_source() {
    for (ended, last) in [(50, 100), (140, 150)] {
        let core = core();
        let source = core.open().expect("a free number");
        core.confirm(&source, 0);
        fill(&core, "k", 0, Some(source.id()));
        assert!(is_stale_hit(&core, "k", AGE + 49) && !is_stale_hit(&core, "k", AGE + 50));
        core.end(source, ended);
        for _ in 0..2 {
            assert!(!is_hit(&core, "k", ended), "it is not fresh");
            let is_stale = [last - 1, last].map(|now| is_stale_hit(&core, "k", now));
            assert_eq!(is_stale, [true, false], "ended at {ended}");
            core.sweep();
        }
        let next = core.open().expect("a free number");
        core.confirm(&next, 1_000);
        assert!(!is_hit(&core, "k", 1_000) && !is_stale_hit(&core, "k", 1_000));
    }
}

#[test]
fn what_has_changed_is_not_stale_either() {
    let core = core();
    for change in [0, 1, 2] {
        fill(&core, "k", 0, None);
        match change {
            0 => drop(core.forget("k")),
            1 => drop(core.begin_write(Changed::Key("k"))),
            _ => drop(core.end_read(send(&core, "k", 1), "k", Answer::NotKept)),
        }
        assert!(!is_stale_hit(&core, "k", 2), "{change}");
    }
}

#[test]
fn numbers_are_free_again_after_a_sweep() {
    let core = core();
    let mut open: Vec<_> = std::iter::from_fn(|| core.open()).collect();
    assert!(open.len() > 1_000, "{}", open.len());
    open.drain(..10).for_each(|source| core.end(source, 0));
    assert!(core.open().is_none(), "values of theirs may be near");
    core.sweep();
    assert_eq!(std::iter::from_fn(|| core.open()).count(), 10);
}

#[test]
fn a_change_voids_the_reads_of_its_key_only() {
    let core = core();
    let reads = ["a:1", "a:2", "b:1"].map(|key| (key, send(&core, key, 0)));
    drop(core.forget("a:1"));
    let kept = reads.map(|(key, read)| end(&core, key, read, NEVER, None));
    assert_eq!(kept, [false, true, true]);
    let reads = ["a:1", "a:2", "b:1"].map(|key| (key, send(&core, key, 0)));
    drop(core.forget_prefix("a:"));
    assert!(!is_hit(&core, "a:2", 0) && is_hit(&core, "b:1", 0));
    let kept = reads.map(|(key, read)| end(&core, key, read, NEVER, None));
    assert_eq!(kept, [false, false, true]);
    drop(core.forget_prefix(""));
    assert!(!is_hit(&core, "b:1", 0));
}

#[test]
fn an_own_write_voids_at_its_begin_and_at_its_end() {
    let core = core();
    fill(&core, "k", 0, None);
    drop(core.begin_write(Changed::Key("k")));
    assert!(!is_hit(&core, "k", 1));
    let during = send(&core, "k", 2);
    drop(core.end_write(Changed::Below("")));
    assert!(!end(&core, "k", during, NEVER, None));
    fill(&core, "k", 3, None);
}

#[test]
fn a_read_is_joined_within_half_a_bound_and_until_it_is_voided() {
    let core = core();
    let read = send(&core, "k", 10);
    assert_eq!(joins(&core, "k", 10 + AGE / 2), Some(10));
    assert_eq!(joins(&core, "k", 11 + AGE / 2), None);
    assert_eq!(joins(&core, "other", 10), None);
    drop(core.forget("k"));
    assert_eq!(joins(&core, "k", 10), None);
    assert_eq!(core.abandon_read(read), Some(10), "for callers that have joined");
    assert_eq!(core.in_flight(), 0);
}

#[test]
fn an_answer_voids_the_other_reads_of_its_key() {
    let core = core();
    let [earlier, between, later] = [0, 1, 2].map(|now| send(&core, "k", now));
    assert!(end(&core, "k", between, NEVER, None));
    assert_eq!(joins(&core, "k", 3), None, "it may have seen an older value");
    assert!(!end(&core, "k", later, NEVER, None));
    assert!(!is_hit(&core, "k", 3), "and it may have seen a newer one");
    assert!(!end(&core, "k", earlier, NEVER, None));
}

#[test]
fn what_is_missing_is_not_kept() {
    let core = core();
    fill(&core, "k", 0, None);
    let ended = core.end_read(send(&core, "k", 1), "k", Answer::NotKept);
    assert!(!ended.kept && is_good_for(1_000, ended.deadline));
    assert_eq!(ended.joined, Some(1), "for callers that have joined");
    assert!(!is_hit(&core, "k", 1));
}

#[test]
fn what_a_source_of_another_level_vouches_for_is_near_by_age() {
    let (one, other) = (core(), core());
    let theirs = other.open().expect("a number is free");
    let ours = one.open().expect("a number is free");
    assert_eq!(ours.id().number, theirs.id().number);
    fill(&one, "k", 0, Some(theirs.id()));
    other.confirm(&theirs, AGE);
    one.confirm(&ours, AGE);
    assert!(is_hit(&one, "k", AGE - 1) && !is_hit(&one, "k", AGE), "nobody tells this level");
    assert!(end(&one, "k", send(&one, "k", 0), NEVER, Some(ours.id())));
}
