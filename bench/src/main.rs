//! larder beside its peers, in one process, in interleaved rounds.
//!
//! ```sh
//! cargo run --release -p larder-bench                 # everything, and docs/benchmarks.md
//! cargo run --release -p larder-bench -- memory       # the lines whose name holds "memory"
//! cargo run --release -p larder-bench -- --quick      # few rounds: does it work?
//! cargo run --release -p larder-bench -- --trace F    # hit ratios on a trace of your own as well
//! ```
//!
//! Criterion runs one contestant after another, and on a noisy machine the noise lands on one of
//! them. Here each round runs all of them, medians are compared, and what counts is the ratio. What
//! a line is, is in `line.rs`; how it is run, in `run.rs`.

mod chart;
mod figure;
mod goal;
mod line;
mod machine;
mod memory;
mod page;
#[cfg(feature = "remote")]
mod remote;
mod results;
mod run;
mod valgrind;

use run::{Run, Settings};
use std::process::ExitCode;

const USAGE: &str =
    "cargo run --release -p larder-bench -- [--quick] [--no-page] [--trace FILE]... [NAME]...

NAME     only lines whose name holds one of these, such as `memory` or `redis/get`
--quick  few and short rounds, to see whether it works; no page is written
--no-page  measure and print, write nothing
--trace FILE  a trace for the hit ratios: a key a line, or ARC's `.lis`";

/// The groups, in the order of the page. Each adds its lines with [`Run::line`] and its curves with
/// [`Run::curve`].
const GROUPS: &[fn(&mut Run)] = &[
    memory::run,
    #[cfg(feature = "remote")]
    remote::run,
];

fn main() -> ExitCode {
    let settings = match Settings::from_arguments(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut run = Run::new(settings);
    for group in GROUPS {
        group(&mut run);
    }
    match run.finish() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
