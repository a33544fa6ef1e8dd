//! The invariants hold, and each fault is found.

use super::report::Report;
use super::run::Run;
use super::settings::{Fault, Shape};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{env, thread};

/// The seeds of the short form.
const SEEDS: u64 = 20;

/// A fault is found in as many seeds.
const SEEDS_WITH_A_FAULT: u64 = 100;

fn run(seed: u64, shape: Shape, fault: Fault) -> Report {
    Run::new(seed, shape, fault).finish()
}

/// Runs the seeds, on all cores, and adds up what came of them.
fn run_all(seeds: Range<u64>, shape: Shape, heard: impl Fn(u64, &Report) + Sync) -> Report {
    let (next, sum) = (AtomicU64::new(seeds.start), Mutex::new(Report::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let report = run(seed, shape, Fault::None);
            heard(seed, &report);
            sum.lock().unwrap_or_else(PoisonError::into_inner).add(report);
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn nothing_too_old_is_served_whatever_fails() {
    let report = run_all(0..SEEDS, Shape::SHORT, |_, _| {});
    println!("{report}");
    assert_eq!(report.all_violations(), 0, "{report}");
    // Whatever the rules are about has happened.
    let happened = [
        report.hits,
        report.far_reads,
        report.joined,
        report.kept,
        report.refused,
        report.late_proofs,
        report.renewals,
        report.lost_sources,
        report.tagged,
        report.dead,
        report.stale,
    ];
    assert!(happened.iter().all(|count| *count > 1_000), "{report}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let [one, other] = [(); 2].map(|()| run(7, Shape::SHORT, Fault::None));
    assert_eq!(one, other);
    assert_ne!(one, run(8, Shape::SHORT, Fault::None));
}

#[test]
fn each_fault_is_found() {
    for (fault, broken) in Fault::ALL {
        let mut runs = 0..SEEDS_WITH_A_FAULT;
        let found = runs.find_map(|seed| {
            let report = run(seed, Shape::SHORT, fault);
            report.violations.contains_key(&broken).then_some((seed, report))
        });
        let (seed, report) = found.unwrap_or_else(|| panic!("{fault:?} does not break {broken:?}"));
        println!("{fault:?}, seed {seed}: {report}");
    }
}

/// `scripts/simulate`: many runs of 1,000 nodes, and what each fault does in a few short ones.
#[test]
#[ignore = "takes long: scripts/simulate"]
fn long() {
    let seeds = env::var("LARDER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(10);
    let report = run_all(0..seeds, Shape::LONG, |seed, report| println!("seed {seed}: {report}"));
    println!("{seeds} seeds of {} nodes: {report}", Shape::LONG.nodes);
    assert_eq!(report.all_violations(), 0, "{report}");
}
