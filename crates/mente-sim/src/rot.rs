//! Damage of what was synced long ago. The law: whatever is served is what was written, and what is not
//! served is named: nothing is cut silently, neither at the first opening nor at a later one. What is
//! named by nobody was needed by nobody: everything reads as before.

mod injury;
mod live;
mod tally;
mod whole;

use std::collections::BTreeMap;

use mente_engine::{Error, Fence, LogId, Offset};
use mente_log::{MemDisk, Recovered};

use self::injury::{Injury, Kind};
use self::live::Live;
pub use self::tally::{Tally, many};
use self::whole::{Opened, Seen, Whole};
use crate::check::{Law, Violation};
use crate::random::Random;
use crate::sweep;

/// How an injury went that broke no law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Named,
    /// Nothing was said, and everything reads as before.
    Harmless,
}

/// How one went that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    ServedWrong,
    /// Something is not there any more, or not as it was, and nothing says so.
    CutSilently,
    /// Records were hit, and nobody met it.
    Undetected,
    /// One bit in a record took more than the log that it lies in.
    LostMore,
    DoesNotOpen,
    Panicked,
}

type Fault = (Harm, String);

struct Suffered {
    injury: String,
    hits_records: bool,
    judged: Result<Found, Fault>,
}

/// A log that was closed in order, and what is to be seen of it.
struct Patient {
    disk: MemDisk,
    honest: Whole,
    live: Live,
    /// Its WAL files and packs.
    names: Vec<String>,
}

impl Patient {
    fn new(disk: &MemDisk) -> Result<Self, String> {
        let mut names = mente_log::Disk::list(disk).map_err(|error| error.to_string())?;
        names.retain(|name| name.ends_with(".wal") || name.ends_with(".pack"));
        let mut opened = Opened::open(&disk.after_kill())?;
        let mut honest = Whole::of(&opened.engine);
        honest.terms = opened.claim(&honest);
        Ok(Self {
            live: Live::of(disk, &names, &honest),
            disk: disk.after_kill(),
            honest,
            names,
        })
    }

    /// Hurts a copy of it, and judges.
    fn suffer(&self, kind: Kind, random: &mut Random) -> Suffered {
        let hurt = self.disk.after_kill();
        let injury = Injury::inflict(kind, &hurt, &self.names, random);
        let hits_records = self.live.is_hit(&injury);
        let is_one_record = kind == Kind::Flip && hits_records;
        let judged = sweep::caught(|| judge(&self.honest, &hurt, is_one_record));
        let judged = judged.unwrap_or_else(|panicked| Err((Harm::Panicked, panicked.detail)));
        let judged = match judged {
            Ok(Found::Harmless) if hits_records => {
                Err((Harm::Undetected, "records were hit, nobody says so".into()))
            }
            judged => judged,
        };
        Suffered {
            injury: injury.told,
            hits_records,
            judged,
        }
    }
}

/// Hurts a log that was closed in order.
pub(crate) fn hurt(disk: &MemDisk, random: &mut Random) -> Vec<Violation> {
    let fault = |detail| Violation {
        law: Law::RotNotNamed,
        at: usize::MAX,
        detail,
    };
    let patient = match Patient::new(disk) {
        Ok(patient) => patient,
        Err(error) => return vec![fault(format!("does not open before it is hurt: {error}"))],
    };
    let suffered = patient.suffer(Kind::draw(random), random);
    match suffered.judged {
        Ok(_) => Vec::new(),
        Err((harm, why)) => vec![fault(format!("{}: {harm:?}: {why}", suffered.injury))],
    }
}

/// Opens a hurt log three times: as it is, after a kill, and after a closing.
fn judge(honest: &Whole, hurt: &MemDisk, is_one_record: bool) -> Result<Found, Fault> {
    let (mut is_named, mut is_whole) = (false, true);
    for opening in 0..3 {
        let mut opened = Opened::open(hurt)
            .map_err(|error| (Harm::DoesNotOpen, format!("opening {opening}: {error}")))?;
        let told = opened.writer.recovered().clone();
        is_named |= !told.damaged.is_empty() || !told.lost.is_empty();
        let seen = Whole::of(&opened.engine);
        is_named |= seen.logs.values().any(|log| log.error.is_some());
        for (log, expected) in &honest.logs {
            let seen = seen.logs.get(log).cloned();
            // A set that is not told of any more: its logs are asked all the same.
            let seen = seen.unwrap_or_else(|| Seen::of(&opened.engine, *log));
            compare(*log, expected, &seen, &told)
                .map_err(|(harm, why)| (harm, format!("opening {opening}, log {log}: {why}")))?;
        }
        let others = honest
            .logs
            .iter()
            .filter(|(id, log)| seen.logs.get(id) != Some(log));
        let others: Vec<_> = others.map(|(id, _)| id.to_string()).collect();
        if is_one_record && others.len() > 1 {
            let why = format!(
                "opening {opening}: logs {} are not what they were",
                others.join(", ")
            );
            return Err((Harm::LostMore, why));
        }
        is_whole &= seen.sets == honest.sets && seen.logs == honest.logs;
        opened.work();
        match opening {
            1 => opened.close(),
            2 if !is_named => is_whole &= goes_on(&honest.terms, &opened.claim(honest)),
            _ => {}
        }
    }
    match (is_named, is_whole) {
        (true, _) => Ok(Found::Named),
        (false, true) => Ok(Found::Harmless),
        (false, false) => Err((
            Harm::CutSilently,
            "sets, bounds or terms are not what they were".into(),
        )),
    }
}

/// Whether every claim comes where it should and with a term that nobody had: a higher one than it need be where
/// those that were trimmed are gone.
fn goes_on(honest: &BTreeMap<LogId, Fence>, claimed: &BTreeMap<LogId, Fence>) -> bool {
    honest.keys().eq(claimed.keys())
        && honest
            .values()
            .zip(claimed.values())
            .all(|(honest, claimed)| claimed.at == honest.at && claimed.term >= honest.term)
}

fn compare(log: LogId, expected: &Seen, found: &Seen, told: &Recovered) -> Result<(), Fault> {
    let catalogue_told = told.damaged.iter().any(|damage| damage.log.is_none());
    for (offset, bytes) in &found.batches {
        match expected.batches.get(offset) {
            Some(honest) if honest == bytes => {}
            // What a trim had taken may show again where the record of the trim is gone.
            None if catalogue_told => {}
            _ => return Err((Harm::ServedWrong, format!("other bytes at {offset}"))),
        }
    }
    let mut missing = expected.batches.keys();
    let Some(missing) = missing.find(|offset| !found.batches.contains_key(offset)) else {
        return Ok(());
    };
    let named_from = told.damaged.iter().filter(|damage| damage.log == Some(log));
    let named_from = named_from
        .map(|damage| damage.at)
        .chain(match &found.error {
            Some(Error::Corrupt(at)) => Some(*at),
            Some(Error::Gone) if catalogue_told => Some(Offset(0)),
            _ => None,
        });
    // A batch is named by any offset in it.
    let mut later = expected.batches.range(missing + 1..);
    let next = later.next().map_or(u64::MAX, |(offset, _)| *offset);
    match named_from.min() {
        Some(at) if at.0 < next => Ok(()),
        named => Err((
            Harm::CutSilently,
            format!(
                "{missing} is not there, damage is named from {named:?}, {:?}",
                found.error
            ),
        )),
    }
}
