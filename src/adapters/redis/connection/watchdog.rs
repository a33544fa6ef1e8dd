//! The task beside a connection: it ends the calls whose deadline has passed, and drives the
//! connection where no caller does.

use super::calls::{Drive, Seen, WATCHDOG};
use super::wire::Wire;
use crate::adapters::redis::errors::{Failure, Fate};
use crate::error::ErrorKind;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often the watchdog looks.
const TICK: Duration = Duration::from_millis(5);
/// After as many looks at nothing it rests.
const QUIET_LOOKS: u32 = 20;

/// Runs for as long as the connection lasts. Dropped before it is polled for the first time, it
/// ends the connection all the same.
pub(super) fn watch(wire: Arc<Wire>, drive: Drive) -> impl Future<Output = ()> {
    let end = End(wire);
    async move {
        match drive {
            Drive::ByCallers => guard(&end.0).await,
            Drive::ByWatchdog => run(&end.0).await,
        }
    }
}

/// Without its watchdog a connection has no deadlines: it ends with the runtime.
struct End(Arc<Wire>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.fail(&Failure::new(
            ErrorKind::Unavailable,
            "the runtime of the connection has ended",
            Fate::Drop,
        ));
    }
}

/// Looks from time to time while something is in flight, and drives where a caller is not polled.
/// One timer is enough for all calls.
async fn guard(wire: &Wire) {
    let late = Failure::timeout();
    let (mut seen, mut quiet) = (Seen::default(), 0);
    let mut tick = pin!(sleep_until(Instant::now()));
    while !wire.calls.has_ended() {
        let watch = wire.calls.watch(Instant::now().into_std(), &mut seen, &late);
        quiet = if watch.is_idle { quiet + 1 } else { 0 };
        let rests = quiet > QUIET_LOOKS;
        if rests {
            quiet = 0;
        } else {
            tick.as_mut().reset(Instant::now() + TICK);
        }
        poll_fn(|context| {
            if rests && !wire.calls.rest(context.waker()) {
                return Poll::Ready(());
            }
            if watch.write {
                wire.write(context);
            }
            let read = if watch.is_idle {
                wire.read_idle(WATCHDOG, context)
            } else if watch.read {
                wire.read(WATCHDOG, context)
            } else {
                Poll::Pending
            };
            match read {
                Poll::Pending if !rests => tick.as_mut().poll(context),
                read => read,
            }
        })
        .await;
        wire.calls.stand_down();
    }
}

/// Writes and reads itself for all callers.
async fn run(wire: &Wire) {
    let late = Failure::timeout();
    let mut seen = Seen::default();
    let mut tick = pin!(sleep_until(Instant::now()));
    poll_fn(|context| {
        loop {
            if wire.calls.has_ended() {
                return Poll::Ready(());
            }
            let now = Instant::now();
            let watch = wire.calls.watch(now.into_std(), &mut seen, &late);
            let has_read = drive_once(wire, watch.write, context);
            // In this order: a call that begins after the write finds the waker.
            if has_read || !wire.calls.attend(context.waker()) {
                continue;
            }
            if !watch.is_idle {
                tick.as_mut().reset(now + TICK);
                if tick.as_mut().poll(context).is_ready() {
                    continue;
                }
            }
            return Poll::Pending;
        }
    })
    .await;
}

/// Whether something was read: there may be more.
fn drive_once(wire: &Wire, write: bool, context: &mut Context<'_>) -> bool {
    if write {
        wire.write(context);
    }
    wire.read(WATCHDOG, context).is_ready()
}
