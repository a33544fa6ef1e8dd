//! The queue and the batcher, tested over interleavings that a seed decides.

use super::{Batchable, Batcher, Limits, Queue};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// A call: its number, kind and keys.
#[derive(Clone, Debug)]
struct Call {
    number: usize,
    kind: Option<u8>,
    keys: Vec<u64>,
    bytes: usize,
    gone: Arc<AtomicBool>,
}

impl Batchable for Call {
    type Kind = u8;

    fn kind(&self) -> Option<u8> {
        self.kind
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_over(&mut self, _: Instant) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        self.keys.iter().copied()
    }
}

fn call(number: usize, kind: Option<u8>, keys: &[u64]) -> Call {
    Call { number, kind, keys: keys.to_vec(), bytes: 1, gone: Arc::default() }
}

fn numbers(batch: &[Call]) -> Vec<usize> {
    batch.iter().map(|call| call.number).collect()
}

fn queue(limits: Limits, calls: impl IntoIterator<Item = Call>) -> Queue<Call> {
    let mut queue = Queue::new(limits);
    calls.into_iter().for_each(|call| queue.push(call));
    queue
}

const WIDE: Limits = Limits { entries: 100, bytes: 100 };

#[test]
fn calls_of_a_kind_share_a_batch_and_keep_their_order_on_a_key() {
    let calls = [
        call(0, Some(1), &[1]),
        call(1, Some(2), &[2]),
        call(2, Some(1), &[2]),
        call(3, Some(1), &[3]),
        call(4, None, &[4]),
    ];
    let mut queue = queue(WIDE, calls);
    assert_eq!(numbers(&queue.next()), [0, 3]);
    assert_eq!(numbers(&queue.next()), [1]);
    assert_eq!(numbers(&queue.next()), [2]);
    assert_eq!(numbers(&queue.next()), [4]);
    assert!(queue.next().is_empty() && queue.is_empty());
}

#[test]
fn no_call_is_sent_before_an_earlier_one_that_names_no_key() {
    let mut queue =
        queue(WIDE, [call(0, Some(1), &[1]), call(1, None, &[]), call(2, Some(1), &[2])]);
    assert_eq!(numbers(&queue.next()), [0]);
    assert_eq!(numbers(&queue.next()), [1]);
    assert_eq!(numbers(&queue.next()), [2]);
}

#[test]
fn batches_are_bounded_by_entries_and_by_bytes() {
    let limits = Limits { entries: 3, bytes: 10 };
    let sized = |number, bytes| Call { bytes, ..call(number, Some(1), &[number as u64]) };
    let mut four = queue(limits, (0..4).map(|number| sized(number, 1)));
    assert_eq!(numbers(&four.next()), [0, 1, 2]);
    // A call that is too large to share a batch is sent by itself, and smaller ones need not wait
    // for it.
    let mut large = queue(limits, [sized(0, 1), sized(1, 50), sized(2, 1)]);
    assert_eq!(numbers(&large.next()), [0, 2]);
    assert_eq!(numbers(&large.next()), [1]);
}

#[test]
fn what_was_given_up_is_taken_out_before_the_queue_grows() {
    let mut queue = Queue::new(WIDE);
    for number in 0..100_000 {
        let call = call(number, Some(1), &[1]);
        call.gone.store(true, Ordering::Relaxed);
        queue.push(call);
    }
    assert!(queue.len() < 2_048, "{}", queue.len());
    assert!(queue.next().is_empty());
}

/// Taking all calls at once gives the same calls as taking them one by one.
#[test]
fn all_at_once_is_the_next_batch() {
    let mut taken = 0;
    for seed in 0..3_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits { entries: random.usize(1..6), bytes: random.usize(1..8) };
        let kinds = random.usize(1..4);
        let calls: Vec<Call> = (0..random.usize(0..6))
            .map(|number| Call {
                bytes: random.usize(0..4),
                ..call(number, [Some(1), Some(2), None][random.usize(0..kinds)], &[1])
            })
            .collect();
        let (mut one, mut other) = (queue(limits, calls.clone()), queue(limits, calls));
        if let Some(all) = one.all_at_once() {
            assert_eq!(numbers(&Vec::from(all)), numbers(&other.next()), "seed {seed}");
            assert!(one.is_empty() && other.is_empty(), "seed {seed}");
            one.push(call(9, Some(2), &[]));
            assert_eq!(
                one.all_at_once().map(|all| all.len()),
                Some(1),
                "what was taken is forgotten"
            );
            taken += 1;
        }
    }
    assert!(taken > 500, "{taken}");
}

/// A leader with several batches in flight.
#[test]
fn a_leader_waits_for_calls_as_long_as_a_batch_is_in_flight() {
    let (batcher, mut context) =
        (Arc::new(Batcher::new(0, WIDE)), Context::from_waker(Waker::noop()));
    let mut lead = batcher.wait(call(0, Some(1), &[1])).unwrap();
    assert_eq!(lead.poll_waiting(&mut context, false), Poll::Ready(true));
    assert_eq!(numbers(&lead.take()), [0]);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    assert_eq!(lead.poll_waiting(&mut Context::from_waker(&waker), true), Poll::Pending);
    assert!(batcher.wait(call(1, Some(1), &[1])).is_none(), "there is a leader");
    assert!(woken.0.load(Ordering::Relaxed), "who comes wakes the leader");
    assert_eq!(numbers(&lead.take()), [1]);
    assert!(batcher.is_batching());
    assert_eq!(lead.poll_waiting(&mut context, false), Poll::Ready(false));
    assert!(
        !batcher.is_batching() && batcher.wait(call(2, Some(1), &[1])).is_some(),
        "the next one leads"
    );
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Seeded runs, step by step, of a leader and of callers that come, give up, are sent directly and
/// are answered.
#[test]
fn every_call_is_sent_once_in_order_and_none_is_left() {
    for seed in 0..3_000 {
        let mut run = Run::new(seed);
        for _ in 0..200 {
            run.step();
        }
        run.finish();
    }
}

struct Run {
    random: fastrand::Rng,
    batcher: Arc<Batcher<Call>>,
    limits: Limits,
    max_direct: usize,
    lead: Option<super::BatchLeader<Call>>,
    passes: usize,
    waiting: VecDeque<Call>,
    served: HashMap<usize, usize>,
    next: usize,
    batches: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits { entries: random.usize(2..6), bytes: random.usize(1..8) };
        let max_direct = random.usize(0..4);
        let batcher = Arc::new(Batcher::new(max_direct, limits));
        let (waiting, served) = (VecDeque::new(), HashMap::new());
        Self {
            random,
            batcher,
            limits,
            max_direct,
            lead: None,
            passes: 0,
            waiting,
            served,
            next: 0,
            batches: 0,
        }
    }

    fn step(&mut self) {
        match self.random.u8(0..10) {
            0..=4 => self.come(),
            5..=7 => self.carry(),
            8 => self.give_up(),
            _ => self.come_back(),
        }
    }

    /// A call arrives: it is sent directly while few are in flight and none waits, and otherwise
    /// waits.
    fn come(&mut self) {
        let batcher = self.batcher.clone();
        if let Some(pass) = batcher.pass() {
            assert!(
                self.passes < self.max_direct && self.lead.is_none(),
                "sent directly although calls are waiting or too many are in flight"
            );
            std::mem::forget(pass);
            self.passes += 1;
            return;
        }
        assert!(
            self.lead.is_some() || self.passes == self.max_direct,
            "made to wait although it is quiet"
        );
        let kind = [Some(1), Some(2), None][self.random.usize(0..3)];
        let keys: Vec<u64> = (0..self.random.usize(0..3)).map(|_| self.random.u64(0..4)).collect();
        let call = Call { bytes: self.random.usize(0..4), ..call(self.next, kind, &keys) };
        self.next += 1;
        self.waiting.push_back(call.clone());
        if let Some(lead) = batcher.wait(call) {
            assert!(self.lead.replace(lead).is_none(), "two leaders");
        }
        assert!(self.lead.is_some(), "no leader for the calls that wait");
    }

    /// A call that was sent directly has been answered.
    fn come_back(&mut self) {
        if self.passes > 0 {
            self.passes -= 1;
            self.batcher.take_back();
        }
    }

    fn give_up(&mut self) {
        if !self.waiting.is_empty() {
            let at = self.random.usize(0..self.waiting.len());
            if let Some(call) = self.waiting.remove(at) {
                call.gone.store(true, Ordering::Relaxed);
            }
        }
    }

    fn carry(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        let Some(batch) = lead.next() else {
            assert!(self.waiting.is_empty(), "it ended while {:?} waited", self.waiting);
            self.lead = None;
            assert!(!self.batcher.is_batching());
            return;
        };
        self.batches += 1;
        assert!(batch.len() <= self.limits.entries);
        assert!(
            batch.len() == 1
                || batch.iter().map(|call| call.bytes).sum::<usize>() <= self.limits.bytes
        );
        assert!(
            batch.len() == 1
                || batch.iter().all(|call| call.kind.is_some() && call.kind == batch[0].kind)
        );
        for call in batch {
            let at = self
                .waiting
                .iter()
                .position(|waiting| waiting.number == call.number)
                .expect("it waits, and only once");
            let passes_by = |before: &Call| before.keys.iter().any(|key| call.keys.contains(key));
            assert!(
                !self.waiting.iter().take(at).any(passes_by),
                "sent before an earlier call about a key"
            );
            self.waiting.remove(at);
            *self.served.entry(call.number).or_default() += 1;
        }
    }

    fn finish(mut self) {
        while self.lead.is_some() {
            self.carry();
        }
        assert!(self.waiting.is_empty());
        assert!(self.served.values().all(|times| *times == 1));
        for _ in 0..self.passes {
            self.batcher.take_back();
        }
        let batcher = self.batcher;
        let all: Vec<_> = std::iter::from_fn(|| batcher.pass()).take(self.max_direct + 1).collect();
        assert_eq!(all.len(), self.max_direct, "a pass was lost");
    }
}

#[test]
fn a_leader_that_is_lost_leaves_nobody_waiting() {
    let batcher = Arc::new(Batcher::new(0, WIDE));
    let (first, second) = (call(0, Some(1), &[1]), call(1, Some(1), &[2]));
    let held = first.gone.clone();
    let lead = batcher.wait(first).expect("the first leads");
    assert!(batcher.wait(second).is_none());
    drop(lead);
    assert!(!batcher.is_batching());
    assert_eq!(
        Arc::strong_count(&held),
        1,
        "what waited was dropped, and with it who would have answered"
    );
    assert!(batcher.wait(call(2, Some(1), &[1])).is_some(), "the next one leads");
}

#[test]
fn without_batches_everybody_goes_alone() {
    let batcher: Batcher<Call> = Batcher::new(0, Limits { entries: 1, bytes: 0 });
    let all: Vec<_> = std::iter::from_fn(|| batcher.pass()).take(10_000).collect();
    assert_eq!(all.len(), 10_000);
}
