//! How requests end: with an answer, without one, or given up.

use super::history::Content;
use super::node::{Caller, Flight, Purpose, key_of, name};
use super::purposes::For;
use super::run::{Followers, Reply, Run};
use super::server::Body;
use super::settings::{Fault, Invariant, TIMEOUTS};
use crate::layers::tiered::core::{Answer, NEVER, is_good_for};
use crate::layers::tiered::map::Seen;

/// Where a read has found what it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Near,
    Far,
}

impl Run {
    pub(super) fn wake(&mut self, node: usize, number: u64, answer: Reply) {
        let Some(pending) = self.nodes[node].pending.remove(&number) else { return };
        if !pending.is_wanted {
            return;
        }
        match (pending.purpose, answer.body) {
            (Purpose::Read(number), body) => {
                let answer = Reply { body, ..answer };
                self.end_read(node, number, answer);
            }
            (Purpose::Add { load, .. }, Body::Added { record, state }) => {
                self.end_write(node, pending.purpose);
                self.added(node, record, state, load);
            }
            (purpose, Body::Written { key, state }) => {
                self.end_write(node, purpose);
                self.written(node, key, state);
            }
            (purpose, Body::Cleared(made)) => {
                self.end_write(node, purpose);
                made.into_iter().for_each(|(key, state)| self.written(node, key, state));
            }
            (purpose, _) => self.end_write(node, purpose),
        }
    }

    /// A write has returned.
    pub(super) fn written(&mut self, node: usize, key: usize, state: u32) {
        let now = self.schedule.now;
        self.report.writes += 1;
        self.history.returned(key, state, now);
        if key >= self.shape.keys && !self.history.state(key, state).is_value() {
            self.history.removed(key, state, now, (node, self.nodes[node].life));
        }
        let floor = &mut self.nodes[node].floors[key];
        floor.written = floor.written.max(state);
    }

    fn end_read(&mut self, node: usize, number: u64, answer: Reply) {
        let now = self.schedule.now;
        let home = &mut self.nodes[node];
        let Some(Flight { read, key, callers }) = home.flights.remove(&number) else { return };
        let arrival = self.fault == Fault::LifeFromArrival;
        let late = if arrival { home.clock + now - read.begun() } else { 0 };
        let (state, answer) = match answer.body {
            Body::Found { state, left } => {
                let through = if answer.source.is_some() { answer.through } else { 0 };
                let value = Seen { state, through };
                let left = left.map_or(NEVER, |left| left + late);
                (state, Answer::Value { value, left, source: answer.source })
            }
            Body::Missing { state } => (state, Answer::NotKept),
            Body::Done | Body::Written { .. } | Body::Added { .. } | Body::Cleared(_) => return,
        };
        let ended = home.core.end_read(read, &name(key), answer);
        debug_assert_eq!(ended.joined, Some(number), "callers join the read that they wait for");
        self.report.kept += u64::from(ended.kept);
        self.report.refused += u64::from(ended.refused.is_some());
        // This answer has voided the other reads of the key.
        let is_alone = home.flights.values().all(|flight| flight.key != key);
        match &mut home.latest[key] {
            Some(latest) if ended.kept && is_alone => {
                latest.deadline = ended.deadline.saturating_sub(home.clock);
            }
            latest => *latest = None,
        }
        let evicted = ended.gone.as_ref().and_then(|gone| key_of(gone.as_deref()?));
        if let Some(evicted) = evicted {
            home.changed(evicted);
        }
        let clock = home.clock;
        if key < self.shape.keys && !self.history.state(key, state).is_value() {
            self.missed(node, key);
        }
        for caller in callers {
            let is_good = is_good_for(caller.begun + clock, ended.deadline);
            if is_good || self.fault == Fault::JoinsExpired {
                self.answered(node, caller, state, Found::Far);
            } else {
                self.look(node, caller);
            }
        }
    }

    /// A read returns, and what it was for goes on.
    pub(super) fn answered(&mut self, node: usize, caller: Caller, state: u32, found: Found) {
        self.check(node, caller, state);
        let content = self.history.state(caller.key, state).content;
        match caller.what_for {
            For::Caller if found == Found::Near && self.fault == Fault::JudgedOnce => {
                self.served(node, caller.key, content, caller.begun);
            }
            For::Caller => self.judge(node, caller, content),
            For::Entry(entry) => self.record_of_entry(node, entry, content),
            For::Load(load) => self.record_of_load(node, load, content),
        }
    }

    fn check(&mut self, node: usize, caller: Caller, state: u32) {
        let Caller { key, begun, floor, .. } = caller;
        let (now, history) = (self.schedule.now, &self.history);
        let what = || {
            let present = history.present(key);
            let (state, floor) = (history.state(key, state), floor);
            format!(
                "node {node}, key {key}, begun {begun}, now {now}: {state:?}, {floor:?}, {present}"
            )
        };
        for invariant in history.broken_by(key, state, begun, floor) {
            self.report.violation(invariant, what);
        }
        let is_present = state == history.present(key) || history.state(key, state).deadline <= now;
        if begun >= self.equal_from && !is_present {
            self.report.violation(Invariant::Equal, what);
        }
        self.report.oldest = self.report.oldest.max(history.age(key, state, begun).unwrap_or(0));
        let floor = &mut self.nodes[node].floors[key];
        floor.read = floor.read.max(state);
    }

    fn take_stale(&mut self, node: usize, caller: Caller) {
        let Caller { key, floor, what_for: For::Caller, .. } = caller else { return };
        let now = self.schedule.now;
        let Some(Seen { state, .. }) = self.nodes[node].look_stale(key, now) else { return };
        // An entry with tags is served only if its records are proven.
        if self.history.state(key, state).content != Content::PLAIN {
            return;
        }
        self.report.stale += 1;
        let what = || {
            let state = self.history.state(key, state);
            format!("node {node}, key {key}, stale at {now}: {state:?}, {floor:?}")
        };
        for invariant in self.history.broken_as_stale_by(key, state, now, floor) {
            self.report.violation(invariant, what);
        }
    }

    pub(super) fn time_out(&mut self, node: usize, number: u64) {
        let home = &mut self.nodes[node];
        let Some(pending) = home.pending.get(&number).copied() else { return };
        let link = home.link_through(pending.connection);
        self.give_up(node, number, Followers::Fail);
        let Some(link) = link else { return };
        let timeouts = &mut self.nodes[node].links[link].timeouts;
        *timeouts += 1;
        if *timeouts >= TIMEOUTS || matches!(pending.purpose, Purpose::Track) {
            self.close(pending.connection);
            self.lose(node, link);
        }
    }

    /// Nobody waits for a request any more. Its answer may come all the same, and then it is one.
    pub(super) fn give_up(&mut self, node: usize, number: u64, followers: Followers) {
        let Some(pending) = self.nodes[node].pending.get_mut(&number) else { return };
        if !std::mem::replace(&mut pending.is_wanted, false) {
            return;
        }
        match pending.purpose {
            Purpose::Read(number) => self.lose_flight(node, number, followers),
            purpose => self.end_write(node, purpose),
        }
    }

    pub(super) fn lose_flight(&mut self, node: usize, number: u64, followers: Followers) {
        let home = &mut self.nodes[node];
        let Some(Flight { read, key, callers }) = home.flights.remove(&number) else { return };
        if self.fault != Fault::DropsStay {
            home.core.abandon_read(read);
        }
        home.changed(key);
        // The first is the caller that sent it.
        for (position, caller) in callers.into_iter().enumerate() {
            match followers {
                Followers::LookAgain if position > 0 => self.look(node, caller),
                Followers::LookAgain => {}
                Followers::Fail => self.failed(node, caller),
            }
        }
    }

    /// A read ends without an answer. Its caller takes what is near as stale.
    pub(super) fn failed(&mut self, node: usize, caller: Caller) {
        self.report.failed += 1;
        self.take_stale(node, caller);
        if caller.begun >= self.answered_from {
            let what = || format!("key {} is not answered", caller.key);
            self.report.violation(Invariant::Equal, what);
        }
    }
}
