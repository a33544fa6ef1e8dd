//! Nested loads on one thread. Each uses a part of the stack; at a limit, the next load runs on a
//! thread with a new stack.

use super::{background, lock};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread;

type Load = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The most nested loads on a thread that larder did not start: its stack may be small.
const DEEPEST: u32 = 8;

/// The most nested loads on a stack of [`STACK`] bytes.
const DEEPEST_ON_NEW_STACK: u32 = 64;

/// Each load has as much stack here as each of [`DEEPEST`] loads on a thread of 2 MiB. Only pages
/// that are used cost memory.
const STACK: usize = 16 << 20;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static LIMIT: Cell<u32> = const { Cell::new(DEEPEST) };
}

/// Whether this thread has reached its limit of nested loads.
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

/// Runs a load on a new thread, which ends with the load. Returns the load if the operating system
/// refuses a thread.
pub(crate) fn spawn_on_new_stack(load: Load) -> Result<(), Load> {
    // Keep the load outside the closure: if the system refuses the thread, the closure is dropped,
    // and the load must survive.
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
