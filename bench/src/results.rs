//! What was measured, kept in `docs/benchmarks/results.json`, so that a run of some lines leaves
//! the others as they were.

use crate::figure::{Figure, Unit};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fs, io};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LineResult {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) note: String,
    /// When, and on what.
    pub(crate) taken: String,
    pub(crate) figures: Vec<Figure>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CurveResult {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) note: String,
    pub(crate) taken: String,
    /// What the points are: `entries`, `tasks`.
    pub(crate) along: String,
    pub(crate) points: Vec<(f64, Vec<Figure>)>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: String,
    pub(crate) lines: Vec<LineResult>,
    pub(crate) curves: Vec<CurveResult>,
}

/// Where the page and its charts go.
pub(crate) fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn file() -> PathBuf {
    docs().join("benchmarks/results.json")
}

impl Results {
    /// What earlier runs left, if there were any.
    pub(crate) fn read() -> io::Result<Self> {
        match fs::read(file()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self) -> io::Result<()> {
        fs::create_dir_all(docs().join("benchmarks"))?;
        fs::write(file(), serde_json::to_vec_pretty(self)?)
    }

    /// Puts new results in the place of older ones with the same name.
    pub(crate) fn take(&mut self, new: Self) {
        self.machine = new.machine;
        for line in new.lines {
            match self.lines.iter_mut().find(|old| old.id == line.id) {
                Some(old) => *old = line,
                None => self.lines.push(line),
            }
        }
        for curve in new.curves {
            match self.curves.iter_mut().find(|old| old.id == curve.id) {
                Some(old) => *old = curve,
                None => self.curves.push(curve),
            }
        }
    }
}
