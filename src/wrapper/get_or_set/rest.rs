//! The rest of a call that was not answered at once. It knows neither the type of the loader nor
//! that of the value, so it is compiled once, with larder, and not again for each loader of a
//! program.
//!
//! The loader stays with the call's own future. Where the rest has to have it started, it leaves
//! the load's task in a [`StartRequest`] and is pending; the call's future starts the loader and
//! polls the rest again, in the same poll.

use super::driver::CallerDriven;
use super::loader::{Loader, Started};
use super::task::LoadTask;
#[cfg(feature = "macros")]
use crate::error::Error;
use crate::error::Result;
use crate::runtime::{inside_now, lock};
use crate::wrapper::value_type::Answer;
use futures_util::future::BoxFuture;
#[cfg(feature = "macros")]
use std::future::ready;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

pub(super) struct Rest<'a> {
    pub(super) answer: BoxFuture<'a, Result<Answer>>,
    pub(super) start: Arc<StartRequest>,
}

impl Rest<'_> {
    /// That of a call which ends with an error.
    #[cfg(feature = "macros")]
    pub(super) fn refused(error: Error) -> Self {
        Self { answer: Box::pin(ready(Err(error))), start: Arc::default() }
    }

    /// Polls the rest of the call, and with it a load that the call carries; starts the loader
    /// when the rest asks for it.
    pub(super) fn poll(
        &mut self,
        loader: &mut dyn Loader,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answer>> {
        loop {
            if loader.ends_carried(cx) {
                self.start.carried_is_over.store(true, Ordering::Relaxed);
            }
            let answer = self.answer.as_mut().poll(cx);
            if answer.is_ready() {
                loader.drop_carried();
                return answer;
            }
            let Some(task) = self.start.asked() else { return Poll::Pending };
            let started = inside_now(|| loader.start(task));
            self.start.set(Stage::Started(started));
        }
    }
}

/// Where the rest of a call asks for the start of its loader.
#[derive(Default)]
pub(super) struct StartRequest {
    stage: Mutex<Stage>,
    /// A load that the call carries has ended.
    carried_is_over: AtomicBool,
}

/// The task is there for a moment only: a box would be one more allocation for each load.
#[allow(clippy::large_enum_variant)]
#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    Asked(LoadTask),
    Started(Started),
}

impl StartRequest {
    /// Has the loader started, as the load of `task`. A future that is returned has to be polled
    /// by the caller while it waits.
    pub(super) async fn start(self: &Arc<Self>, task: LoadTask) -> Option<Driven> {
        self.set(Stage::Asked(task));
        let started = poll_fn(|_| {
            let mut stage = lock(&self.stage);
            match std::mem::take(&mut *stage) {
                Stage::Started(started) => Poll::Ready(started),
                other => {
                    *stage = other;
                    Poll::Pending
                }
            }
        });
        match started.await {
            Started::Apart => None,
            Started::ByCaller(driven) => Some(Driven::ByCaller(driven)),
            Started::Carried => Some(Driven::Carried(self.clone())),
        }
    }

    fn set(&self, stage: Stage) {
        *lock(&self.stage) = stage;
    }

    fn asked(&self) -> Option<LoadTask> {
        let mut stage = lock(&self.stage);
        match std::mem::take(&mut *stage) {
            Stage::Asked(task) => Some(task),
            other => {
                *stage = other;
                None
            }
        }
    }
}

/// A load that makes progress only while its call is polled.
pub(super) enum Driven {
    ByCaller(CallerDriven),
    /// A load that the call's own future polls; ready when it is over.
    Carried(Arc<StartRequest>),
}

impl Future for Driven {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::ByCaller(driven) => Pin::new(driven).poll(cx),
            Self::Carried(start) if start.carried_is_over.load(Ordering::Relaxed) => {
                Poll::Ready(())
            }
            Self::Carried(_) => Poll::Pending,
        }
    }
}
