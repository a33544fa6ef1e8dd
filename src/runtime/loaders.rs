//! The threads of loaders whose callers have no runtime.
//!
//! These loaders use the timers, sockets and connections of the background runtime, but are polled
//! by other threads, because a loader may block. A loader that blocks in larder's blocking face
//! hands its place to another thread, so that the load it waits for finds one.

use super::{background, lock};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Mutex;
use std::thread::available_parallelism;
use tokio::runtime::{Builder, Handle, Runtime};

/// Far more threads than a system provides: a loader that waits for another loader must not occupy
/// the last thread.
const MOST_THREADS: usize = 1 << 20;

/// The runtime, and the process in which it was built: its threads do not survive a fork.
static LOADERS: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

thread_local! {
    static IS_POLLING: Cell<bool> = const { Cell::new(false) };
}

/// # Panics
///
/// When the operating system refuses a thread.
fn handle() -> &'static Handle {
    let mut built = lock(&LOADERS);
    let process = std::process::id();
    let runtime = match *built {
        Some((owner, runtime)) if owner == process => runtime,
        _ => build(),
    };
    *built = Some((process, runtime));
    runtime.handle()
}

/// Never dropped, because dropping a runtime in async code panics.
fn build() -> &'static Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(available_parallelism().map_or(2, usize::from).max(2))
        .max_blocking_threads(MOST_THREADS)
        .thread_name("larder-loader")
        .build();
    Box::leak(Box::new(runtime.expect("the operating system refused a thread for loaders")))
}

/// The runtime of these threads, if the current thread is one of them and polls a loader.
pub(super) fn home() -> Option<Handle> {
    IS_POLLING.get().then(|| handle().clone())
}

pub(super) fn spawn(mut loader: Pin<Box<dyn Future<Output = ()> + Send>>) -> Handle {
    let home = handle();
    home.spawn(poll_fn(move |cx| {
        let _entered = background().enter();
        let _polling = Polling(IS_POLLING.replace(true));
        loader.as_mut().poll(cx)
    }));
    home.clone()
}

/// Resets the mark, also when a loader panics.
struct Polling(bool);

impl Drop for Polling {
    fn drop(&mut self) {
        IS_POLLING.set(self.0);
    }
}
