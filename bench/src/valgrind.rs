//! Instructions an operation, by callgrind: exact, and the same on a busy machine.

use crate::line::{Contestant, Task};
use std::process::Command;

/// The difference between a run of few operations and one of many is what the operations take.
const FEW: usize = 2_000;
const MANY: usize = 12_000;

/// What the program is started again for under valgrind.
pub(crate) struct Probe {
    pub(crate) line: String,
    contestant: usize,
    count: usize,
}

impl Probe {
    pub(crate) fn from_arguments(
        arguments: &mut impl Iterator<Item = String>,
    ) -> Result<Self, String> {
        let mut next = || {
            arguments
                .next()
                .ok_or("--probe is for the program itself: LINE CONTESTANT COUNT".to_owned())
        };
        let line = next()?;
        let mut number = || next()?.parse().map_err(|error| format!("{error}"));
        Ok(Self { line, contestant: number()?, count: number()? })
    }

    pub(crate) fn run(&self, contestants: &mut [Contestant<'_>]) {
        if let Some(Contestant { task: Task::Work(work), .. }) =
            contestants.get_mut(self.contestant)
        {
            work(self.count);
        }
    }
}

/// `None` without valgrind.
pub(crate) fn instructions(line: &str, contestant: usize) -> Option<f64> {
    let (few, many) = (collected(line, contestant, FEW)?, collected(line, contestant, MANY)?);
    Some((many - few) / (MANY - FEW) as f64)
}

fn collected(line: &str, contestant: usize, count: usize) -> Option<f64> {
    let program = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--probe", line, &contestant.to_string(), &count.to_string()])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}
