//! The names of larder's auxiliary keys.
//!
//! All of them are UTF-8, because a server may quote a name in an error, and drivers read errors as
//! text. So a user's key could have such a name; these keys are refused.

use crate::error::{Error, ErrorKind, Result};

/// The token of a claim: the key, followed by this.
pub(super) const CLAIM: &str = "\0larder:claim";
/// The prefixes that are being cleared: the cache's prefix, followed by this.
const CLEARS: &str = "\0larder:clears";
/// The lock for rewriting a counter: the key, followed by this.
const COUNTER: &str = "\0larder:counter";
/// A staged value: the cache's prefix, followed by this and a random number.
const STAGED: &str = "\0larder:staged:";
const RANDOM_DIGITS: usize = 32;
/// An identifier that no random number equals.
pub(super) const NO_ID: &str = "none";

/// The key of the token that belongs to a key.
pub(super) fn token(full: &str) -> String {
    [full, CLAIM].concat()
}

/// The key that lists the prefixes being cleared.
pub(super) fn marks(prefix: &str) -> String {
    [prefix, CLEARS].concat()
}

/// The key of the lock for rewriting a counter without scripts.
pub(super) fn counter_lock(full: &str) -> String {
    [full, COUNTER].concat()
}

/// A new temporary key for a staged value.
pub(super) fn staged(prefix: &str) -> String {
    format!("{prefix}{STAGED}{}", random())
}

/// A random identifier.
pub(super) fn random() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Refuses a user's key that could be one of these names.
///
/// # Errors
///
/// [`ErrorKind::InvalidKey`].
pub(super) fn check(key: &str) -> Result<()> {
    // Few keys contain this character, so the check is rarely made.
    if key.as_bytes().contains(&0) && is_reserved(key) {
        return Err(Error::new(ErrorKind::InvalidKey)
            .with_key(key)
            .with_message("the key is a name that larder keeps for itself"));
    }
    Ok(())
}

/// Whether a key has one of these names.
pub(super) fn is_reserved(key: &str) -> bool {
    let is_staged = || {
        key.rsplit_once(STAGED).is_some_and(|(_, random)| {
            random.len() == RANDOM_DIGITS && random.bytes().all(|digit| digit.is_ascii_hexdigit())
        })
    };
    [CLAIM, CLEARS, COUNTER].iter().any(|suffix| key.ends_with(suffix)) || is_staged()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_like_a_name_of_ours() {
        for name in
            [token("k"), marks(""), marks("p:"), counter_lock("k"), staged(""), staged("p:")]
        {
            assert_eq!(check(&name).unwrap_err().kind(), ErrorKind::InvalidKey, "{name:?}");
        }
        for key in ["k", "\0", "\0larder:staged:", "\0larder:claims", "k\0larder:claim\0"] {
            assert!(check(key).is_ok(), "{key:?}");
        }
        assert_ne!(token("k"), marks("k"));
    }
}
