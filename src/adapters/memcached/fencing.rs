//! Claims: how a load learns that its key was written, removed or cleared meanwhile, by this
//! process or another.
//!
//! While the value of a missing key is computed, a placeholder stands under the key: an empty item
//! with flags of its own. It is a miss for every operation, and every write and removal replaces
//! its CAS number. A claimed write is a compare-and-set on that number, or on the number of the
//! live value that it replaces. A clear changes no item; the claim token holds the clear log's
//! sequence number to detect it. Leases are items of their own.
//!
//! Other programs would see the placeholder as an empty value, so placeholders are used with the
//! MessagePack codec only.

use super::connection::session::Session;
use super::connection::{Condition, Draft, Stored, Want, Written};
use super::judging::{Present, Version};
use super::keys::{self, Key};
use super::stamps::PLACEHOLDER;
use super::ttl::Ttl;
use crate::adapter::{Claim, LONGEST_CLAIM};
use crate::error::Result;
use crate::expiry::Lifetime;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// The lifetime of a placeholder. Several claims may share one, so a released claim leaves it in
/// place.
const PLACEHOLDER_FOR: Duration = Duration::from_secs(600);

/// The fencing token of a claim, as only this adapter reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClaimToken {
    version: Version,
    /// The lease's CAS number.
    lease: Option<u64>,
}

impl ClaimToken {
    pub(super) fn to_claim(self) -> Claim {
        let Self { version: Version { cas, seq }, lease } = self;
        // No item has the CAS number 0.
        Claim::new(
            [&cas.to_be_bytes()[..], &seq.to_be_bytes(), &lease.unwrap_or(0).to_be_bytes()]
                .concat(),
        )
    }

    /// Reads a token. `None` for one that this adapter did not write.
    pub(super) fn read(claim: &[u8]) -> Option<Self> {
        let (cas, rest) = claim.split_first_chunk()?;
        let (seq, lease) = rest.split_first_chunk()?;
        let version = Version { cas: u64::from_be_bytes(*cas), seq: u64::from_be_bytes(*seq) };
        let lease = u64::from_be_bytes(lease.try_into().ok()?);
        Some(Self { version, lease: Some(lease).filter(|cas| *cas != 0) })
    }
}

/// A value for a claimed key; without a value, the old one is removed.
#[derive(Debug)]
pub(super) struct ClaimedWrite {
    pub(super) key: Key,
    pub(super) value: Option<(Stored, Ttl)>,
    pub(super) token: ClaimToken,
}

/// A lease in whole seconds, rounded up like every lifetime here; `None` is no lease.
pub(super) fn lease(lease: Option<Duration>) -> Option<Ttl> {
    Ttl::new(Lifetime::For(lease?.min(LONGEST_CLAIM)))
}

impl Session {
    /// Claims a key. Returns `None` while another caller holds the lease.
    pub(super) async fn claim(
        &mut self,
        key: &Key,
        lease: Option<Ttl>,
        deadline: Instant,
    ) -> Result<Option<ClaimToken>> {
        let lease = match lease {
            None => None,
            Some(ttl) => match self.take_lease(&keys::lease(key), ttl).await? {
                None => return Ok(None),
                taken => taken,
            },
        };
        let token =
            self.hold_placeholder(key, deadline).await.map(|version| ClaimToken { version, lease });
        if let (Err(_), Some(lease)) = (&token, lease) {
            // If this fails as well, the lease expires by itself.
            let _ = self.end_lease(key, lease).await;
        }
        token.map(Some)
    }

    /// Takes a lease, again over a new connection if the server had closed the old one. If the first
    /// attempt has taken it all the same, the second finds it held, and it ends by itself.
    async fn take_lease(&mut self, wire: &str, ttl: Ttl) -> Result<Option<u64>> {
        let reused = self.is_connected();
        match self.hold(wire, ttl, Condition::Absent).await {
            Err(error) if reused && self.was_closed(&error) => {
                self.hold(wire, ttl, Condition::Absent).await
            }
            taken => taken,
        }
    }

    async fn hold_placeholder(&mut self, key: &Key, deadline: Instant) -> Result<Version> {
        let placeholder = Ttl::new(Lifetime::For(PLACEHOLDER_FOR)).unwrap_or(Ttl::NEVER);
        let mut condition = Condition::Absent;
        loop {
            // Read the sequence number before the placeholder is stored: a clear in between then
            // counts as later than the claim.
            let seq = self.log().await?.log.seq();
            if let Some(cas) = self.hold(key.wire(), placeholder, condition).await? {
                return Ok(Version { cas, seq });
            }
            self.in_time(deadline)?;
            condition = match self.fetch_one(key, Want::Meta).await? {
                Some(Present::Live(found)) => return Ok(found.version),
                Some(Present::Placeholder(version)) => return Ok(version),
                Some(Present::Cleared(version)) => Condition::Unchanged(version.cas),
                None => Condition::Absent,
            };
        }
    }

    /// Stores an empty item, and returns its CAS number if the condition held.
    async fn hold(&mut self, wire: &str, ttl: Ttl, condition: Condition) -> Result<Option<u64>> {
        match self
            .write(wire, Draft { bytes: Bytes::new(), flags: PLACEHOLDER, ttl }, condition)
            .await?
        {
            Written::Done { cas } => Ok(Some(cas)),
            Written::Refused => Ok(None),
        }
    }

    /// Stores a value under a claim, and returns whether the claim held.
    pub(super) async fn set_claimed(&mut self, claimed: &ClaimedWrite) -> Result<bool> {
        let ClaimedWrite { key, value, token } = claimed;
        // Check the lease and the clear log first, then compare and set. A clear that comes between
        // the check and the write has a higher sequence number than the value's stamp.
        let holds = !self.has_passed_on(key, token).await?
            && !self.log().await?.log.is_cleared_since(key, token.version.seq);
        let stored = holds
            && match value {
                Some((stored, ttl)) => {
                    self.put_over(token.version, key, stored.clone(), *ttl).await?
                }
                None => {
                    self.delete(key.wire(), Condition::Unchanged(token.version.cas)).await?
                        != Written::Refused
                }
            };
        // End the lease after the write. The next holder reads the key before it loads, and would
        // otherwise find no value and load again.
        if let Some(lease) = token.lease {
            self.end_lease(key, lease).await?;
        }
        Ok(stored)
    }

    /// Whether another caller holds the lease now.
    async fn has_passed_on(&mut self, key: &Key, token: &ClaimToken) -> Result<bool> {
        let Some(lease) = token.lease else { return Ok(false) };
        let item = self.read(&[keys::lease(key)], Want::Meta).await?.pop().flatten();
        Ok(item.is_some_and(|item| item.cas != lease))
    }

    async fn end_lease(&mut self, key: &Key, lease: u64) -> Result<()> {
        self.delete(&keys::lease(key), Condition::Unchanged(lease)).await.map(drop)
    }

    /// Gives up a claim.
    pub(super) async fn release(&mut self, key: &Key, token: &ClaimToken) -> Result<()> {
        match token.lease {
            Some(lease) => self.end_lease(key, lease).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        for lease in [None, Some(7)] {
            let token = ClaimToken { version: Version { cas: 1 << 40, seq: 9 }, lease };
            assert_eq!(ClaimToken::read(token.to_claim().token().unwrap()), Some(token));
        }
        assert_eq!(ClaimToken::read(b"another adapter's claim"), None);
    }

    #[test]
    fn a_lease_of_nothing_is_none() {
        assert_eq!(lease(None), None);
        assert_eq!(lease(Some(Duration::ZERO)), None);
        assert_eq!(lease(Some(Duration::MAX)), lease(Some(LONGEST_CLAIM)));
    }
}
