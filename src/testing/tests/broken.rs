//! The bugs, and for each the case that must find it.

use super::found_in_some_runs;
use super::store::Store;
use crate::testing::{CASES, Case, Failure, Suite};
use std::sync::Arc;
use tokio::runtime::Builder;

/// Checks that the named case fails on a store with this bug, with a message.
fn is_caught(bug: Bug, name: &str) {
    let case = CASES
        .iter()
        .find(|case| case.name() == name)
        .unwrap_or_else(|| panic!("there is no case {name}"));
    let failure = found_in_some_runs(|| run(bug, case));
    assert!(failure.to_string().contains("checked at"), "{failure}");
}

fn run(bug: Bug, case: &Case) -> Result<(), Failure> {
    let suite = match bug {
        Bug::TooLargeServesTheOld => Suite::new().max_value(Store::LIMIT),
        Bug::ClearNeedsRoom => Suite::new().filling(Store::fill),
        _ => Suite::new(),
    };
    let runtime = if bug == Bug::BatchesWaitForEach {
        Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    } else {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    };
    let store = Arc::new(Store::with(bug));
    let fresh =
        async || if bug == Bug::NotFresh { store.clone() } else { Arc::new(Store::with(bug)) };
    let outcome = runtime.block_on(case.run(fresh, &suite));
    runtime.shutdown_background();
    outcome
}

impl Bug {
    /// Whether only a store with a limit shows the bug.
    pub(super) fn is_about_limits(self) -> bool {
        matches!(self, Self::TooLargeServesTheOld | Self::ReplaceHasNoLimit)
    }
}

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident $test:ident $case:literal,)*) => {
        /// A mistake of an adapter's author.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Bug {
            $($(#[$doc])* $bug,)*
        }

        $(
            #[test]
            fn $test() {
                is_caught(Bug::$bug, $case);
            }
        )*
    };
}

bugs! {
    AddIsNotAtomic add_is_not_atomic "add::once_among_many",
    BatchHasOneExpiry batch_has_one_expiry "batches::each_its_own_expiry",
    BatchWritesBeforeItChecks batch_writes_before_it_checks "keys::batches_check_before_they_change",
    BatchesWaitForEach batches_wait_for_each "batches::a_thousand_in_time",
    BatchesLeaveOutTheMissing batches_leave_out_the_missing "batches::get_in_order",
    ClaimIsAValue claim_is_a_value "claims::missing_for_every_verb",
    ClearForgetsThePrefix clear_forgets_the_prefix "clear::siblings_stay",
    ClearSparesTheImmortal clear_spares_the_immortal "clear::immortal_and_counters",
    ClearNeedsRoom clear_needs_room "housekeeping::refused",
    ClosedStaysClosed closed_stays_closed "lifecycle::works_after_close",
    DroppedClearComesLate dropped_clear_comes_late "lifecycle::later_writes_win",
    DroppedWriteComesLate dropped_write_comes_late "lifecycle::later_writes_win",
    DropsUnderTheLock drops_under_the_lock "user_code::drop_uses_the_adapter",
    DroppedFutureHoldsTheLock dropped_future_holds_the_lock "lifecycle::dropped_futures",
    EmptyKeyAccepted empty_key_accepted "keys::empty_is_invalid",
    EncodesUnderTheLock encodes_under_the_lock "user_code::serialize_uses_the_adapter",
    EncodeErrorDropsTheOld encode_error_drops_the_old "values::unwritable_leaves_the_old",
    ExpiresLate expires_late "expiry::half_a_second",
    ExpiryIsAlwaysTheDefault expiry_is_always_the_default "expiry::remaining",
    SetClaimedUndoesClears set_claimed_undoes_clears "claims::removals_win",
    SetClaimedUndoesRemovals set_claimed_undoes_removals "claims::removals_win",
    SetClaimedUndoesWrites set_claimed_undoes_writes "claims::writes_win",
    GetIfReadyForgetsExpiry get_if_ready_forgets_expiry "lifecycle::get_if_ready_agrees",
    IncrIsNotAtomic incr_is_not_atomic "counters::exact_among_many",
    IncrResetsTheExpiry incr_resets_the_expiry "counters::live_keeps_its_expiry",
    IncrStopsAtZero incr_stops_at_zero "counters::goes_below_zero",
    IncrWraps incr_wraps "counters::overflow",
    KeysEndAfterAPage keys_end_after_a_page "walk::thousands",
    KeysForgetThePrefix keys_forget_the_prefix "walk::by_prefix",
    KeysMatchAGlob keys_match_a_glob "walk::patterns_are_text",
    KeysShowTheExpired keys_show_the_expired "walk::only_what_is_live",
    KeysShowTheStale keys_show_the_stale "walk::only_what_is_live",
    KeysAreTrimmed keys_are_trimmed "keys::hostile_do_not_collide",
    KeysEndAtNul keys_end_at_nul "keys::hostile_round_trip",
    KeysFoldCase keys_fold_case "keys::matched_literally",
    BackendIsEmpty backend_is_empty "lifecycle::backend_is_named",
    LateReleaseFreesTheLease late_release_frees_the_lease "claims::a_lease_ends_by_itself",
    LeaseIsShared lease_is_shared "claims::a_lease_is_exclusive",
    LeaseNeverEnds lease_never_ends "claims::a_lease_ends_by_itself",
    LongKeysAreCut long_keys_are_cut "keys::hostile_in_batches",
    LongestIsZero longest_is_zero "expiry::for_ever",
    NeverIsTheDefault never_is_the_default "touch::to_never",
    NotFresh not_fresh "neighbours::clear_stays_at_home",
    NullIsAMiss null_is_a_miss "nulls::unit",
    LateSetClaimedIsStored late_set_claimed_is_stored "claims::a_lease_ends_by_itself",
    PanicsWithTheValue panics_with_the_value "user_code::serialize_panics",
    PrefixFoldsCase prefix_folds_case "clear::case_matters",
    PrefixIsAGlob prefix_is_a_glob "clear::patterns_are_text",
    ReplaceHasNoLimit replace_has_no_limit "limits::at_the_edge",
    ReleaseWantsItsClaim release_wants_its_claim "housekeeping::done_by_others",
    ReleaseDoesNothing release_does_nothing "claims::a_lease_is_exclusive",
    IncrRevivesTheStale incr_revives_the_stale "stale::incr_starts_anew",
    RemoveCountsTheStale remove_counts_the_stale "stale::remove_is_false",
    RemoveCountsTheExpired remove_counts_the_expired "expired::remove_is_false",
    RemoveManySaysTrue remove_many_says_true "batches::remove_answers_for_each",
    SecondsAreCut seconds_are_cut "expiry::nearly_two_seconds",
    SetKeepsTheOldExpiry set_keeps_the_old_expiry "expiry::each_write_starts_anew",
    TakeIsNotAtomic take_is_not_atomic "take::once_among_many",
    TooLargeServesTheOld too_large_serves_the_old "limits::one_megabyte",
    TouchOnlyLengthens touch_only_lengthens "touch::shortens",
    TouchRevives touch_revives "expired::touch_does_not_revive",
    ZeroIsForEver zero_is_for_ever "expiry::zero",
}
