//! Injuries by the thousand, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::injury::Kind;
use super::{Found, Harm, Patient};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::{sweep, world};

/// Injuries of one log, each to a fresh copy of it.
const INJURIES_PER_LOG: u64 = 50;
/// Shown of those that broke a law.
const SHOWN: usize = 12;

/// What came of all injuries.
#[derive(Debug, Default)]
pub struct Tally {
    by_kind: BTreeMap<Kind, Row>,
    /// Of injuries that broke a law: how to do them again.
    pub broken: Vec<String>,
    closed: Closed,
}

#[derive(Debug, Default)]
struct Row {
    done: u64,
    records_hit: u64,
    named: u64,
    harmless: u64,
    harms: [u64; 6],
}

/// What was hurt.
#[derive(Debug, Default)]
struct Closed {
    disks: u64,
    logs: u64,
    batches: u64,
    wal_files: u64,
    packs: u64,
    bytes: u64,
}

/// Hurts logs that worlds of these seeds leave, on so many threads.
pub fn many(injuries: u64, seed: u64, threads: usize) -> Tally {
    let tally = Mutex::new(Tally::default());
    let worlds = injuries.div_ceil(INJURIES_PER_LOG);
    let one = |number: u64| -> Option<()> {
        let scenario = scenario(seed.wrapping_add(number));
        let count = INJURIES_PER_LOG.min(injuries - number * INJURIES_PER_LOG);
        let found = suffer(&scenario, count);
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.add(found);
        None
    };
    sweep::first(threads, 0..worlds, one);
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.broken.sort();
    tally
}

/// More calls than other worlds have, so that many files come and go.
fn scenario(seed: u64) -> Scenario {
    let mut random = Random::new(seed ^ 0x0207_0000_0000_0000);
    Scenario {
        calls: random.within(20..160) as u32,
        rots: 0,
        ..Scenario::of_seed(seed)
    }
}

fn suffer(scenario: &Scenario, count: u64) -> Tally {
    let mut tally = Tally::default();
    let seed = scenario.seed;
    let closed = sweep::caught(|| world::closed_disk(scenario));
    let patient = match closed.map_err(|panicked| panicked.to_string()) {
        Ok(Ok(disk)) => Patient::new(&disk),
        Ok(Err(why)) | Err(why) => Err(why),
    };
    let patient = match patient {
        Ok(patient) => patient,
        Err(why) => {
            tally
                .broken
                .push(format!("seed {seed}, before any injury: {why}"));
            return tally;
        }
    };
    tally.closed = Closed::of(&patient);
    let mut random = Random::new(seed);
    for number in 0..count {
        let kind = Kind::draw(&mut random);
        let suffered = patient.suffer(kind, &mut random.split());
        let row = tally.by_kind.entry(kind).or_default();
        row.done += 1;
        row.records_hit += u64::from(suffered.hits_records);
        match suffered.judged {
            Ok(Found::Named) => row.named += 1,
            Ok(Found::Harmless) => row.harmless += 1,
            Err((harm, why)) => {
                row.harms[harm as usize] += 1;
                tally.broken.push(format!(
                    "seed {seed}, injury {number}: {}: {harm:?}: {why}",
                    suffered.injury
                ));
            }
        }
    }
    tally
}

impl Closed {
    fn of(patient: &Patient) -> Self {
        let ending = |ending: &str| {
            let names = patient.names.iter();
            names.filter(|name| name.ends_with(ending)).count() as u64
        };
        Self {
            disks: 1,
            logs: patient.honest.logs.len() as u64,
            batches: patient.live.batches(),
            wal_files: ending(".wal"),
            packs: ending(".pack"),
            bytes: patient.disk.used_bytes() as u64,
        }
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        for (kind, row) in other.by_kind {
            self.by_kind.entry(kind).or_default().add(&row);
        }
        self.broken.extend(other.broken);
        let (all, one) = (&mut self.closed, other.closed);
        all.disks += one.disks;
        all.logs += one.logs;
        all.batches += one.batches;
        all.wal_files += one.wal_files;
        all.packs += one.packs;
        all.bytes += one.bytes;
    }
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.records_hit += other.records_hit;
        self.named += other.named;
        self.harmless += other.harmless;
        for (harm, more) in self.harms.iter_mut().zip(other.harms) {
            *harm += more;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = &self.closed;
        writeln!(
            f,
            "{} closed directories: {} logs, {} batches of them live, {} WAL files, {} packs, {} MiB",
            closed.disks,
            closed.logs,
            closed.batches,
            closed.wal_files,
            closed.packs,
            closed.bytes >> 20
        )?;
        let titles = [
            "done",
            "hit live records",
            "named",
            "harmless, all reads as before",
            "served wrong",
            "cut silently",
            "undetected",
            "more lost than hit",
            "do not open",
            "panics",
        ];
        let told = Kind::ALL.map(Kind::told);
        let width = told.iter().map(|told| told.len()).max().unwrap_or_default();
        let line = |f: &mut fmt::Formatter<'_>, name: &str, row: &Row| {
            write!(f, "{name:width$}")?;
            let counts = [row.done, row.records_hit, row.named, row.harmless];
            for (title, count) in titles.iter().zip(counts.into_iter().chain(row.harms)) {
                write!(f, " | {count:>0$}", title.len())?;
            }
            writeln!(f)
        };
        writeln!(f, "{:width$} | {}", "", titles.join(" | "))?;
        let mut sum = Row::default();
        for (kind, row) in &self.by_kind {
            line(f, kind.told(), row)?;
            sum.add(row);
        }
        line(f, "all", &sum)?;
        for broken in self.broken.iter().take(SHOWN) {
            writeln!(f, "  {broken}")?;
        }
        Ok(())
    }
}

/// The order of the columns.
const _: () = assert!(Harm::ServedWrong as usize == 0 && Harm::Panicked as usize == 5);
