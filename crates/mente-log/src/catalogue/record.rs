//! What is written down of the catalogue. Every record is the value of one Kafka record, one
//! batch a commit:
//!
//! ```text
//!  0 kind u8 · 1 version u8 · 2 fields
//!  1 Start      version 2: next set u64 · next file u32 (1: next set only)      begins a snapshot
//!  2 Set        id u64 · owned u8 · age ms u64 · bytes u64 (all ones = none) · logs u32 · name to the end
//!  3 Logs       id u64 · logs u32
//!  4 Retention  id u64 · age ms u64 · bytes u64
//!  5 Deleted    id u64
//!  6 Heads      version 2: set u64 · of each log in use: index, start, length, term as varints      in a snapshot only
//!  7 Trim       set u64 · index u32 · start u64
//!  8 Damaged    set u64 · index u32 · at u64          found by a reader; never in a snapshot
//!  9 Pack       file number u32 · crc u32 (of its directory)                       in a snapshot only
//! ```
//! Big-endian; the version is 1 where nothing else is said.

use std::time::Duration;

use bytes::Bytes;
use mente_engine::engine::Retention;
use mente_engine::{Batch, BatchBuilder, LogConfig, LogId, Offset, SetId, SetName, Term, limits};

use super::Head;
use crate::fields::{Fields, put_varint};

const VERSION: u8 = 1;
const START_VERSION: u8 = 2;
const HEADS_VERSION: u8 = 2;
const NONE: u64 = u64::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Start {
        next_set: u64,
        next_file: u32,
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
    /// Where the logs of a set stand, by index.
    Heads {
        id: SetId,
        heads: Vec<(u32, Head)>,
    },
    Trim {
        log: LogId,
        start: Offset,
    },
    Damaged {
        log: LogId,
        at: Offset,
    },
    /// The pack is whole and counts; what a snapshot does not name counts no more.
    Pack {
        number: u32,
        crc: u32,
    },
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
        let mut out = vec![self.kind(), self.version()];
        match self {
            Self::Start {
                next_set,
                next_file,
            } => {
                put_u64(&mut out, *next_set);
                put_u32(&mut out, *next_file);
            }
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
            Self::Heads { id, heads } => {
                put_set(&mut out, *id);
                for (index, head) in heads {
                    put_varint(&mut out, u64::from(*index));
                    put_varint(&mut out, head.start.0);
                    put_varint(&mut out, head.end.0 - head.start.0);
                    put_varint(&mut out, head.term.0);
                }
            }
            Self::Trim { log, start } => {
                put_log(&mut out, *log);
                put_u64(&mut out, start.0);
            }
            Self::Damaged { log, at } => {
                put_log(&mut out, *log);
                put_u64(&mut out, at.0);
            }
            Self::Pack { number, crc } => {
                put_u32(&mut out, *number);
                put_u32(&mut out, *crc);
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
            Self::Heads { .. } => 6,
            Self::Trim { .. } => 7,
            Self::Damaged { .. } => 8,
            Self::Pack { .. } => 9,
        }
    }

    fn version(&self) -> u8 {
        match self {
            Self::Start { .. } => START_VERSION,
            Self::Heads { .. } => HEADS_VERSION,
            _ => VERSION,
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (kind, version) = (fields.u8()?, fields.u8()?);
        let record = match kind {
            1 if version <= START_VERSION => Self::Start {
                next_set: fields.u64()?,
                next_file: if version == 1 { 1 } else { fields.u32()? },
            },
            6 if version == HEADS_VERSION => Self::Heads {
                id: take_set(&mut fields)?,
                heads: take_heads(&mut fields)?,
            },
            _ if version != VERSION => return None,
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
            7 => Self::Trim {
                log: take_log(&mut fields)?,
                start: Offset(fields.u64()?),
            },
            8 => Self::Damaged {
                log: take_log(&mut fields)?,
                at: Offset(fields.u64()?),
            },
            9 => Self::Pack {
                number: fields.u32()?,
                crc: fields.u32()?,
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

fn take_heads(fields: &mut Fields<'_>) -> Option<Vec<(u32, Head)>> {
    // The last byte of a varint has its highest bit clear.
    let count = fields.0.iter().filter(|byte| **byte < 0x80).count() / 4;
    if count > limits::LOGS_PER_SET as usize {
        return None;
    }
    let mut heads = Vec::with_capacity(count);
    while !fields.0.is_empty() {
        let index = u32::try_from(fields.varint()?).ok()?;
        let start = fields.varint()?;
        let end = start.checked_add(fields.varint()?)?;
        let head = Head {
            start: Offset(start),
            end: Offset(end),
            term: Term(fields.varint()?),
            ..Head::default()
        };
        heads.push((index, head));
    }
    Some(heads)
}

fn take_retention(fields: &mut Fields<'_>) -> Option<Retention> {
    let mut some = || Some(Some(fields.u64()?).filter(|value| *value != NONE));
    Some(Retention {
        age: some()?.map(Duration::from_millis),
        bytes: some()?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn sample() -> Vec<Record> {
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
            Record::Start {
                next_set: 3,
                next_file: 12,
            },
            Record::Pack {
                number: 11,
                crc: 99,
            },
            Record::Set {
                id,
                name,
                config,
                logs: 2,
            },
            Record::Heads {
                id,
                heads: vec![(1, head)],
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
                // A shorter name is a name, and fewer heads are heads; nothing else may pass.
                let is_list = |r| matches!(r, Record::Set { .. } | Record::Heads { .. });
                assert!(decoded.is_none_or(is_list));
            }
        }
    }

    #[test]
    fn a_start_of_the_first_version_is_read() {
        let bytes = [&[1, 1][..], &7u64.to_be_bytes()].concat();
        let start = Record::Start {
            next_set: 7,
            next_file: 1,
        };
        assert_eq!(Record::decode(&bytes), Some(start));
        assert_eq!(Record::decode(&[1, 3, 0, 0, 0, 0, 0, 0, 0, 7]), None);
    }
}
