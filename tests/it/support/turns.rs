//! Tests that take a whole machine, or time what it does, run one at a time.

use super::lock;
use std::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::new(());

/// Lasts as long as it is held.
pub(crate) struct Turn {
    _held: MutexGuard<'static, ()>,
}

/// Waits until no other test has the turn. For the first line of a test: it blocks the thread, on
/// which nothing else runs by then.
pub(crate) fn turn() -> Turn {
    let turn = Turn { _held: lock(&TURN) };
    super::noise::watch();
    turn
}
