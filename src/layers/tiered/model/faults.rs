//! What goes wrong, and how it ends.

use super::link::Connection;
use super::node::{LINKS, Link, Node, Purpose};
use super::run::{Event, Followers, Message, Run};
use super::server::Request;
use super::settings::{BOUND, MS, SLOWEST, TAGS, TIMEOUT, TIMEOUTS};

/// How often something happens to the server in one run.
const OF_THE_SERVER: u64 = 2;

/// Something stands still. It does not go on earlier because of another fault: what is held would
/// change its order.
fn hold(standing: &mut u64, until: u64) {
    *standing = until.max(*standing);
}

impl Run {
    pub(super) fn go_wrong(&mut self) {
        let all = self.shape.lasting / self.shape.fault_pause;
        if self.rng.u64(..all) < OF_THE_SERVER {
            return self.server_goes_wrong();
        }
        let node = self.rng.usize(..self.shape.nodes);
        let now = self.schedule.now;
        match self.rng.u8(..100) {
            0..8 => {
                hold(&mut self.nodes[node].frozen_until, now + self.rng.u64(20 * MS..1_500 * MS))
            }
            8..14 => self.restart_node(node),
            14..24 => {
                let (key, mut sent) = (self.any_key_or_record(), Vec::new());
                self.server.evict(key, &mut self.history, now, &mut sent);
                self.send_invalidations(sent);
            }
            24..30 => {
                let (key, mut sent) = (self.any_key_or_record(), Vec::new());
                self.server.invalidate(key, &mut sent);
                self.send_invalidations(sent);
            }
            _ => self.link_goes_wrong(node),
        }
    }

    fn link_goes_wrong(&mut self, node: usize) {
        let link = self.rng.usize(..LINKS);
        let Some(number) = self.nodes[node].links[link].connection else { return };
        let now = self.schedule.now;
        let until = now + self.rng.u64(20 * MS..600 * MS);
        let connection = &mut self.connections[number as usize];
        match self.rng.u8(..100) {
            0..25 => hold(&mut connection.to_node.stalled_until, until),
            25..40 => hold(&mut connection.to_server.stalled_until, until),
            40..50 => {
                hold(&mut connection.to_node.stalled_until, until);
                hold(&mut connection.to_server.stalled_until, until);
            }
            50..65 => {
                self.close(number);
                self.lose(node, link);
            }
            65..75 => self.close_at_server(number),
            75..88 => {
                hold(&mut connection.to_node.stalled_until, until);
                self.close_at_server(number);
            }
            88..92 => connection.to_node.is_dead = true,
            92..96 => connection.to_server.is_dead = true,
            _ => {
                connection.to_node.is_dead = true;
                connection.to_server.is_dead = true;
            }
        }
    }

    fn server_goes_wrong(&mut self) {
        let now = self.schedule.now;
        match self.rng.u8(..100) {
            0..25 => {
                let mut sent = Vec::new();
                self.server.flush(&self.connections, &mut self.history, now, &mut sent);
                self.send_invalidations(sent);
            }
            25..50 => hold(&mut self.server.frozen_until, now + self.rng.u64(20 * MS..400 * MS)),
            _ => self.fail_over(),
        }
    }

    /// Another server takes over, which has not got the last writes. The old one is gone, and its
    /// connections learn so soon, late, or never.
    fn fail_over(&mut self) {
        let now = self.schedule.now;
        for number in 0..self.connections.len() {
            if !self.connections[number].is_served {
                continue;
            }
            let news = now + self.rng.u64(20 * MS..600 * MS);
            let connection = &mut self.connections[number];
            match self.rng.u8(..100) {
                0..50 => {}
                50..80 => hold(&mut connection.to_node.stalled_until, news),
                _ => connection.to_node.is_dead = true,
            }
            self.close_at_server(number as u32);
        }
        self.server.restart();
        hold(&mut self.server.up_from, now + self.rng.u64(10 * MS..200 * MS));
        self.history.fall_back(now - self.rng.u64(..now.min(50 * MS)), now);
    }

    /// The server closes a connection.
    fn close_at_server(&mut self, connection: u32) {
        self.connections[connection as usize].is_served = false;
        self.server.forget(connection);
        self.send_to_node(connection, Message::Closed);
    }

    /// The node closes a connection. What it has sent may still arrive.
    pub(super) fn close(&mut self, connection: u32) {
        let direction = &mut self.connections[connection as usize].to_server;
        if let Some(arrives) = direction.send(self.schedule.now, &mut self.rng) {
            self.schedule.at(arrives, Event::Closed(connection));
        }
    }

    /// A node finds a link broken.
    pub(super) fn lose(&mut self, node: usize, link: usize) {
        let Link { connection, source, .. } = std::mem::take(&mut self.nodes[node].links[link]);
        let now = self.schedule.now;
        let home = &mut self.nodes[node];
        let life = home.life;
        if let Some(source) = source {
            self.report.lost_sources += 1;
            home.core.end(source, home.clock + now);
            home.all_changed();
            // By a task of its own.
            let later = now + self.rng.u64(..20 * MS);
            self.schedule.at(later, Event::Sweep { node, life });
        }
        let home = &self.nodes[node];
        let through = |pending: u32| Some(pending) == connection;
        let asked = home.pending.iter().filter(|(_, pending)| through(pending.connection));
        let asked: Vec<u64> = asked.map(|(number, _)| *number).collect();
        for number in asked {
            self.give_up(node, number, Followers::Fail);
            self.nodes[node].pending.remove(&number);
        }
        self.connect_later(node, link);
    }

    fn restart_node(&mut self, node: usize) {
        for link in 0..LINKS {
            if let Some(connection) = self.nodes[node].links[link].connection {
                self.close(connection);
            }
        }
        let keys = self.shape.keys + TAGS;
        self.nodes[node].restart(keys, self.fault, &mut self.rng);
        (0..LINKS).for_each(|link| self.connect_later(node, link));
    }

    pub(super) fn connect_later(&mut self, node: usize, link: usize) {
        let life = self.nodes[node].life;
        let later = self.schedule.now + self.rng.u64(..20 * MS);
        self.schedule.at(later, Event::Connect { node, link, life });
    }

    pub(super) fn connect(&mut self, node: usize, link: usize) {
        if self.nodes[node].links[link].connection.is_some() {
            return;
        }
        if self.server.up_from > self.schedule.now {
            return self.connect_later(node, link);
        }
        let number = self.connections.len() as u32;
        self.connections.push(Connection::new(node));
        self.nodes[node].links[link].connection = Some(number);
        let wanted = self.nodes[node].is_tracked;
        self.send(node, link, Purpose::Track, Request::Track(wanted));
    }

    /// No more writes and faults. What stands still goes on in its time, what is dead is found out.
    pub(super) fn heal(&mut self) {
        self.is_over = true;
        let stalls = self.connections.iter().flat_map(|connection| {
            [connection.to_node.stalled_until, connection.to_server.stalled_until]
        });
        let freezes = self.nodes.iter().map(|node: &Node| node.frozen_until);
        let of_the_server = [self.server.up_from, self.server.frozen_until, self.schedule.now];
        let quiet = stalls.chain(freezes).chain(of_the_server).max().unwrap_or_default();
        // A write that was on its way has its time to arrive.
        self.equal_from = quiet + 2 * SLOWEST + BOUND + 2 * SLOWEST;
        // The first answers renew the proof of what is near; then that is read.
        self.schedule.at(self.equal_from, Event::ReadOneIn(8));
        self.schedule.at(self.equal_from + 3 * SLOWEST, Event::ReadOneIn(1));
        // Three reads without an answer, and another connection.
        self.answered_from = self.equal_from + u64::from(TIMEOUTS + 2) * TIMEOUT + 500 * MS;
        self.schedule.at(self.answered_from, Event::ReadOneIn(1));
    }

    pub(super) fn read_one_in(&mut self, number: usize) {
        for node in 0..self.shape.nodes {
            for key in (node % number..self.shape.keys).step_by(number) {
                self.read(node, key, false);
            }
        }
    }
}
