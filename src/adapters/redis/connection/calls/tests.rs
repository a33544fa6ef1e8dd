use super::state::GATHERED;
use super::*;
use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

type TestCalls = Calls<u32, &'static str>;

/// Counts how often a caller was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn waker() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken::default());
    (woken.clone(), woken.into())
}

fn asks(replies: usize) -> Request {
    let deadline = Instant::now() + Duration::from_secs(60);
    Request { replies, deadline }
}

fn begun(calls: &TestCalls, request: Request, command: &str, waker: &Waker) -> Begun {
    calls.begin(request, |output| output.extend_from_slice(command.as_bytes()), waker).unwrap()
}

/// By a caller that nobody wakes.
fn begin(calls: &TestCalls, command: &str) -> CallId {
    begun(calls, asks(1), command, Waker::noop()).id
}

const BOTH: Roles = Roles { write: true, read: true };
const READ: Roles = Roles { write: false, read: true };
const NONE: Roles = Roles { write: false, read: false };

fn roles(turn: Turn<u32, &'static str>) -> Roles {
    match turn {
        Turn::Work(roles) => roles,
        other => panic!("{other:?}"),
    }
}

/// Delivered by another than any of the callers.
fn deliver<const N: usize>(calls: &TestCalls, replies: [u32; N]) -> bool {
    calls.deliver(WATCHDOG, replies.into_iter(), drop).wake()
}

fn taken(calls: &TestCalls) -> Option<String> {
    let mut output = Vec::new();
    calls.take_output(&mut output, || None).then(|| String::from_utf8(output).unwrap())
}

fn answer(turn: Turn<u32, &'static str>) -> u32 {
    match turn {
        Turn::Done(Ok(Answer::One(reply))) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lone_caller_writes_and_reads_by_itself() {
    let (calls, (_, waker)) = (TestCalls::new(Drive::ByCallers), waker());
    let begun = begun(&calls, asks(1), "a", &waker);
    assert!(!begun.gathers);
    assert_eq!(begun.roles, BOTH);
    assert_eq!(taken(&calls).as_deref(), Some("a"));
    assert_eq!(taken(&calls), None);
    assert_eq!(roles(calls.poll(begun.id, &waker)), READ);
    assert!(deliver(&calls, [1]));
    assert_eq!(answer(calls.poll(begun.id, &waker)), 1);
    assert!(!deliver(&calls, [2]), "no command was sent for it");
}

#[test]
fn replies_go_to_the_calls_in_their_order() {
    let calls = TestCalls::new(Drive::ByCallers);
    let (first, (woken, second)) = (waker().1, waker());
    let a = begun(&calls, asks(1), "a", &first);
    let b = begun(&calls, asks(1), "b", &second);
    let many = begun(&calls, asks(3), "c", &first);
    assert!(!many.gathers, "somebody else writes");
    assert_eq!([a.roles, b.roles, many.roles], [BOTH, NONE, NONE]);
    assert_eq!(taken(&calls).as_deref(), Some("abc"));
    assert!(deliver(&calls, [1, 2, 3]));
    assert_eq!(woken.times(), 1);
    assert_eq!(answer(calls.poll(b.id, &second)), 2);
    assert!(deliver(&calls, [4, 5]));
    assert_eq!(answer(calls.poll(a.id, &first)), 1);
    match calls.poll(many.id, &first) {
        Turn::Done(Ok(Answer::Many(replies))) => assert_eq!(replies, [3, 4, 5]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_caller_with_its_answer_passes_the_roles_on() {
    let calls = TestCalls::new(Drive::ByCallers);
    let (first, (woken, second)) = (waker().1, waker());
    let a = begun(&calls, asks(1), "a", &first);
    let b = begun(&calls, asks(1), "b", &second);
    assert_eq!([a.roles, b.roles], [BOTH, NONE]);
    assert_eq!(taken(&calls).as_deref(), Some("ab"));
    assert!(deliver(&calls, [1]));
    assert_eq!(answer(calls.poll(a.id, &first)), 1);
    assert_eq!(woken.times(), 1, "it is to read now");
    assert_eq!(roles(calls.poll(b.id, &second)), BOTH);
}

#[test]
fn roles_are_left_to_callers_that_are_about_to_call_again() {
    let calls = TestCalls::new(Drive::ByCallers);
    let (first, (woken, waiting)) = (waker().1, waker());
    let [a, b] = ["a", "b"].map(|command| begun(&calls, asks(1), command, &first).id);
    let c = begun(&calls, asks(1), "c", &waiting).id;
    assert!(taken(&calls).is_some());
    assert_eq!(taken(&calls), None);
    assert!(deliver(&calls, [1, 2]));
    assert_eq!(answer(calls.poll(a, &first)), 1);
    assert_eq!(woken.times(), 0, "`b` is woken already");
    let again = begun(&calls, asks(1), "a", &first);
    assert_eq!(again.roles, BOTH);
    assert_eq!(answer(calls.poll(b, &first)), 2);
    assert_eq!(woken.times(), 0, "there is a reader");
    assert_eq!(roles(calls.poll(c, &waiting)), NONE);
}

#[test]
fn the_last_to_fetch_its_answer_passes_the_roles_on() {
    for leaves in [false, true] {
        let calls = TestCalls::new(Drive::ByCallers);
        let (first, (woken, waiting)) = (waker().1, waker());
        let [a, b] = ["a", "b"].map(|command| begun(&calls, asks(1), command, &first).id);
        let c = begun(&calls, asks(1), "c", &waiting).id;
        assert!(taken(&calls).is_some());
        assert!(deliver(&calls, [1, 2]));
        assert_eq!(answer(calls.poll(a, &first)), 1);
        if leaves {
            calls.leave(b);
        } else {
            assert_eq!(answer(calls.poll(b, &first)), 2);
        }
        assert_eq!(woken.times(), 1, "nobody else reads");
        assert_eq!(roles(calls.poll(c, &waiting)), BOTH);
    }
}

#[test]
fn a_caller_that_never_fetches_its_answer_holds_up_one_delivery() {
    let calls = TestCalls::new(Drive::ByCallers);
    let (first, (woken, waiting)) = (waker().1, waker());
    let [a, _parked] = ["a", "b"].map(|command| begun(&calls, asks(1), command, &first).id);
    let [c, d] = ["c", "d"].map(|command| begun(&calls, asks(1), command, &waiting).id);
    assert!(taken(&calls).is_some());
    assert!(deliver(&calls, [1, 2]));
    assert_eq!(answer(calls.poll(a, &first)), 1);
    assert_eq!(woken.times(), 0);
    // The watchdog has read.
    assert!(deliver(&calls, [3]));
    assert_eq!(woken.times(), 1);
    assert_eq!(answer(calls.poll(c, &waiting)), 3);
    assert_eq!(woken.times(), 2, "to read");
    assert_eq!(roles(calls.poll(d, &waiting)), BOTH);
}

/// A connection that has just answered so many calls together.
fn answered_together<const N: usize>(waker: &Waker) -> TestCalls {
    let calls = TestCalls::new(Drive::ByCallers);
    let ids: [CallId; N] = array::from_fn(|_| begun(&calls, asks(1), "x", waker).id);
    assert!(taken(&calls).is_some());
    assert_eq!(taken(&calls), None);
    assert!(deliver(&calls, array::from_fn::<u32, N, _>(|at| at as u32)));
    for (id, reply) in ids.into_iter().zip(0..) {
        assert_eq!(answer(calls.poll(id, waker)), reply);
    }
    calls
}

#[test]
fn a_writer_gathers_those_that_were_answered_together() {
    let (_, waker) = waker();
    let calls = answered_together::<3>(&waker);
    let gathers = begun(&calls, asks(1), "a", &waker);
    assert!(gathers.gathers && gathers.roles.write);
    assert_eq!(begun(&calls, asks(1), "b", &waker).roles, NONE, "two of three");
    let last = begun(&calls, asks(1), "c", &waker);
    assert!(last.roles.write && !last.gathers, "it writes at once");
    assert_eq!(roles(calls.poll(gathers.id, &waker)), READ, "another writes");
    assert_eq!(taken(&calls).as_deref(), Some("abc"));
}

#[test]
fn a_writer_gathers_no_more_than_one_write_takes() {
    let (_, waker) = waker();
    let calls = answered_together::<{ GATHERED + 2 }>(&waker);
    let first = begun(&calls, asks(1), "a", &waker);
    assert!(first.roles.write && !first.gathers, "the server has no work, and more are to come");
    assert_eq!(taken(&calls).as_deref(), Some("a"));
    assert_eq!(taken(&calls), None);
    let gathers = begun(&calls, asks(1), "b", &waker);
    assert!(gathers.gathers && gathers.roles.write);
    for _ in 2..GATHERED {
        assert_eq!(begun(&calls, asks(1), "c", &waker).roles, NONE);
    }
    let last = begun(&calls, asks(1), "d", &waker);
    assert!(last.roles.write && !last.gathers, "it writes at once");
    assert_eq!(roles(calls.poll(gathers.id, &waker)), NONE, "another writes");
    assert_eq!(taken(&calls), Some(format!("b{}d", "c".repeat(GATHERED - 2))));
}

#[test]
fn a_writer_does_not_wait_for_others_if_nobody_was_answered_with_it() {
    let (_, waker) = waker();
    let calls = answered_together::<1>(&waker);
    let first = begun(&calls, asks(1), "a", &waker);
    assert!(first.roles.write && !first.gathers);
    assert_eq!(taken(&calls).as_deref(), Some("a"));
    assert_eq!(taken(&calls), None);
    let second = begun(&calls, asks(1), "b", &waker);
    assert!(second.roles.write && !second.gathers);
}

#[test]
fn a_dropped_caller_passes_the_roles_on_and_is_not_sent() {
    let calls = TestCalls::new(Drive::ByCallers);
    let (first, (woken, second)) = (waker().1, waker());
    let a = begun(&calls, asks(1), "a", &first).id;
    let b = begun(&calls, asks(1), "bb", &second).id;
    let c = begun(&calls, asks(1), "ccc", &first).id;
    assert_eq!(roles(calls.poll(c, &first)), NONE);
    calls.leave(a);
    assert_eq!(woken.times(), 1, "the output needs a writer");
    assert_eq!(roles(calls.poll(b, &second)), BOTH);
    calls.leave(b);
    assert_eq!(roles(calls.poll(c, &first)), BOTH);
    assert_eq!(taken(&calls).as_deref(), Some("ccc"));
    assert!(!calls.has_abandoned());
    assert!(deliver(&calls, [3]));
    assert_eq!(answer(calls.poll(c, &first)), 3);
}

#[test]
fn the_reply_to_a_dropped_call_is_thrown_away() {
    let (calls, (_, waker)) = (TestCalls::new(Drive::ByCallers), waker());
    let a = begin(&calls, "a");
    assert_eq!(taken(&calls).as_deref(), Some("a"));
    calls.leave(a);
    assert!(calls.has_abandoned());
    let b = begin(&calls, "b");
    assert_ne!(a, b, "the number is not free while a reply is to come");
    assert!(deliver(&calls, [1]));
    assert!(!calls.has_abandoned());
    assert!(!deliver(&calls, [2]), "the command was not sent yet");
    assert_eq!(taken(&calls).as_deref(), Some("b"));
    assert!(deliver(&calls, [2]));
    assert_eq!(answer(calls.poll(b, &waker)), 2);
}

#[test]
fn a_half_written_command_finds_another_writer() {
    let calls = TestCalls::new(Drive::ByCallers);
    let (woken, second) = waker();
    let a = begin(&calls, "a");
    let b = begun(&calls, asks(1), "b", &second).id;
    assert_eq!(roles(calls.poll(b, &second)), NONE);
    assert_eq!(taken(&calls).as_deref(), Some("ab"));
    calls.leave(a);
    assert_eq!(woken.times(), 1);
    assert_eq!(roles(calls.poll(b, &second)), BOTH);
}

#[test]
fn a_deadline_ends_the_wait_and_not_the_order() {
    let (calls, (woken, waker)) = (TestCalls::new(Drive::ByCallers), waker());
    let (now, mut seen) = (Instant::now(), Seen::default());
    let soon = Request { deadline: now + Duration::from_millis(10), ..asks(1) };
    let sent = begun(&calls, soon, "sent", &waker).id;
    assert_eq!(taken(&calls).as_deref(), Some("sent"));
    let unsent = begun(&calls, soon, "unsent", &waker).id;
    let later = begin(&calls, "later");
    assert_eq!(roles(calls.poll(unsent, &waker)), NONE);
    calls.watch(now + Duration::from_millis(9), &mut seen, &"late");
    assert_eq!(woken.times(), 0);
    calls.watch(now + Duration::from_millis(10), &mut seen, &"late");
    assert_eq!(woken.times(), 2);
    for call in [sent, unsent] {
        assert!(matches!(calls.poll(call, &waker), Turn::Done(Err("late"))));
    }
    assert!(calls.has_abandoned());
    assert_eq!(taken(&calls).as_deref(), Some("later"));
    assert!(deliver(&calls, [1, 2]), "the first is that of the call that was given up");
    assert_eq!(answer(calls.poll(later, &waker)), 2);
}

#[test]
fn the_watchdog_takes_over_from_a_caller_that_is_not_polled() {
    let (calls, (woken, waker)) = (TestCalls::new(Drive::ByCallers), waker());
    let (now, mut seen) = (Instant::now(), Seen::default());
    let parked = begun(&calls, asks(1), "parked", &waker);
    assert_eq!(parked.roles, BOTH);
    let parked = parked.id;
    let other = begun(&calls, asks(1), "other", &waker).id;
    assert_eq!(roles(calls.poll(other, &waker)), NONE);
    let look = calls.watch(now, &mut seen, &"late");
    assert_eq!(look, Watch { write: false, read: false, is_idle: false }, "it may have just begun");
    let look = calls.watch(now, &mut seen, &"late");
    assert_eq!(look, Watch { write: true, read: true, is_idle: false });
    assert_eq!(roles(calls.poll(parked, &waker)), NONE, "it has lost them");
    assert_eq!(taken(&calls).as_deref(), Some("parkedother"));
    assert!(deliver(&calls, [1]));
    assert_eq!(answer(calls.poll(parked, &waker)), 1);
    let before = woken.times();
    calls.stand_down();
    assert_eq!(woken.times(), before + 1, "the next to read");
    assert_eq!(roles(calls.poll(other, &waker)), BOTH);
}

#[test]
fn the_end_reaches_the_calls_in_flight_and_later_ones() {
    let (calls, (woken, waker)) = (TestCalls::new(Drive::ByCallers), waker());
    let waiting = begun(&calls, asks(1), "a", &waker).id;
    let gone = begin(&calls, "b");
    assert_eq!(taken(&calls).as_deref(), Some("ab"));
    calls.leave(gone);
    calls.fail(&"broken");
    calls.fail(&"again");
    assert_eq!(woken.times(), 1);
    assert!(matches!(calls.poll(waiting, &waker), Turn::Done(Err("broken"))));
    assert!(calls.has_abandoned(), "the server may have read it");
    assert_eq!(calls.begin(asks(1), |_| (), &waker).unwrap_err(), "broken");
}

#[test]
fn what_was_sent_before_the_end_may_be_executed_after_it() {
    for is_sent in [false, true] {
        let (calls, (_, waker)) = (TestCalls::new(Drive::ByCallers), waker());
        let waiting = begin(&calls, "a");
        assert!(!is_sent || taken(&calls).is_some());
        calls.fail(&"broken");
        assert!(matches!(calls.poll(waiting, &waker), Turn::Done(Err("broken"))));
        assert_eq!(calls.has_abandoned(), is_sent);
    }
}

#[test]
fn numbers_are_used_again() {
    let (calls, (_, waker)) = (TestCalls::new(Drive::ByCallers), waker());
    for round in 0..1_000 {
        let id = begin(&calls, "x");
        assert_eq!(id, 0);
        assert!(taken(&calls).is_some());
        assert!(deliver(&calls, [round]));
        assert_eq!(answer(calls.poll(id, &waker)), round);
    }
}

/// Delivers replies, and returns the note that comes with them.
fn noted<const N: usize>(calls: &TestCalls, replies: [u32; N]) -> Option<u64> {
    let mut noted = None;
    let answered = |note| noted = Some(note);
    assert!(calls.deliver(WATCHDOG, replies.into_iter(), answered).wake());
    noted
}

fn take_with(calls: &TestCalls, note: Option<u64>) {
    assert!(calls.take_output(&mut Vec::new(), || note));
    assert!(!calls.take_output(&mut Vec::new(), || panic!("nothing is sent")));
}

#[test]
fn answers_come_with_the_note_of_the_write_that_asked_for_them() {
    let calls = TestCalls::new(Drive::ByCallers);
    begin(&calls, "before the notes");
    take_with(&calls, None);
    begin(&calls, "a");
    begun(&calls, asks(2), "b", Waker::noop());
    take_with(&calls, Some(7));
    assert_eq!(noted(&calls, [0]), None, "its question was sent before");
    for reply in 1..4 {
        assert_eq!(noted(&calls, [reply]), Some(7));
    }
    begin(&calls, "c");
    take_with(&calls, Some(8));
    begin(&calls, "d");
    take_with(&calls, Some(9));
    begin(&calls, "e");
    take_with(&calls, None);
    assert_eq!(noted(&calls, [4]), Some(8), "and not a later one");
    assert_eq!(noted(&calls, [5]), Some(9));
    let unsent = begin(&calls, "withdrawn");
    calls.leave(unsent);
    begin(&calls, "f");
    take_with(&calls, Some(10));
    begin(&calls, "g");
    take_with(&calls, Some(11));
    let dropped = begin(&calls, "dropped");
    take_with(&calls, Some(12));
    calls.leave(dropped);
    assert_eq!(noted(&calls, [6, 7, 8]), Some(11), "the newest of those that are answered");
    assert_eq!(noted(&calls, [9]), Some(12), "an answer without a caller is one, too");
}
