//! Counters: by a script if the server permits scripts, otherwise by a transaction.

use super::commands::{self, Command, Condition, Ttl};
use super::errors::{Code, Failure};
use super::names::counter_lock;
use super::ops::Call;
use super::reply::Reply;
use super::scripts::{self, Counted, KEEP_TTL};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::sleep;

/// How long the lock for rewriting a counter lasts. If its holder is gone, others wait no longer
/// than this.
const LOCKED_MILLIS: u64 = 1_000;
const PAUSE: Duration = Duration::from_millis(2);

/// How long a counter exists whose lifetime is zero.
const GONE: Ttl = Ttl::Millis(1);

impl Call<'_> {
    pub(super) async fn increase(&self, by: i64, expiry: Expiry) -> Result<i64> {
        self.outlast_removals().await?;
        let ttl = self.ttl(expiry);
        loop {
            let counted = match self.try_invoke(&scripts::increase(&self.full, by, ttl)).await {
                Ok(Some(counted)) => counted,
                Ok(None) => return self.increase_plainly(by, ttl).await,
                Err(failure) => return Err(self.uncounted(failure)),
            };
            let old = match counted {
                Counted::Sum(sum) => return Ok(sum),
                Counted::Overflow => return Err(self.overflow()),
                Counted::NotANumber => return Err(self.not_a_number()),
                Counted::Other(old) => old,
            };
            let before = self.value(old.clone());
            let (sum, kept) = if before.is_stale() {
                (by, scripts::counter_ttl(ttl))
            } else {
                let number = before.as_counter().map_err(|error| self.named(error))?;
                let sum = number.checked_add(by).ok_or_else(|| self.overflow())?;
                (sum, KEEP_TTL.to_owned())
            };
            match self.try_invoke(&scripts::exchange(&self.full, &old, sum, &kept)).await {
                Ok(Some(true)) => return Ok(sum),
                // The value was changed in between: try again, until the deadline.
                Ok(Some(false)) => {}
                Ok(None) => return self.increase_plainly(by, ttl).await,
                Err(failure) => return Err(self.uncounted(failure)),
            }
        }
    }

    /// Counts in one transaction, because a counter that expires between the commands would live on
    /// without an expiry. For a user who may not use transactions, sends the commands without one.
    async fn increase_plainly(&self, by: i64, ttl: Option<Ttl>) -> Result<i64> {
        let mut in_transaction = true;
        loop {
            let batch = self.additions(by, ttl, in_transaction);
            let answers = self.lane().run_all(&batch, self.deadline).await;
            let answers = answers.map_err(|failure| self.failed(failure))?;
            match counted(answers, in_transaction) {
                Ok(sum) => return Ok(sum),
                Err(Uncounted::NoTransaction) => in_transaction = false,
                Err(Uncounted::NotText) => self.rewrite_counter(by, in_transaction).await?,
                Err(Uncounted::Overflow) => return Err(self.overflow()),
                Err(Uncounted::Failed(failure)) => return Err(self.uncounted(failure)),
            }
        }
    }

    fn additions(&self, by: i64, ttl: Option<Ttl>, in_transaction: bool) -> Vec<Command<Reply>> {
        let begin = commands::set(&self.full, b"0", ttl.unwrap_or(GONE), Condition::Missing);
        let add = Command::new("INCRBY", Some).arg(&*self.full).arg(by).once();
        let mut batch = vec![commands::forget_claim(&self.full), commands::as_is(begin), add];
        if in_transaction {
            batch.insert(1, commands::multi());
            batch.push(commands::exec());
            // If `EXEC` alone is refused, the connection must not go on queueing the commands of
            // all callers.
            batch.push(Command::new("DISCARD", Some).once());
        }
        batch
    }

    /// Rewrites a number that `set` stored with a header as text, as the script does. A lock makes
    /// it rare that two callers do it at once.
    async fn rewrite_counter(&self, by: i64, in_transaction: bool) -> Result<()> {
        let failed = |failure| self.uncounted(failure);
        let lane = self.lane();
        let lock = counter_lock(&self.full);
        let take = || commands::set(&lock, b"", Ttl::Millis(LOCKED_MILLIS), Condition::Missing);
        if !lane.run(take, self.deadline).await.map_err(failed)? {
            sleep(PAUSE).await;
            return Ok(());
        }
        let rewritten = if in_transaction {
            Box::pin(self.rewrite_watched(by)).await
        } else {
            self.rewrite_locked(by).await
        };
        // If this fails, the lock expires.
        let _ = lane.run(|| commands::discard(&lock), self.deadline).await;
        rewritten
    }

    /// Rewrites the number only if it is still the one that was read. The lock alone does not
    /// promise that: its holder may be held up until it has expired, and another caller rewrites
    /// and counts meanwhile. `WATCH` notices any write, of other programs too. It needs a
    /// connection of its own, because the `EXEC` of another caller would end it.
    async fn rewrite_watched(&self, by: i64) -> Result<()> {
        let failed = |failure| self.uncounted(failure);
        let own = self.lane().open_private(self.deadline).await.map_err(failed)?;
        match own.run(commands::watch(&self.full), self.deadline).await {
            Err(failure) if failure.is_refusal() => return self.rewrite_locked(by).await,
            watched => watched.map_err(failed)?,
        };
        let old = own.run(commands::get(&self.full), self.deadline).await.map_err(failed)?;
        let rewrite = match self.as_text(old, by)? {
            Rewrite::Nothing => return Ok(()),
            Rewrite::Discard => {
                commands::as_is(commands::discard(&self.full).removing_by(self.lane().removal()))
            }
            Rewrite::Number(number) => commands::as_is(commands::set_text(&self.full, number)),
        };
        for step in [commands::multi(), rewrite, commands::exec()] {
            own.run(step, self.deadline).await.map_err(failed)?;
        }
        Ok(())
    }

    /// The same for a user who may not use transactions. A write of another caller between the read
    /// and the write is lost.
    async fn rewrite_locked(&self, by: i64) -> Result<()> {
        let lane = self.lane();
        let failed = |failure| self.uncounted(failure);
        let old = lane.get(&self.full, self.deadline).await.map_err(failed)?;
        let rewritten = match self.as_text(old, by)? {
            Rewrite::Nothing => return Ok(()),
            Rewrite::Discard => {
                lane.run(|| commands::discard(&self.full), self.deadline).await.map(drop)
            }
            Rewrite::Number(number) => {
                lane.run(|| commands::set_text(&self.full, number), self.deadline).await.map(drop)
            }
        };
        rewritten.map_err(failed)
    }

    /// What is to be done with a value that is not decimal text, so that it can be counted.
    fn as_text(&self, old: Option<Bytes>, by: i64) -> Result<Rewrite> {
        // Text has been rewritten by another caller since this one was refused, and sums may have
        // been added to it since it was read: without a transaction they would be undone.
        let Some(old) = old.filter(|old| !is_text(old)) else { return Ok(Rewrite::Nothing) };
        let before = self.value(old);
        if before.is_stale() {
            // The value is missing for a counter: the next attempt begins anew.
            return Ok(Rewrite::Discard);
        }
        let number = before.as_counter().map_err(|error| self.named(error))?;
        number.checked_add(by).ok_or_else(|| self.overflow())?;
        Ok(Rewrite::Number(number))
    }

    fn overflow(&self) -> Error {
        self.named(Error::new(ErrorKind::Overflow))
    }

    fn not_a_number(&self) -> Error {
        self.named(Error::new(ErrorKind::NotANumber))
    }

    fn uncounted(&self, failure: Failure) -> Error {
        match failure.code {
            Code::WrongType => self.not_a_number(),
            _ => self.failed(failure),
        }
    }
}

/// Whether the server can add to these bytes.
fn is_text(stored: &[u8]) -> bool {
    let text = std::str::from_utf8(stored).unwrap_or_default();
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

/// How a value becomes one that the server can count.
enum Rewrite {
    /// There is no value, or the server can count it.
    Nothing,
    Discard,
    Number(i64),
}

/// Why a counter was not changed.
enum Uncounted {
    /// The value is not decimal text.
    NotText,
    Overflow,
    /// The user may begin a transaction, but may not end it.
    NoTransaction,
    Failed(Failure),
}

/// Reads the sum: the last answer of the transaction, or the answer of the command itself if the
/// user may not begin a transaction.
fn counted(
    mut answers: Vec<Result<Reply, Failure>>,
    in_transaction: bool,
) -> Result<i64, Uncounted> {
    let exec = if in_transaction {
        answers.pop();
        answers.pop()
    } else {
        None
    };
    let answer = match (answers.pop(), exec) {
        (_, Some(Ok(Reply::Array(answers)))) => answers.into_iter().next_back(),
        (Some(Ok(sum @ Reply::Int(_))), _) => Some(sum),
        (Some(Err(failure)), _) => return Err(failure.into()),
        (_, Some(Err(failure))) if failure.is_refusal() => return Err(Uncounted::NoTransaction),
        (_, Some(Err(failure))) => return Err(failure.into()),
        _ => None,
    };
    match answer {
        Some(Reply::Int(sum)) => Ok(sum),
        Some(Reply::Error(error)) => Err(Failure::from(error).into()),
        _ => Err(Uncounted::Failed(Failure::desynchronized())),
    }
}

impl From<Failure> for Uncounted {
    fn from(failure: Failure) -> Self {
        match failure.code {
            Code::NotAnInteger => Self::NotText,
            Code::Overflow => Self::Overflow,
            _ => Self::Failed(failure),
        }
    }
}
