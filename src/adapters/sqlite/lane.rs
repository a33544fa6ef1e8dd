//! A lane: a queue in front of one or more connections, and the state of each connection.

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

/// The state of one connection of a lane.
pub(super) enum Slot {
    /// The connection is not open.
    Closed,
    Idle(Connection),
    /// A caller drives a statement on it.
    CallerDriven(u64, Run),
    /// A background task drives the connection.
    TaskDriven,
}

/// A running statement with everything that a task needs to finish it.
pub(super) type Run = BoxFuture<'static, Ran>;

pub(super) struct Ran {
    pub(super) connection: Connection,
    pub(super) work: Box<dyn Work>,
    pub(super) result: sqlx::Result<()>,
}

/// Where a background task starts.
pub(super) enum Start {
    Loaded(Option<Connection>),
    Resume(Run),
    /// A statement that a caller ran and that failed, so its caller has no answer yet.
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

    /// Takes the idle connection with the lowest index: it is used most, so its
    /// statements are the most likely to be prepared.
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

    /// Takes a running statement from the caller that drives it.
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

/// Runs one job once. A caller may drive this future.
pub(super) async fn attempt(mut connection: Connection, mut work: Box<dyn Work>) -> Ran {
    let result = work.run(connection.raw()).await;
    Ran { connection, work, result }
}
