//! The rules of the near level.

/// A rule that the near level keeps. In tests one rule can be switched off, so that the model is
/// seen to find each fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::layers::tiered) enum Rule {
    /// A read that was voided is not kept.
    Token,
    /// A value is served while its source is confirmed.
    Lease,
    /// A source that ends takes along what it vouched for.
    SourceEnds,
    /// Own writes void what is near, at their begin and at their end.
    OwnWrites,
    /// Simultaneous misses of a key are one far read.
    Joins,
    /// No read that was voided is joined.
    JoinsUnvoided,
    /// No read is joined that was sent more than half a bound ago.
    JoinsRecent,
    /// A refused answer removes what is near.
    RefusedGoes,
    /// The answer to a read voids the other reads of its key that are in flight.
    OneAnswer,
    /// The values of an ended source bear its number no longer when it is used again.
    Sweep,
    /// These values have the end of their source as their deadline.
    SweepEnds,
    /// A sweep waits for the reads that end just now.
    SweepWaits,
    /// No value is served as stale for longer than that is asked for.
    StaleFor,
    /// The proof of a value that its source had not confirmed in time did not end with the source.
    EndsEarlier,
    /// Whether a read was voided is found out in one step with keeping its value.
    OneStep,
}

/// The rules that hold: all, except in tests of the model.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::layers::tiered) struct Rules {
    #[cfg(test)]
    broken: Option<Rule>,
}

impl Rules {
    /// All rules but one.
    #[cfg(test)]
    pub(in crate::layers::tiered) fn without(broken: Option<Rule>) -> Self {
        Self { broken }
    }

    #[cfg(test)]
    pub(super) fn hold(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    #[cfg(not(test))]
    #[inline]
    pub(super) fn hold(self, _: Rule) -> bool {
        true
    }
}
