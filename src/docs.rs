//! The guides: a page for each capability, with examples that are compiled and run.
//!
//! They are the files in `docs/` of the repository, shown here beside the items that they describe.

/// The targets of the links between the pages in this documentation; in the repository the same
/// links lead to files. If a link is defined twice, the first definition holds (CommonMark 0.31,
/// 4.7).
macro_rules! links {
    ($($page:literal => $module:literal,)*) => {
        concat!(
            $("[", $page, "]: crate::docs::", $module, "\n",)*
            "[benchmarks]: https://github.com/larder-rs/larder/blob/main/docs/benchmarks.md\n\n",
        )
    };
}

macro_rules! pages {
    ($($(#[$attribute:meta])* $module:ident = $file:literal;)*) => {
        $(
            $(#[$attribute])*
            #[doc = links! {
                "adapters" => "adapters",
                "backends" => "backends",
                "batching" => "batching",
                "blocking" => "blocking",
                "codecs" => "codecs",
                "comparison" => "comparison",
                "configuration" => "configuration",
                "deploying" => "deploying",
                "errors" => "errors",
                "freshness" => "freshness",
                "keys" => "keys",
                "leases" => "leases",
                "macros" => "macros",
                "migrating" => "migrating",
                "namespaces" => "namespaces",
                "observability" => "observability",
                "python" => "python",
                "redis-permissions" => "redis_permissions",
                "resilience" => "resilience",
                "single-flight" => "single_flight",
                "swapping" => "swapping",
                "tags" => "tags",
                "testing" => "testing",
                "tiers" => "tiers",
            }]
            #[doc = include_str!(concat!("../docs/", $file))]
            pub mod $module {}
        )*
    };
}

// A page whose examples need a feature is a doctest only where the feature is on; it is shown in
// any case.
pages! {
    #[cfg(any(not(doctest), feature = "testing"))]
    adapters = "adapters.md";
    backends = "backends.md";
    batching = "batching.md";
    blocking = "blocking.md";
    codecs = "codecs.md";
    comparison = "comparison.md";
    configuration = "configuration.md";
    deploying = "deploying.md";
    errors = "errors.md";
    freshness = "freshness.md";
    keys = "keys.md";
    leases = "leases.md";
    #[cfg(any(not(doctest), feature = "macros"))]
    macros = "macros.md";
    #[cfg(any(not(doctest), feature = "macros"))]
    migrating = "migrating.md";
    namespaces = "namespaces.md";
    #[cfg(any(not(doctest), all(feature = "metrics", feature = "tracing")))]
    observability = "observability.md";
    python = "python.md";
    redis_permissions = "redis-permissions.md";
    #[cfg(any(not(doctest), all(feature = "testing", feature = "redis", feature = "memcached")))]
    resilience = "resilience.md";
    single_flight = "single-flight.md";
    swapping = "swapping.md";
    tags = "tags.md";
    #[cfg(any(not(doctest), feature = "testing"))]
    testing = "testing.md";
    #[cfg(any(not(doctest), feature = "sqlite"))]
    tiers = "tiers.md";
}

/// The README, whose examples are those of `examples/quickstart.rs`.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
