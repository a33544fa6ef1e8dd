//! Values whose own code panics, or uses the adapter that holds them: no lock may be held while
//! this code runs.

use super::*;
use crate::runtime::lock;
use futures_util::FutureExt;
use serde::Serializer;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// After this time a call counts as hanging.
const STUCK: Duration = Duration::from_secs(20);

/// Panics without the report of the panic hook, which would clutter the output of a suite that
/// passes.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("a value's own code panics"))
}

/// A value whose `Serialize` panics.
struct Panicking;

impl Serialize for Panicking {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic_quietly()
    }
}

/// Checks that a call with a [`Panicking`] value returns an error, and neither panics nor hangs.
async fn is_refused<T: Debug>(verb: Verb, call: impl Future<Output = crate::Result<T>>) -> Outcome {
    let call = tokio::time::timeout(STUCK, AssertUnwindSafe(call).catch_unwind()).await;
    let Ok(ended) = call else {
        check!(false, "{verb} of a value whose Serialize panics hangs");
        return Ok(());
    };
    let Ok(answer) = ended else {
        check!(false, "{verb} panics with a value's Serialize");
        return Ok(());
    };
    match answer {
        // An adapter that wraps values returns the panic inside an `Encode` of its own.
        Err(error) if matches!(error.kind(), ErrorKind::Panic | ErrorKind::Encode) => {}
        answer => check!(false, "{verb} of what panics: {answer:?}"),
    }
    Ok(())
}

pub(crate) async fn serialize_panics(f: &Fixture) -> Outcome {
    let value = || CacheValue::new(Panicking);
    for round in 0..3 {
        f.put("k", "old").await?;
        is_refused(Verb::Set, f.set("k", value(), LONG)).await?;
        if f.suite.offers(Verb::Replace) {
            is_refused(Verb::Replace, f.replace("k", value(), LONG)).await?;
        }
        if f.suite.offers(Verb::Add) {
            is_refused(Verb::Add, f.add("new", value(), LONG)).await?;
        }
        let entries = [
            Entry::new("a", CacheValue::new(round), LONG),
            Entry::new("k", value(), LONG),
            Entry::new("c", CacheValue::new(round), LONG),
        ];
        is_refused(Verb::SetMany, async { f.set_many(&entries).await?.swap_remove(1) }).await?;
        if let Some(claim) = f.claim("k", Some(STUCK)).await? {
            is_refused(Verb::SetClaimed, f.set_claimed("k", value(), LONG, &claim)).await?;
            f.release("k", &claim).await?;
        }
        check_eq!(f.text("k").await?.as_deref(), Some("old"), "the value before those that panic");
        f.check_missing("new", "whose add panicked").await?;
        for companion in ["a", "c"] {
            check_eq!(f.read::<i32>(companion).await?, Some(round), "a companion in a batch");
        }
    }
    Ok(())
}

/// Uses an adapter from a value's own code, as long as it is armed.
struct User {
    adapter: Fixture,
    armed: AtomicBool,
    stuck: Mutex<Option<Failure>>,
}

impl User {
    fn new(f: &Fixture) -> Arc<Self> {
        Arc::new(Self { adapter: f.clone(), armed: true.into(), stuck: Mutex::default() })
    }

    /// Uses the adapter on a separate thread, as blocking code does: the calls must not need the
    /// present thread.
    fn use_the_adapter(&self) {
        if !self.armed.load(Ordering::SeqCst) {
            return;
        }
        let (f, (done, came)) = (self.adapter.clone(), mpsc::channel());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = runtime
                .map_err(|refused| Failure::new(refused, Location::caller()))
                .and_then(|runtime| runtime.block_on(every_day(&f)));
            // The receiver is gone if this took too long.
            drop(done.send(outcome));
        });
        let outcome = came.recv_timeout(STUCK).unwrap_or_else(|_| {
            self.armed.store(false, Ordering::SeqCst);
            let hangs = "the adapter hangs when it is used by the code of a value that it handles";
            Err(Failure::new(hangs, Location::caller()))
        });
        if let Err(failure) = outcome {
            lock(&self.stuck).get_or_insert(failure);
        }
    }

    /// Returns the failure of the value's code, and disarms all values.
    fn verdict(&self) -> Outcome {
        self.armed.store(false, Ordering::SeqCst);
        lock(&self.stuck).take().map_or(Ok(()), Err)
    }
}

/// The calls that a value's code makes.
async fn every_day(f: &Fixture) -> Outcome {
    f.get("k").await?;
    f.put("k", 1).await?;
    f.put("other", 1).await?;
    if f.suite.offers(Verb::Incr) {
        f.incr("count", 1, LONG).await?;
    }
    f.get_many(&["k", "other"]).await?;
    f.remove("other").await?;
    Ok(())
}

/// A number whose `Serialize` uses the adapter.
struct Writing(Arc<User>);

impl Serialize for Writing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.use_the_adapter();
        serializer.serialize_i64(7)
    }
}

pub(crate) async fn serialize_uses_the_adapter(f: &Fixture) -> Outcome {
    let user = User::new(f);
    let used = user.clone();
    // On a thread of its own, because a runtime of one thread stops while the value's code waits.
    f.elsewhere(|f| async move {
        let value = || CacheValue::new(Writing(used.clone()));
        f.set("k", value(), LONG).await?;
        f.get("k").await?;
        f.update_timeout("k", LONG).await?;
        if f.suite.offers(Verb::Incr) {
            f.incr("k", 1, LONG).await?;
            f.set("k", value(), LONG).await?;
            f.incr("k", 1, LONG).await?;
        }
        if f.suite.offers(Verb::Replace) {
            f.replace("k", value(), LONG).await?;
        }
        if f.suite.offers(Verb::Add) {
            f.add("new", value(), LONG).await?;
        }
        f.put_many(&[Entry::new("a", value(), LONG), Entry::new("k", value(), LONG)]).await?;
        if let Some(claim) = f.claim("k", None).await? {
            f.set_claimed("k", value(), LONG, &claim).await?;
        }
        Ok(f.remove_many(&["k", "a", "new"]).await.map(drop)?)
    })
    .await?;
    user.verdict()?;
    // Clear, because a value that refers to the adapter inside the adapter would keep both alive
    // for ever.
    Ok(f.clear("").await?)
}

/// A value whose `Drop` uses the adapter and panics.
struct Leaving(Arc<User>);

impl Serialize for Leaving {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(7)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.use_the_adapter();
        if !std::thread::panicking() {
            panic_quietly();
        }
    }
}

pub(crate) async fn drop_uses_the_adapter(f: &Fixture) -> Outcome {
    let user = User::new(f);
    let used = user.clone();
    f.elsewhere(|f| async move {
        let value = || CacheValue::new(Leaving(used.clone()));
        f.set("k", value(), LONG).await?;
        f.set("k", value(), LONG).await?;
        f.remove("k").await?;
        f.put_many(&[Entry::new("a", value(), LONG), Entry::new("k", value(), LONG)]).await?;
        f.put_many(&[Entry::new("a", value(), LONG), Entry::new("k", value(), LONG)]).await?;
        f.remove_many(&["k", "a"]).await?;
        f.set("k", value(), LONG).await?;
        f.update_timeout("k", Duration::ZERO.into()).await?;
        f.set("k", value(), Duration::ZERO.into()).await?;
        for verb in [Verb::Add, Verb::Replace, Verb::Take] {
            f.set("k", value(), LONG).await?;
            match verb {
                _ if !f.suite.offers(verb) => {}
                Verb::Add => f.add("k", value(), LONG).await.map(drop)?,
                Verb::Replace => f.replace("k", value(), LONG).await.map(drop)?,
                _ => f.take("k").await.map(drop)?,
            }
        }
        f.set("k", value(), LONG).await?;
        if let Some(claim) = f.claim("k", None).await? {
            f.set_claimed("k", value(), LONG, &claim).await?;
        }
        f.set("k", value(), LONG).await?;
        Ok(f.clear("").await?)
    })
    .await?;
    user.verdict()?;
    Ok(f.clear("").await?)
}
