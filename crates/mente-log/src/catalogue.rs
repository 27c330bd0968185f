//! What logs there are: the engine's own event-sourced state, a fold over a reserved log of
//! the WAL. Every record is the value of one Kafka record, one batch a commit:
//!
//! ```text
//!  0 kind u8 · 1 version u8 = 1 · 2 fields
//!  1 Start      next set u64                                                      begins a snapshot
//!  2 Set        id u64 · owned u8 · age ms u64 · bytes u64 (all ones = none) · logs u32 · name to the end
//!  3 Logs       id u64 · logs u32
//!  4 Retention  id u64 · age ms u64 · bytes u64
//!  5 Deleted    id u64
//!  6 Log        set u64 · index u32 · start u64 · end u64 · term u64               in a snapshot only
//!  7 Trim       set u64 · index u32 · start u64
//!  8 Damaged    set u64 · index u32 · at u64          found by a reader; never in a snapshot
//! ```
//! Big-endian. A snapshot is one batch that begins with `Start`; nothing before it is needed
//! any more, so that no old file lives for the catalogue's sake. It also says where every log
//! ended, so that commits missing before it are damage only to a log that should have more.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mente_engine::engine::Retention;
use mente_engine::{Batch, BatchBuilder, LogConfig, LogId, Offset, SetId, SetName, Term};

use crate::fields::Fields;

/// The reserved log. Sets of users begin at 1.
pub(crate) const LOG: LogId = LogId {
    set: SetId(0),
    index: 0,
};
const VERSION: u8 = 1;
const NONE: u64 = u64::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Start {
        next_set: u64,
    },
    Set {
        id: SetId,
        name: SetName,
        config: LogConfig,
        logs: u32,
    },
    Logs {
        id: SetId,
        logs: u32,
    },
    Retention {
        id: SetId,
        retention: Retention,
    },
    Deleted {
        id: SetId,
    },
    Log {
        log: LogId,
        head: Head,
    },
    Trim {
        log: LogId,
        start: Offset,
    },
    Damaged {
        log: LogId,
        at: Offset,
    },
}

/// The fold, with the writer's view of every log: it runs ahead of what readers see by the
/// commit in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) next_set: u64,
    pub(crate) sets: BTreeMap<SetId, Set>,
    pub(crate) names: BTreeMap<SetName, SetId>,
    /// The end of the reserved log itself.
    pub(crate) end: Offset,
    /// Where the reserved log is damaged.
    pub(crate) corrupt: Option<Offset>,
}

#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) name: SetName,
    pub(crate) config: LogConfig,
    pub(crate) logs: Vec<Head>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) term: Term,
    /// An append under the current term has failed. Not journalled: a restart voids fences.
    pub(crate) broken: bool,
    /// Nothing is appended any more, and nothing from here on served.
    pub(crate) corrupt: Option<Offset>,
}

impl Catalogue {
    pub(crate) fn new() -> Self {
        Self {
            next_set: 1,
            ..Self::default()
        }
    }

    pub(crate) fn head(&self, log: LogId) -> Option<&Head> {
        self.sets.get(&log.set)?.logs.get(log.index as usize)
    }

    pub(crate) fn head_mut(&mut self, log: LogId) -> Option<&mut Head> {
        self.sets
            .get_mut(&log.set)?
            .logs
            .get_mut(log.index as usize)
    }

    pub(crate) fn heads(&self) -> impl Iterator<Item = (LogId, &Head)> {
        self.sets.iter().flat_map(|(id, set)| {
            let logs = set.logs.iter().enumerate();
            logs.map(|(index, head)| (id.log(index as u32), head))
        })
    }

    /// Folds one record. One that names an unknown set changes nothing: it may come from
    /// before a damaged stretch.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Start { next_set } => {
                *self = Self {
                    next_set: *next_set,
                    end: self.end,
                    ..Self::default()
                };
            }
            Record::Set {
                id,
                name,
                config,
                logs,
            } => {
                self.next_set = self.next_set.max(id.0 as u64 + 1);
                self.names.insert(name.clone(), *id);
                let set = Set {
                    name: name.clone(),
                    config: *config,
                    logs: vec![Head::default(); *logs as usize],
                };
                self.sets.insert(*id, set);
            }
            Record::Logs { id, logs } => {
                if let Some(set) = self.sets.get_mut(id) {
                    let logs = set.logs.len().max(*logs as usize);
                    set.logs.resize_with(logs, Head::default);
                }
            }
            Record::Retention { id, retention } => {
                if let Some(set) = self.sets.get_mut(id) {
                    set.config.retention = *retention;
                }
            }
            Record::Deleted { id } => {
                if let Some(set) = self.sets.remove(id) {
                    self.names.remove(&set.name);
                }
            }
            Record::Log { log, head } => {
                if let Some(known) = self.head_mut(*log) {
                    *known = *head;
                }
            }
            Record::Trim { log, start } => {
                if let Some(head) = self.head_mut(*log) {
                    head.start = head.start.max(*start);
                }
            }
            Record::Damaged { log, at } => {
                if let Some(head) = self.head_mut(*log) {
                    head.corrupt = Some(head.corrupt.map_or(*at, |known| known.min(*at)));
                }
            }
        }
    }

    /// The fold as records; folding them gives it again.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::Start {
            next_set: self.next_set,
        }];
        for (id, set) in &self.sets {
            records.push(Record::Set {
                id: *id,
                name: set.name.clone(),
                config: set.config,
                logs: set.logs.len() as u32,
            });
        }
        let used = self.heads().filter(|(_, head)| head.end > Offset(0));
        records.extend(used.map(|(log, head)| Record::Log {
            log,
            head: Head {
                broken: false,
                corrupt: None,
                ..*head
            },
        }));
        records
    }

    /// No less than a snapshot takes as a batch.
    pub(crate) fn snapshot_bytes(&self) -> usize {
        let sets: usize = self
            .sets
            .values()
            .map(|set| set_bytes(&set.name, set.logs.len()))
            .sum();
        256 + sets
    }

    /// What later openings hold the reserved log against: once damaged, always damaged.
    pub(crate) fn known_end(&self) -> Offset {
        self.corrupt.map_or(self.end, |_| Offset(u64::MAX))
    }
}

/// What a set may take in a snapshot, record framing included.
pub(crate) fn set_bytes(name: &SetName, logs: usize) -> usize {
    name.as_str().len() + 64 + 64 * logs
}

/// One batch of these records.
pub(crate) fn batch(records: &[Record]) -> Batch {
    let mut builder = BatchBuilder::default();
    for record in records {
        builder.push(&mente_engine::Record {
            value: Some(Bytes::from(record.encode())),
            ..mente_engine::Record::default()
        });
    }
    builder.finish()
}

/// The records of a batch of the reserved log; `None` if one is not ours.
pub(crate) fn records(batch: &Batch) -> Option<Vec<Record>> {
    let decode = |record: Result<(Offset, mente_engine::Record), _>| {
        let (_, record) = record.ok()?;
        Record::decode(&record.value?)
    };
    batch.records().map(decode).collect()
}

impl Record {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.kind(), VERSION];
        match self {
            Self::Start { next_set } => put_u64(&mut out, *next_set),
            Self::Set {
                id,
                name,
                config,
                logs,
            } => {
                put_set(&mut out, *id);
                out.push(u8::from(config.owned));
                put_retention(&mut out, &config.retention);
                put_u32(&mut out, *logs);
                out.extend_from_slice(name.as_str().as_bytes());
            }
            Self::Logs { id, logs } => {
                put_set(&mut out, *id);
                put_u32(&mut out, *logs);
            }
            Self::Retention { id, retention } => {
                put_set(&mut out, *id);
                put_retention(&mut out, retention);
            }
            Self::Deleted { id } => put_set(&mut out, *id),
            Self::Log { log, head } => {
                put_log(&mut out, *log);
                put_u64(&mut out, head.start.0);
                put_u64(&mut out, head.end.0);
                put_u64(&mut out, head.term.0);
            }
            Self::Trim { log, start } => {
                put_log(&mut out, *log);
                put_u64(&mut out, start.0);
            }
            Self::Damaged { log, at } => {
                put_log(&mut out, *log);
                put_u64(&mut out, at.0);
            }
        }
        out
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Start { .. } => 1,
            Self::Set { .. } => 2,
            Self::Logs { .. } => 3,
            Self::Retention { .. } => 4,
            Self::Deleted { .. } => 5,
            Self::Log { .. } => 6,
            Self::Trim { .. } => 7,
            Self::Damaged { .. } => 8,
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (kind, version) = (fields.u8()?, fields.u8()?);
        if version != VERSION {
            return None;
        }
        let record = match kind {
            1 => Self::Start {
                next_set: fields.u64()?,
            },
            2 => {
                let id = take_set(&mut fields)?;
                let owned = fields.u8()? != 0;
                let retention = take_retention(&mut fields)?;
                let logs = fields.u32()?;
                let name = fields.take(fields.0.len())?;
                let name = SetName::new(std::str::from_utf8(name).ok()?).ok()?;
                let config = LogConfig { owned, retention };
                Self::Set {
                    id,
                    name,
                    config,
                    logs,
                }
            }
            3 => Self::Logs {
                id: take_set(&mut fields)?,
                logs: fields.u32()?,
            },
            4 => Self::Retention {
                id: take_set(&mut fields)?,
                retention: take_retention(&mut fields)?,
            },
            5 => Self::Deleted {
                id: take_set(&mut fields)?,
            },
            6 => Self::Log {
                log: take_log(&mut fields)?,
                head: Head {
                    start: Offset(fields.u64()?),
                    end: Offset(fields.u64()?),
                    term: Term(fields.u64()?),
                    ..Head::default()
                },
            },
            7 => Self::Trim {
                log: take_log(&mut fields)?,
                start: Offset(fields.u64()?),
            },
            8 => Self::Damaged {
                log: take_log(&mut fields)?,
                at: Offset(fields.u64()?),
            },
            _ => return None,
        };
        fields.0.is_empty().then_some(record)
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_set(out: &mut Vec<u8>, id: SetId) {
    put_u64(out, id.0 as u64);
}

fn put_log(out: &mut Vec<u8>, log: LogId) {
    put_set(out, log.set);
    put_u32(out, log.index);
}

fn put_retention(out: &mut Vec<u8>, retention: &Retention) {
    let age = retention
        .age
        .map(|age| u64::try_from(age.as_millis()).unwrap_or(NONE));
    put_u64(out, age.unwrap_or(NONE));
    put_u64(out, retention.bytes.unwrap_or(NONE));
}

fn take_set(fields: &mut Fields<'_>) -> Option<SetId> {
    Some(SetId(u128::from(fields.u64()?)))
}

fn take_log(fields: &mut Fields<'_>) -> Option<LogId> {
    Some(take_set(fields)?.log(fields.u32()?))
}

fn take_retention(fields: &mut Fields<'_>) -> Option<Retention> {
    let mut some = || Some(Some(fields.u64()?).filter(|value| *value != NONE));
    Some(Retention {
        age: some()?.map(Duration::from_millis),
        bytes: some()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Record> {
        let id = SetId(3);
        let retention = Retention {
            age: Some(Duration::from_millis(5)),
            bytes: None,
        };
        let config = LogConfig {
            owned: true,
            retention,
        };
        let name = SetName::new("default/a").unwrap();
        let head = Head {
            start: Offset(2),
            end: Offset(9),
            term: Term(4),
            ..Head::default()
        };
        vec![
            Record::Start { next_set: 3 },
            Record::Set {
                id,
                name,
                config,
                logs: 2,
            },
            Record::Log {
                log: id.log(1),
                head,
            },
            Record::Logs { id, logs: 3 },
            Record::Retention {
                id,
                retention: Retention::default(),
            },
            Record::Trim {
                log: id.log(1),
                start: Offset(5),
            },
            Record::Damaged {
                log: id.log(0),
                at: Offset(6),
            },
            Record::Deleted { id: SetId(8) },
        ]
    }

    #[test]
    fn records_come_back_and_cut_ones_do_not() {
        assert_eq!(records(&batch(&sample())), Some(sample()));
        for record in sample() {
            let bytes = record.encode();
            for cut in 0..bytes.len() {
                let decoded = Record::decode(&bytes[..cut]);
                // A shorter name is a name; nothing else may pass.
                assert!(decoded.is_none() || matches!(decoded, Some(Record::Set { .. })));
            }
        }
    }

    #[test]
    fn a_snapshot_folds_to_the_same() {
        let mut catalogue = Catalogue::new();
        sample().iter().for_each(|record| catalogue.apply(record));
        let mut again = Catalogue::new();
        let snapshot = catalogue.snapshot();
        assert!(batch(&snapshot).size() <= catalogue.snapshot_bytes());
        snapshot.iter().for_each(|record| again.apply(record));
        assert_eq!(again.snapshot(), snapshot);
        assert_eq!(again.head(SetId(3).log(1)).unwrap().start, Offset(5));
        assert_eq!(again.next_set, 4);
    }
}
