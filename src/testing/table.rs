//! The list of cases: the one place where a case is named. The generated tests, [`CASES`] and their
//! documentation come from it.

use super::cases::*;
use super::harness::{CASE_DEADLINE, Failure, Fixture, Outcome};
use super::{Suite, Verb};
use crate::adapter::AsyncCacheAdapter;
use futures_util::future::BoxFuture;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// Gives the table to a macro: `section { case [verbs it needs]: "what it checks", }`. Only verbs
/// that a store may lack are needed.
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_cases {
    ($then:ident) => {
        $crate::$then! {
            basics {
                get_after_set: "what was set is there, and stays",
                get_missing: "a key never written is missing, which is no error",
                overwrite: "a second set replaces the first",
                overwrite_with_another_type: "a value of one type can be replaced by one of another",
                keys_are_independent: "writing and removing one key leaves its siblings",
                remove_live: "remove of a live key is true, and it is gone",
                remove_missing: "remove of a missing key is false",
                remove_twice: "the second remove is false",
                set_after_remove: "a removed key can be set again, and no leftover timer takes it",
                contains_tells: "contains is whether the key is live",
                replace_missing [Replace]: "replace of a missing key is false and stores nothing",
                replace_live [Replace]: "replace of a live key is true and stores",
            }
            nulls {
                unit: "a stored `()` is a hit for every verb",
                none: "a stored `None` is a hit for every verb",
                zero_and_false: "0, 0.0 and false are hits for every verb",
                empty: "the empty text, list and map are hits for every verb",
                some_of_nothing: "`Some(())` and `Some(None)` come back exactly, or are `Encode`",
            }
            values {
                integers: "integers at the edges of every width are exact",
                floats: "floats are exact, subnormal ones and the sign of zero included",
                floats_that_are_not_finite: "NaN and the infinities are exact, or `Encode` where the codec has none",
                text: "any text is exact: controls, quotes, protocol and SQL fragments",
                text_that_looks_like_something: "text that looks like a number, JSON or null stays text",
                bytes: "all 256 byte values are exact",
                bytes_like_our_own: "bytes that begin like larder's own header, or like compressed data, are not read as such",
                structures: "structs, enums, tuples and nested lists are equal afterwards",
                maps: "maps are equal afterwards, whatever their keys",
                shared: "an `Arc` is read as what is in it",
                encoded_beforehand: "a value that is encoded already is stored like any other",
                moves_between_keys: "what was read under one key can be set under another",
                read_as_another_type: "a value is read as any type that serde can make of it",
                read_as_the_wrong_type: "a value that serde cannot read as the type is `Decode`, and stays",
                unwritable_leaves_the_old: "a value that cannot be encoded is `Encode`, and the older one stays",
                unwritable_in_a_batch: "an entry that cannot be encoded does not fail its companions",
            }
            keys {
                hostile_round_trip: "some 200 hostile keys hold what was set under them",
                hostile_do_not_collide: "removing every second hostile key leaves the others",
                hostile_in_batches: "hostile keys in batches",
                hostile_with_every_verb: "hostile keys with every verb",
                matched_literally: "`*`, `?`, `%`, `_` and `[` in a key are text",
                random_round_trip: "random keys hold what was set under them",
                values_that_look_like_commands: "neither a key nor a value is taken for a command",
                empty_is_invalid: "the empty key is `InvalidKey` for every verb",
                batches_check_before_they_change: "a batch with an empty key is `InvalidKey` before anything is changed",
            }
            expiry {
                zero: "a lifetime of zero: the write succeeds, the older value is gone, the key is missing",
                in_the_past: "a time in the past is the same as zero",
                zero_does_not_stick: "a key that was written with no lifetime can be set again",
                one_millisecond: "a millisecond, by each verb that writes: neither zero nor for ever",
                half_a_second: "half a second, by each verb that writes: neither shorter nor longer",
                one_second: "one second, by each verb that writes: neither shorter nor longer",
                nearly_two_seconds: "1.9 s, by each verb that writes: not cut to whole seconds",
                at_a_time: "a time in the future is the same as what is left until then",
                far: "around 30 days, and ten years: there at once, with the right remainder",
                for_ever: "`Never`, `Duration::MAX` and a thousand years never expire",
                centuries: "centuries overflow nothing",
                default [Expiry]: "without a word, the default",
                each_write_starts_anew: "a later write's expiry replaces the earlier one's",
                set_without_one_is_the_default [Expiry]: "a later set without an expiry has the default, not the old remainder",
                remaining [Expiry]: "expiry tells missing, never, or what is left",
                reading_does_not_lengthen: "reading does not make an entry live longer",
            }
            expired {
                missing_for_readers: "what has expired is missing for every verb that reads",
                remove_is_false: "remove of what has expired is false",
                touch_does_not_revive: "touch and update_timeout of what has expired find nothing and revive nothing",
                set_succeeds: "set over what has expired stores",
                add_succeeds [Add]: "add over what has expired is true and stores",
                replace_is_false [Replace]: "replace of what has expired is false and stores nothing",
                take_is_none [Take]: "take of what has expired is none",
                incr_starts_anew [Incr]: "incr of a number that has expired starts from 0, with the given expiry",
            }
            stale {
                is_read: "get gives a value past its logical end, which says so",
                presence_tells: "presence tells missing, live, before the logical end, and past it",
                remove_is_false: "remove and remove_many of a value past its logical end are false, and it is gone",
                incr_starts_anew [Incr]: "incr of a number past its logical end starts from 0, with the given expiry",
            }
            touch {
                lengthens: "a longer expiry, counted from now",
                shortens: "a shorter expiry, counted from now",
                to_never: "an entry can be made to live for ever",
                to_zero: "a lifetime of zero: true, and the key is missing",
                to_the_default [Expiry]: "without a word, the default",
                far: "more than 30 days: there at once, with the right remainder",
                missing: "a missing key is false, and nothing is created",
                gives_the_value: "update_timeout gives the value",
                keeps_the_value: "the value stays as it is",
            }
            add {
                missing [Add]: "add of a missing key is true and stores",
                live [Add]: "add of a live key is false and changes nothing",
                refused_keeps_the_expiry [Add]: "a refused add leaves the expiry as it is",
                after_remove [Add]: "add of a removed key is true",
                once_among_many [Add]: "of 64 adds at once, one is true, and its value is there",
                once_over_the_expired [Add]: "the same over what has expired",
            }
            take {
                live [Take]: "take gives the value, and the key is gone",
                missing [Take]: "take of a missing key is none",
                set_afterwards [Take]: "a taken key can be set again",
                once_among_many [Take]: "of 64 takes at once, one has the value",
            }
            counters {
                counts [Incr]: "up, down and by zero, and get agrees each time",
                starts_from_zero [Incr]: "a missing key counts as 0",
                goes_below_zero [Incr]: "1 by -3 is -2",
                changes_its_width [Incr]: "a counter that gains or loses a digit",
                missing_gets_the_expiry [Incr]: "a counter that starts gets the given expiry",
                live_keeps_its_expiry [Incr]: "a counter that is live keeps its own",
                not_a_number [Incr]: "anything but an integer within `i64` is `NotANumber`, and stays",
                overflow [Incr]: "leaving the range of `i64` is `Overflow`, and the value stays",
                reads_as_any_integer [Incr]: "a counter reads as any integer type that it fits",
                counts_on_from_any_integer [Incr]: "a number that was set counts on, whatever its type",
                is_a_value_like_others [Incr]: "a counter can be read, added to, taken, removed and overwritten like any value",
                exact_among_many [Incr]: "64 tasks: every sum is seen once",
                exact_over_the_expired [Incr]: "the same over a counter that has expired",
            }
            batches {
                get_in_order: "get_many answers in the order asked, missing keys included",
                set_all: "set_many stores every entry, over older values too",
                remove_tells_of_each: "remove_many tells of each key whether it was live",
                duplicates: "a key that is given twice does no harm; the last write wins",
                duplicates_that_expire_or_fail: "the last write wins, also where one of them leaves nothing or fails",
                nothing: "a batch of nothing is nothing",
                each_its_own_expiry: "each entry of set_many has its own expiry",
                ten_thousand: "10,000 keys in one batch, each result in its place",
                a_thousand_in_time: "batches of 1,000 keys answer within half a minute",
            }
            clear {
                everything: "the empty prefix is all own keys",
                nothing: "clearing nothing is no error, twice neither",
                immortal_and_counters: "what never expires goes too, whatever verb wrote it",
                sees_missing_with_every_verb: "what was cleared is missing for every verb",
                set_works_afterwards: "a cleared key can be set again, over and over",
                siblings_stay: "`users:` leaves `usersAbc`, `user` and `xusers:1`",
                case_matters: "`users:` leaves `Users:`",
                nested: "`users:posts:` leaves `users:a`; `users:` takes both",
                patterns_are_text: "`*`, `?`, `[`, `\\`, `%` and `_` in a prefix are text",
                odd_prefixes: "long prefixes, and ones with spaces, controls and other scripts",
                any_beginning: "a prefix that ends inside a word",
                thousands: "a prefix over thousands of keys",
                beside_others: "what is touched, replaced or counted at the same time does not come back",
            }
            claims {
                fill_stores: "a claimed key is missing until it is filled",
                fill_for_ever_and_for_nothing: "a fill has the expiry of a set",
                fill_replaces: "a live key can be claimed and filled",
                unwritable: "a fill that cannot be encoded is `Encode`, and the older value stays",
                writes_win: "a key that was written since the claim is not filled",
                removals_win: "a key that was removed or cleared since the claim is not filled, though it was missing before",
                what_comes_and_goes_wins: "a key that was written since the claim, and has expired, is not filled",
                a_refresh_that_comes_late: "a live key that was written or removed since the claim is not filled",
                missing_for_every_verb: "a claim is no value, for no verb",
                the_first_fill_wins: "of two claims without a lease, the first fill is stored",
                a_fill_ends_its_claim: "a claim fills once",
                a_lease_is_exclusive: "one lease at a time; released or filled, the next",
                a_claim_without_a_lease_is_always_given: "a claim without a lease is given while another has one, and does not end it",
                a_lease_ends_by_itself: "a lease ends; what its holder does late is nothing to the next one",
                hostile_keys: "hostile keys are claimed and filled, each by itself",
                large: "large values are filled like others",
                between_instances [Rebuild]: "two instances on one store notice one another",
            }
            limits {
                sizes: "values around powers of two, up to 200,000 bytes",
                one_megabyte: "a megabyte is stored, or `TooLarge` and the older value is gone",
                eight_megabytes: "eight megabytes are stored, or `TooLarge` and the older value is gone",
                the_stores_own: "the limit that the suite was told of",
                in_a_batch: "a large entry does not fail its companions",
                at_the_edge: "every verb that writes has the same limit: a byte below, at the limit, and a byte over it",
            }
            lifecycle {
                kind_is_named: "kind is not empty",
                connect_and_ping: "connect is idempotent, and ping answers",
                close_is_idempotent: "close of what was never opened, and twice",
                works_after_close: "a closed adapter works again when it is used",
                reconnects: "reconnect, over and over",
                close_amid_work: "close while others work: no hang, no wrong answer",
                rebuilds [Rebuild]: "rebuild gives an adapter with connections of its own",
                look_now_agrees: "get_if_ready answers as get does, where it answers",
                dropped_futures: "a future of each verb, polled once and dropped, leaves the adapter working",
                later_writes_win: "a write, removal or clear that is dropped in flight does not undo a later one of the same key",
                cancelled_reads_do_not_cross: "cancelled reads do not give their answers to others",
                outlives_a_runtime: "an adapter that was used on a runtime which ended works on another",
                serves_runtimes_at_once: "four runtimes at once",
            }
            user_code {
                serialize_panics: "a value whose `Serialize` panics is an error of its own call, and the older one stays",
                serialize_uses_the_adapter: "a value whose `Serialize` uses the adapter, with every verb that reads or writes it",
                drop_uses_the_adapter: "a value whose `Drop` uses the adapter and panics, with every verb that lets go of it",
            }
            neighbours {
                share_nothing: "two fresh adapters see nothing of each other",
                clear_stays_at_home: "clear leaves the neighbour's keys",
            }
            tasks {
                keys_of_their_own: "32 tasks, each with keys of its own, each sees what it wrote",
                values_are_whole: "a reader never sees parts of two writes",
                one_removal_among_many: "of 32 removes at once, one is true",
            }
            model {
                random_operations: "1,000 random operations agree with a map",
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

    /// Runs the case on a fresh adapter that `fresh` makes (on two, where it is about neighbours),
    /// inside a tokio runtime.
    ///
    /// [`conformance!`](super::conformance) does this for every case; by itself it serves programs
    /// that keep a list of their own.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that says what was expected and what came; also when the case is not done
    /// within five minutes.
    ///
    /// ```no_run
    /// # use larder::testing::Failure;
    /// # async fn example<MyStore: larder::AsyncCacheAdapter + Default>() -> Result<(), Failure> {
    /// use larder::testing::{CASES, Suite};
    ///
    /// for case in CASES.iter().filter(|case| case.name().starts_with("counters::")) {
    ///     case.run(async || MyStore::default(), &Suite::new()).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn run<A: AsyncCacheAdapter>(
        &self,
        fresh: impl AsyncFn() -> A,
        suite: &Suite,
    ) -> Result<(), Failure> {
        let neighbour: Option<Arc<dyn AsyncCacheAdapter>> =
            if self.is_about_neighbours() { Some(Arc::new(fresh().await)) } else { None };
        let fixture = Fixture::new(Arc::new(fresh().await), neighbour, suite.clone());
        let body = async {
            for verb in self.needs {
                if !fixture.offers(*verb).await? {
                    return Ok(());
                }
            }
            (self.body)(&fixture).await
        };
        match tokio::time::timeout(CASE_DEADLINE, body).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(
                format_args!("not done after {CASE_DEADLINE:?}"),
                Location::caller(),
            )),
        }
    }

    fn is_about_neighbours(&self) -> bool {
        self.name.starts_with("neighbours::")
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("what", &self.what)
            .field("needs", &self.needs)
            .finish()
    }
}
