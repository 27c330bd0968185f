//! The state view of a store: streams as keys in one owned log.
//!
//! The log is the store's own journal: its records are the facts, each with its dense position
//! in the store and its dense revision in the stream, in headers. [`Store`] is the index over
//! them, a fold. An append is decided here and is one atomic batch.
//!
//! Expected revisions follow KurrentDB's commit check; a repeated append, told by the ids of
//! its events, answers where it first came to lie.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;
use mente_engine::{Event, Offset, Record, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::name::StreamName;

const POSITION: &str = "mente-position";
const REVISION: &str = "mente-revision";

/// What the stream must be like for an append to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    Any,
    NoStream,
    StreamExists,
    /// The revision of its last event.
    Revision(u64),
}

/// Where an append came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendedTo {
    /// Revisions of its first and last event.
    pub first_revision: u64,
    pub last_revision: u64,
    /// Position of its last event in the store.
    pub last_position: u64,
    /// Was there already: this is the answer of the first time.
    pub repeated: bool,
}

/// One event of a stream, by where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub revision: u64,
    pub position: u64,
    pub offset: Offset,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Store {
    streams: BTreeMap<StreamName, Stream>,
    next_position: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Stream {
    /// By revision.
    events: Vec<Entry>,
    /// Hash of an event's id to its revision.
    ids: BTreeMap<u128, u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    position: u64,
    /// Not known between the decision and its append; nobody reads then.
    offset: Option<Offset>,
    id: u128,
}

impl Store {
    /// Decides an append and takes it in; the records are to be appended as one batch.
    pub fn append(
        &mut self,
        name: &StreamName,
        expected: Expected,
        events: &[Event],
        now: Timestamp,
    ) -> Result<(AppendedTo, Vec<Record>)> {
        let ids: Vec<u128> = events.iter().map(|event| id_hash(&event.id)).collect();
        let empty = Stream::default();
        let stream = self.streams.get(name).unwrap_or(&empty);
        let Some(first) = ids.first() else {
            return Err(Error::invalid("an append holds at least one event"));
        };
        let length = stream.events.len() as u64;
        let repeated = match expected {
            Expected::Any | Expected::StreamExists => stream.ids.get(first).copied(),
            Expected::NoStream => (length > 0).then_some(0),
            Expected::Revision(last) => last.checked_add(1).filter(|next| *next < length),
        };
        if let Some(revision) = repeated {
            return stream
                .repeated(name, expected, revision, &ids)
                .map(|to| (to, Vec::new()));
        }
        let fits = match expected {
            Expected::Any | Expected::NoStream => true,
            Expected::StreamExists => length > 0,
            Expected::Revision(last) => last.checked_add(1) == Some(length),
        };
        if !fits {
            return Err(stream.conflict(name, expected));
        }
        if let Some(twice) = first_twice(&ids) {
            let message = format!("event id {:?} comes twice in one append", events[twice].id);
            return Err(Error::invalid(message));
        }
        let records = events.iter().enumerate().map(|(index, event)| {
            let headers = headers(self.next_position + index as u64, length + index as u64);
            let event = Event {
                key: Some(Bytes::copy_from_slice(name.as_str().as_bytes())),
                ..event.clone()
            };
            event.to_record_with(now, headers)
        });
        let records: Vec<Record> = records.collect();
        for id in &ids {
            self.take(name, *id, None);
        }
        let last_revision = length + ids.len() as u64 - 1;
        let last_position = self.next_position - 1;
        let to = AppendedTo {
            first_revision: length,
            last_revision,
            last_position,
            repeated: false,
        };
        Ok((to, records))
    }

    /// The append whose last event has `last_position` came to lie at these offsets.
    pub fn placed(
        &mut self,
        name: &StreamName,
        to: AppendedTo,
        offsets: impl Iterator<Item = Offset>,
    ) {
        if let Some(stream) = self.streams.get_mut(name) {
            let from = to.first_revision as usize;
            for (entry, offset) in stream.events[from..].iter_mut().zip(offsets) {
                entry.offset = Some(offset);
            }
        }
    }

    /// Folds one record of the log.
    pub fn fold(&mut self, offset: Offset, record: &Record) -> Result<()> {
        let corrupt = |what: &str| {
            Error::new(
                Kind::Corrupt,
                format!("store record at offset {offset}: {what}"),
            )
        };
        let number = |name| {
            let text = record
                .header(name)
                .and_then(|v| std::str::from_utf8(v).ok());
            text.and_then(|t| t.parse::<u64>().ok())
                .ok_or_else(|| corrupt("no position or revision"))
        };
        let key = record
            .key
            .as_deref()
            .and_then(|key| std::str::from_utf8(key).ok());
        let name = StreamName::new(key.ok_or_else(|| corrupt("no stream name"))?)?;
        let id = record
            .header("ce_id")
            .and_then(|id| std::str::from_utf8(id).ok());
        let id = id_hash(id.ok_or_else(|| corrupt("no event id"))?);
        let length = self
            .streams
            .get(&name)
            .map_or(0, |stream| stream.events.len() as u64);
        if number(POSITION)? != self.next_position || number(REVISION)? != length {
            return Err(corrupt("positions or revisions have a gap"));
        }
        self.take(&name, id, Some(offset));
        Ok(())
    }

    /// Places of a stream's events from revision `from` on, at most `max`; `None`: no such stream.
    pub fn places(&self, name: &StreamName, from: u64, max: usize) -> Option<Vec<Place>> {
        let stream = self.streams.get(name)?;
        let place = |(revision, entry): (u64, &Entry)| {
            Some(Place {
                revision,
                position: entry.position,
                offset: entry.offset?,
            })
        };
        let from_index = usize::try_from(from)
            .unwrap_or(usize::MAX)
            .min(stream.events.len());
        Some(
            (from..)
                .zip(&stream.events[from_index..])
                .take(max)
                .filter_map(place)
                .collect(),
        )
    }

    /// Names of streams after `after`, at most `max`, each with its number of events.
    pub fn names(&self, after: Option<&StreamName>, max: usize) -> Vec<(StreamName, u64)> {
        let later = |(name, _): &(&StreamName, &Stream)| after.is_none_or(|after| *name > after);
        let count =
            |(name, stream): (&StreamName, &Stream)| (name.clone(), stream.events.len() as u64);
        self.streams
            .iter()
            .filter(later)
            .take(max)
            .map(count)
            .collect()
    }

    /// Writes what the log says, for a digest. Offsets are left out: an append that is decided
    /// and not yet durable has none.
    pub(crate) fn tell(&self, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        for (name, stream) in &self.streams {
            writeln!(out, "{name}")?;
            for entry in &stream.events {
                writeln!(out, "{} {:x}", entry.position, entry.id)?;
            }
        }
        Ok(())
    }

    /// Position that the next event gets.
    pub fn next_position(&self) -> u64 {
        self.next_position
    }

    fn take(&mut self, name: &StreamName, id: u128, offset: Option<Offset>) {
        let stream = self.streams.entry(name.clone()).or_default();
        stream.ids.insert(id, stream.events.len() as u64);
        stream.events.push(Entry {
            position: self.next_position,
            offset,
            id,
        });
        self.next_position += 1;
    }
}

impl Stream {
    /// The answer to an append that would begin at `revision`, where something lies already.
    fn repeated(
        &self,
        name: &StreamName,
        expected: Expected,
        revision: u64,
        ids: &[u128],
    ) -> Result<AppendedTo> {
        let there = self
            .events
            .iter()
            .skip(revision as usize)
            .map(|entry| entry.id);
        let last = revision as usize + ids.len() - 1;
        match self.events.get(last) {
            Some(entry) if there.take(ids.len()).eq(ids.iter().copied()) => Ok(AppendedTo {
                first_revision: revision,
                last_revision: last as u64,
                last_position: entry.position,
                repeated: true,
            }),
            _ => Err(self.conflict(name, expected)),
        }
    }

    fn conflict(&self, name: &StreamName, expected: Expected) -> Error {
        let expected = match expected {
            Expected::Any => "no part of this append".to_owned(),
            Expected::NoStream => "no stream".to_owned(),
            Expected::StreamExists => "a stream".to_owned(),
            Expected::Revision(revision) => format!("revision {revision}"),
        };
        let is = match self.events.len() {
            0 => "does not exist".to_owned(),
            length => format!("is at revision {}", length - 1),
        };
        let message =
            format!("stream {name} {is}, the append expects {expected}: read it, decide again");
        Error::new(Kind::Conflict, message)
    }
}

/// Position and revision of a record of the store.
pub fn place_of(offset: Offset, record: &Record) -> Option<Place> {
    let number = |name| std::str::from_utf8(record.header(name)?).ok()?.parse().ok();
    Some(Place {
        revision: number(REVISION)?,
        position: number(POSITION)?,
        offset,
    })
}

fn headers(position: u64, revision: u64) -> Vec<(Bytes, Option<Bytes>)> {
    let header = |name: &'static str, number: u64| {
        (
            Bytes::from_static(name.as_bytes()),
            Some(Bytes::from(number.to_string())),
        )
    };
    vec![header(POSITION, position), header(REVISION, revision)]
}

fn first_twice(ids: &[u128]) -> Option<usize> {
    let mut seen = std::collections::BTreeSet::new();
    ids.iter().position(|id| !seen.insert(*id))
}

/// 128 bits of SipHash: equal in every run, and two ids of one stream do not meet by chance.
fn id_hash(id: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(id.as_bytes());
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(ids: &[&str]) -> Vec<Event> {
        ids.iter()
            .map(|id| Event {
                id: (*id).into(),
                ..Event::default()
            })
            .collect()
    }

    fn stream() -> StreamName {
        StreamName::new("order-1").unwrap()
    }

    /// A store whose stream holds a, b, c.
    fn store() -> (Store, Vec<Record>) {
        let mut store = Store::default();
        let (_, records) = store
            .append(
                &stream(),
                Expected::NoStream,
                &events(&["a", "b", "c"]),
                Timestamp(1),
            )
            .unwrap();
        (store, records)
    }

    fn check(expected: Expected, ids: &[&str], answer: std::result::Result<(u64, bool), Kind>) {
        let (mut store, _) = store();
        let result = store.append(&stream(), expected, &events(ids), Timestamp(2));
        let result = result.map(|(to, records)| {
            assert_eq!(records.is_empty(), to.repeated);
            (to.first_revision, to.repeated)
        });
        assert_eq!(result.map_err(|e| e.kind), answer, "{expected:?} {ids:?}");
    }

    /// The table of KurrentDB's commit check, for streams that are not deleted.
    #[test]
    fn expected_revisions() {
        let conflict = Err(Kind::Conflict);
        check(Expected::Any, &["d"], Ok((3, false)));
        check(Expected::Any, &["b", "c"], Ok((1, true)));
        check(Expected::Any, &["c", "d"], conflict);
        check(Expected::StreamExists, &["d"], Ok((3, false)));
        check(Expected::NoStream, &["d"], conflict);
        check(Expected::NoStream, &["a"], Ok((0, true)));
        check(Expected::NoStream, &["a", "b", "c", "d"], conflict);
        check(Expected::Revision(2), &["d"], Ok((3, false)));
        check(Expected::Revision(1), &["c"], Ok((2, true)));
        check(Expected::Revision(1), &["d"], conflict);
        check(Expected::Revision(3), &["d"], conflict);
        check(Expected::Revision(u64::MAX), &["d"], conflict);
        check(Expected::Any, &["x", "x"], Err(Kind::Invalid));
        let missing = Store::default().append(
            &stream(),
            Expected::StreamExists,
            &events(&["a"]),
            Timestamp(1),
        );
        assert_eq!(missing.unwrap_err().kind, Kind::Conflict);
    }

    #[test]
    fn the_fold_of_the_log_is_the_live_store() {
        let (mut store, mut records) = store();
        let other = StreamName::new("order-2").unwrap();
        let (to, more) = store
            .append(&other, Expected::Any, &events(&["a"]), Timestamp(2))
            .unwrap();
        assert_eq!((to.first_revision, to.last_position), (0, 3));
        let mut folded = Store::default();
        records.extend(more);
        for (record, offset) in records.iter().zip(0..) {
            folded.fold(Offset(offset), record).unwrap();
        }
        let all = AppendedTo {
            first_revision: 0,
            last_revision: 2,
            last_position: 2,
            repeated: false,
        };
        store.placed(&stream(), all, (0..3).map(Offset));
        store.placed(&other, to, std::iter::once(Offset(3)));
        assert_eq!(folded, store);
        assert!(
            folded.fold(Offset(9), &records[0]).is_err(),
            "a repeated position is a gap"
        );
    }
}
