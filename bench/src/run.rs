//! How lines are run.

use crate::figure::{Figure, Unit};
use crate::goal::Goal;
use crate::line::{Contestant, Line, Task};
use crate::results::{CurveResult, LineResult, Results};
use crate::valgrind::{self, Probe};
use crate::{machine, page};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

const ROUNDS: usize = 31;
/// What a contestant's round is to take.
const ROUND: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    pub(crate) no_page: bool,
    pub(crate) traces: Vec<PathBuf>,
    names: Vec<String>,
    /// Under valgrind: one contestant of one line, and nothing else.
    probe: Option<Probe>,
}

impl Settings {
    pub(crate) fn from_arguments(
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Self, String> {
        let mut settings = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => settings.quick = true,
                "--no-page" => settings.no_page = true,
                "--trace" => {
                    settings.traces.push(arguments.next().ok_or("--trace needs a file")?.into())
                }
                "--probe" => settings.probe = Some(Probe::from_arguments(&mut arguments)?),
                name if !name.starts_with('-') => settings.names.push(argument),
                unknown => return Err(format!("unknown option {unknown}")),
            }
        }
        Ok(settings)
    }
}

/// A run of the program: what is to be measured, and what has been.
pub(crate) struct Run {
    pub(crate) settings: Settings,
    results: Results,
}

impl Run {
    pub(crate) fn new(settings: Settings) -> Self {
        let machine = if settings.probe.is_some() { String::new() } else { machine::describe() };
        Self { settings, results: Results { machine, ..Results::default() } }
    }

    /// Whether a line or curve of that name is asked for. For groups whose preparations take long.
    pub(crate) fn wants(&self, id: &str) -> bool {
        match &self.settings.probe {
            Some(probe) => probe.line == id,
            None => {
                self.settings.names.is_empty()
                    || self.settings.names.iter().any(|name| id.contains(name.as_str()))
            }
        }
    }

    /// Measures a line, if it is asked for. `contestants` prepares them; it is called for lines
    /// that run only.
    pub(crate) fn line<'a>(
        &mut self,
        line: Line,
        contestants: impl FnOnce() -> Vec<Contestant<'a>>,
    ) {
        if !self.wants(&line.id) {
            return;
        }
        let mut contestants = contestants();
        if let Some(probe) = &self.settings.probe {
            return probe.run(&mut contestants);
        }
        println!("\n{}: {}", line.id, line.title);
        let rounds = if self.settings.quick { 3 } else { line.rounds.unwrap_or(ROUNDS) };
        let mut figures = measure(&mut contestants, rounds, self.settings.quick);
        if line.instructions {
            for (at, figure) in figures.iter_mut().enumerate() {
                progress(&format!("instructions of {}", figure.name));
                figure.instructions = valgrind::instructions(&line.id, at);
            }
            progress("");
        }
        print(&figures, line.unit, line.goal.as_ref());
        let Line { id, title, unit, note, .. } = line;
        let note = note.to_owned();
        self.results.lines.push(LineResult {
            id,
            title,
            unit,
            note,
            taken: machine::moment(),
            figures,
        });
    }

    /// Measures the same at each of `points`, if it is asked for. A goal is not looked at.
    pub(crate) fn curve<'a>(
        &mut self,
        line: Line,
        along: &str,
        points: &[f64],
        mut at: impl FnMut(f64) -> Vec<Contestant<'a>>,
    ) {
        if !self.wants(&line.id) || self.settings.probe.is_some() {
            return;
        }
        println!("\n{}: {}", line.id, line.title);
        let rounds = if self.settings.quick { 1 } else { line.rounds.unwrap_or(7) };
        let mut measured = Vec::new();
        for point in points {
            println!("  at {} {along}", crate::figure::thousands(*point));
            let figures = measure(&mut at(*point), rounds, self.settings.quick);
            print(&figures, line.unit, None);
            measured.push((*point, figures));
        }
        let Line { id, title, unit, note, .. } = line;
        let note = note.to_owned();
        let taken = machine::moment();
        self.results.curves.push(CurveResult {
            id,
            title,
            unit,
            note,
            taken,
            along: along.to_owned(),
            points: measured,
        });
    }

    /// Writes what was measured into the page.
    pub(crate) fn finish(self) -> io::Result<()> {
        if self.settings.probe.is_some() {
            return Ok(());
        }
        if self.results.lines.is_empty() && self.results.curves.is_empty() {
            return Err(io::Error::other("no line has such a name"));
        }
        if self.settings.quick || self.settings.no_page {
            return Ok(());
        }
        let mut results = Results::read()?;
        results.take(self.results);
        results.write()?;
        page::write(&results)
    }
}

/// Runs the contestants in turn, round after round.
fn measure(contestants: &mut [Contestant<'_>], rounds: usize, quick: bool) -> Vec<Figure> {
    let round = if quick { ROUND / 10 } else { ROUND };
    let counts: Vec<usize> =
        contestants.iter_mut().map(|contestant| calibrate(&mut contestant.task, round)).collect();
    let mut values = vec![Vec::with_capacity(rounds); contestants.len()];
    for at in 0..rounds {
        for ((contestant, count), values) in contestants.iter_mut().zip(&counts).zip(&mut values) {
            progress(&format!("round {} of {rounds}: {}", at + 1, contestant.name));
            values.push(match &mut contestant.task {
                Task::Work(work) => time(work, *count).as_nanos() as f64 / *count as f64,
                Task::Round(round) => round(),
            });
        }
    }
    progress("");
    let figure = |((contestant, count), values): ((&mut Contestant<'_>, &usize), &mut Vec<f64>)| {
        values.sort_by(f64::total_cmp);
        let allocations = match &mut contestant.task {
            Task::Work(work) => Some(
                allocation_counter::measure(|| work(*count)).count_total as f64 / *count as f64,
            ),
            Task::Round(_) => None,
        };
        let (value, spread) = (values[rounds / 2], (values[rounds / 4], values[rounds * 3 / 4]));
        Figure { name: contestant.name.clone(), value, spread, allocations, instructions: None }
    };
    contestants.iter_mut().zip(&counts).zip(&mut values).map(figure).collect()
}

/// How many operations fill a round. Warms up on the way.
fn calibrate(task: &mut Task<'_>, round: Duration) -> usize {
    let Task::Work(work) = task else { return 1 };
    let mut count = 1;
    loop {
        let took = time(work, count);
        if took >= round / 2 || count >= 1 << 24 {
            return count;
        }
        count *= 2;
    }
}

/// The time that this thread was on a core: what others do on a busy machine does not count.
fn time(work: &mut dyn FnMut(usize), count: usize) -> Duration {
    let begun = cpu_time();
    work(count);
    cpu_time().saturating_sub(begun)
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}

fn print(figures: &[Figure], unit: Unit, goal: Option<&Goal>) {
    let ours = figures.iter().find(|figure| figure.is_ours()).map(|figure| figure.value);
    for figure in figures {
        let ratio =
            ours.map_or_else(String::new, |ours| format!("{:.2} x larder", figure.value / ours));
        let allocations =
            figure.allocations.map_or_else(String::new, |count| format!("{count:.2} allocations"));
        let instructions = figure
            .instructions
            .map_or_else(String::new, |count| format!("{count:.0} instructions"));
        println!(
            "  {:<46} {:>14}   {ratio:>14}   {allocations:<18} {instructions}",
            figure.name,
            unit.show(figure.value)
        );
    }
    if let Some((outcome, reached)) = goal.and_then(|goal| goal.judge(figures)) {
        println!("  goal: {outcome}: {}", if reached { "reached" } else { "MISSED" });
    }
}

/// What is going on, on a terminal; nothing where the output is kept.
fn progress(now: &str) {
    let mut err = io::stderr();
    if err.is_terminal() {
        let _nobody_looks = write!(err, "\r\x1b[2K  {now}").and_then(|()| err.flush());
        if now.is_empty() {
            let _nobody_looks = write!(err, "\r");
        }
    }
}
