//! `docs/benchmarks.md` and its charts.

use crate::chart;
use crate::figure::{Figure, Unit, thousands};
use crate::results::{CurveResult, LineResult, Results, docs};
use std::fmt::Write;
use std::{fs, io};

const HEAD: &str = "# Benchmarks

larder beside the fastest peer that we know for each kind of work, and beside the bare driver of each server.

Run them yourself: `cargo run --release -p larder-bench` measures everything and writes this page, \
`-- memory` only the lines whose name holds \"memory\". redis-server and memcached are started on free ports \
where they are installed.

Peers run in the same process, in interleaved rounds; a figure is the median of its rounds. Machines differ, and \
this one was busy: compare ratios, not times.
";

/// What users do most, in the order of the first table; the other lines follow.
const FIRST: [&str; 10] = [
    "memory/arc-hot",
    "memory/get-or-set-hot",
    "memory/miss",
    "memory/stampede",
    "redis/get-1",
    "redis/get-256",
    "memcached/get-16",
    "sqlite/get-16",
    "near/hit",
    "near/mixed",
];

pub(crate) fn write(results: &Results) -> io::Result<()> {
    let mut page = format!("{HEAD}\nMachine: {}.\n", results.machine);
    summary(&mut page, &results.lines);
    let mut sections: Vec<&str> = Vec::new();
    for id in results
        .lines
        .iter()
        .map(|line| &line.id)
        .chain(results.curves.iter().map(|curve| &curve.id))
    {
        let section = section(id);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    for name in sections {
        let _infallible = writeln!(page, "\n## {name}");
        for line in results.lines.iter().filter(|line| section(&line.id) == name) {
            fs::write(docs().join(chart_name(&line.id)), chart::bars(line))?;
            one_line(&mut page, line);
        }
        for curve in results.curves.iter().filter(|curve| section(&curve.id) == name) {
            fs::write(docs().join(chart_name(&curve.id)), chart::curves(curve))?;
            one_curve(&mut page, curve);
        }
    }
    fs::write(docs().join("benchmarks.md"), page)?;
    println!("\nwritten: docs/benchmarks.md, docs/benchmarks/*.svg");
    Ok(())
}

fn section(id: &str) -> &str {
    id.split('/').next().unwrap_or(id)
}

fn chart_name(id: &str) -> String {
    format!("benchmarks/{}.svg", id.replace('/', "-"))
}

/// Every line: larder beside the best peer. A ratio over 1 says that larder is ahead.
fn summary(page: &mut String, lines: &[LineResult]) {
    page.push_str("\n| work | larder | best peer | larder is |\n|---|---|---|---|\n");
    let rank =
        |line: &&LineResult| FIRST.iter().position(|id| line.id == *id).unwrap_or(FIRST.len());
    let mut ordered: Vec<&LineResult> = lines.iter().collect();
    ordered.sort_by_key(rank);
    for line in ordered {
        let Some(ours) = line.figures.iter().find(|figure| figure.is_ours()) else { continue };
        let low = line.unit.is_better_low();
        let best = line.figures.iter().filter(|figure| !figure.is_ours()).reduce(|a, b| {
            let is_better = if low { b.value < a.value } else { b.value > a.value };
            if is_better { b } else { a }
        });
        let (peer, ratio) = best.map_or_else(Default::default, |best| {
            let peer = format!("{}: {}", best.name, line.unit.show(best.value));
            (peer, compared(line, ours, best))
        });
        let _infallible = writeln!(
            page,
            "| {} | {} | {peer} | {ratio} |",
            line.title,
            line.unit.show(ours.value)
        );
    }
}

/// How our figure compares, in words that need no key.
fn compared(line: &LineResult, ours: &Figure, best: &Figure) -> String {
    if line.unit == Unit::Percent {
        return format!("{:+.1} points", ours.value - best.value);
    }
    let times =
        if line.unit.is_better_low() { best.value / ours.value } else { ours.value / best.value };
    let quantity = match line.unit {
        Unit::Bytes => "as small",
        _ => "as fast",
    };
    format!("{times:.2} × {quantity}")
}

fn one_line(page: &mut String, line: &LineResult) {
    let _infallible =
        writeln!(page, "\n### {}\n\n![{}]({})\n", line.title, line.id, chart_name(&line.id));
    let has =
        |of: fn(&Figure) -> Option<f64>| line.figures.iter().any(|figure| of(figure).is_some());
    let (allocations, instructions) =
        (has(|figure| figure.allocations), has(|figure| figure.instructions));
    page.push_str("| | median | middle half | to larder |");
    page.push_str(if allocations { " allocations |" } else { "" });
    page.push_str(if instructions { " instructions |" } else { "" });
    page.push_str("\n|---|---|---|---|");
    page.push_str(if allocations { "---|" } else { "" });
    page.push_str(if instructions { "---|\n" } else { "\n" });
    let ours =
        line.figures.iter().find(|figure| figure.is_ours()).map_or(f64::NAN, |figure| figure.value);
    for figure in &line.figures {
        let show = |value| line.unit.show(value);
        let (low, high) = figure.spread;
        let _infallible = write!(
            page,
            "| {} | {} | {} – {} | {:.2} × |",
            figure.name,
            show(figure.value),
            show(low),
            show(high),
            figure.value / ours
        );
        for (is_shown, value, digits) in
            [(allocations, figure.allocations, 2), (instructions, figure.instructions, 0)]
        {
            if is_shown {
                let _infallible = write!(
                    page,
                    " {} |",
                    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
                );
            }
        }
        page.push('\n');
    }
    foot(page, &line.note, &line.taken);
}

fn one_curve(page: &mut String, curve: &CurveResult) {
    let _infallible =
        writeln!(page, "\n### {}\n\n![{}]({})\n", curve.title, curve.id, chart_name(&curve.id));
    let Some((_, first)) = curve.points.first() else { return };
    let names: Vec<&str> = first.iter().map(|figure| figure.name.as_str()).collect();
    let _infallible = writeln!(
        page,
        "| {} | {} |\n|---|{}",
        curve.along,
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for (point, figures) in &curve.points {
        let of = |name: &&str| {
            figures
                .iter()
                .find(|figure| figure.name == *name)
                .map_or_else(String::new, |found| curve.unit.show(found.value))
        };
        let _infallible = writeln!(
            page,
            "| {} | {} |",
            thousands(*point),
            names.iter().map(of).collect::<Vec<_>>().join(" | ")
        );
    }
    foot(page, &curve.note, &curve.taken);
}

fn foot(page: &mut String, note: &str, taken: &str) {
    if !note.is_empty() {
        let _infallible = writeln!(page, "\n{note}");
    }
    let _infallible = writeln!(page, "\nTaken {taken}.");
}
