//! The batcher under many thread schedules. shuttle also finds a thread that waits for ever.

use super::{BatchLeader, Batcher};
use crate::batching::{Batchable, Limits};
use crate::sync::{lock, under_many_schedules};
use shuttle::future;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::sync::mpsc::{Sender, channel};
use shuttle::thread;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const CALLERS: usize = 4;
const ALONE: usize = 1;
const LIMITS: Limits = Limits { entries: 2, bytes: usize::MAX };

struct Request {
    number: usize,
    answer: Sender<usize>,
}

impl Batchable for Request {
    type Kind = ();

    fn kind(&self) -> Option<()> {
        Some(())
    }

    fn bytes(&self) -> usize {
        1
    }

    fn is_over(&mut self, _: Instant) -> bool {
        false
    }

    fn keys(&self) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }
}

/// The state that callers and leaders share.
struct Road {
    batcher: Arc<Batcher<Request>>,
    direct: AtomicUsize,
    led: AtomicBool,
    /// A lock of std's, which is not a step of the schedule.
    leaders: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Road {
    fn new(max_direct: usize) -> Arc<Self> {
        let batcher = Arc::new(Batcher::new(max_direct, LIMITS));
        Arc::new(Self {
            batcher,
            direct: AtomicUsize::new(0),
            led: AtomicBool::new(false),
            leaders: Mutex::default(),
        })
    }

    /// Runs callers that each make two calls. Returns the answers of the calls that waited, `None`
    /// for a call without an answer.
    fn run_callers(
        self: &Arc<Self>,
        callers: usize,
        lead: fn(Arc<Road>, BatchLeader<Request>),
    ) -> Vec<(usize, Option<usize>)> {
        let callers: Vec<_> = (0..callers)
            .map(|number| {
                let road = self.clone();
                thread::spawn(move || [road.call(number, lead), road.call(number + CALLERS, lead)])
            })
            .collect();
        let heard = callers
            .into_iter()
            .flat_map(|caller| caller.join().expect("no panic"))
            .flatten()
            .collect();
        let leaders = std::mem::take(&mut *self.leaders.lock().expect("no thread panics with it"));
        leaders.into_iter().for_each(|leader| leader.join().expect("no panic"));
        heard
    }

    fn call(
        self: &Arc<Self>,
        number: usize,
        lead: fn(Arc<Road>, BatchLeader<Request>),
    ) -> Option<(usize, Option<usize>)> {
        if let Some(pass) = self.batcher.pass() {
            assert!(self.direct.fetch_add(1, Ordering::SeqCst) < ALONE, "more alone than may be");
            self.direct.fetch_sub(1, Ordering::SeqCst);
            drop(pass);
            return None;
        }
        let (answer, heard) = channel();
        if let Some(batches) = self.batcher.wait(Request { number, answer }) {
            let road = self.clone();
            let leader = thread::spawn(move || lead(road, batches));
            self.leaders.lock().expect("no thread panics with it").push(leader);
        }
        Some((number, heard.recv().ok()))
    }

    fn begin_to_lead(&self) {
        assert!(!self.led.swap(true, Ordering::SeqCst), "two lead");
    }

    fn is_quiet(&self) -> bool {
        !self.batcher.is_batching()
            && lock(&self.batcher.waiting).queue.is_empty()
            && self.batcher.direct.load(Ordering::SeqCst) == 0
    }
}

fn deliver(batch: Vec<Request>) {
    assert!(batch.len() <= LIMITS.entries);
    batch.into_iter().for_each(|request| _ = request.answer.send(request.number));
}

#[test]
fn everybody_who_waits_is_carried_and_one_leads() {
    under_many_schedules(|| {
        let road = Road::new(ALONE);
        let heard = road.run_callers(CALLERS, |road, mut lead| {
            road.begin_to_lead();
            loop {
                // A later call, with few in flight, leads anew.
                road.led.store(false, Ordering::SeqCst);
                let Some(batch) = lead.next() else { return };
                road.begin_to_lead();
                deliver(batch);
            }
        });
        assert!(heard.iter().all(|(number, heard)| *heard == Some(*number)), "{heard:?}");
        assert!(road.is_quiet());
    });
}

#[test]
fn nobody_waits_for_a_leader_that_is_gone() {
    under_many_schedules(|| {
        let road = Road::new(ALONE);
        let heard =
            road.run_callers(CALLERS, |_, mut lead| lead.next().into_iter().for_each(deliver));
        assert!(
            heard.iter().all(|(number, heard)| heard.is_none_or(|heard| heard == *number)),
            "{heard:?}"
        );
        assert!(road.is_quiet());
    });
}

/// A leader with a batch in flight is woken by the next call that arrives: here it waits for a
/// second one before it delivers.
#[test]
fn a_leader_with_a_batch_in_flight_misses_no_call() {
    under_many_schedules(|| {
        let road = Road::new(0);
        let heard = road.run_callers(2, |_, mut lead| {
            future::block_on(async {
                let mut taken = Vec::new();
                while poll_fn(|context| lead.poll_waiting(context, !taken.is_empty())).await {
                    taken.extend(lead.take());
                    if taken.len() == 2 {
                        deliver(std::mem::take(&mut taken));
                    }
                }
            });
        });
        assert_eq!(heard.len(), 4, "no call is sent directly");
        assert!(heard.iter().all(|(number, heard)| *heard == Some(*number)), "{heard:?}");
        assert!(road.is_quiet());
    });
}
