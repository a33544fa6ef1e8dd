//! A lane: a queue before one or more connections, and what each connection is doing.

use super::batch::Job;
use super::connection::database::{Connection, Role};
use super::job::Work;
use crate::batching::{Limits, Queue};
use crate::runtime::lock;
use futures_util::future::BoxFuture;
use std::mem;
use std::sync::{Mutex, MutexGuard};

pub(super) struct Lane {
    pub(super) role: Role,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) slots: Vec<Slot>,
    pub(super) queue: Queue<Job>,
    limits: Limits,
}

/// What a connection of a lane is doing.
pub(super) enum Slot {
    /// There is none yet, or no more.
    Closed,
    Idle(Connection),
    /// A caller drives a statement on it.
    CallerDriven(u64, Run),
    /// A background task has it.
    TaskDriven,
}

/// A statement on its way, with all it needs to be finished by anybody.
pub(super) type Run = BoxFuture<'static, Ran>;

pub(super) struct Ran {
    pub(super) connection: Connection,
    pub(super) work: Box<dyn Work>,
    pub(super) result: sqlx::Result<()>,
}

/// What a background task starts from.
pub(super) enum Start {
    Loaded(Option<Connection>),
    Resume(Run),
    /// A statement of a caller's that came to an end without an answer for its caller.
    Failed(Ran),
}

impl Lane {
    pub(super) fn new(role: Role, width: usize, limits: Limits) -> Self {
        let slots = (0..width).map(|_| Slot::Closed).collect();
        Self { role, state: Mutex::new(State { slots, queue: Queue::new(limits), limits }) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    pub(super) fn find(&mut self, wanted: impl Fn(&Slot) -> bool) -> Option<usize> {
        self.slots.iter().position(wanted)
    }

    /// Leaves all connections and jobs to the process that this one was forked from.
    pub(super) fn forget(&mut self) {
        for slot in &mut self.slots {
            mem::forget(mem::replace(slot, Slot::Closed));
        }
        mem::forget(mem::replace(&mut self.queue, Queue::new(self.limits)));
    }

    /// Takes the lowest idle connection out: its statements are the warmest.
    pub(super) fn take_idle(&mut self) -> Option<(usize, Connection)> {
        let at = self.find(|slot| matches!(slot, Slot::Idle(_)))?;
        match mem::replace(&mut self.slots[at], Slot::TaskDriven) {
            Slot::Idle(connection) => Some((at, connection)),
            other => {
                self.slots[at] = other;
                None
            }
        }
    }

    /// Takes a statement away from the caller who drives it.
    pub(super) fn take_caller_driven(
        &mut self,
        wanted: impl Fn(u64) -> bool,
    ) -> Option<(usize, Run)> {
        let at =
            self.find(|slot| matches!(slot, Slot::CallerDriven(ticket, _) if wanted(*ticket)))?;
        match mem::replace(&mut self.slots[at], Slot::TaskDriven) {
            Slot::CallerDriven(_, run) => Some((at, run)),
            other => {
                self.slots[at] = other;
                None
            }
        }
    }
}

/// One job, once: what a caller may drive.
pub(super) async fn attempt(mut connection: Connection, mut work: Box<dyn Work>) -> Ran {
    let result = work.run(connection.raw()).await;
    Ran { connection, work, result }
}
