//! A figure of one contestant, and the unit that it is counted in.

use serde::{Deserialize, Serialize};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    Nanos,
    Micros,
    Millis,
    PerSecond,
    Bytes,
    Percent,
}

impl Unit {
    pub(crate) fn is_better_low(self) -> bool {
        !matches!(self, Self::PerSecond | Self::Percent)
    }

    pub(crate) fn show(self, value: f64) -> String {
        let plain = |value: f64| match value.abs() {
            big if big >= 10_000.0 => thousands(value),
            big if big >= 100.0 => format!("{value:.0}"),
            _ => format!("{value:.1}"),
        };
        match self {
            Self::Nanos => format!("{} ns", plain(value)),
            Self::Micros => format!("{} µs", plain(value)),
            Self::Millis => format!("{} ms", plain(value)),
            Self::PerSecond => format!("{}/s", plain(value)),
            Self::Bytes => format!("{} B", plain(value)),
            Self::Percent => format!("{value:.1} %"),
        }
    }
}

pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    /// The median of the rounds.
    pub(crate) value: f64,
    /// The middle half of the rounds lies between.
    pub(crate) spread: (f64, f64),
    /// An operation.
    pub(crate) allocations: Option<f64>,
    pub(crate) instructions: Option<f64>,
}

impl Figure {
    pub(crate) fn is_ours(&self) -> bool {
        self.name.starts_with("larder")
    }
}
