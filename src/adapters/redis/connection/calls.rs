//! The calls in flight on one connection, and the two roles that their callers take in turn.
//!
//! There is no I/O and no clock here: this is the state that [`Wire`](super::wire::Wire) drives,
//! and that shuttle drives in tests.
//!
//! A call appends its command to the *output* and enters the *queue*: redis answers in the order in
//! which it is asked. A caller that finds no writer becomes the *writer*, and a caller that finds
//! no reader becomes the *reader*. A role is the number of a call in this state and never a part of
//! a future, so a role can be passed on when its holder is dropped, and the *watchdog* can take the
//! role of a caller that is alive and not polled.

mod state;

use crate::sync::{Mutex, MutexGuard, lock};
use state::{Slot, State};
use std::task::Waker;
use std::time::Instant;

/// Names a call while it is in flight.
pub(super) type CallId = u32;

/// Takes a role where no caller can.
pub(super) const WATCHDOG: CallId = CallId::MAX;

/// Who writes and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapters::redis) enum Drive {
    /// The callers in turn, on a connection of their runtime: no wake-up of another task lies
    /// between a call and its answer.
    ByCallers,
    /// The watchdog, on larder's background runtime: reading a large reply takes a thread for so
    /// long that other tasks of the callers' runtimes would notice.
    ByWatchdog,
}

/// What a server answered to one call.
#[derive(Debug, PartialEq)]
pub(super) enum Answer<R> {
    One(R),
    /// To several commands that were sent together, in their order.
    Many(Vec<R>),
}

/// What a call asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// How many replies belong to it; one at least.
    pub(super) replies: usize,
    pub(super) deadline: Instant,
}

/// What a caller has to do now. If it has no role, it waits, and its waker is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) write: bool,
    pub(super) read: bool,
}

/// A call that is in flight from now on.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: CallId,
    pub(super) roles: Roles,
    /// The call is the writer, and others are about to call: their commands can go out in the same
    /// system call. When enough has come, the writer is another call.
    pub(super) gathers: bool,
}

/// Replies that were given to their calls, whose callers are still to be woken.
#[derive(Debug)]
#[must_use]
pub(super) struct Delivery {
    /// `false` if a reply came that no command was sent for.
    belongs: bool,
    wakers: Vec<Waker>,
}

impl Delivery {
    /// Wakes the callers; returns whether all replies belonged to calls. Without the lock of the
    /// input: callers on other threads read next, and would wait for it.
    pub(super) fn wake(self) -> bool {
        self.wakers.into_iter().for_each(Waker::wake);
        self.belongs
    }
}

/// What a poll of a call comes to.
#[derive(Debug)]
pub(super) enum Turn<R, E> {
    Done(Result<Answer<R>, E>),
    Work(Roles),
}

/// What the watchdog saw at its last look: how far writing and reading had come, where there was
/// something to write and to read.
#[derive(Debug, Default)]
pub(super) struct Seen {
    written: Option<u64>,
    answered: Option<u64>,
}

/// What the watchdog has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) write: bool,
    pub(super) read: bool,
    /// Nothing is in flight.
    pub(super) is_idle: bool,
}

#[derive(Debug)]
pub(super) struct Calls<R, E> {
    drive: Drive,
    state: Mutex<State<R, E>>,
}

impl<R, E: Clone> Calls<R, E> {
    pub(super) fn new(drive: Drive) -> Self {
        Self { drive, state: Mutex::new(State::new()) }
    }

    fn state(&self) -> MutexGuard<'_, State<R, E>> {
        lock(&self.state)
    }

    /// Puts a call in flight, and keeps its waker. The call takes the roles that are free.
    ///
    /// # Errors
    ///
    /// The error by which the connection ended.
    pub(super) fn begin(
        &self,
        request: Request,
        encode: impl FnOnce(&mut Vec<u8>),
        waker: &Waker,
    ) -> Result<Begun, E> {
        let mut state = self.state();
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        let id = state.enter(request, encode, waker.clone());
        let is_enough = state.end_gathering();
        let roles = self.roles(&mut state, id);
        let gathers = roles.write && !is_enough && state.should_gather();
        state.gathers |= gathers;
        let resting = state.resting.take();
        drop(state);
        if let Some(watchdog) = resting {
            watchdog.wake();
        }
        Ok(Begun { id, roles, gathers })
    }

    /// What the caller of `id` has to do now. The call takes the roles that are free. Its waker is
    /// kept in any case: another caller may read its answer, or a role may be taken away from it.
    pub(super) fn poll(&self, id: CallId, waker: &Waker) -> Turn<R, E> {
        let mut state = self.state();
        if let Some(answer) = state.answer(id) {
            let next = self.pass_on(&mut state, id);
            drop(state);
            if let Some(next) = next {
                next.wake();
            }
            return Turn::Done(answer);
        }
        state.keep(id, waker);
        Turn::Work(self.roles(&mut state, id))
    }

    fn roles(&self, state: &mut State<R, E>, id: CallId) -> Roles {
        if self.drive == Drive::ByWatchdog {
            return Roles { write: false, read: false };
        }
        if state.writer.is_none() && state.has_output() {
            state.writer = Some(id);
        }
        let reader = *state.reader.get_or_insert(id);
        Roles { write: state.writer == Some(id), read: reader == id }
    }

    /// The caller of `id` has gone before its answer. What no writer has taken yet is never sent.
    pub(super) fn leave(&self, id: CallId) {
        let mut state = self.state();
        let at = state.queue.iter().rposition(|pending| pending.call == Some(id));
        match at {
            Some(at) if !state.withdraw(at) => {
                state.slots[id as usize] = Slot::Abandoned;
                state.abandoned += 1;
            }
            // It has its answer, or was never sent.
            _ => state.vacate(id),
        }
        let next = self.pass_on(&mut state, id);
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Gives the writer what has come since: `spare`, an empty buffer, is exchanged for it. `false`
    /// if nothing has: then there is no writer any more, and the next call finds that out under the
    /// same lock. `note` is asked for a note about this write, before anything of it is sent.
    pub(super) fn take_output(
        &self,
        spare: &mut Vec<u8>,
        note: impl FnOnce() -> Option<u64>,
    ) -> bool {
        let mut state = self.state();
        state.written += 1;
        state.is_writing = !state.output.is_empty();
        if !state.is_writing {
            state.writer = None;
            return false;
        }
        state.take_output(spare, note());
        true
    }

    /// Gives replies to the calls that they belong to. The call `by` is not woken, because it
    /// delivers. `answered` gets the note of the newest write of which something is answered now,
    /// before callers are woken.
    pub(super) fn deliver(
        &self,
        by: CallId,
        replies: impl ExactSizeIterator<Item = R>,
        answered: impl FnOnce(u64),
    ) -> Delivery {
        let others = replies.len().saturating_sub(1);
        let mut delivery = Delivery { belongs: true, wakers: Vec::with_capacity(others) };
        let mut state = self.state();
        state.begin_delivery();
        for reply in replies {
            delivery.belongs = state.deliver(by, reply, &mut delivery.wakers);
            if !delivery.belongs {
                break;
            }
        }
        let note = if delivery.belongs { state.answered_note() } else { None };
        drop(state);
        if let Some(note) = note {
            answered(note);
        }
        delivery
    }

    /// Ends the connection: all calls in flight and all later ones have this error.
    pub(super) fn fail(&self, end: &E) {
        let mut state = self.state();
        let wakers = state.fail(end);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the server may not have executed yet what no caller waits for any more; also of a
    /// connection that has ended.
    pub(super) fn has_abandoned(&self) -> bool {
        self.state().abandoned > 0
    }

    /// How many replies have come.
    pub(super) fn answered(&self) -> u64 {
        self.state().answered
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state().is_idle()
    }

    /// Whether a writer has taken commands that are not with the operating system yet.
    #[cfg(test)]
    pub(super) fn is_writing(&self) -> bool {
        self.state().is_writing
    }

    /// The watchdog's look: ends the calls whose deadline has passed, and takes the roles of those
    /// that made no progress since the last look. Such a caller may be waiting for the network; it
    /// may also be alive and never polled again.
    pub(super) fn watch(&self, now: Instant, seen: &mut Seen, late: &E) -> Watch {
        let mut wakers = Vec::new();
        let mut state = self.state();
        state.expire(now, late, &mut wakers);
        let (is_idle, has_output) = (state.is_idle(), state.has_output());
        let now_seen = Seen {
            written: has_output.then_some(state.written),
            answered: (!state.queue.is_empty()).then_some(state.answered),
        };
        let takes = |now: Option<u64>, before: Option<u64>| {
            now.is_some() && (self.drive == Drive::ByWatchdog || now == before)
        };
        if takes(now_seen.written, seen.written) {
            state.writer = Some(WATCHDOG);
            state.gathers = false;
        }
        if takes(now_seen.answered, seen.answered) {
            state.reader = Some(WATCHDOG);
        }
        *seen = now_seen;
        let watch = Watch {
            write: state.writer == Some(WATCHDOG),
            read: state.reader == Some(WATCHDOG),
            is_idle,
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        watch
    }

    /// Gives back what the watchdog took: callers do it faster.
    pub(super) fn stand_down(&self) {
        let mut state = self.state();
        let next = self.pass_on(&mut state, WATCHDOG);
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Keeps the watchdog's waker until there is something to do; `false` if there is already: a
    /// call, or the end.
    pub(super) fn rest(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        let rests = state.is_idle() && state.end.is_none();
        if rests {
            state.resting = Some(waker.clone());
        }
        rests
    }

    /// The same for the watchdog that writes and reads itself: `false` if there is output that it
    /// has not begun to write, or the end.
    pub(super) fn attend(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        state.resting = Some(waker.clone());
        state.end.is_none() && (state.is_writing || state.output.is_empty())
    }

    /// Takes `id` out of its roles. The caller that is next is returned, to be woken: it takes the
    /// roles when it is polled, and if it is dropped instead it passes them on in turn. Without
    /// such a caller they are the watchdog's, at its next look.
    ///
    /// Nobody is woken while callers of the last delivery have not fetched their answers. They are
    /// woken already, and many of them call again, and take the roles with that call. The last one
    /// to fetch its answer looks whether a role is still free.
    fn pass_on(&self, state: &mut State<R, E>, id: CallId) -> Option<Waker> {
        state.give_up_roles(id);
        if self.drive == Drive::ByWatchdog { None } else { state.next_to_work() }
    }
}

#[cfg(all(test, shuttle))]
mod schedules;
#[cfg(test)]
mod tests;
