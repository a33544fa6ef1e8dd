//! The size of a run, and what is broken in it.

use crate::layers::tiered::core::Rule;

/// How many tags there are.
pub(super) const TAGS: usize = 4;

pub(super) const MS: u64 = 1_000_000;

/// No value that is served was superseded longer ago than this when the read began.
pub(super) const BOUND: u64 = 100 * MS;

/// The longest time for which a value is near.
pub(super) const TTL: u64 = 5_000 * MS;

/// How long a value is served as stale after the end of its proof.
pub(super) const STALE_FOR: u64 = 300 * MS;

/// The deadline of a request.
pub(super) const TIMEOUT: u64 = 250 * MS;

/// A link is given up after as many requests without an answer.
pub(super) const TIMEOUTS: u32 = 3;

/// The longest delay of a message while its link is well.
pub(super) const SLOWEST: u64 = 20 * MS;

#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) nodes: usize,
    pub(super) keys: usize,
    /// How long operations and faults go on.
    pub(super) lasting: u64,
    /// The mean pause between two operations of a node.
    pub(super) pause: u64,
    /// How many of 10,000 operations write.
    pub(super) writes: u32,
    /// The mean pause between two faults.
    pub(super) fault_pause: u64,
}

impl Shape {
    pub(super) const SHORT: Self = Self {
        nodes: 20,
        keys: 30,
        lasting: 3_000 * MS,
        pause: 3 * MS,
        writes: 150,
        fault_pause: 30 * MS,
    };
    pub(super) const LONG: Self = Self {
        nodes: 1_000,
        keys: 50,
        lasting: 2_000 * MS,
        pause: 5 * MS,
        writes: 10,
        fault_pause: MS,
    };
}

/// What holds in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Invariant {
    /// A read returns nothing that was superseded more than the bound before it began.
    Bounded,
    /// A read sees the writes of its process that had returned when it began.
    OwnWrites,
    /// A read returns nothing older than a read of its process that had returned when it began.
    NoGoingBack,
    /// [`Bounded`](Self::Bounded) for tags: nothing is served whose load began before the removal
    /// of one of its tags, if that removal returned more than the bound before the read began.
    Tags,
    /// Nothing is served as stale for longer than that is allowed after the end of its proof.
    StaleFor,
    /// Nothing is served as fresh for which an ended source vouched.
    EndedSource,
    /// When all is quiet and well, all nodes read the same.
    Equal,
    /// Nothing is served that had expired when the read began.
    Expired,
    /// A node sends one read of a key in half a bound, while nothing changes.
    OneRead,
    /// Reads and writes that were dropped leave nothing behind.
    NothingLeft,
}

/// What one run does wrong, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// A rule of the core does not hold.
    Without(Rule),
    /// An answer confirms the time at which it arrived.
    ConfirmsArrival,
    /// The life of a value counts from the arrival of the answer.
    LifeFromArrival,
    /// Invalidations are handled by a task of their own, and answers are not.
    InvalidationsLater,
    /// Some invalidations are lost, and their link is not.
    InvalidationsLost,
    /// A joined answer is taken although it had expired when the caller began.
    JoinsExpired,
    /// A read whose caller was dropped stays in flight.
    DropsStay,
    /// The records of the tags are read after the load, and not before it.
    RecordsAfterLoad,
    /// An entry is judged by its tags when it is read from the store, and not when it is near.
    JudgedOnce,
    /// A tag that is used again after its removal has the same generation.
    GenerationsAgain,
}

impl Fault {
    /// Every fault, and the invariant that it breaks.
    pub(super) const ALL: [(Self, Invariant); 22] = [
        (Self::Without(Rule::Token), Invariant::Bounded),
        (Self::Without(Rule::Lease), Invariant::Bounded),
        (Self::Without(Rule::SourceEnds), Invariant::EndedSource),
        (Self::Without(Rule::Sweep), Invariant::EndedSource),
        (Self::Without(Rule::SweepEnds), Invariant::EndedSource),
        (Self::Without(Rule::StaleFor), Invariant::StaleFor),
        (Self::Without(Rule::EndsEarlier), Invariant::StaleFor),
        (Self::Without(Rule::OwnWrites), Invariant::OwnWrites),
        (Self::Without(Rule::Joins), Invariant::OneRead),
        (Self::Without(Rule::JoinsUnvoided), Invariant::OwnWrites),
        (Self::Without(Rule::JoinsRecent), Invariant::Bounded),
        (Self::Without(Rule::RefusedGoes), Invariant::NoGoingBack),
        (Self::Without(Rule::OneAnswer), Invariant::NoGoingBack),
        (Self::ConfirmsArrival, Invariant::Bounded),
        (Self::LifeFromArrival, Invariant::Expired),
        (Self::InvalidationsLater, Invariant::Bounded),
        (Self::InvalidationsLost, Invariant::Equal),
        (Self::JoinsExpired, Invariant::Expired),
        (Self::DropsStay, Invariant::NothingLeft),
        (Self::RecordsAfterLoad, Invariant::Tags),
        (Self::JudgedOnce, Invariant::Tags),
        (Self::GenerationsAgain, Invariant::Tags),
    ];

    pub(super) fn rule(self) -> Option<Rule> {
        if let Self::Without(rule) = self { Some(rule) } else { None }
    }
}
