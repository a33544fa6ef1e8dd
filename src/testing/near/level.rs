//! A near level that keeps no values and writes down what it is told, and what was done to the store
//! meanwhile.

use crate::adapter::{AskedAt, NearEntry, Recorder, Records, SourceId};
use crate::runtime::lock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What happened, in the order in which the near level saw it. A source is known by its number, as
/// no number is used twice.
#[derive(Clone, Debug)]
enum Line {
    Opened,
    /// A read begins.
    Asked,
    /// A read that began at that line was answered, and a source vouches for the value.
    Vouched {
        source: u16,
        key: String,
        asked: usize,
        version: usize,
    },
    /// A change begins.
    Calling,
    /// A change has returned.
    Changed(Changed),
    Forgot {
        source: u16,
        key: String,
    },
    ForgotBelow {
        source: u16,
        prefix: String,
    },
    Confirmed {
        source: u16,
        asked_at: AskedAt,
    },
    Ended(u16),
}

/// A change of some keys. It supersedes the values of a lower version.
#[derive(Clone, Debug)]
struct Changed {
    keys: Vec<String>,
    version: usize,
    /// When it had returned.
    at: AskedAt,
}

impl Line {
    /// Whether the source tells that the key may have changed, or ends.
    fn revokes(&self, of: u16, changed: &str) -> bool {
        match self {
            Self::Forgot { source, key } => *source == of && key == changed,
            Self::ForgotBelow { source, prefix } => *source == of && changed.starts_with(prefix),
            Self::Ended(source) => *source == of,
            _ => false,
        }
    }
}

/// A near level, for an adapter that follows.
pub(super) type Level = Recorder<Notes>;

pub(super) struct Notes {
    lines: Mutex<Vec<Line>>,
    next: AtomicU16,
    born: Instant,
    opens: bool,
}

impl Level {
    pub(super) fn new() -> Arc<Self> {
        Self::with(true)
    }

    /// A near level that cannot count another source.
    pub(super) fn without_sources() -> Arc<Self> {
        Self::with(false)
    }

    fn with(opens: bool) -> Arc<Self> {
        let (lines, next) = (Mutex::default(), AtomicU16::new(1));
        Self::of(Notes { lines, next, born: Instant::now(), opens })
    }
}

impl Notes {
    /// Writes a line, and returns which it is.
    fn write(&self, line: Line) -> usize {
        let mut lines = lock(&self.lines);
        lines.push(line);
        lines.len() - 1
    }

    // ---- reads and changes

    /// Notes that a read begins.
    pub(super) fn asks(&self) -> usize {
        self.write(Line::Asked)
    }

    /// Notes the answer to a read that began at line `asked`. Returns its source, or what is wrong
    /// with it. Where reads and changes do not overlap, the lines at which they began are versions.
    pub(super) fn answered(
        &self,
        key: &str,
        (asked, version): (usize, usize),
        answer: &NearEntry,
    ) -> Result<Option<u16>, String> {
        let Some(SourceId { number: source, life }) = answer.source else { return Ok(None) };
        if life != LIFE || !self.has_opened(source) {
            return Err(format!("an answer about {key:?} names a source that was never opened"));
        }
        let has_ended = |line: &Line| matches!(line, Line::Ended(ended) if *ended == source);
        if lock(&self.lines)[..asked].iter().any(has_ended) {
            return Err(format!("an answer about {key:?} names a source that had ended before"));
        }
        self.write(Line::Vouched { source, key: key.to_owned(), asked, version });
        Ok(Some(source))
    }

    pub(super) fn calls(&self) -> usize {
        self.write(Line::Calling)
    }

    /// Notes that a change of `keys` has returned. Returns when.
    pub(super) fn changed(&self, keys: &[&str], version: usize) -> AskedAt {
        let keys = keys.iter().map(|&key| key.to_owned()).collect();
        let at = time_since(self.born);
        self.write(Line::Changed(Changed { keys, version, at }));
        at
    }

    // ---- sources

    fn has_opened(&self, source: u16) -> bool {
        source != 0 && source < self.next.load(Ordering::SeqCst)
    }

    /// Whether the source has ended, or has proven what was there at that time.
    pub(super) fn is_settled(&self, of: u16, at: AskedAt) -> bool {
        lock(&self.lines).iter().any(|line| match line {
            Line::Confirmed { source, asked_at } => *source == of && *asked_at >= at,
            Line::Ended(source) => *source == of,
            _ => false,
        })
    }

    /// The sources that were opened and have not ended.
    pub(super) fn open(&self) -> usize {
        let count = |matches: fn(&Line) -> bool| {
            lock(&self.lines).iter().filter(|line| matches(line)).count()
        };
        count(|line| matches!(line, Line::Opened)) - count(|line| matches!(line, Line::Ended(_)))
    }

    /// A proof that was given although a change had not been told, if there is one.
    pub(super) fn broken_proof(&self) -> Option<String> {
        let lines = lock(&self.lines);
        let changes: Vec<&Changed> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Changed(changed) => Some(changed),
                _ => None,
            })
            .collect();
        lines.iter().enumerate().find_map(|(at, line)| {
            let Line::Vouched { source, key, asked, version } = line else { return None };
            let newer = |changed: &&&Changed| changed.version > *version && changed.keys.contains(key);
            let newer: Vec<&&Changed> = changes.iter().filter(newer).collect();
            // What was told since the read began may have been about what it had seen.
            let until = lines[*asked..].iter().position(|line| line.revokes(*source, key));
            let until = until.map_or(lines.len(), |until| asked + until);
            let is_broken = lines.get(at..until)?.iter().any(|line| match line {
                Line::Confirmed { source: proven, asked_at } => {
                    proven == source && newer.iter().any(|changed| changed.at <= *asked_at)
                }
                _ => false,
            });
            is_broken.then(|| {
                format!(
                    "source {source} had vouched for {key:?}, and proved it after a change that it did not tell"
                )
            })
        })
    }
}

/// The time of a near level that began then.
fn time_since(born: Instant) -> AskedAt {
    AskedAt(u64::try_from(born.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// All sources have the same: a number is used once.
const LIFE: u64 = 1;

impl Records for Notes {
    fn opened(&self) -> Option<SourceId> {
        if !self.opens {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.write(Line::Opened);
        Some(SourceId { number, life: LIFE })
    }

    fn now(&self) -> AskedAt {
        time_since(self.born)
    }

    fn forgot(&self, SourceId { number: source, .. }: SourceId, key: &str) {
        self.write(Line::Forgot { source, key: key.to_owned() });
    }

    fn forgot_below(&self, SourceId { number: source, .. }: SourceId, prefix: &str) {
        self.write(Line::ForgotBelow { source, prefix: prefix.to_owned() });
    }

    fn confirmed(&self, SourceId { number: source, .. }: SourceId, asked_at: AskedAt) {
        self.write(Line::Confirmed { source, asked_at });
    }

    fn ended(&self, SourceId { number, .. }: SourceId) {
        self.write(Line::Ended(number));
    }
}
