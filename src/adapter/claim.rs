//! Claims.

#[cfg(feature = "memory")]
use super::counted::CountedToken;
use bytes::Bytes;

/// A fencing token for one key: [`claim`](crate::AsyncCacheAdapter::claim) returns it before a value
/// is computed, and [`set_claimed`](crate::AsyncCacheAdapter::set_claimed) stores the value only if
/// the key was not changed since. The token's content is the adapter's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim(Token);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    None,
    Bytes(Bytes),
    #[cfg(feature = "memory")]
    Counted(CountedToken),
}

impl Claim {
    /// A claim with a token, whose meaning only the adapter knows.
    ///
    /// ```
    /// assert_eq!(larder::Claim::new("token").token(), Some(&b"token"[..]));
    /// ```
    #[must_use]
    pub fn new(token: impl Into<Bytes>) -> Self {
        Self(Token::Bytes(token.into()))
    }

    /// A claim whose store counts the handles on it.
    #[cfg(feature = "memory")]
    pub(crate) fn counted(token: CountedToken) -> Self {
        Self(Token::Counted(token))
    }

    /// The claim of a store that no other process writes to: it always holds.
    #[must_use]
    pub fn unguarded() -> Self {
        Self(Token::None)
    }

    /// The adapter's token; `None` if the claim is unguarded.
    #[must_use]
    pub fn token(&self) -> Option<&[u8]> {
        match &self.0 {
            Token::None => None,
            Token::Bytes(bytes) => Some(bytes),
            #[cfg(feature = "memory")]
            Token::Counted(token) => Some(token.number()),
        }
    }

    /// Drops a claim that its store has ended already, without a word to the store.
    pub(crate) fn spent(self) {
        #[cfg(feature = "memory")]
        if let Token::Counted(token) = self.0 {
            token.spent();
        }
    }
}
