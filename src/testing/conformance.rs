//! The macro `conformance!`, and the body of its tests.

use super::{CASES, Suite, harness};
use crate::adapter::AsyncCacheAdapter;
use futures_util::future::LocalBoxFuture;
use std::sync::Arc;

/// Runs the conformance suite on an adapter: makes a module with one test for each case.
///
/// Takes a name for the module and an expression for a fresh adapter: any
/// [`AsyncCacheAdapter`](crate::AsyncCacheAdapter), also an `Arc<dyn AsyncCacheAdapter>`. Each test
/// evaluates the expression once, inside a tokio runtime of its own; the expression may `.await`.
/// Cases use fixed keys, so on a shared server each evaluation needs a prefix of its own; the
/// server need not be idle. Use the macro outside functions.
///
/// ```
/// # #[cfg(feature = "memory")] mod tests {
/// # use larder::AsyncMemoryCache as MyStore;
/// use larder::testing::{Suite, conformance};
///
/// conformance!(my_store, MyStore::new());
///
/// // A store that counts in whole seconds, or cannot hold more than a megabyte: see `Suite`.
/// conformance!(small, MyStore::new(), Suite::new().whole_seconds().max_value(1_000_000));
///
/// // Verbs that the store does not offer must return `Unsupported`. These can be excepted:
/// // `add`, `replace`, `incr`, `take`, `expiry`, `rebuild`.
/// conformance!(simple, MyStore::new(), except = [incr, take]);
/// # }
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance {
    ($name:ident, $store:expr $(,)?) => {
        $crate::__conformance!($name, $store, $crate::testing::Suite::new());
    };
    ($name:ident, $store:expr, except = [$($verb:ident),* $(,)?] $(,)?) => {
        $crate::__conformance!($name, $store, $crate::testing::Suite::new(), except = [$($verb),*]);
    };
    ($name:ident, $store:expr, $suite:expr, except = [$($verb:ident),* $(,)?] $(,)?) => {
        $crate::__conformance!($name, $store, $suite.except([$($crate::__conformance_verb!($verb)),*]));
    };
    ($name:ident, $store:expr, $suite:expr $(,)?) => {
        #[cfg(test)]
        mod $name {
            pub(super) struct Source;

            $crate::__conformance_cases!(__conformance_tests);
        }

        // Outside the module, so that the expressions see the names of the caller's scope.
        #[cfg(test)]
        impl $crate::testing::Source for $name::Source {
            fn suite() -> $crate::testing::Suite {
                $suite
            }

            fn adapter() -> $crate::testing::Making {
                ::std::boxed::Box::pin(async {
                    ::std::sync::Arc::new($store) as ::std::sync::Arc<dyn $crate::AsyncCacheAdapter>
                })
            }
        }
    };
}

/// Translates the name of a method that may be excepted into a verb.
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_verb {
    (add) => {
        $crate::testing::Verb::Add
    };
    (replace) => {
        $crate::testing::Verb::Replace
    };
    (incr) => {
        $crate::testing::Verb::Incr
    };
    (take) => {
        $crate::testing::Verb::Take
    };
    (expiry) => {
        $crate::testing::Verb::Expiry
    };
    (rebuild) => {
        $crate::testing::Verb::Rebuild
    };
    (keys) => {
        $crate::testing::Verb::Keys
    };
    ($other:ident) => {
        compile_error!(concat!(
            "`",
            stringify!($other),
            "` cannot be excepted; only add, replace, incr, take, expiry, rebuild and keys can"
        ))
    };
}

/// The evaluation of the expression that makes an adapter.
#[doc(hidden)]
pub type Making = LocalBoxFuture<'static, Arc<dyn AsyncCacheAdapter>>;

/// The arguments of `conformance!`.
#[doc(hidden)]
pub trait Source {
    fn suite() -> Suite;
    fn adapter() -> Making;
}

/// The body of a generated test.
///
/// # Panics
///
/// When the adapter does not pass.
#[doc(hidden)]
pub fn run_case<S: Source>(name: &str) {
    let case = CASES
        .iter()
        .find(|case| case.name() == name)
        .expect("the tests and the cases come from one table");
    if let Err(failure) = harness::run(case.run(S::adapter, &S::suite())) {
        panic!("{name}, {}: {failure}", case.what());
    }
}
