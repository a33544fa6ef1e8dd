//! What a line is to reach, as a ratio to a peer of the same run or as a figure that no machine
//! changes.

use crate::figure::Figure;

#[derive(Clone, Debug)]
pub(crate) struct Goal(Bound);

#[derive(Clone, Debug)]
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
    pub(crate) fn at_most_times(times: f64, peer: &str) -> Self {
        Self(Bound::AtMostTimes(times, peer.into()))
    }

    pub(crate) fn at_least_times(times: f64, peer: &str) -> Self {
        Self(Bound::AtLeastTimes(times, peer.into()))
    }

    pub(crate) fn at_most_more(more: f64, other: &str) -> Self {
        Self(Bound::AtMostMore(more, other.into()))
    }

    pub(crate) fn at_most(most: f64) -> Self {
        Self(Bound::AtMost(most))
    }

    pub(crate) fn at_least(least: f64) -> Self {
        Self(Bound::AtLeast(least))
    }

    pub(crate) fn within(points: f64) -> Self {
        Self(Bound::Within(points))
    }

    /// What it comes to in this run, and whether it is reached. `None` where the one to compare
    /// with did not run.
    pub(crate) fn judge(&self, figures: &[Figure]) -> Option<(String, bool)> {
        let ours = figures.iter().find(|figure| figure.is_ours())?.value;
        let of = |name: &str| {
            figures.iter().find(|figure| figure.name.starts_with(name)).map(|figure| figure.value)
        };
        Some(match &self.0 {
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
