//! Loads inside loads on one thread: each takes a piece of its stack, and after some a thread with a
//! new stack goes on.

use super::{background, lock};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread;

type Load = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many loads a thread of somebody else's may run inside one another: its stack may be small.
const DEEPEST: u32 = 8;

/// The same on a stack of [`STACK`].
const DEEPEST_ON_NEW_STACK: u32 = 64;

/// As much for each load as a thread of 2 MiB has for each of [`DEEPEST`]. Only what is touched
/// costs memory.
const STACK: usize = 16 << 20;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static LIMIT: Cell<u32> = const { Cell::new(DEEPEST) };
}

/// Whether this thread runs as many loads inside one another as it may.
pub(crate) fn is_stack_deep() -> bool {
    DEPTH.get() >= LIMIT.get()
}

/// Polls a load on this thread's stack.
pub(crate) fn deeper<R>(poll: impl FnOnce() -> R) -> R {
    struct Level;

    impl Drop for Level {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }

    DEPTH.set(DEPTH.get() + 1);
    let _level = Level;
    poll()
}

/// Runs a load on a thread of its own, which ends with it; gives it back where the operating system
/// refuses a thread.
pub(crate) fn spawn_on_new_stack(load: Load) -> Result<(), Load> {
    // A thread that is refused drops its closure, and the load must not go with it.
    let shared = Arc::new(Mutex::new(Some(load)));
    let taken = shared.clone();
    let run = move || {
        LIMIT.set(DEEPEST_ON_NEW_STACK);
        let load = lock(&taken).take();
        if let Some(load) = load {
            background().block_on(load);
        }
    };
    match thread::Builder::new().name("larder-loader".into()).stack_size(STACK).spawn(run) {
        Ok(_detached) => Ok(()),
        Err(_refused) => lock(&shared).take().map_or(Ok(()), Err),
    }
}
