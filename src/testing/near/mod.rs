//! The macro `near_conformance!`: whether an adapter that follows tells of changes in time.

mod cases;
mod level;
mod nodes;

use super::harness::{self, Outcome};
use futures_util::future::{BoxFuture, LocalBoxFuture};
use nodes::{Clients, Nodes};

/// Runs the cases for an adapter that follows, which tells a near level of changes: makes a module
/// with one test for each case.
///
/// Takes a name for the module and an expression for two fresh adapters, a pair, *on the same store*.
/// The first one is followed, as by a near level in front of it; the second one is another client of
/// the store, which changes what the first one has read. The cases check the two rules of
/// [`Source`](crate::Source): every change is told before it is proven that there was
/// none, and a source that cannot keep this ends. An adapter that does not follow fails.
///
/// Each test evaluates the expression once, inside a tokio runtime of its own; the expression may
/// `.await`. Verbs that the store does not offer are left out. The other behaviour of the adapter is
/// for [`conformance!`](super::conformance). Use the macro outside functions.
///
/// ```
/// # #[cfg(feature = "sqlite")] mod tests {
/// # use larder::AsyncSqliteCache as MyStore;
/// use larder::testing::near_conformance;
///
/// fn two_clients() -> (MyStore, MyStore) {
///     let file = std::env::temp_dir().join(format!("{:x}.db", fastrand::u64(..)));
///     let client = || MyStore::builder().path(&file).build().expect("a client");
///     (client(), client())
/// }
///
/// near_conformance!(my_store_tells, two_clients());
/// # }
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __near_conformance {
    ($name:ident, $clients:expr $(,)?) => {
        #[cfg(test)]
        mod $name {
            pub(super) struct Source;

            $crate::__near_conformance_cases!(__near_conformance_tests);
        }

        // Outside the module, so that the expression sees the names of the caller's scope.
        #[cfg(test)]
        impl $crate::testing::NearSource for $name::Source {
            fn clients() -> $crate::testing::MakingTwo {
                ::std::boxed::Box::pin(async {
                    let (near, other) = $clients;
                    (
                        ::std::sync::Arc::new(near)
                            as ::std::sync::Arc<dyn $crate::AsyncCacheAdapter>,
                        ::std::sync::Arc::new(other)
                            as ::std::sync::Arc<dyn $crate::AsyncCacheAdapter>,
                    )
                })
            }
        }
    };
}

/// Passes the table to a macro: `case: "description"`.
#[macro_export]
#[doc(hidden)]
macro_rules! __near_conformance_cases {
    ($then:ident) => {
        $crate::$then! {
            answers_name_a_source: "once the adapter is followed, its answers come to name a source that is open",
            nobody_vouches_unfollowed: "an adapter that nobody follows names no source",
            nobody_vouches_without_a_source: "where the near level has no source left, answers name none",
            proofs_come_when_wanted: "a source that is wanted proves, by a question that was sent after that",
            changes_of_others_are_told: "each verb of another client that changes an entry is told before the next proof",
            own_changes_are_told: "and so is each verb of the adapter itself",
            clears_are_told: "a `clear`, of a prefix or of everything, is told before the next proof",
            batches_are_told: "what was read in a batch is told of, each key",
            changes_are_told_again: "a key that is read again after a change is told of again",
            keys_are_told_as_they_are: "a key of any characters is told as it was read, or with others that have its prefix",
            changes_amid_reads_are_told: "changes by both clients, beside reads: none is proven before it is told",
            close_proves_nothing: "what changes while the adapter is closed is told, or never proven",
            sources_end_with_the_adapter: "when the adapter has been dropped, its sources end",
            outlives_its_near_level: "when the near level is gone, the adapter works on",
        }
    };
}

/// The tests that `near_conformance!` makes.
#[macro_export]
#[doc(hidden)]
macro_rules! __near_conformance_tests {
    ($($case:ident: $what:literal,)*) => {$(
        #[doc = $what]
        #[test]
        fn $case() {
            $crate::testing::run_near_case::<Source>(stringify!($case));
        }
    )*};
}

/// The list of cases.
#[macro_export]
#[doc(hidden)]
macro_rules! __near_conformance_table {
    ($($case:ident: $what:literal,)*) => {
        static CASES: &[Case] = &[$(
            Case {
                name: stringify!($case),
                what: $what,
                body: |nodes| Box::pin(cases::$case(nodes)),
            },
        )*];
    };
}

crate::__near_conformance_cases!(__near_conformance_table);

/// A case: one behaviour that every adapter must have that follows.
struct Case {
    name: &'static str,
    what: &'static str,
    body: fn(Nodes) -> BoxFuture<'static, Outcome>,
}

/// The evaluation of the expression that makes two adapters.
#[doc(hidden)]
pub type MakingTwo = LocalBoxFuture<'static, Clients>;

/// The arguments of `near_conformance!`.
#[doc(hidden)]
pub trait NearSource {
    fn clients() -> MakingTwo;
}

/// The body of a generated test.
///
/// # Panics
///
/// When the adapter does not pass.
#[doc(hidden)]
pub fn run_near_case<S: NearSource>(name: &str) {
    if let Err(failure) = outcome(name, S::clients) {
        panic!("{name}: {failure}");
    }
}

/// What comes of a case with these clients.
pub(in crate::testing) fn outcome(name: &str, clients: impl Fn() -> MakingTwo) -> Outcome {
    let case = CASES
        .iter()
        .find(|case| case.name == name)
        .expect("the tests and the cases come from one table");
    let body = async { (case.body)(Nodes::new(clients().await)).await };
    harness::run(harness::in_time(body)).map_err(|failure| failure.prefixed(case.what))
}
