//! Connections: two ordered directions, each with its delays.

use super::settings::{MS, SLOWEST};
use fastrand::Rng;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Direction {
    /// When the last message arrives.
    last: u64,
    /// Nothing arrives before.
    pub(super) stalled_until: u64,
    /// Whatever is sent is lost.
    pub(super) is_dead: bool,
}

impl Direction {
    /// When a message arrives that is sent now, behind those that were sent before.
    pub(super) fn send(&mut self, now: u64, rng: &mut Rng) -> Option<u64> {
        if self.is_dead {
            return None;
        }
        let slow = rng.u8(..) < 8;
        let delay = if slow { rng.u64(MS..SLOWEST) } else { rng.u64(MS / 10..2 * MS) };
        self.last = (self.last + 1).max(now + delay);
        Some(self.last)
    }
}

/// A connection. It has a number of its own in the whole run.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) node: usize,
    pub(super) to_server: Direction,
    pub(super) to_node: Direction,
    /// Whether the server serves it.
    pub(super) is_served: bool,
    /// Whether the server tracks what is read through it.
    pub(super) is_tracked: bool,
}

impl Connection {
    pub(super) fn new(node: usize) -> Self {
        Self {
            node,
            to_server: Direction::default(),
            to_node: Direction::default(),
            is_served: true,
            is_tracked: false,
        }
    }
}
