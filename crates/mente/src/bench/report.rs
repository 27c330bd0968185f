//! What a row came to, and how it is shown.

use std::time::Duration;

use serde::Serialize;

use crate::args::Output;
use crate::failure::Result;
use crate::output::{line, table};

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The median of the rounds, in its unit.
    pub(crate) median: f64,
    pub(crate) unit: &'static str,
    /// Lowest and highest round.
    pub(crate) spread: (f64, f64),
    pub(crate) detail: String,
    /// What is to be reached, and whether it was.
    pub(crate) target: String,
    pub(crate) verdict: String,
}

/// Latencies, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// Microseconds below which this part of 100 lies.
    pub(crate) fn micros(&self, part: usize) -> f64 {
        let at = (self.0.len() * part / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    }
}

impl Row {
    /// From the figures of the rounds; `target` is met from below or above by `met`.
    pub(super) fn new(name: &'static str, unit: &'static str, mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let at = |index: usize| rounds.get(index).copied().unwrap_or(0.0);
        Self {
            name,
            median: at(rounds.len() / 2),
            unit,
            spread: (at(0), at(rounds.len().saturating_sub(1))),
            detail: String::new(),
            target: String::new(),
            verdict: String::new(),
        }
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The figure is to be at least this.
    pub(super) fn at_least(self, target: f64) -> Self {
        let (median, unit) = (self.median, self.unit);
        self.judge(format!(">= {} {unit}", figure(target)), median / target)
    }

    /// The figure is to be at most this.
    pub(super) fn at_most(self, target: f64) -> Self {
        let (median, unit) = (self.median, self.unit);
        self.judge(format!("<= {} {unit}", figure(target)), target / median)
    }

    fn judge(mut self, target: String, ratio: f64) -> Self {
        self.target = target;
        self.verdict = if ratio >= 1.0 {
            "reached".into()
        } else {
            format!("short, {ratio:.2} of it")
        };
        self
    }
}

/// Three digits at least say something.
fn figure(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

pub(super) fn print(rows: &[Row], output: Output) -> Result<()> {
    if output == Output::Json {
        let text = serde_json::to_string_pretty(rows).expect("rows have a JSON form");
        return line(&text);
    }
    let cells = |row: &Row| {
        vec![
            row.name.to_owned(),
            format!("{} {}", figure(row.median), row.unit),
            format!("{}-{}", figure(row.spread.0), figure(row.spread.1)),
            row.target.clone(),
            row.verdict.clone(),
            row.detail.clone(),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    table(&["ROW", "MEDIAN", "ROUNDS", "TARGET", "", "BESIDE"], &rows)
}
