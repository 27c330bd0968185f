//! What logs there are: the engine's own event-sourced state, a fold over a reserved log of
//! the WAL (see [`record`]).
//!
//! A snapshot is one batch that begins with `Start`; nothing before it is needed any more, so
//! that no old file lives for the catalogue's sake. It also says where every log ended, so that
//! commits missing before it are damage only to a log that should have more, and which packs
//! count: it is the one record by which data moves from one file to another.

mod record;

use std::collections::BTreeMap;

use mente_engine::{LogConfig, LogId, Offset, SetId, SetName, Term};

pub(crate) use self::record::{Record, batch, records};

/// The reserved log. Sets of users begin at 1.
pub(crate) const LOG: LogId = LogId {
    set: SetId(0),
    index: 0,
};

/// The fold, with the writer's view of every log: it runs ahead of what readers see by the
/// commit in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) next_set: u64,
    /// Numbers below this were given to files as of the last snapshot.
    pub(crate) next_file: u32,
    /// The packs that count, each with the checksum of its directory.
    pub(crate) packs: BTreeMap<u32, u32>,
    pub(crate) sets: BTreeMap<SetId, Set>,
    pub(crate) names: BTreeMap<SetName, SetId>,
    /// What the sets may take in a snapshot.
    sets_bytes: usize,
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
            Record::Start {
                next_set,
                next_file,
            } => {
                *self = Self {
                    next_set: *next_set,
                    next_file: *next_file,
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
                self.sets_bytes += set_bytes(name, *logs as usize);
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
                    self.sets_bytes += (logs - set.logs.len()) * LOG_BYTES;
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
                    self.sets_bytes -= set_bytes(&set.name, set.logs.len());
                }
            }
            Record::Heads { id, heads } => {
                for (index, head) in heads {
                    if let Some(known) = self.head_mut(id.log(*index)) {
                        *known = *head;
                    }
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
            Record::Pack { number, crc } => {
                self.packs.insert(*number, *crc);
            }
        }
    }

    /// The fold as records; folding them gives it again.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::Start {
            next_set: self.next_set,
            next_file: self.next_file,
        }];
        let packs = self.packs.iter();
        records.extend(packs.map(|(number, crc)| Record::Pack {
            number: *number,
            crc: *crc,
        }));
        for (id, set) in &self.sets {
            records.push(Record::Set {
                id: *id,
                name: set.name.clone(),
                config: set.config,
                logs: set.logs.len() as u32,
            });
        }
        for (id, set) in &self.sets {
            let used = (0..)
                .zip(&set.logs)
                .filter(|(_, head)| head.end > Offset(0));
            let kept = |(index, head): (u32, &Head)| {
                let head = Head {
                    broken: false,
                    corrupt: None,
                    ..*head
                };
                (index, head)
            };
            let heads: Vec<_> = used.map(kept).collect();
            if !heads.is_empty() {
                records.push(Record::Heads { id: *id, heads });
            }
        }
        records
    }

    /// No less than a snapshot takes as a batch.
    pub(crate) fn snapshot_bytes(&self) -> usize {
        256 + self.sets_bytes + self.packs.len() * PACK_BYTES
    }

    /// What later openings hold the reserved log against: once damaged, always damaged.
    pub(crate) fn known_end(&self) -> Offset {
        self.corrupt.map_or(self.end, |_| Offset(u64::MAX))
    }
}

/// What the name of a pack may take in a snapshot, record framing included.
pub(crate) const PACK_BYTES: usize = 32;

/// What a set may take in a snapshot, record framing included.
pub(crate) fn set_bytes(name: &SetName, logs: usize) -> usize {
    name.as_str().len() + 96 + LOG_BYTES * logs
}

/// What a log may take in a snapshot: an index of two bytes, and offsets below 2^56, which
/// nobody reaches.
const LOG_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::record::tests::sample;
    use super::*;

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
