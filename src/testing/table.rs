//! The list of cases: the one place where a case is named. The generated tests, [`CASES`] and their documentation come from it.

use super::Verb;
use super::cases::*;
use super::harness::{Fixture, Outcome};
use futures_util::future::BoxFuture;
use std::fmt;

/// Gives the table to a macro: `section { case [verbs it needs]: "what it checks", }`. Only verbs that a store may lack are needed.
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_cases {
    ($then:ident) => {
        $crate::$then! {
            basics {
                get_after_set: "what was set is there",
                get_missing: "a key never written is missing, which is no error",
                overwrite: "a second set replaces the first",
                overwrite_with_another_type: "a value of one type can be replaced by one of another",
                keys_are_independent: "writing and removing one key leaves its siblings",
                remove_live: "remove of a live key is true, and it is gone",
                remove_missing: "remove of a missing key is false",
                remove_twice: "the second remove is false",
                set_after_remove: "a removed key can be set again, and keeps",
                contains_tells: "contains is whether the key is live",
                replace_missing [Replace]: "replace of a missing key is false and stores nothing",
                replace_live [Replace]: "replace of a live key is true and stores",
                take_live [Take]: "take gives the value, and the key is gone",
                take_missing [Take]: "take of a missing key is none",
                kind_is_named: "kind is not empty",
            }
        }
    };
}

/// The tests that `conformance!` stands for.
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_tests {
    ($($section:ident { $($case:ident $([$($verb:ident)+])?: $what:literal,)* })*) => {$(
        mod $section {$(
            #[doc = $what]
            #[test]
            fn $case() {
                $crate::testing::run_case::<super::Source>(concat!(stringify!($section), "::", stringify!($case)));
            }
        )*}
    )*};
}

/// The cases themselves.
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_table {
    ($($section:ident { $($case:ident $([$($verb:ident)+])?: $what:literal,)* })*) => {
        /// Every case of the suite.
        ///
        /// | case | what it checks |
        /// |---|---|
        $($(#[doc = concat!("| `", stringify!($section), "::", stringify!($case), "` | ", $what, " |")])*)*
        pub static CASES: &[Case] = &[$($(
            Case {
                name: concat!(stringify!($section), "::", stringify!($case)),
                what: $what,
                needs: &[$($(Verb::$verb),+)?],
                body: |fixture| Box::pin($section::$case(fixture)),
            },
        )*)*];
    };
}

crate::__conformance_cases!(__conformance_table);

/// One behaviour that every adapter has in common.
pub struct Case {
    name: &'static str,
    what: &'static str,
    needs: &'static [Verb],
    body: for<'a> fn(&'a Fixture) -> BoxFuture<'a, Outcome>,
}

impl Case {
    /// Its section and name, as in `add::once_among_many`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it checks, in one line.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// The verbs it is about, of those that a store may leave out.
    #[must_use]
    pub fn needs(&self) -> &'static [Verb] {
        self.needs
    }

    pub(super) fn body<'a>(&self, fixture: &'a Fixture) -> BoxFuture<'a, Outcome> {
        (self.body)(fixture)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("what", &self.what).field("needs", &self.needs).finish()
    }
}
