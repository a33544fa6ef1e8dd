//! A small store that tracks by connection, as redis does by default: a connection that has read a
//! key gets one invalidation of it, and another one after it has read the key again.

use super::history::{Content, History, State};
use super::link::Connection;

/// What a node asks of the server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    /// The first on a connection: from now on, track what is read through it, if that is wanted.
    Track(bool),
    Ping,
    Get(usize),
    Set {
        key: usize,
        content: Content,
        life: Option<u64>,
    },
    /// Makes the record of a tag, if there is none.
    Add {
        record: usize,
        generation: u64,
    },
    Remove(usize),
    /// A new life for a value.
    Touch {
        key: usize,
        life: Option<u64>,
    },
    /// Removes every key of a group.
    Clear(usize),
}

/// The server's answer.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Done,
    /// The state of a key, and how long it still lives.
    Found {
        state: u32,
        left: Option<u64>,
    },
    Missing {
        state: u32,
    },
    /// The state that a write has made.
    Written {
        key: usize,
        state: u32,
    },
    /// Whether the record was made.
    Added {
        record: usize,
        state: Option<u32>,
    },
    /// The states that a clear has made.
    Cleared(Vec<(usize, u32)>),
}

/// What the server sends to a connection without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalidation {
    Key(usize),
    All,
}

/// How many groups the keys are in.
pub(super) const GROUPS: usize = 5;

#[derive(Debug)]
pub(super) struct Server {
    /// Which connections get an invalidation when each key changes.
    trackers: Vec<Vec<u32>>,
    pub(super) up_from: u64,
    pub(super) frozen_until: u64,
}

impl Server {
    pub(super) fn new(keys: usize) -> Self {
        Self { trackers: vec![Vec::new(); keys], up_from: 0, frozen_until: 0 }
    }

    /// Carries out a request that came through `connection`. The invalidations are sent after the
    /// answer.
    pub(super) fn answer(
        &mut self,
        connection: u32,
        request: Request,
        all: &mut [Connection],
        history: &mut History,
        now: u64,
        sent: &mut Vec<(u32, Invalidation)>,
    ) -> Body {
        let end = |life: Option<u64>| life.map_or(u64::MAX, |life| now + life);
        match request {
            Request::Track(wanted) => {
                all[connection as usize].is_tracked = wanted;
                Body::Done
            }
            Request::Ping => Body::Done,
            Request::Get(key) => {
                self.expire(key, history, now, sent);
                if all[connection as usize].is_tracked && !self.trackers[key].contains(&connection)
                {
                    self.trackers[key].push(connection);
                }
                let number = history.present(key);
                let state = history.state(key, number);
                if !state.is_value() {
                    return Body::Missing { state: number };
                }
                let left = (state.deadline != u64::MAX).then(|| state.deadline - now);
                Body::Found { state: number, left }
            }
            Request::Set { key, content, life } => {
                let state = history.change(key, content, end(life), now);
                self.invalidate(key, sent);
                Body::Written { key, state }
            }
            Request::Add { record, generation } => {
                let is_there = history.state(record, history.present(record)).is_value();
                let state = (!is_there).then(|| {
                    self.invalidate(record, sent);
                    history.change(record, Content::Record(generation), u64::MAX, now)
                });
                Body::Added { record, state }
            }
            Request::Remove(key) => {
                let state = history.change(key, Content::Nothing, u64::MAX, now);
                self.invalidate(key, sent);
                Body::Written { key, state }
            }
            Request::Touch { key, life } => {
                self.expire(key, history, now, sent);
                let State { content, .. } = history.state(key, history.present(key));
                if content != Content::Nothing {
                    history.change(key, content, end(life), now);
                    self.invalidate(key, sent);
                }
                Body::Written { key, state: history.present(key) }
            }
            Request::Clear(group) => {
                let keys = (group..self.trackers.len()).step_by(GROUPS);
                let clear = |key| {
                    self.invalidate(key, sent);
                    (key, history.change(key, Content::Nothing, u64::MAX, now))
                };
                Body::Cleared(keys.map(clear).collect())
            }
        }
    }

    /// A record goes without a write: it is evicted.
    pub(super) fn evict(
        &mut self,
        key: usize,
        history: &mut History,
        now: u64,
        sent: &mut Vec<(u32, Invalidation)>,
    ) {
        history.change(key, Content::Nothing, u64::MAX, now);
        self.invalidate(key, sent);
    }

    /// Invalidates a key for those that have read it, and forgets them. Without a change it is what
    /// happens when the table of trackers is full.
    pub(super) fn invalidate(&mut self, key: usize, sent: &mut Vec<(u32, Invalidation)>) {
        sent.extend(self.trackers[key].drain(..).map(|tracker| (tracker, Invalidation::Key(key))));
    }

    /// Removes everything, with one invalidation for each connection.
    pub(super) fn flush(
        &mut self,
        all: &[Connection],
        history: &mut History,
        now: u64,
        sent: &mut Vec<(u32, Invalidation)>,
    ) {
        for key in 0..self.trackers.len() {
            history.change(key, Content::Nothing, u64::MAX, now);
            self.trackers[key].clear();
        }
        let tracked = all.iter().enumerate().filter(|(_, one)| one.is_served && one.is_tracked);
        sent.extend(tracked.map(|(number, _)| (number as u32, Invalidation::All)));
    }

    /// A connection is gone: no invalidation is for it.
    pub(super) fn forget(&mut self, connection: u32) {
        for trackers in &mut self.trackers {
            trackers.retain(|tracker| *tracker != connection);
        }
    }

    /// The server has started anew, and knows of no connection.
    pub(super) fn restart(&mut self) {
        self.trackers.iter_mut().for_each(Vec::clear);
    }

    fn expire(
        &mut self,
        key: usize,
        history: &mut History,
        now: u64,
        sent: &mut Vec<(u32, Invalidation)>,
    ) {
        if history.state(key, history.present(key)).deadline <= now {
            history.change(key, Content::Nothing, u64::MAX, now);
            self.invalidate(key, sent);
        }
    }
}
