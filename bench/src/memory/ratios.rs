//! Hit ratios, on traces that are generated and on files that the user has.

use super::{Zipf, ready};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use larder::{AsyncCacheAdapter, AsyncMemoryCache, CacheValue, Expiry};
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::{fs, io};

const REQUESTS: usize = 1_000_000;

/// Makes the keys that are asked for, in order.
type Trace = fn() -> Vec<u64>;

pub(crate) fn run(run: &mut Run) {
    let traces: [(&str, &str, Trace); 4] = [
        ("zipf", "Zipf 0.9 over 200k keys", zipf),
        ("scan", "Zipf 0.9, and every so often a scan of keys asked for once", scan),
        ("loop", "a loop over a fifth more keys than fit, among Zipf", looping),
        ("shift", "a hot set that moves on", shifting),
    ];
    for (name, title, trace) in traces {
        let trace = || Rc::new(trace());
        line(run, &format!("memory/ratio-{name}"), title, trace);
    }
    for file in run.settings.traces.clone() {
        let name = file
            .file_stem()
            .map_or_else(|| "file".into(), |name| name.to_string_lossy().into_owned());
        match read(&file) {
            Ok(trace) => {
                let trace = Rc::new(trace);
                line(run, &format!("memory/ratio-{name}"), &format!("the trace {name}"), || {
                    trace.clone()
                });
            }
            Err(error) => eprintln!("{}: {error}", file.display()),
        }
    }
}

/// At a capacity of a tenth of the keys.
fn line(run: &mut Run, id: &str, title: &str, trace: impl FnOnce() -> Rc<Vec<u64>>) {
    let line = Line::new(id, format!("hit ratio, {title}"), Unit::Percent)
        .goal(Goal::within(1.0))
        .rounds(1)
        .note("Room for a tenth of the keys there are. A miss is stored. moka's pending tasks are run every 64 requests.");
    run.line(line, || contestants(&trace()));
}

fn contestants<'a>(trace: &Rc<Vec<u64>>) -> Vec<Contestant<'a>> {
    let capacity = (trace.iter().collect::<HashSet<_>>().len() / 10).max(1);
    let of = |name: &str, make: Box<dyn Fn() -> Box<dyn FnMut(u64) -> bool>>| {
        let trace = trace.clone();
        Contestant::round(name, move || {
            let mut ask = make();
            100.0 * trace.iter().filter(|key| ask(**key)).count() as f64 / trace.len() as f64
        })
    };
    vec![
        of(
            "larder",
            Box::new(move || {
                let cache = AsyncMemoryCache::builder()
                    .max_entries(capacity as u64)
                    .max_bytes(1 << 40)
                    .build();
                Box::new(move |key| {
                    let key = key.to_string();
                    let found = ready(cache.get(&key)).expect("an answer").is_some();
                    if !found {
                        ready(cache.set(&key, CacheValue::new(()), Expiry::Never)).expect("stored");
                    }
                    found
                })
            }),
        ),
        of(
            "quick_cache",
            Box::new(move || {
                let cache = quick_cache::sync::Cache::new(capacity);
                Box::new(move |key| {
                    let found = cache.get(&key).is_some();
                    if !found {
                        cache.insert(key, ());
                    }
                    found
                })
            }),
        ),
        of(
            "moka (TinyLFU)",
            Box::new(move || {
                let (cache, mut turn) = (moka::sync::Cache::new(capacity as u64), 0);
                Box::new(move |key| {
                    turn += 1;
                    if turn % 64 == 0 {
                        cache.run_pending_tasks();
                    }
                    let found = cache.get(&key).is_some();
                    if !found {
                        cache.insert(key, ());
                    }
                    found
                })
            }),
        ),
    ]
}

fn zipf() -> Vec<u64> {
    let zipf = Zipf::new(200_000, 0.9);
    (0..REQUESTS).map(|_| zipf.next() as u64).collect()
}

fn scan() -> Vec<u64> {
    let zipf = Zipf::new(50_000, 0.9);
    let mut fresh = 1 << 32;
    let mut once = move || {
        fresh += 1;
        fresh
    };
    (0..REQUESTS).map(|at| if at % 50_000 < 10_000 { once() } else { zipf.next() as u64 }).collect()
}

/// The loop alone would be 24,000 keys; with the Zipf part of 96,000 there is room for a tenth of
/// both, 12,000.
fn looping() -> Vec<u64> {
    let zipf = Zipf::new(96_000, 0.9);
    (0..REQUESTS)
        .map(
            |at| {
                if at % 2 == 0 { (1 << 32) + (at as u64 / 2) % 14_400 } else { zipf.next() as u64 }
            },
        )
        .collect()
}

fn shifting() -> Vec<u64> {
    let zipf = Zipf::new(20_000, 0.9);
    (0..REQUESTS).map(|at| (zipf.next() + at / 100_000 * 10_000) as u64).collect()
}

/// A key a line; or, where the name ends in `.lis`, ARC's format: first block, how many, and two
/// numbers of no use.
fn read(file: &Path) -> io::Result<Vec<u64>> {
    let text = fs::read_to_string(file)?;
    if file.extension().is_some_and(|kind| kind == "lis") {
        let blocks = text.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u64>);
            let (first, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
            Some(first..first + count)
        });
        return Ok(blocks.flatten().collect());
    }
    let mut numbers = std::collections::HashMap::new();
    Ok(text
        .lines()
        .map(|key| {
            let next = numbers.len() as u64;
            *numbers.entry(key).or_insert(next)
        })
        .collect())
}
