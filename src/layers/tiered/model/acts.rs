//! What nodes do of their own accord: reads, writes, and their end.

use super::answers::Found;
use super::history::Content;
use super::node::{Caller, Flight, LINKS, Latest, Look, Purpose, group, name};
use super::purposes::For;
use super::run::{Event, Followers, Run};
use super::server::{GROUPS, Request};
use super::settings::{BOUND, Invariant, MS};
use crate::layers::tiered::core::{Begun, Changed, Joining};

impl Run {
    pub(super) fn act(&mut self, node: usize) {
        if self.is_over {
            return;
        }
        let key = self.any_key();
        let is_write = self.rng.u32(..10_000) < self.shape.writes;
        match self.rng.u8(..100) {
            0..35 if is_write => self.set(node, key),
            35..60 if is_write => {
                let life = self.any_life();
                self.load(node, key, life);
            }
            60..70 if is_write => self.remove_tag(node),
            70..80 if is_write => self.write(node, key, Request::Remove(key)),
            80..98 if is_write => {
                let life = self.any_life();
                self.write(node, key, Request::Touch { key, life });
            }
            _ if is_write => self.clear(node, key),
            0..6 => self.read(node, key, true),
            _ => self.read(node, key, false),
        }
        self.act_later(node);
    }

    /// Some keys are used much more than others.
    pub(super) fn any_key(&mut self) -> usize {
        let some = self.rng.usize(..self.shape.keys);
        let fewer = self.rng.usize(..=some);
        self.rng.usize(..=fewer)
    }

    fn set(&mut self, node: usize, key: usize) {
        let life = self.any_life();
        self.write(node, key, Request::Set { key, content: Content::PLAIN, life });
    }

    /// What is missing is often loaded, and written.
    pub(super) fn missed(&mut self, node: usize, key: usize) {
        if self.is_over || self.rng.u8(..) >= 64 {
            return;
        }
        if self.rng.bool() {
            self.load(node, key, None);
        } else {
            self.write(node, key, Request::Set { key, content: Content::PLAIN, life: None });
        }
    }

    fn any_life(&mut self) -> Option<u64> {
        (self.rng.u8(..) < 64).then(|| self.rng.u64(20 * MS..500 * MS))
    }

    pub(super) fn read(&mut self, node: usize, key: usize, is_far: bool) {
        self.read_for(node, key, is_far, For::Caller);
    }

    pub(super) fn read_for(&mut self, node: usize, key: usize, is_far: bool, what_for: For) {
        let begun = self.schedule.now;
        let floor = self.nodes[node].floors[key];
        self.look(node, Caller { key, begun, floor, is_far, what_for });
    }

    /// Looks near, and then far.
    pub(super) fn look(&mut self, node: usize, caller: Caller) {
        if !caller.is_far {
            let Look { hit, is_late, asks } = self.nodes[node].look(caller.key, self.schedule.now);
            if let Some(link) = asks.and_then(|source| self.nodes[node].link_of(source)) {
                self.report.renewals += 1;
                self.send(node, link, Purpose::Ping, Request::Ping);
            }
            self.report.late_proofs += u64::from(is_late);
            if let Some(seen) = hit {
                self.report.hits += 1;
                if seen.through > 0 && self.nodes[node].link_through(seen.through).is_none() {
                    let what = || format!("node {node}, key {}: {seen:?}", caller.key);
                    self.report.violation(Invariant::EndedSource, what);
                }
                return self.answered(node, caller, seen.state, Found::Near);
            }
        }
        self.look_far(node, caller);
    }

    fn look_far(&mut self, node: usize, caller: Caller) {
        let Caller { key, is_far, .. } = caller;
        let now = self.schedule.now;
        let number = self.requests + 1;
        let joining = if is_far { Joining::No } else { Joining::Allowed };
        let home = &mut self.nodes[node];
        let begun = home.core.begin_read(&name(key), home.clock + now, joining, || number);
        let read = match begun {
            Begun::Joined(number) => {
                self.report.joined += 1;
                match home.flights.get_mut(&number) {
                    Some(flight) => flight.callers.push(caller),
                    None => self.failed(node, caller),
                }
                return;
            }
            Begun::Sent(read) => read,
        };
        self.note_far_read(node, key, is_far);
        let home = &mut self.nodes[node];
        home.flights.insert(number, Flight { read, key, callers: vec![caller] });
        let link = self.any_link(key);
        if self.send(node, link, Purpose::Read(number), Request::Get(key)) != Some(number) {
            return self.lose_flight(node, number, Followers::Fail);
        }
        if !self.is_over && self.rng.u8(..) < 5 {
            let life = self.nodes[node].life;
            let leaves = now + self.rng.u64(..3 * MS);
            self.schedule.at(leaves, Event::Dropped { node, life, number });
        }
    }

    /// A key has its link; a batch of keys has another.
    fn any_link(&mut self, key: usize) -> usize {
        if self.rng.u8(..) < 80 { (key + 1) % LINKS } else { key % LINKS }
    }

    fn note_far_read(&mut self, node: usize, key: usize, is_far: bool) {
        self.report.far_reads += 1;
        let now = self.schedule.now;
        let latest = self.nodes[node].latest[key].replace(Latest { sent: now, deadline: u64::MAX });
        if let Some(Latest { sent, deadline }) = latest
            && !is_far
            && now - sent < BOUND / 2
            && now < deadline
        {
            let what = || format!("node {node}, key {key}: read at {sent} and at {now}");
            self.report.violation(Invariant::OneRead, what);
        }
    }

    pub(super) fn write(&mut self, node: usize, key: usize, request: Request) {
        self.nodes[node].changed(key);
        drop(self.nodes[node].core.begin_write(Changed::Key(&name(key))));
        self.send_write(node, key, Purpose::WriteKey(key), request);
    }

    fn clear(&mut self, node: usize, key: usize) {
        self.nodes[node].all_changed();
        drop(self.nodes[node].core.begin_write(Changed::Below(&group(key))));
        self.send_write(node, key, Purpose::WriteGroup(key), Request::Clear(key % GROUPS));
    }

    pub(super) fn send_write(
        &mut self,
        node: usize,
        key: usize,
        purpose: Purpose,
        request: Request,
    ) {
        match self.send(node, key % LINKS, purpose, request) {
            Some(number) if self.rng.u8(..) < 5 => {
                let life = self.nodes[node].life;
                let leaves = self.schedule.now + self.rng.u64(..3 * MS);
                self.schedule.at(leaves, Event::Dropped { node, life, number });
            }
            Some(_) => {}
            None => {
                self.report.failed += 1;
                self.end_write(node, purpose);
            }
        }
    }

    pub(super) fn end_write(&mut self, node: usize, purpose: Purpose) {
        let home = &mut self.nodes[node];
        match purpose {
            Purpose::WriteKey(key) | Purpose::Add { record: key, .. } => {
                home.changed(key);
                drop(home.core.end_write(Changed::Key(&name(key))));
            }
            Purpose::WriteGroup(key) => {
                home.all_changed();
                drop(home.core.end_write(Changed::Below(&group(key))));
            }
            Purpose::Track | Purpose::Ping | Purpose::Read(_) => {}
        }
    }
}
