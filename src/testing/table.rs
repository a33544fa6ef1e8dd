//! The table of cases. The generated tests, [`CASES`] and the documentation are made from it.

use super::cases::*;
use super::harness::{self, Failure, Fixture, Outcome};
use super::{Suite, Verb};
use crate::adapter::AsyncCacheAdapter;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// Passes the table to a macro: `section { case [verbs]: "description", }`. The verbs are those
/// that the case needs and that a store may lack.
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_cases {
    ($then:ident) => {
        $crate::$then! {
            basics {
                get_after_set: "a value that was set can be read, more than once",
                get_missing: "a key that was never written is a miss, and no error",
                overwrite: "a second set replaces the first",
                overwrite_with_another_type: "a value of one type can be replaced by one of another",
                keys_are_independent: "writing and removing one key does not change others",
                remove_live: "remove of a live key is true, and the key is missing",
                remove_missing: "remove of a missing key is false",
                remove_twice: "the second remove is false",
                set_after_remove: "a removed key can be set again, and no timer of the old entry removes it",
                contains_is_whether_live: "contains is whether the key is live",
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
                floats: "floats are exact, also subnormal ones and the sign of zero",
                floats_that_are_not_finite: "NaN and the infinities are exact, or `Encode` if the codec has none",
                text: "any text is exact: controls, quotes, protocol and SQL fragments",
                text_that_looks_like_something: "text that looks like a number, JSON or null stays text",
                bytes: "all 256 byte values are exact",
                bytes_like_our_own: "bytes that begin like larder's header, or like compressed data, are read back unchanged",
                structures: "structs, enums, tuples and nested lists are read back equal",
                maps: "maps with keys of any type are read back equal",
                shared: "an `Arc<T>` can be read as a `T`",
                encoded_beforehand: "a value that is already encoded is stored like any other",
                moves_between_keys: "a value that was read under one key can be set under another",
                read_as_another_type: "a value can be read as any type to which serde can convert it",
                read_as_the_wrong_type: "a value that serde cannot read as the type is `Decode`, and stays",
                unwritable_leaves_the_old: "a value that cannot be encoded is `Encode`, and the older one stays",
                unwritable_in_a_batch: "an entry that cannot be encoded does not make the others of its batch fail",
            }
            keys {
                hostile_round_trip: "some 200 hostile keys each have the value that was set",
                hostile_do_not_collide: "removing every second hostile key leaves the others",
                hostile_in_batches: "hostile keys in batches",
                hostile_with_every_verb: "hostile keys with every verb",
                matched_literally: "`*`, `?`, `%`, `_` and `[` in a key are text",
                random_round_trip: "random keys each have the value that was set",
                values_that_look_like_commands: "neither a key nor a value is taken for a command",
                empty_is_invalid: "the empty key is `InvalidKey` for every verb",
                batches_check_before_they_change: "a batch with an empty key is `InvalidKey` before anything is changed",
            }
            expiry {
                zero: "a lifetime of zero: the write succeeds, and the key is missing",
                in_the_past: "a time in the past is the same as zero",
                zero_does_not_stick: "a key that was written with a lifetime of zero can be set again",
                one_millisecond: "a millisecond, by each verb that writes: neither zero nor for ever",
                half_a_second: "half a second, by each verb that writes: neither shorter nor longer",
                one_second: "one second, by each verb that writes: neither shorter nor longer",
                nearly_two_seconds: "1.9 s, by each verb that writes: not cut to whole seconds",
                at_a_time: "a time in the future is the same as the duration until then",
                far: "around 30 days, and ten years: live at once, with the right remainder",
                for_ever: "`Never`, `Duration::MAX` and a thousand years never expire",
                centuries: "centuries overflow nothing",
                default [Expiry]: "without an expiry of its own, an entry has the default",
                each_write_starts_anew: "a later write's expiry replaces the earlier one's",
                set_without_one_is_the_default [Expiry]: "a later set without an expiry has the default, not the old remainder",
                remaining [Expiry]: "expiry is none for a missing key, never, or the time that is left",
                reading_does_not_lengthen: "reading does not make an entry live longer",
            }
            expired {
                missing_for_readers: "an expired entry is missing for every verb that reads",
                remove_is_false: "remove of an expired entry is false",
                touch_does_not_revive: "touch and update_timeout find no expired entry, and do not revive it",
                set_succeeds: "set over an expired entry stores",
                add_succeeds [Add]: "add over an expired entry is true and stores",
                replace_is_false [Replace]: "replace of an expired entry is false and stores nothing",
                take_is_none [Take]: "take of an expired entry is none",
                incr_starts_anew [Incr]: "incr of a number that has expired starts from 0, with the given expiry",
            }
            stale {
                is_read: "get returns a value past its logical end, marked as stale",
                presence_of_each: "presence is missing, live, or stale past the logical end",
                remove_is_false: "remove and remove_many of a value past its logical end are false, and remove it",
                incr_starts_anew [Incr]: "incr of a number past its logical end starts from 0, with the given expiry",
            }
            tags {
                are_read_back: "get and get_many return the tags that a value was stored with, by each verb that writes",
                presence_is_tagged: "presence of an entry with tags is tagged, also past its logical end",
                presence_in_batches: "presence_many answers as presence does, in the order asked, for some thousand keys",
                stay_through_touch: "a new expiry leaves the tags as they are",
                incr_is_refused [Incr]: "incr of a number with tags is `Unsupported`, and the number stays",
                take_gives_them [Take]: "take returns the tags with the value",
                an_untagged_write_drops_them: "a write without tags leaves none",
            }
            touch {
                lengthens: "a longer expiry, counted from now",
                shortens: "a shorter expiry, counted from now",
                to_never: "an entry can be made to live for ever",
                to_zero: "a lifetime of zero: true, and the key is missing",
                to_the_default [Expiry]: "without an expiry of its own, an entry has the default",
                far: "more than 30 days: live at once, with the right remainder",
                missing: "a missing key is false, and nothing is created",
                gives_the_value: "update_timeout returns the value",
                keeps_the_value: "the value stays as it is",
            }
            add {
                missing [Add]: "add of a missing key is true and stores",
                live [Add]: "add of a live key is false and changes nothing",
                refused_keeps_the_expiry [Add]: "a refused add leaves the expiry as it is",
                after_remove [Add]: "add of a removed key is true",
                once_among_many [Add]: "of 64 adds at once, one is true, and its value is stored",
                once_over_the_expired [Add]: "the same over an expired entry",
            }
            take {
                live [Take]: "take returns the value, and the key is missing",
                missing [Take]: "take of a missing key is none",
                set_afterwards [Take]: "a taken key can be set again",
                once_among_many [Take]: "of 64 takes at once, one returns the value",
            }
            counters {
                counts [Incr]: "incr by positive, negative and zero; get agrees each time",
                starts_from_zero [Incr]: "a missing key counts as 0",
                goes_below_zero [Incr]: "1 by -3 is -2",
                changes_its_width [Incr]: "a counter that gains or loses a digit",
                missing_gets_the_expiry [Incr]: "a new counter gets the given expiry",
                live_keeps_its_expiry [Incr]: "a live counter keeps its own expiry",
                not_a_number [Incr]: "every value except an integer within `i64` is `NotANumber`, and stays",
                overflow [Incr]: "a sum outside `i64` is `Overflow`, and the value stays",
                reads_as_any_integer [Incr]: "a counter reads as any integer type that it fits",
                counts_on_from_any_integer [Incr]: "a number of any type that was set can be counted on",
                is_a_value_like_others [Incr]: "a counter can be read, added to, taken, removed and overwritten like any value",
                exact_among_many [Incr]: "64 tasks: every sum is seen once",
                exact_over_the_expired [Incr]: "the same over a counter that has expired",
            }
            batches {
                get_in_order: "get_many answers in the order asked, missing keys included",
                set_all: "set_many stores every entry, also over older values",
                remove_answers_for_each: "remove_many answers for each key whether it was live",
                duplicates: "a key may be given twice; the last write wins",
                duplicates_that_expire_or_fail: "the last write wins, also if one of them stores nothing or fails",
                nothing: "an empty batch has an empty answer",
                each_its_own_expiry: "each entry of set_many has its own expiry",
                ten_thousand: "10,000 keys in one batch, each result at its position",
                a_thousand_in_time: "batches of 1,000 keys answer within half a minute",
            }
            clear {
                everything: "the empty prefix clears all keys of the adapter",
                nothing: "clearing nothing is no error, also not twice",
                immortal_and_counters: "entries without an expiry are cleared too, whichever verb wrote them",
                sees_missing_with_every_verb: "a cleared key is missing for every verb",
                set_works_afterwards: "a cleared key can be set again, any number of times",
                siblings_stay: "`users:` leaves `usersAbc`, `user` and `xusers:1`",
                case_matters: "`users:` leaves `Users:`",
                nested: "`users:posts:` leaves `users:a`; `users:` clears both",
                patterns_are_text: "`*`, `?`, `[`, `\\`, `%` and `_` in a prefix are text",
                odd_prefixes: "long prefixes, and prefixes with spaces, control characters and other scripts",
                any_beginning: "a prefix that ends inside a word",
                thousands: "a prefix over thousands of keys",
                beside_others: "keys that are touched, replaced or counted at the same time stay cleared",
            }
            walk {
                everything [Keys]: "the empty prefix gives all live keys, counters included",
                by_prefix [Keys]: "only keys that begin with the prefix, also where it ends inside a word; case matters",
                patterns_are_text [Keys]: "`*`, `?`, `[`, `\\`, `%`, `_` and NUL in a prefix are text",
                hostile_keys [Keys]: "hostile keys are given as they were written",
                only_what_is_live [Keys]: "keys that were removed, have expired or are past their logical end are not there",
                no_claims [Keys]: "neither claims nor leases show",
                thousands [Keys]: "a walk of several pages gives every key",
                amid_writes [Keys]: "a key that is live during the whole walk is there, whatever is written meanwhile",
            }
            near {
                agrees_with_get: "get_near and get_far, alone and in batches, give the value of get",
                no_longer_than_it_lives: "get_near says how long a value still lives, and not more",
                touch_counts: "the same after touch: longer, shorter, for ever",
                nothing_after_the_end: "an entry that has expired is none",
                batches_in_order: "get_many_near and get_many_far answer in the order asked, each with its own value and life",
                thousands_in_a_batch: "get_many_near of some thousand keys, each result at its position",
                empty_is_invalid: "the empty key is `InvalidKey`, also in a batch",
                hostile_keys: "hostile keys, alone and in a batch",
            }
            claims {
                set_claimed_stores: "a claimed key is missing until set_claimed stores its value",
                set_claimed_for_ever_and_for_nothing: "set_claimed has the expiry of a set",
                set_claimed_replaces: "a live key can be claimed, and set_claimed replaces its value",
                unwritable: "set_claimed of a value that cannot be encoded is `Encode`, and the older value stays",
                writes_win: "set_claimed stores nothing if the key was written since the claim",
                removals_win: "set_claimed stores nothing if the key was removed or cleared since the claim, also if it was missing",
                what_comes_and_goes_wins: "set_claimed stores nothing if the key was written since the claim, and has expired",
                a_refresh_that_comes_late: "set_claimed stores nothing if a live key was written or removed since the claim",
                missing_for_every_verb: "a claim is a miss for every verb",
                the_first_set_claimed_wins: "of two claims without a lease, the first set_claimed stores its value",
                set_claimed_ends_its_claim: "a claim can be used once",
                a_lease_is_exclusive: "one lease at a time; release and set_claimed end it",
                a_claim_without_a_lease_is_always_given: "a claim without a lease is given during a lease, and does not end it",
                a_lease_ends_by_itself: "a lease ends; late calls of its holder do not affect the next holder",
                batches_read_or_claim: "get_or_claim_many reads what is live and claims what is missing, and set_claimed_many stores it",
                batches_lose_to_changes: "set_claimed_many stores nothing under the keys that have changed since the claims",
                batches_fail_key_by_key: "in set_claimed_many, an entry that cannot be stored does not make the others fail; an empty key does",
                batches_of_hostile_keys: "hostile keys in get_or_claim_many and set_claimed_many",
                if_ready_agrees: "if claim_if_ready answers, its claim and set_claimed_if_ready are those of claim and set_claimed",
                hostile_keys: "hostile keys are claimed and stored, each by itself",
                large: "set_claimed stores large values",
                between_instances [Rebuild]: "two instances on one store see the changes of each other",
            }
            limits {
                sizes: "values around powers of two, up to 200,000 bytes",
                one_megabyte: "a megabyte is stored, or `TooLarge` and the older value is removed",
                eight_megabytes: "eight megabytes are stored, or `TooLarge` and the older value is removed",
                the_stores_own: "the limit that the suite is given",
                in_a_batch: "a large entry does not make the others of its batch fail",
                at_the_edge: "every verb that writes has the same limit: a byte below, at the limit, and a byte over it",
            }
            housekeeping {
                done_by_others: "what a call cleans up behind itself may be gone: claims that have ended are released, and a value that is too large has no older one",
                refused: "while the store refuses writes for lack of room, reads, removals, `clear` and the release of claims answer as otherwise",
            }
            lifecycle {
                backend_is_named: "the name of the backend is not empty",
                connect_and_ping: "connect is idempotent, and ping answers",
                close_is_idempotent: "close of an adapter that was never opened, and close twice",
                works_after_close: "a closed adapter works again when it is used",
                reconnects: "reconnect, any number of times",
                close_amid_work: "close during other calls: no hang, no wrong answer",
                rebuilds [Rebuild]: "rebuild returns an adapter with connections of its own",
                get_if_ready_agrees: "if get_if_ready answers, its answer is that of get",
                dropped_futures: "a future of each verb, polled once and dropped, leaves the adapter working",
                later_writes_win: "a write, removal or clear that is dropped in flight does not undo a later one of the same key",
                cancelled_reads_do_not_cross: "the answers of cancelled reads do not reach other reads",
                outlives_a_runtime: "after a runtime has ended, the adapter works on another runtime",
                serves_runtimes_at_once: "four runtimes at once",
            }
            user_code {
                serialize_panics: "a value whose `Serialize` panics is an error of its own call, and the older value stays",
                serialize_uses_the_adapter: "a value whose `Serialize` uses the adapter, with every verb that reads or writes it",
                drop_uses_the_adapter: "a value whose `Drop` uses the adapter and panics, with every verb that drops it",
            }
            neighbours {
                share_nothing: "two fresh adapters do not see each other's keys",
                clear_stays_at_home: "clear leaves the neighbour's keys",
            }
            tasks {
                keys_of_their_own: "32 tasks with keys of their own: each reads the values that it wrote",
                values_are_whole: "no reader sees parts of two writes",
                one_removal_among_many: "of 32 removes at once, one is true",
            }
            model {
                random_operations: "1,000 random operations agree with a map",
            }
        }
    };
}

/// The tests that `conformance!` makes.
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

/// The list of cases.
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

/// A case: one behaviour that every adapter must have.
pub struct Case {
    name: &'static str,
    what: &'static str,
    needs: &'static [Verb],
    body: for<'a> fn(&'a Fixture) -> BoxFuture<'a, Outcome>,
}

impl Case {
    /// The section and name, such as `add::once_among_many`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A description in one line.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// The verbs that the case needs, of those that a store may lack.
    #[must_use]
    pub fn needs(&self) -> &'static [Verb] {
        self.needs
    }

    /// Runs the case on a fresh adapter that `fresh` makes (on two for a case about neighbours),
    /// inside a tokio runtime.
    ///
    /// [`conformance!`](super::conformance) does this for every case. Use this method for a
    /// selection of cases.
    ///
    /// # Errors
    ///
    /// A [`Failure`] with the expected and the actual result. Also if the case does not end within
    /// five minutes.
    ///
    /// ```no_run
    /// # use larder::{AsyncCacheAdapter, testing::Failure};
    /// # async fn example<MyStore: AsyncCacheAdapter + Default>() -> Result<(), Failure> {
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
        harness::in_time(body).await
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
