//! A process: its near level, its links, and what it waits for.

use super::history::Floor;
use super::purposes::{For, Load};
use super::server::GROUPS;
use super::settings::{BOUND, Fault, STALE_FOR, TTL};
use crate::layers::tiered::core::{Bounds, Core, Read, Rules, Source};
use crate::layers::tiered::map::{Map, Seen};
use fastrand::Rng;
use std::collections::BTreeMap;

/// A caller that reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) key: usize,
    /// When its read began.
    pub(super) begun: u64,
    pub(super) floor: Floor,
    /// Whether it reads in order to write, or skips the near level.
    pub(super) is_far: bool,
    pub(super) what_for: For,
}

/// A far read, and who waits for it.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) read: Read,
    pub(super) key: usize,
    pub(super) callers: Vec<Caller>,
}

/// What a request was sent for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Track,
    Ping,
    /// The number of a flight.
    Read(u64),
    WriteKey(usize),
    /// The making of a tag's record, for a load.
    Add {
        record: usize,
        load: Load,
    },
    WriteGroup(usize),
}

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) connection: u32,
    /// When it was sent, by the clock of the node.
    pub(super) asked_at: u64,
    pub(super) purpose: Purpose,
    /// Whether anybody waits for it. The answer is one, whether or not.
    pub(super) is_wanted: bool,
}

/// A connection of a node.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) connection: Option<u32>,
    /// Whether the server has agreed to track.
    pub(super) is_ready: bool,
    pub(super) source: Option<Source>,
    /// Requests in a row that nobody answered in time.
    pub(super) timeouts: u32,
}

/// The latest far read of a key, while nothing has changed since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latest {
    pub(super) sent: u64,
    /// Until when its answer is good.
    pub(super) deadline: u64,
}

pub(super) const LINKS: usize = 2;

pub(super) struct Node {
    pub(super) core: Core<Map, u64>,
    /// Its clock is ahead of the clock of the run by as much.
    pub(super) clock: u64,
    /// Whether the server tracks for it; otherwise its values are near by age.
    pub(super) is_tracked: bool,
    pub(super) frozen_until: u64,
    /// Incremented by a restart.
    pub(super) life: u32,
    pub(super) links: [Link; LINKS],
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) flights: BTreeMap<u64, Flight>,
    pub(super) floors: Vec<Floor>,
    pub(super) latest: Vec<Option<Latest>>,
}

impl Node {
    pub(super) fn new(keys: usize, fault: Fault, rng: &mut Rng) -> Self {
        Self {
            core: core(keys, fault, rng),
            clock: rng.u64(1..1 << 40),
            is_tracked: rng.u8(..) >= 32,
            frozen_until: 0,
            life: 0,
            links: Default::default(),
            pending: BTreeMap::new(),
            flights: BTreeMap::new(),
            floors: vec![Floor::default(); keys],
            latest: vec![None; keys],
        }
    }

    /// The process ends, and another begins in its place.
    pub(super) fn restart(&mut self, keys: usize, fault: Fault, rng: &mut Rng) {
        let life = self.life + 1;
        *self = Self { life, ..Self::new(keys, fault, rng) };
    }

    /// What is near under a key, if it may be served; and whether the near level wants the source
    /// of this number to ask.
    pub(super) fn look(&self, key: usize, now: u64) -> Look {
        let now = self.clock + now;
        let mut looked = Look { hit: None, is_late: false, asks: None };
        let may_serve = |source| {
            let proof = self.core.may_serve(source, now);
            looked.asks = proof.wants_renewal.then_some(source);
            looked.is_late = !proof.is_proven;
            proof.is_proven
        };
        looked.hit = self.core.near().look(&name(key), now, may_serve);
        looked
    }

    /// What is near under a key, if it may be served as stale.
    pub(super) fn look_stale(&self, key: usize, now: u64) -> Option<Seen> {
        let now = self.clock + now;
        let may_serve =
            |source, deadline| self.core.may_serve_stale(source, deadline, now, STALE_FOR);
        self.core.near().look_past(&name(key), may_serve)
    }

    /// The link whose source has this number.
    pub(super) fn link_of(&self, source: u16) -> Option<usize> {
        self.links
            .iter()
            .position(|link| link.source.as_ref().is_some_and(|open| open.id().number == source))
    }

    /// The link through which a connection is, if it is open here.
    pub(super) fn link_through(&self, connection: u32) -> Option<usize> {
        self.links.iter().position(|link| link.connection == Some(connection))
    }

    /// Notes that a key has changed, or may have: another far read of it is no surprise.
    pub(super) fn changed(&mut self, key: usize) {
        self.latest[key] = None;
    }

    pub(super) fn all_changed(&mut self) {
        self.latest.iter_mut().for_each(|latest| *latest = None);
    }
}

pub(super) struct Look {
    pub(super) hit: Option<Seen>,
    /// Whether there is a value whose proof is late.
    pub(super) is_late: bool,
    pub(super) asks: Option<u16>,
}

fn core(keys: usize, fault: Fault, rng: &mut Rng) -> Core<Map, u64> {
    let near = if rng.bool() { Map::of_the_engine() } else { Map::with_room((keys / 4).max(1)) };
    let bounds = Bounds { age: BOUND, ttl: TTL };
    Core::new(near, bounds, Rules::without(fault.rule()))
}

/// The name of a key. Keys of a group have a prefix in common.
pub(super) fn name(key: usize) -> String {
    format!("{}:{key}", key % GROUPS)
}

pub(super) fn group(key: usize) -> String {
    format!("{}:", key % GROUPS)
}

/// The key of a name.
pub(super) fn key_of(name: &str) -> Option<usize> {
    name.split_once(':')?.1.parse().ok()
}
