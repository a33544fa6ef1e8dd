//! `clear`: all keys that begin with a prefix.

use super::commands::{self, Command, flag};
use super::errors::Failure;
use super::lane::Lane;
use super::names::{self, marks};
use super::scripts::{Invocation, Lua, invoke};
use super::{AsyncRedisCache, deadline_in, millis};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::spawn_background;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many keys the server looks at in one step of a `clear`.
const SCAN_COUNT: usize = 1000;

/// The most keys that one command removes.
const STEP_KEYS: usize = 1000;

/// How long the mark of a clear that was never finished refuses claimed writes. A clear that takes
/// longer renews its mark.
const MARKED: Duration = Duration::from_secs(60);
const REMARK: Duration = Duration::from_secs(10);

static MARK: Lua = Lua::new(
    r"redis.call('ZADD', KEYS[1], redis.call('TIME')[1] * 1000 + ARGV[1], ARGV[2] .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[1])
return 1",
);

/// Marks a prefix as being cleared, for [`MARKED`] from now. `id` distinguishes this clear from
/// others.
fn mark(marks: &str, id: &str, prefix: &str) -> Invocation<bool> {
    let lasting = millis(MARKED).to_string();
    invoke(
        &MARK,
        &[marks.as_bytes()],
        &[lasting.as_bytes(), id.as_bytes(), prefix.as_bytes()],
        flag,
    )
}

fn unmark(marks: &str, id: &str, prefix: &str) -> Command<bool> {
    Command::new("ZREM", flag).arg(marks).arg([id, prefix].concat())
}

/// The mark of a clear. If the clear is dropped or fails, the mark is removed in the background: it
/// would refuse all claimed writes below the prefix for [`MARKED`].
struct Mark {
    lane: Arc<Lane>,
    marks: String,
    id: String,
    prefix: String,
    op_timeout: Duration,
    is_removed: bool,
}

impl Mark {
    async fn remove(mut self) {
        let unmark = || unmark(&self.marks, &self.id, &self.prefix);
        // If this fails, the mark expires.
        let _ = self.lane.run(unmark, deadline_in(self.op_timeout)).await;
        self.is_removed = true;
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if self.is_removed {
            return;
        }
        let (lane, deadline) = (self.lane.clone(), deadline_in(self.op_timeout));
        let fields = [&mut self.marks, &mut self.id, &mut self.prefix];
        let [marks, id, prefix] = fields.map(std::mem::take);
        // Sent after the mark, over the same lane.
        drop(spawn_background(async move {
            let _ = lane.run(|| unmark(&marks, &id, &prefix), deadline).await;
        }));
    }
}

impl AsyncRedisCache {
    pub(super) async fn clear_prefix(&self, prefix: &str) -> Result<()> {
        let own = self.shared.config.settings.scope.prefix();
        let prefix: Cow<'_, str> =
            if own.is_empty() { prefix.into() } else { format!("{own}{prefix}").into() };
        if prefix.is_empty() {
            let message = "without a prefix every key of the database would be this cache's own";
            return Err(Error::new(ErrorKind::Unsupported).with_message(message));
        }
        let lanes = self.lanes()?;
        for lane in lanes.all() {
            // A write that timed out must not take effect after its key was cleared.
            lane.settle(self.deadline()).await.map_err(|failure| failure.error)?;
        }
        let watched = lanes.bulk.watch_removal();
        let clear = Clear { cache: self, lane: &lanes.bulk, prefix: &prefix };
        clear.run().await.map_err(|failure| failure.error)?;
        watched.answered();
        Ok(())
    }
}

/// A walk through all keys of the database.
struct Clear<'c> {
    cache: &'c AsyncRedisCache,
    lane: &'c Arc<Lane>,
    /// The whole prefix, as the server knows it.
    prefix: &'c str,
}

impl Clear<'_> {
    async fn run(&self) -> Result<(), Failure> {
        let marks = marks(self.cache.shared.config.settings.scope.prefix());
        if !self.cache.shared.refusals.refuses_scripts() {
            let id = names::random();
            let mark = self.new_mark(&marks, &id);
            if self.mark(&marks, &id).await? && self.walk(&marks, Some(&id)).await? {
                mark.remove().await;
                return Ok(());
            }
        }
        // Walk twice. Without a mark, a load that claimed its key before the clear may store its
        // value after the walk has passed the key. The first walk ends the load's claim, and the
        // second removes a value that the load stored before that.
        self.walk(&marks, None).await?;
        self.walk(&marks, None).await.map(drop)
    }

    /// A mark that is about to be set. A clear that is dropped while it sets the mark has it
    /// removed.
    fn new_mark(&self, marks: &str, id: &str) -> Mark {
        Mark {
            lane: self.lane.clone(),
            marks: marks.to_owned(),
            id: id.to_owned(),
            prefix: self.prefix.to_owned(),
            op_timeout: self.cache.shared.config.op_timeout,
            is_removed: false,
        }
    }

    /// Sets the mark. Returns `false` if the server refuses the mark, or would refuse to remove it:
    /// a server that is full, or does not run scripts, can still be cleared.
    async fn mark(&self, marks: &str, id: &str) -> Result<bool, Failure> {
        let touch = || unmark(marks, names::NO_ID, self.prefix);
        let marked = match self.lane.run(touch, self.cache.deadline()).await {
            Ok(_) => {
                let mark = mark(marks, id, self.prefix);
                self.lane.invoke(&mark, self.cache.deadline()).await
            }
            refused => refused,
        };
        match marked {
            Ok(_) => Ok(true),
            Err(failure) if failure.answered && !failure.error.is_retryable() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Removes all keys with the prefix, step by step. Returns whether the mark with this `id` was
    /// set until the end.
    async fn walk(&self, marks: &str, id: Option<&str>) -> Result<bool, Failure> {
        let mut is_marked = id.is_some();
        let mut marked = Instant::now();
        let mut cursor = Bytes::from_static(b"0");
        loop {
            let step = || commands::scan(&cursor, self.prefix, SCAN_COUNT);
            let (next, keys) = self.lane.run(step, self.cache.deadline()).await?;
            for keys in keys.chunks(STEP_KEYS) {
                let keys: Vec<&[u8]> =
                    keys.iter().map(AsRef::as_ref).filter(|key| *key != marks.as_bytes()).collect();
                if !keys.is_empty() {
                    let discard = || commands::discard_all(&keys);
                    self.lane.run(discard, self.cache.deadline()).await?;
                }
            }
            if &*next == b"0" {
                return Ok(is_marked);
            }
            if let Some(id) = id
                && is_marked
                && marked.elapsed() > REMARK
            {
                is_marked = self.mark(marks, id).await?;
                marked = Instant::now();
            }
            cursor = next;
        }
    }
}
