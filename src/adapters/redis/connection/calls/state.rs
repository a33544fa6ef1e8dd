//! What is under the lock of the calls.

use super::{Answer, CallId, Request};
use std::collections::VecDeque;
use std::mem;
use std::task::Waker;
use std::time::Instant;

/// As many commands are worth a system call of their own.
pub(super) const GATHERED: usize = 16;

#[derive(Debug)]
pub(super) struct State<R, E> {
    pub(super) slots: Vec<Slot<R, E>>,
    free: Vec<CallId>,
    pub(super) queue: VecDeque<Pending>,
    /// Commands that no writer has taken yet.
    pub(super) output: Vec<u8>,
    /// A writer has taken commands, and not all of them are with the operating system.
    pub(super) is_writing: bool,
    pub(super) writer: Option<CallId>,
    pub(super) reader: Option<CallId>,
    /// Why nothing more is to come.
    pub(super) end: Option<E>,
    /// Bytes that were ever appended to the output, and those of them that a writer has taken.
    pub(super) appended: u64,
    pub(super) taken: u64,
    /// How often a writer has come to an end of the output.
    pub(super) written: u64,
    /// The writer lets other tasks go on before it writes.
    pub(super) gathers: bool,
    /// How many of the queue no writer has taken.
    unsent: usize,
    /// For each write that was noted and may have unanswered commands: where it begins, in bytes
    /// since the connection was opened, and its note.
    notes: VecDeque<(u64, u64)>,
    /// Where the command begins that was answered last.
    answered_at: u64,
    pub(super) answered: u64,
    /// How many of the queue no caller waits for any more.
    pub(super) abandoned: usize,
    /// Of the watchdog, while it has nothing to watch.
    pub(super) resting: Option<Waker>,
    /// How often replies were delivered, and how many callers have not fetched their answers of the
    /// last time.
    delivery: u64,
    unfetched: usize,
    /// How many callers were given their answers the last time.
    delivered: usize,
}

#[derive(Debug)]
pub(super) enum Slot<R, E> {
    Free,
    Waiting {
        waker: Option<Waker>,
        got: Vec<R>,
        is_many: bool,
    },
    Done {
        answer: Result<Answer<R>, E>,
        /// When it came; zero if no reply was delivered.
        delivery: u64,
    },
    /// Its caller has gone; its replies are still to come.
    Abandoned,
}

/// An entry of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// `None` once its caller has the error that the deadline has passed.
    pub(super) call: Option<CallId>,
    left: usize,
    deadline: Instant,
    /// Where its command begins and ends, in bytes since the connection was opened.
    begin: u64,
    end: u64,
}

impl<R, E: Clone> State<R, E> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            output: Vec::new(),
            is_writing: false,
            writer: None,
            reader: None,
            end: None,
            appended: 0,
            taken: 0,
            written: 0,
            gathers: false,
            unsent: 0,
            notes: VecDeque::new(),
            answered_at: 0,
            answered: 0,
            abandoned: 0,
            resting: None,
            // Zero is that of no answer.
            delivery: 1,
            unfetched: 0,
            delivered: 0,
        }
    }

    /// Appends a command, and gives its call a slot and a place in the queue.
    pub(super) fn enter(
        &mut self,
        Request { replies, deadline }: Request,
        encode: impl FnOnce(&mut Vec<u8>),
        waker: Waker,
    ) -> CallId {
        let (begin, before) = (self.appended, self.output.len());
        encode(&mut self.output);
        self.appended += (self.output.len() - before) as u64;
        let is_many = replies > 1;
        let (waker, got) = (Some(waker), Vec::with_capacity(if is_many { replies } else { 0 }));
        let id = self.occupy(Slot::Waiting { waker, got, is_many });
        let end = self.appended;
        self.queue.push_back(Pending { call: Some(id), left: replies, deadline, begin, end });
        self.unsent += 1;
        id
    }

    /// Whether a call that becomes the writer lets others go first. Callers that were answered
    /// together usually call again together. While the server has nothing to do, the writer waits
    /// only for as many as one write takes.
    pub(super) fn should_gather(&self) -> bool {
        let server_has_work = self.queue.len() > 1;
        self.delivered > 1 && (server_has_work || self.delivered <= GATHERED)
    }

    /// Ends the wait of a writer that gathers, if enough has come: the server can work on the first
    /// commands while others are still being made. It is enough, too, if the server has nothing to
    /// do, and as many have called as were answered together. Whether it did; then there is no
    /// writer.
    pub(super) fn end_gathering(&mut self) -> bool {
        let (unsent, in_flight) = (self.unsent, self.queue.len());
        let is_enough = unsent >= GATHERED.max(in_flight / 4)
            || unsent == in_flight && unsent >= self.delivered;
        let ends = self.gathers && is_enough;
        if ends {
            self.writer = None;
            self.gathers = false;
        }
        ends
    }

    /// Gives the output to a writer, in exchange for an empty buffer, with a note for this write.
    pub(super) fn take_output(&mut self, spare: &mut Vec<u8>, note: Option<u64>) {
        mem::swap(&mut self.output, spare);
        self.notes.extend(note.map(|note| (self.taken, note)));
        self.taken = self.appended;
        self.unsent = 0;
        self.gathers = false;
    }

    fn occupy(&mut self, slot: Slot<R, E>) -> CallId {
        match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as CallId
            }
        }
    }

    /// The answer of a call that has one; its slot is free from now on.
    pub(super) fn answer(&mut self, id: CallId) -> Option<Result<Answer<R>, E>> {
        let slot = &mut self.slots[id as usize];
        let Slot::Done { .. } = slot else { return None };
        let Slot::Done { answer, delivery } = mem::replace(slot, Slot::Free) else { return None };
        self.free.push(id);
        self.unfetched -= usize::from(delivery == self.delivery);
        Some(answer)
    }

    /// Frees a slot that nobody looks at any more.
    pub(super) fn vacate(&mut self, id: CallId) {
        if self.answer(id).is_none() {
            self.free.push(id);
            self.slots[id as usize] = Slot::Free;
        }
    }

    /// Keeps the waker of a call that waits.
    pub(super) fn keep(&mut self, id: CallId, waker: &Waker) {
        if let Slot::Waiting { waker: kept, .. } = &mut self.slots[id as usize]
            && !kept.as_ref().is_some_and(|kept| kept.will_wake(waker))
        {
            *kept = Some(waker.clone());
        }
    }

    /// From now on answers are those of another delivery. A caller that was given its answer
    /// before, and has not fetched it since, is one that is not polled: it does not count.
    pub(super) fn begin_delivery(&mut self) {
        self.delivery += 1;
        (self.unfetched, self.delivered) = (0, 0);
    }

    pub(super) fn has_output(&self) -> bool {
        self.is_writing || !self.output.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.has_output()
    }

    pub(super) fn give_up_roles(&mut self, id: CallId) {
        for role in [&mut self.writer, &mut self.reader] {
            role.take_if(|holder| *holder == id);
        }
        self.gathers &= self.writer.is_some();
    }

    /// The first caller that waits, if a role is free that somebody must have, and no caller is
    /// about to fetch its answer.
    pub(super) fn next_to_work(&self) -> Option<Waker> {
        if self.unfetched > 0 {
            return None;
        }
        let needs_writer = self.writer.is_none() && self.has_output();
        let needs_reader = self.reader.is_none() && !self.queue.is_empty();
        if !needs_writer && !needs_reader {
            return None;
        }
        self.queue.iter().find_map(|pending| match &self.slots[pending.call? as usize] {
            Slot::Waiting { waker, .. } => waker.clone(),
            _ => None,
        })
    }

    /// Takes the command at that place of the queue back, if no writer has taken it; whether it
    /// did.
    pub(super) fn withdraw(&mut self, at: usize) -> bool {
        let Pending { begin, end, .. } = self.queue[at];
        if begin < self.taken {
            return false;
        }
        self.output.drain((begin - self.taken) as usize..(end - self.taken) as usize);
        self.queue.remove(at);
        self.unsent -= 1;
        for later in self.queue.range_mut(at..) {
            later.begin -= end - begin;
            later.end -= end - begin;
        }
        self.appended -= end - begin;
        true
    }

    /// Gives one reply to the call that it belongs to. `false` if there is none, or no writer has
    /// taken its command yet: then the reply answers something else.
    pub(super) fn deliver(&mut self, by: CallId, reply: R, wakers: &mut Vec<Waker>) -> bool {
        let Some(pending) = self.queue.front_mut().filter(|next| next.begin < self.taken) else {
            return false;
        };
        self.answered += 1;
        self.answered_at = pending.begin;
        pending.left -= 1;
        let (call, is_last) = (pending.call, pending.left == 0);
        if is_last {
            self.queue.pop_front();
        }
        let Some(id) = call else {
            self.abandoned -= usize::from(is_last);
            return true;
        };
        match &mut self.slots[id as usize] {
            Slot::Waiting { waker, got, is_many } => {
                let answer = if *is_many {
                    got.push(reply);
                    if !is_last {
                        return true;
                    }
                    Answer::Many(mem::take(got))
                } else {
                    Answer::One(reply)
                };
                if id != by {
                    wakers.extend(waker.take());
                }
                self.unfetched += 1;
                self.delivered += 1;
                let delivery = self.delivery;
                self.slots[id as usize] = Slot::Done { answer: Ok(answer), delivery };
            }
            _ if is_last => {
                self.abandoned -= 1;
                self.vacate(id);
            }
            _ => {}
        }
        true
    }

    /// The wakers of the calls that end with the connection.
    pub(super) fn fail(&mut self, end: &E) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if self.end.is_some() {
            return wakers;
        }
        self.end = Some(end.clone());
        self.output = Vec::new();
        self.is_writing = false;
        (self.writer, self.reader) = (None, None);
        for pending in mem::take(&mut self.queue) {
            let Some(id) = pending.call else { continue };
            let ended = Slot::Done { answer: Err(end.clone()), delivery: 0 };
            match mem::replace(&mut self.slots[id as usize], ended) {
                Slot::Waiting { waker, .. } => {
                    wakers.extend(waker);
                    // The server may have it, and no reply will say so.
                    self.abandoned += usize::from(pending.begin < self.taken);
                }
                // Its caller has gone before: it is counted already.
                _ => self.vacate(id),
            }
        }
        wakers.extend(self.resting.take());
        wakers
    }

    /// The note of the write to which the command belongs that was answered last; `None` if that
    /// write was not noted.
    pub(super) fn answered_note(&mut self) -> Option<u64> {
        while self.notes.get(1).is_some_and(|(begin, _)| *begin <= self.answered_at) {
            self.notes.pop_front();
        }
        self.notes.front().filter(|(begin, _)| *begin <= self.answered_at).map(|(_, note)| *note)
    }

    /// Ends the calls whose deadline has passed. Those of their commands that no writer has taken
    /// are cut out of the output, in one pass however many they are.
    pub(super) fn expire(&mut self, now: Instant, late: &E, wakers: &mut Vec<Waker>) {
        let is_late = |pending: &Pending| pending.call.is_some() && pending.deadline <= now;
        if !self.queue.iter().any(is_late) {
            return;
        }
        let before = mem::take(&mut self.output);
        for mut pending in mem::take(&mut self.queue) {
            let is_unsent = pending.begin >= self.taken;
            if is_late(&pending)
                && let Some(id) = pending.call.take()
            {
                let ended = Slot::Done { answer: Err(late.clone()), delivery: 0 };
                match mem::replace(&mut self.slots[id as usize], ended) {
                    Slot::Waiting { waker, .. } => {
                        wakers.extend(waker);
                        self.abandoned += usize::from(!is_unsent);
                    }
                    // Its caller has gone before: it is counted already.
                    _ => self.vacate(id),
                }
                if is_unsent {
                    self.unsent -= 1;
                    continue;
                }
            }
            if is_unsent {
                let range =
                    (pending.begin - self.taken) as usize..(pending.end - self.taken) as usize;
                pending.begin = self.taken + self.output.len() as u64;
                self.output.extend_from_slice(&before[range]);
                pending.end = self.taken + self.output.len() as u64;
            }
            self.queue.push_back(pending);
        }
        self.appended = self.taken + self.output.len() as u64;
    }
}
