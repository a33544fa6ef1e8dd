//! Elects one recovery task among those that callers start.

use crate::runtime::lock;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How late the elected task may be. A task that is later is considered stopped with its runtime,
/// and another one is elected.
const LATE: Duration = Duration::from_millis(500);

/// The election. A task that does not renew its tenure in time loses it to the next task that asks.
#[derive(Debug, Default)]
pub(super) struct Election(Mutex<Post>);

#[derive(Debug, Default)]
struct Post {
    number: u64,
    /// When the elected task is overdue; `None` while no task is elected.
    due: Option<Instant>,
}

/// The tenure of the elected task. It ends when it is dropped, also if the runtime of the task
/// ends.
#[derive(Debug)]
pub(super) struct Tenure<D: AsRef<Election>> {
    owner: D,
    number: u64,
}

impl Election {
    /// Returns a tenure in the election of `owner`, if no task is elected or the elected one is
    /// overdue.
    pub(super) fn win<D: AsRef<Election>>(owner: D) -> Option<Tenure<D>> {
        let number = {
            let mut post = lock(&owner.as_ref().0);
            let now = Instant::now();
            if post.due.is_some_and(|due| now < due) {
                return None;
            }
            post.number += 1;
            post.due = Some(now + LATE);
            post.number
        };
        Some(Tenure { owner, number })
    }
}

impl<D: AsRef<Election>> Tenure<D> {
    /// Extends the tenure by up to `lasting`. Returns `false` if another task has been elected.
    pub(super) fn renew(&self, lasting: Duration) -> bool {
        let mut post = lock(&self.owner.as_ref().0);
        let is_held = post.number == self.number;
        if is_held {
            post.due = Some(Instant::now() + lasting + LATE);
        }
        is_held
    }
}

impl<D: AsRef<Election>> Drop for Tenure<D> {
    fn drop(&mut self) {
        let mut post = lock(&self.owner.as_ref().0);
        if post.number == self.number {
            post.due = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Owner(Election);

    impl AsRef<Election> for Arc<Owner> {
        fn as_ref(&self) -> &Election {
            &self.0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_a_late_one_is_not_waited_for() {
        let owner = Arc::new(Owner(Election::default()));
        let first = Election::win(owner.clone()).expect("free");
        assert!(Election::win(owner.clone()).is_none());
        assert!(first.renew(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_millis(1_400)).await;
        assert!(Election::win(owner.clone()).is_none(), "not overdue yet");
        tokio::time::advance(Duration::from_millis(200)).await;
        let second = Election::win(owner.clone()).expect("overdue");
        assert!(!first.renew(Duration::ZERO));
        drop(first);
        assert!(Election::win(owner.clone()).is_none(), "the late one frees nothing");
        drop(second);
        assert!(Election::win(owner).is_some());
    }
}
