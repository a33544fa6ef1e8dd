//! Requests and answers, on their way to the server and back.

use super::node::{Pending, Purpose, name};
use super::run::{Event, Message, Reply, Run};
use super::server::{Body, Invalidation, Request};
use super::settings::{BOUND, Fault, MS, TIMEOUT};
use crate::layers::tiered::core::Source;

impl Run {
    /// Sends a request through a link. Returns its number; `None` if the link is down.
    pub(super) fn send(
        &mut self,
        node: usize,
        link: usize,
        purpose: Purpose,
        request: Request,
    ) -> Option<u64> {
        let home = &mut self.nodes[node];
        let connection = home.links[link].connection?;
        if !home.links[link].is_ready && !matches!(purpose, Purpose::Track) {
            return None;
        }
        self.requests += 1;
        let (now, number) = (self.schedule.now, self.requests);
        let asked_at = home.clock + now;
        home.pending.insert(number, Pending { connection, asked_at, purpose, is_wanted: true });
        let life = home.life;
        let direction = &mut self.connections[connection as usize].to_server;
        if let Some(arrives) = direction.send(now, &mut self.rng) {
            self.schedule.at(arrives, Event::ToServer { connection, number, request });
        }
        self.schedule.at(now + TIMEOUT, Event::Timeout { node, life, number });
        Some(number)
    }

    pub(super) fn serve(&mut self, connection: u32, number: u64, request: Request) {
        if !self.connections[connection as usize].is_served {
            return;
        }
        let (now, mut sent) = (self.schedule.now, Vec::new());
        let all = &mut self.connections;
        let body = self.server.answer(connection, request, all, &mut self.history, now, &mut sent);
        self.send_to_node(connection, Message::Answer { number, body });
        self.send_invalidations(sent);
    }

    pub(super) fn send_invalidations(&mut self, all: Vec<(u32, Invalidation)>) {
        for (connection, invalidation) in all {
            self.send_to_node(connection, Message::Invalidation(invalidation));
        }
    }

    pub(super) fn send_to_node(&mut self, connection: u32, message: Message) {
        let direction = &mut self.connections[connection as usize].to_node;
        if let Some(arrives) = direction.send(self.schedule.now, &mut self.rng) {
            self.schedule.at(arrives, Event::ToNode { connection, message });
        }
    }

    pub(super) fn arrive(&mut self, connection: u32, message: Message) {
        let node = self.connections[connection as usize].node;
        let Some(link) = self.nodes[node].link_through(connection) else { return };
        match message {
            Message::Closed => self.lose(node, link),
            Message::Invalidation(invalidation) if self.fault == Fault::InvalidationsLater => {
                let life = self.nodes[node].life;
                let later = self.schedule.now + self.rng.u64(..4 * BOUND);
                self.schedule.at(later, Event::Invalidation { node, life, invalidation });
            }
            Message::Invalidation(_)
                if self.fault == Fault::InvalidationsLost && self.rng.u8(..) < 16 => {}
            Message::Invalidation(invalidation) => self.invalidate(node, invalidation),
            Message::Answer { number, body } => self.confirm(node, link, number, body),
        }
    }

    pub(super) fn invalidate(&mut self, node: usize, invalidation: Invalidation) {
        let home = &mut self.nodes[node];
        match invalidation {
            Invalidation::Key(key) => {
                home.changed(key);
                drop(home.core.forget(&name(key)));
            }
            Invalidation::All => {
                home.all_changed();
                drop(home.core.forget_prefix(""));
            }
        }
    }

    /// An answer confirms the source at once. The caller wakes up later: meanwhile a change of what
    /// it has read may be announced.
    fn confirm(&mut self, node: usize, link: usize, number: u64, body: Body) {
        let now = self.schedule.now;
        let home = &mut self.nodes[node];
        let Some(pending) = home.pending.get(&number).copied() else { return };
        home.links[link].timeouts = 0;
        if matches!(pending.purpose, Purpose::Track) {
            home.links[link].is_ready = true;
            if home.is_tracked {
                home.links[link].source = home.core.open();
            }
        }
        if let Some(source) = &home.links[link].source {
            let arrival = self.fault == Fault::ConfirmsArrival;
            let asked_at = if arrival { home.clock + now } else { pending.asked_at };
            home.core.confirm(source, asked_at);
        }
        let source = home.links[link].source.as_ref().map(Source::id);
        let answer = Reply { body, through: pending.connection, source };
        let life = home.life;
        let wakes = now + self.rng.u64(..2 * MS);
        self.schedule.at(wakes, Event::Woken { node, life, number, answer });
    }
}
