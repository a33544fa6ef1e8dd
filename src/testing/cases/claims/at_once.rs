//! Claims for which nobody waits: `claim_if_ready` and `set_claimed_if_ready`.

use super::*;
use crate::error::Result as Answer;
use std::task::Poll;

/// The answer of `set_claimed_if_ready`; that of `set_claimed` if it would have to wait.
async fn set_at_once(f: &Fixture, key: &str, value: CacheValue, claim: &Claim) -> Answer<bool> {
    match f.set_claimed_if_ready(key, &value, LONG, claim) {
        Poll::Ready(answer) => answer,
        Poll::Pending => f.set_claimed(key, value, LONG, claim).await,
    }
}

pub(crate) async fn if_ready_agrees(f: &Fixture) -> Outcome {
    if let Poll::Ready(answer) = f.claim_if_ready("") {
        check_kind!(answer, ErrorKind::InvalidKey, "claim_if_ready of the empty key");
    }
    let Poll::Ready(claim) = f.claim_if_ready("k") else { return Ok(()) };
    let claim = claim?;
    f.check_missing("k", "that is claimed at once").await?;
    check_eq!(set_at_once(f, "k", CacheValue::new("v"), &claim).await?, true, "set at once");
    check_eq!(f.text("k").await?.as_deref(), Some("v"), "the value that was set at once");
    if !f.enforces_claims() {
        return Ok(());
    }
    let late = set_at_once(f, "k", CacheValue::new("late"), &claim).await?;
    check_eq!(late, false, "set at once, with a claim that is used up");
    for what in ["written", "removed", "cleared"] {
        let Poll::Ready(claim) = f.claim_if_ready("k") else {
            check!(false, "claim_if_ready answered once, and then not");
            return Ok(());
        };
        let claim = claim?;
        match what {
            "written" => f.put("k", "newer").await?,
            "removed" => drop(f.remove("k").await?),
            _ => f.clear("").await?,
        }
        let before = f.text("k").await?;
        let late = set_at_once(f, "k", CacheValue::new("late"), &claim).await?;
        check_eq!(late, false, "set at once, after the key was {what}");
        check_eq!(f.text("k").await?, before, "the key that was {what}, after set at once");
    }
    Ok(())
}
