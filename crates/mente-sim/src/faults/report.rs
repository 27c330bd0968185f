//! What came of all faults, by call site.

use std::collections::BTreeMap;
use std::fmt;

use super::disk::{Fault, Site};
use super::{Ending, Suffered};

/// Shown of the runs that broke a law.
const SHOWN: usize = 12;

#[derive(Debug)]
pub struct Report {
    calls: usize,
    sites: BTreeMap<Site, Row>,
    faults: BTreeMap<Fault, u64>,
    /// Runs that broke a law.
    pub broken: Vec<String>,
}

#[derive(Debug, Default)]
struct Row {
    calls: u64,
    faults: u64,
    endings: BTreeMap<Ending, u64>,
}

impl Report {
    pub(super) fn new(sites: &[Site], broken: Vec<String>) -> Self {
        let mut rows: BTreeMap<Site, Row> = BTreeMap::new();
        for site in sites {
            rows.entry(*site).or_default().calls += 1;
        }
        Self {
            calls: sites.len(),
            sites: rows,
            faults: BTreeMap::new(),
            broken,
        }
    }

    pub(super) fn add(&mut self, one: Suffered) {
        let row = self.sites.entry(one.site).or_default();
        row.faults += 1;
        *row.endings.entry(one.ending).or_default() += 1;
        *self.faults.entry(one.fault).or_default() += 1;
        let (call, site, fault) = (one.call, one.site, one.fault);
        let told = |why| format!("call {call}, {site}, {fault:?}: {why}");
        self.broken.extend(one.broken.into_iter().map(told));
    }

    /// The places that the run comes by.
    pub fn sites(&self) -> impl Iterator<Item = Site> {
        self.sites.keys().copied()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults.values().sum();
        writeln!(
            f,
            "{} calls of the disk in one run, at {} places; {faults} runs with one fault each: {} with EIO, {} with ENOSPC, {} with ENOSPC and {} with EIO after some of the bytes",
            self.calls,
            self.sites.len(),
            self.count(Fault::Io),
            self.count(Fault::Full),
            self.count(Fault::ShortFull),
            self.count(Fault::ShortIo),
        )?;
        let sites: Vec<_> = self.sites.keys().map(Site::to_string).collect();
        let width = sites.iter().map(String::len).max().unwrap_or_default();
        let titles = Ending::ALL.map(|ending| ending.to_string());
        writeln!(f, "{:width$} | calls | faults | {}", "", titles.join(" | "))?;
        for (name, row) in sites.iter().zip(self.sites.values()) {
            write!(f, "{name:width$} | {:>5} | {:>6}", row.calls, row.faults)?;
            for (ending, title) in Ending::ALL.iter().zip(&titles) {
                let count = row.endings.get(ending).copied().unwrap_or_default();
                write!(f, " | {count:>0$}", title.len())?;
            }
            writeln!(f)?;
        }
        for broken in self.broken.iter().take(SHOWN) {
            writeln!(f, "  {broken}")?;
        }
        Ok(())
    }
}

impl Report {
    fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or_default()
    }
}
