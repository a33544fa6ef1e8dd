//! A call, as its caller sees it.

use super::engine::Engine;
use super::lane::Lane;
use crate::{Error, ErrorKind, Result, runtime};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// A command in its lane, as its caller sees it.
pub(super) struct Call<'e, T> {
    pub(super) engine: &'e Arc<Engine>,
    pub(super) lane: &'e Lane,
    pub(super) ticket: Option<u64>,
    pub(super) answer: oneshot::Receiver<Result<T>>,
    pub(super) deadline: Instant,
    pub(super) alarm: Option<Pin<Box<Sleep>>>,
}

impl<T> Future for Call<'_, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(ticket) = this.ticket
            && this.engine.poll_direct(this.lane, ticket, cx).is_ready()
        {
            this.ticket = None;
        }
        if let Poll::Ready(answer) = Pin::new(&mut this.answer).poll(cx) {
            // A job is only dropped unanswered when its task is lost.
            return Poll::Ready(answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable))));
        }
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(runtime::alarm(this.deadline)));
        alarm.as_mut().poll(cx).map(|()| Err(Error::new(ErrorKind::Timeout)))
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.engine.abandon(self.lane, ticket);
        }
    }
}
