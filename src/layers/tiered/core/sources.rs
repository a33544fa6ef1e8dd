//! Sources: ordered streams from the store, each of which vouches for the values that were read
//! through it.

use super::NEVER;
use super::rules::{Rule, Rules};
use crate::adapter::SourceId;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, lock};

/// The number of the values for which nobody vouches: they are near by age.
pub(in crate::layers::tiered) const BY_AGE: u16 = 0;

/// The most sources at a time, with [`BY_AGE`]. A source is a connection, so a process with more of
/// them has other worries; its further connections are by age.
const SOURCES: u16 = if cfg!(shuttle) { 4 } else { 1_024 };

/// How many near levels there were. Each has lives of its own: where two of them share an adapter,
/// what a source of the other one vouches for is near by age.
static LEVELS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// The bits of a life that count the uses of a number. Those above them are of the near level.
const LIVES: u32 = 32;

/// A source, until it is ended. It is not cloned, so nobody confirms it after its end.
#[derive(Debug)]
#[must_use]
pub(in crate::layers::tiered) struct Source(SourceId);

impl Source {
    /// What names this source in the answers to reads.
    pub(in crate::layers::tiered) fn id(&self) -> SourceId {
        self.0
    }
}

/// Whether a value is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(in crate::layers::tiered) struct Proof {
    pub(in crate::layers::tiered) is_proven: bool,
    /// Whether the caller has the source ask its store, because the proof ends soon or has ended.
    /// One caller at a time is asked for it.
    pub(in crate::layers::tiered) wants_renewal: bool,
}

#[derive(Debug, Default)]
struct Slot {
    /// Until when the source vouches for its values; 0 before it is confirmed, and after its end.
    until: AtomicU64,
    /// Until when the source had vouched for its values, after its end.
    ended: AtomicU64,
    /// Odd while the source is open. Each use of the number has its own.
    life: AtomicU64,
    /// Whether a caller was asked to renew the proof, and no answer has come since.
    wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct Numbers {
    /// How many numbers have been used.
    used: u16,
    free: Vec<u16>,
    /// Those of ended sources. Values that bear them may be near.
    ended: Vec<u16>,
}

#[derive(Debug)]
pub(super) struct Sources {
    slots: Box<[Slot]>,
    numbers: Mutex<Numbers>,
    /// The life before the first one of each source.
    first_life: u64,
    /// How long an answer vouches for what was asked.
    lasting: u64,
    rules: Rules,
}

impl Sources {
    pub(super) fn new(lasting: u64, rules: Rules) -> Self {
        let numbers = Numbers { used: BY_AGE + 1, ..Numbers::default() };
        let first_life = LEVELS.fetch_add(1, std::sync::atomic::Ordering::Relaxed) << LIVES;
        let slot = || Slot { life: AtomicU64::new(first_life), ..Slot::default() };
        let slots = std::iter::repeat_with(slot).take(SOURCES.into()).collect();
        Self { slots, numbers: Mutex::new(numbers), first_life, lasting, rules }
    }

    #[inline]
    pub(super) fn may_serve(&self, source: u16, now: u64) -> Proof {
        if source == BY_AGE {
            return Proof { is_proven: true, wants_renewal: false };
        }
        let slot = self.slot(source);
        // Acquire: a caller that sees the proof also sees what the source had invalidated before.
        let left = slot.until.load(Ordering::Acquire).saturating_sub(now);
        Proof {
            is_proven: left > 0 || !self.rules.hold(Rule::Lease),
            wants_renewal: left < self.lasting / 2 && slot.is_renewal_wanted(),
        }
    }

    /// Until when the values of a source are or were proven; those by age have their deadline.
    pub(super) fn proven_until(&self, source: u16) -> u64 {
        if source == BY_AGE {
            return NEVER;
        }
        let slot = self.slot(source);
        match slot.until.load(Ordering::Acquire) {
            0 => slot.ended.load(Ordering::Acquire),
            until => until,
        }
    }

    pub(super) fn confirm(&self, source: &Source, asked_at: u64) {
        let slot = self.slot(source.0.number);
        // Answers may be handled in another order than they were asked: the latest question counts.
        // Release: what the source has invalidated was removed before, see `may_serve`.
        slot.until.fetch_max(asked_at.saturating_add(self.lasting), Ordering::Release);
        // After the new end is visible: a hit in between would ask for a second renewal.
        slot.wanted.store(false, Ordering::Relaxed);
    }

    pub(super) fn open(&self) -> Option<Source> {
        let mut numbers = lock(&self.numbers);
        let number = match numbers.free.pop() {
            Some(number) => number,
            None if numbers.used < SOURCES => {
                numbers.used += 1;
                numbers.used - 1
            }
            None => return None,
        };
        let slot = self.slot(number);
        slot.wanted.store(false, Ordering::Relaxed);
        slot.ended.store(0, Ordering::Relaxed);
        let life = slot.life.fetch_add(1, Ordering::AcqRel) + 1;
        Some(Source(SourceId { number, life }))
    }

    pub(super) fn end(&self, Source(SourceId { number, .. }): Source, now: u64) {
        let slot = self.slot(number);
        let ends_earlier = self.rules.hold(Rule::EndsEarlier);
        let until = if ends_earlier { slot.until.load(Ordering::Acquire) } else { NEVER };
        // Before the proof: a caller that finds no proof reads its end here.
        slot.ended.store(until.min(now), Ordering::Release);
        // First the proof, then the life. A read that ends in between is kept, and not served; it
        // is swept before the number is used again.
        if self.rules.hold(Rule::SourceEnds) {
            slot.until.store(0, Ordering::Release);
        }
        slot.life.fetch_add(1, Ordering::AcqRel);
        lock(&self.numbers).ended.push(number);
    }

    /// Whether the source is one of this near level, open or ended.
    pub(super) fn is_own(&self, source: SourceId) -> bool {
        source.life >> LIVES == self.first_life >> LIVES
    }

    /// Whether the source is still the one of that name.
    pub(super) fn is_open(&self, source: SourceId) -> bool {
        self.slot(source.number).life.load(Ordering::Acquire) == source.life
    }

    pub(super) fn have_ended(&self) -> bool {
        !lock(&self.numbers).ended.is_empty()
    }

    /// Takes the numbers of ended sources, for a sweep.
    pub(super) fn ended(&self) -> Vec<u16> {
        std::mem::take(&mut lock(&self.numbers).ended)
    }

    /// Numbers that no value near bears any more.
    pub(super) fn reuse(&self, numbers: Vec<u16>) {
        lock(&self.numbers).free.extend(numbers);
    }

    fn slot(&self, number: u16) -> &Slot {
        &self.slots[usize::from(number) % self.slots.len()]
    }
}

impl Slot {
    /// Elects the caller that has the proof renewed.
    fn is_renewal_wanted(&self) -> bool {
        !self.wanted.load(Ordering::Relaxed) && !self.wanted.swap(true, Ordering::Relaxed)
    }
}
