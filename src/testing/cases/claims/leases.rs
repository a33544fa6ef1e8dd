//! Leases: claims that are exclusive for a time.

use super::*;

pub(crate) async fn a_lease_is_exclusive(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    f.put("live", "old").await?;
    for key in ["k", "live"] {
        let claim = claimed(f, key, LEASE).await?;
        check_eq!(f.claim(key, LEASE).await?, None, "a second lease on {key:?}");
        let other = claimed(f, &format!("other than {key}"), LEASE).await?;
        check_eq!(
            set_claimed(f, &format!("other than {key}"), "v", &other).await?,
            true,
            "set_claimed of another key"
        );
        check_eq!(
            f.claim(key, LEASE).await?,
            None,
            "a second lease on {key:?}, after set_claimed of another key"
        );
        f.release(key, &claim).await?;
        let claim = claimed(f, key, LEASE).await?;
        check_eq!(
            set_claimed(f, key, "new", &claim).await?,
            true,
            "set_claimed of {key:?} by the second holder"
        );
        let claim = claimed(f, key, LEASE).await?;
        f.release(key, &claim).await?;
    }
    // The claims are kept: a store may end a claim with its handle.
    let leases = f.at_once(32, |f, _| async move { Ok(f.claim("many", LEASE).await?) }).await?;
    check_eq!(leases.iter().flatten().count(), 1, "leases given, of 32 asked for at once");
    Ok(())
}

pub(crate) async fn a_claim_without_a_lease_is_always_given(f: &Fixture) -> Outcome {
    let holder = claimed(f, "k", LEASE).await?;
    let other = claimed(f, "k", None).await?;
    f.release("k", &other).await?;
    if f.enforces_claims() {
        check_eq!(
            f.claim("k", LEASE).await?,
            None,
            "a lease on a key that is leased, after another caller gave a claim up"
        );
        check_eq!(set_claimed(f, "k", "v", &holder).await?, true, "set_claimed by the holder");
    }
    Ok(())
}

/// Waits until a lease has ended, and takes the next lease.
async fn next_lease(f: &Fixture, key: &str, lasting: Duration, taken: Instant) -> Outcome<Claim> {
    loop {
        let asked = taken.elapsed();
        if let Some(claim) = f.claim(key, LEASE).await? {
            return Ok(claim);
        }
        check!(
            asked < f.suite.gone_after(lasting) + Duration::from_secs(3),
            "a lease of {lasting:?} still holds {asked:?} after it was given"
        );
        tokio::time::sleep(f.suite.short() / 6).await;
    }
}

pub(crate) async fn a_lease_ends_by_itself(f: &Fixture) -> Outcome {
    if !f.enforces_claims() {
        return Ok(());
    }
    f.put("live", "old").await?;
    for (key, old) in [("k", None), ("live", Some("old"))] {
        let first = claimed(f, key, Some(f.suite.short())).await?;
        let second = next_lease(f, key, f.suite.short(), Instant::now()).await?;
        check_refused(f, key, &first, old, "whose lease has passed to another holder").await?;
        check_eq!(
            f.claim(key, LEASE).await?,
            None,
            "a lease on {key:?}, after the late set_claimed of its first holder"
        );
        f.release(key, &first).await?;
        check_eq!(
            f.claim(key, LEASE).await?,
            None,
            "a lease on {key:?}, after its first holder gave it up late"
        );
        check_eq!(
            set_claimed(f, key, "second", &second).await?,
            true,
            "set_claimed by the second holder"
        );
        check_eq!(f.text(key).await?.as_deref(), Some("second"), "the value of the second holder");
        check_refused(
            f,
            key,
            &first,
            Some("second"),
            "whose lease has passed to another holder, after set_claimed",
        )
        .await?;
    }
    Ok(())
}
