//! A run: what happens, event by event.

use super::history::History;
use super::link::Connection;
use super::node::{LINKS, Node};
use super::purposes::Load;
use super::report::Report;
use super::schedule::Schedule;
use super::server::{Body, Invalidation, Request, Server};
use super::settings::{Fault, Invariant, Shape, TAGS};
use crate::adapter::SourceId;
use fastrand::Rng;

#[derive(Debug)]
pub(super) enum Event {
    /// A node does something of its own accord.
    Act(usize),
    Connect {
        node: usize,
        link: usize,
        life: u32,
    },
    ToServer {
        connection: u32,
        number: u64,
        request: Request,
    },
    /// The node has closed the connection.
    Closed(u32),
    ToNode {
        connection: u32,
        message: Message,
    },
    /// An invalidation is handled by a task of its own: a fault.
    Invalidation {
        node: usize,
        life: u32,
        invalidation: Invalidation,
    },
    /// A caller wakes up with its answer.
    Woken {
        node: usize,
        life: u32,
        number: u64,
        answer: Reply,
    },
    Timeout {
        node: usize,
        life: u32,
        number: u64,
    },
    /// The caller of a request goes away.
    Dropped {
        node: usize,
        life: u32,
        number: u64,
    },
    Sweep {
        node: usize,
        life: u32,
    },
    /// The value of a load is computed.
    Loaded {
        node: usize,
        life: u32,
        load: Load,
    },
    Fault,
    /// No more writes and faults; what was wrong is well again.
    Heal,
    /// Every node reads one of so many keys.
    ReadOneIn(usize),
}

/// An answer as a caller gets it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) body: Body,
    /// The connection through which it came.
    pub(super) through: u32,
    /// Who vouches for it.
    pub(super) source: Option<SourceId>,
}

/// What the callers do that have joined a read which is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followers {
    /// The caller that sent it has gone away.
    LookAgain,
    /// It failed.
    Fail,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Answer { number: u64, body: Body },
    Invalidation(Invalidation),
    Closed,
}

pub(super) struct Run {
    pub(super) shape: Shape,
    pub(super) fault: Fault,
    pub(super) rng: Rng,
    pub(super) schedule: Schedule<Event>,
    pub(super) history: History,
    pub(super) server: Server,
    pub(super) connections: Vec<Connection>,
    pub(super) nodes: Vec<Node>,
    pub(super) report: Report,
    pub(super) requests: u64,
    /// How many generations of tags were made.
    pub(super) generations: u64,
    /// Whether there are no more writes and faults.
    pub(super) is_over: bool,
    /// Reads that begin at this time or later return the present state.
    pub(super) equal_from: u64,
    /// Reads that begin at this time or later are answered.
    pub(super) answered_from: u64,
}

impl Run {
    pub(super) fn new(seed: u64, shape: Shape, fault: Fault) -> Self {
        let (mut rng, keys) = (Rng::with_seed(seed), shape.keys + TAGS);
        let nodes = (0..shape.nodes).map(|_| Node::new(keys, fault, &mut rng)).collect();
        let mut run = Self {
            shape,
            fault,
            rng,
            schedule: Schedule::new(),
            history: History::new(shape.keys, TAGS),
            server: Server::new(keys),
            connections: Vec::new(),
            nodes,
            report: Report::default(),
            requests: 0,
            generations: 0,
            is_over: false,
            equal_from: u64::MAX,
            answered_from: u64::MAX,
        };
        for node in 0..shape.nodes {
            (0..LINKS).for_each(|link| run.connect_later(node, link));
            run.act_later(node);
        }
        run.fault_later();
        run.schedule.at(shape.lasting, Event::Heal);
        run
    }

    pub(super) fn finish(mut self) -> Report {
        while let Some(event) = self.schedule.next() {
            self.happen(event);
        }
        for number in 0..self.nodes.len() {
            let node = &self.nodes[number];
            let left = (node.core.in_flight(), node.flights.len());
            if left != (0, 0) {
                let what = || format!("node {number} has reads in flight in the end: {left:?}");
                self.report.violation(Invariant::NothingLeft, what);
            }
        }
        self.report
    }

    fn happen(&mut self, event: Event) {
        if let Some(later) = self.held_until(&event) {
            return self.schedule.at(later, event);
        }
        match event {
            Event::Act(node) => self.act(node),
            Event::Connect { node, link, life } if self.is_alive(node, life) => {
                self.connect(node, link);
            }
            Event::ToServer { connection, number, request } => {
                self.serve(connection, number, request);
            }
            Event::Closed(connection) => {
                self.connections[connection as usize].is_served = false;
                self.server.forget(connection);
            }
            Event::ToNode { connection, message } => self.arrive(connection, message),
            Event::Invalidation { node, life, invalidation } if self.is_alive(node, life) => {
                self.invalidate(node, invalidation);
            }
            Event::Woken { node, life, number, answer } if self.is_alive(node, life) => {
                self.wake(node, number, answer);
            }
            Event::Timeout { node, life, number } if self.is_alive(node, life) => {
                self.time_out(node, number);
            }
            Event::Dropped { node, life, number } if self.is_alive(node, life) => {
                self.give_up(node, number, Followers::LookAgain);
            }
            Event::Sweep { node, life } if self.is_alive(node, life) => {
                self.nodes[node].core.sweep();
            }
            Event::Loaded { node, life, load } if self.is_alive(node, life) => {
                self.loaded(node, load);
            }
            Event::Fault if !self.is_over => {
                self.go_wrong();
                self.fault_later();
            }
            Event::Heal => self.heal(),
            Event::ReadOneIn(number) => self.read_one_in(number),
            _ => {}
        }
    }

    /// When a message arrives whose receiver or direction stands still.
    fn held_until(&self, event: &Event) -> Option<u64> {
        let until = match event {
            Event::ToServer { connection, .. } | Event::Closed(connection) => {
                let direction = self.connections[*connection as usize].to_server;
                direction.stalled_until.max(self.server.frozen_until).max(self.server.up_from)
            }
            Event::ToNode { connection, .. } => {
                let Connection { node, to_node, .. } = &self.connections[*connection as usize];
                to_node.stalled_until.max(self.nodes[*node].frozen_until)
            }
            Event::Act(node)
            | Event::Connect { node, .. }
            | Event::Invalidation { node, .. }
            | Event::Woken { node, .. }
            | Event::Timeout { node, .. }
            | Event::Dropped { node, .. }
            | Event::Sweep { node, .. }
            | Event::Loaded { node, .. } => self.nodes[*node].frozen_until,
            Event::Fault | Event::Heal | Event::ReadOneIn(_) => 0,
        };
        (until > self.schedule.now).then_some(until)
    }

    fn is_alive(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life
    }

    pub(super) fn act_later(&mut self, node: usize) {
        let pause = self.rng.u64(1..2 * self.shape.pause);
        self.schedule.at(self.schedule.now + pause, Event::Act(node));
    }

    fn fault_later(&mut self) {
        let pause = self.rng.u64(1..2 * self.shape.fault_pause);
        self.schedule.at(self.schedule.now + pause, Event::Fault);
    }
}
