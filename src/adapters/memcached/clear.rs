//! `clear`: all keys that begin with a prefix, on every server.
//!
//! A clear goes over one lane of each server, and the writes of its keys over other lanes. Before
//! it, all lanes end what they have begun: a write that was given up would otherwise reach the
//! server later and not count as cleared. After one that was given up, writes wait for its lane:
//! the clear would otherwise undo them.

use super::clear_log::CLEAR_LOG_TTL;
use super::connection::command::Command;
use super::errors::BACKEND;
use super::{AsyncMemcachedCache, Lanes, Place};
use crate::error::Result;
use futures_util::future::join_all;
use std::time::Instant;
use tokio::runtime::Handle;

/// The lane of each server that clears go over.
pub(super) const CLEARING: usize = 0;

impl AsyncMemcachedCache {
    pub(super) async fn clear_prefix(&self, prefix: &str) -> Result<()> {
        let whole = format!("{}{prefix}", self.inner.config.settings.scope.prefix());
        let clear = |reply| Command::Clear(whole.clone(), reply);
        let Ok(runtime) = Handle::try_current() else { return self.ask_all("clear", clear).await };
        let home = self.home(&runtime);
        let watched: Vec<_> = home.0.iter().map(|lanes| lanes.clears.watch()).collect();
        // Servers whose lanes have settled are cleared, even if others fail.
        let settled = self.settle_lanes(&home.0).await;
        let cleared = settled.and(self.ask_all("clear", clear).await);
        if cleared.is_ok() {
            watched.into_iter().for_each(|clear| clear.answered());
        }
        // After this pause no instance uses a clear log that it read before the clear.
        tokio::time::sleep(CLEAR_LOG_TTL).await;
        cleared
    }

    /// Waits until the lanes have done what they have begun.
    async fn settle_lanes(&self, all: &[Lanes]) -> Result<()> {
        let asked = all.iter().enumerate().flat_map(|(server, lanes)| {
            let opened = lanes.opened();
            opened.map(move |lane| self.ask(Place { server, lane }, Command::Ping))
        });
        let answers: Result<Vec<()>> = join_all(asked).await.into_iter().collect();
        answers.map(drop).map_err(|error| error.with_backend(BACKEND).with_op("clear"))
    }
}

impl Lanes {
    /// Waits until the clears that were given up have ended.
    pub(super) async fn outlast_clears(&self, deadline: Instant) -> Result<()> {
        let Some(count) = self.clears.in_flight() else { return Ok(()) };
        match self.get(CLEARING).ask(deadline, Command::Ping).await {
            Some(answer) => answer.map(|()| self.clears.settle(count)),
            None => Err(self.server.timeout()),
        }
    }
}
