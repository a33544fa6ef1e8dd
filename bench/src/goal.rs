//! What a line is to reach, as a ratio to a peer of the same run or as a figure that no machine changes.

use crate::results::Figure;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Goal {
    bound: Bound,
    words: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Bound {
    /// Our figure over the peer's.
    AtMostTimes(f64, String),
    AtLeastTimes(f64, String),
    /// Our figure less the other's.
    AtMostMore(f64, String),
    AtMost(f64),
    AtLeast(f64),
    /// Not further behind the best peer than so many points.
    Within(f64),
}

impl Goal {
    /// `words` is how PERFORMANCE.md states it.
    pub(crate) fn at_most_times(times: f64, peer: &str, words: &str) -> Self {
        Self { bound: Bound::AtMostTimes(times, peer.into()), words: words.into() }
    }

    pub(crate) fn at_least_times(times: f64, peer: &str, words: &str) -> Self {
        Self { bound: Bound::AtLeastTimes(times, peer.into()), words: words.into() }
    }

    pub(crate) fn at_most_more(more: f64, other: &str, words: &str) -> Self {
        Self { bound: Bound::AtMostMore(more, other.into()), words: words.into() }
    }

    pub(crate) fn at_most(most: f64, words: &str) -> Self {
        Self { bound: Bound::AtMost(most), words: words.into() }
    }

    pub(crate) fn at_least(least: f64, words: &str) -> Self {
        Self { bound: Bound::AtLeast(least), words: words.into() }
    }

    pub(crate) fn within(points: f64, words: &str) -> Self {
        Self { bound: Bound::Within(points), words: words.into() }
    }

    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    /// What it comes to in this run, and whether it is reached. `None` where the one to compare with did not run.
    pub(crate) fn judge(&self, figures: &[Figure]) -> Option<(String, bool)> {
        let ours = figures.iter().find(|figure| figure.is_ours())?.value;
        let of = |name: &str| {
            figures.iter().find(|figure| figure.name.starts_with(name)).map(|figure| figure.value)
        };
        Some(match &self.bound {
            Bound::AtMostTimes(times, peer) => {
                let ratio = ours / of(peer)?;
                (format!("{ratio:.2} × {peer} (≤ {times})"), ratio <= *times)
            }
            Bound::AtLeastTimes(times, peer) => {
                let ratio = ours / of(peer)?;
                (format!("{ratio:.2} × {peer} (≥ {times})"), ratio >= *times)
            }
            Bound::AtMostMore(more, other) => {
                let difference = ours - of(other)?;
                (format!("{difference:+.1} to {other} (≤ +{more})"), difference <= *more)
            }
            Bound::AtMost(most) => (format!("{ours:.1} (≤ {most})"), ours <= *most),
            Bound::AtLeast(least) => (format!("{ours:.1} (≥ {least})"), ours >= *least),
            Bound::Within(points) => {
                let best = figures
                    .iter()
                    .filter(|figure| !figure.is_ours())
                    .max_by(|a, b| a.value.total_cmp(&b.value))?;
                let behind = best.value - ours;
                (
                    format!("{:+.1} points to {} (≥ −{points})", -behind, best.name),
                    behind <= *points,
                )
            }
        })
    }
}
