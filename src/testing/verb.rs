//! The verbs of the contract, by name.

use std::fmt;

macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident = $name:literal,)*) => {
        /// A method of [`AsyncCacheAdapter`](crate::AsyncCacheAdapter).
        ///
        /// ```
        /// use larder::testing::Verb;
        ///
        /// assert_eq!(Verb::UpdateTimeout.to_string(), "update_timeout");
        /// assert!(Verb::ALL.contains(&Verb::Incr));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Verb {
            $($(#[$doc])* $verb,)*
        }

        impl Verb {
            /// All verbs.
            pub const ALL: &'static [Self] = &[$(Self::$verb),*];

            /// The method's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$verb => $name,)*
                }
            }
        }
    };
}

verbs! {
    /// [`get`](crate::AsyncCacheAdapter::get), and
    /// [`get_if_ready`](crate::AsyncCacheAdapter::get_if_ready) if it answers.
    Get = "get",
    /// [`set`](crate::AsyncCacheAdapter::set).
    Set = "set",
    /// [`remove`](crate::AsyncCacheAdapter::remove).
    Remove = "remove",
    /// [`update_timeout`](crate::AsyncCacheAdapter::update_timeout).
    UpdateTimeout = "update_timeout",
    /// [`clear`](crate::AsyncCacheAdapter::clear).
    Clear = "clear",
    /// [`add`](crate::AsyncCacheAdapter::add).
    Add = "add",
    /// [`replace`](crate::AsyncCacheAdapter::replace).
    Replace = "replace",
    /// [`incr`](crate::AsyncCacheAdapter::incr).
    Incr = "incr",
    /// [`take`](crate::AsyncCacheAdapter::take).
    Take = "take",
    /// [`expiry`](crate::AsyncCacheAdapter::expiry).
    Expiry = "expiry",
    /// [`contains`](crate::AsyncCacheAdapter::contains).
    Contains = "contains",
    /// [`touch`](crate::AsyncCacheAdapter::touch).
    Touch = "touch",
    /// [`get_many`](crate::AsyncCacheAdapter::get_many).
    GetMany = "get_many",
    /// [`set_many`](crate::AsyncCacheAdapter::set_many).
    SetMany = "set_many",
    /// [`remove_many`](crate::AsyncCacheAdapter::remove_many).
    RemoveMany = "remove_many",
    /// [`keys`](crate::AsyncCacheAdapter::keys).
    Keys = "keys",
    /// [`claim`](crate::AsyncCacheAdapter::claim).
    Claim = "claim",
    /// [`set_claimed`](crate::AsyncCacheAdapter::set_claimed).
    SetClaimed = "set_claimed",
    /// [`release`](crate::AsyncCacheAdapter::release).
    Release = "release",
    /// [`connect`](crate::AsyncCacheAdapter::connect).
    Connect = "connect",
    /// [`ping`](crate::AsyncCacheAdapter::ping).
    Ping = "ping",
    /// [`close`](crate::AsyncCacheAdapter::close).
    Close = "close",
    /// [`reconnect`](crate::AsyncCacheAdapter::reconnect).
    Reconnect = "reconnect",
    /// [`rebuild`](crate::AsyncCacheAdapter::rebuild).
    Rebuild = "rebuild",
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
