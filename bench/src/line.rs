//! What is compared: a line has contestants, a curve has a line at each of its points.

use crate::figure::Unit;
use crate::goal::Goal;
use std::hint::black_box;

/// One comparison: a row of the page's first table.
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) goal: Option<Goal>,
    pub(crate) instructions: bool,
    pub(crate) rounds: Option<usize>,
    pub(crate) note: &'static str,
}

impl Line {
    /// `id` is what filters match, such as `memory/arc-hot`; its part before the slash is the
    /// section of the page.
    pub(crate) fn new(id: impl Into<String>, title: impl Into<String>, unit: Unit) -> Self {
        Self {
            id: id.into(),
            title: title.into(),
            unit,
            goal: None,
            instructions: false,
            rounds: None,
            note: "",
        }
    }

    pub(crate) fn goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Counts instructions an operation as well, where valgrind is installed. For contestants that
    /// do [`Contestant::work`].
    pub(crate) fn instructions(self) -> Self {
        Self { instructions: true, ..self }
    }

    /// How many rounds, where the usual number would take too long.
    pub(crate) fn rounds(self, rounds: usize) -> Self {
        Self { rounds: Some(rounds), ..self }
    }

    /// Said under the table: what the reader has to know.
    pub(crate) fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

/// A contestant. The name of larder's own begins with `larder`; the first of them is the line's
/// figure.
pub(crate) struct Contestant<'a> {
    pub(crate) name: String,
    pub(crate) task: Task<'a>,
}

pub(crate) enum Task<'a> {
    /// Does so many operations; the runner times it, and counts allocations and instructions.
    Work(Box<dyn FnMut(usize) + 'a>),
    /// Does a round of its own, and says what came out, in the line's unit.
    Round(Box<dyn FnMut() -> f64 + 'a>),
}

impl<'a> Contestant<'a> {
    /// Times `operation` by itself, in nanoseconds.
    pub(crate) fn work<R>(name: impl Into<String>, mut operation: impl FnMut() -> R + 'a) -> Self {
        let task = Task::Work(Box::new(move |count| {
            for _ in 0..count {
                black_box(operation());
            }
        }));
        Self { name: name.into(), task }
    }

    /// Times operations that are done at once, in nanoseconds each: `work` gets their number.
    pub(crate) fn batch(name: impl Into<String>, work: impl FnMut(usize) + 'a) -> Self {
        Self { name: name.into(), task: Task::Work(Box::new(work)) }
    }

    /// A round that measures itself: a rate, a ratio, a size.
    pub(crate) fn round(name: impl Into<String>, round: impl FnMut() -> f64 + 'a) -> Self {
        Self { name: name.into(), task: Task::Round(Box::new(round)) }
    }
}
