//! larder's own runtime, and its substitute (the stopgap) while the process has no free file
//! descriptor.

use super::lock;
use crate::error::{Error, ErrorKind, Result};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle, Id, Runtime};

/// The pause between attempts to build a runtime that can open connections.
const PAUSE: Duration = Duration::from_millis(100);

/// How many descriptors a runtime with connections opens, and some: its selector and the waker of
/// that, both ends of the pipe of signals and a copy of one.
const DESCRIPTORS: usize = 8;

/// The background runtime of this process.
static BACKGROUND: Mutex<Option<Background>> = Mutex::new(None);

/// All stopgaps so far: tasks may still run on them.
static STOPGAPS: Mutex<Vec<Id>> = Mutex::new(Vec::new());

/// Whether there has been a stopgap. A process with enough file descriptors reads only this flag.
static HAD_STOPGAP: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy)]
struct Background {
    /// The process in which the runtime was built: its thread does not survive a fork.
    process: u32,
    runtime: &'static Runtime,
    /// For a stopgap, which has timers and tasks but no connections: when the system last refused a
    /// complete runtime.
    refused: Option<Instant>,
}

/// larder's own runtime: one thread, built when first needed, never dropped (dropping a runtime in
/// async code panics).
///
/// A runtime that can open connections needs file descriptors. While the process has none, a
/// stopgap runs timers and tasks, and from time to time a caller tries again to build a complete
/// runtime.
///
/// # Panics
///
/// When the operating system refuses a thread.
pub(crate) fn background() -> &'static Handle {
    current().runtime.handle()
}

fn current() -> Background {
    let mut built = lock(&BACKGROUND);
    let process = std::process::id();
    let before = (*built).filter(|known| known.process == process);
    let background = match before {
        Some(known) if known.refused.is_none_or(|refused| refused.elapsed() < PAUSE) => known,
        before => build(process, before),
    };
    *built = Some(background);
    background
}

fn build(process: u32, stopgap: Option<Background>) -> Background {
    if let Some(runtime) = build_complete() {
        return Background { process, runtime: leak(runtime), refused: None };
    }
    let refused = Some(Instant::now());
    if let Some(stopgap) = stopgap {
        return Background { refused, ..stopgap };
    }
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).thread_name("larder").enable_time().build();
    let runtime =
        leak(runtime.expect("the operating system refused a thread for larder's runtime"));
    lock(&STOPGAPS).push(runtime.handle().id());
    HAD_STOPGAP.store(true, Ordering::Release);
    Background { process, runtime, refused }
}

/// A runtime that can open connections, if the process has the descriptors for one.
///
/// tokio panics where only some of them are free (with its feature `signal`, for the pipe of the
/// signals). So they are looked for before, and a panic means the same as an error: another thread
/// may have opened files in between.
fn build_complete() -> Option<Runtime> {
    let files: io::Result<Vec<File>> = (0..DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    // A system without that file says nothing about descriptors.
    if files.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
        return None;
    }
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("larder").enable_all();
    catch_unwind(AssertUnwindSafe(|| builder.build())).ok()?.ok()
}

fn leak(runtime: Runtime) -> &'static Runtime {
    Box::leak(Box::new(runtime))
}

pub(super) fn is_background(handle: &Handle) -> bool {
    lock(&BACKGROUND).is_some_and(|known| known.runtime.handle().id() == handle.id())
}

/// Checks that connections can be opened on the current runtime; on a stopgap they cannot.
///
/// # Errors
///
/// [`ErrorKind::Unavailable`].
pub(crate) fn can_connect() -> Result<()> {
    let is_stopgap = HAD_STOPGAP.load(Ordering::Acquire)
        && Handle::try_current().is_ok_and(|here| lock(&STOPGAPS).contains(&here.id()));
    if is_stopgap { Err(without_descriptors()) } else { Ok(()) }
}

/// [`can_connect`] for connections that the background runtime drives.
#[cfg(feature = "redis")]
pub(crate) fn background_connects() -> Result<()> {
    if current().refused.is_some() { Err(without_descriptors()) } else { Ok(()) }
}

fn without_descriptors() -> Error {
    Error::new(ErrorKind::Unavailable)
        .with_message("the process has no file descriptor left for a runtime with connections")
}
