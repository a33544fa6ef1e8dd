//! One of many looks after the backend while it is away.

use crate::runtime::lock;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How late the one on duty may be. One that is later stands still with its runtime, and is not waited for.
const LATE: Duration = Duration::from_millis(500);

/// A post that one task at a time holds, and that falls to whoever comes by when its holder does not show up.
#[derive(Debug, Default)]
pub(super) struct Duty(Mutex<Post>);

#[derive(Debug, Default)]
struct Post {
    term: u64,
    /// When its holder is overdue; `None` while nobody has it.
    due: Option<Instant>,
}

/// The post's holder. Dropping it, with its runtime if need be, frees the post.
#[derive(Debug)]
pub(super) struct Term<D: AsRef<Duty>> {
    duty: D,
    number: u64,
}

impl Duty {
    /// Takes the post for `duty`, if it is free or its holder overdue.
    pub(super) fn take<D: AsRef<Duty>>(duty: D) -> Option<Term<D>> {
        let number = {
            let mut post = lock(&duty.as_ref().0);
            let now = Instant::now();
            if post.due.is_some_and(|due| now < due) {
                return None;
            }
            post.term += 1;
            post.due = Some(now + LATE);
            post.term
        };
        Some(Term { duty, number })
    }
}

impl<D: AsRef<Duty>> Term<D> {
    /// Says that the holder is busy for up to `lasting`. `false` if somebody else has taken over.
    pub(super) fn stay(&self, lasting: Duration) -> bool {
        let mut post = lock(&self.duty.as_ref().0);
        let is_held = post.term == self.number;
        if is_held {
            post.due = Some(Instant::now() + lasting + LATE);
        }
        is_held
    }
}

impl<D: AsRef<Duty>> Drop for Term<D> {
    fn drop(&mut self) {
        let mut post = lock(&self.duty.as_ref().0);
        if post.term == self.number {
            post.due = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Owner(Duty);

    impl AsRef<Duty> for Arc<Owner> {
        fn as_ref(&self) -> &Duty {
            &self.0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_nobody_is_waited_for() {
        let owner = Arc::new(Owner(Duty::default()));
        let first = Duty::take(owner.clone()).expect("free");
        assert!(Duty::take(owner.clone()).is_none());
        assert!(first.stay(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_millis(1_400)).await;
        assert!(Duty::take(owner.clone()).is_none(), "not overdue yet");
        tokio::time::advance(Duration::from_millis(200)).await;
        let second = Duty::take(owner.clone()).expect("overdue");
        assert!(!first.stay(Duration::ZERO));
        drop(first);
        assert!(Duty::take(owner.clone()).is_none(), "the late one frees nothing");
        drop(second);
        assert!(Duty::take(owner).is_some());
    }
}
