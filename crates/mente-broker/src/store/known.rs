//! The store as an append sees it: what is in memory, and the facts that were looked up of the rest.

use super::append::{Append, Appended, AppendedTo, Check, Expected, Part};
use super::metadata::{Metadata, is_tombstone};
use super::{Facts, Store};
use crate::error::{Error, Kind, Result};
use crate::name::StreamName;
use crate::planted::{Planted, planted};

pub(super) struct Known<'a> {
    pub(super) store: &'a Store,
    pub(super) facts: &'a Facts,
}

impl Known<'_> {
    pub(super) fn length(&self, stream: &StreamName) -> u64 {
        match self.store.newest(stream) {
            Some(stretch) => stretch.end(),
            None => self
                .facts
                .streams
                .get(stream)
                .map_or(0, |sealed| sealed.end),
        }
    }

    /// What holds for a stream, without what is custom.
    fn metadata(&self, stream: &StreamName) -> Option<&Metadata> {
        let in_memory = self.store.metadata(stream);
        in_memory.or_else(|| self.facts.metadata.get(stream))
    }

    /// Events before this revision do not count any more.
    fn truncated(&self, stream: &StreamName) -> u64 {
        self.metadata(stream)
            .map_or(0, |metadata| metadata.truncate_before)
    }

    /// Position and id of an event, if it is known.
    fn event(&self, stream: &StreamName, revision: u64) -> Option<(u64, u128)> {
        let in_memory = self.store.event(stream, revision);
        in_memory.or_else(|| {
            self.facts
                .streams
                .get(stream)?
                .events
                .get(&revision)
                .copied()
        })
    }

    /// The answer to an append that was made before. Of one that is partly there nothing is made.
    pub(super) fn repeated(&self, parts: &[Part<'_>]) -> Result<Option<Appended>> {
        let mut streams = Vec::new();
        let mut new = None;
        for part in parts {
            match self.repeated_from(part) {
                Some(from) => streams.push((part.stream.clone(), self.as_before(part, from)?)),
                None => new = new.or(Some(part)),
            }
        }
        match new {
            _ if streams.is_empty() => Ok(None),
            Some(new) => Err(self.conflict(new.stream, new.expected)),
            None => Ok(Some(Appended {
                last_position: streams
                    .iter()
                    .map(|(_, to)| to.last_position)
                    .max()
                    .unwrap_or(0),
                streams,
                repeated: true,
            })),
        }
    }

    /// The revision at which this part lies already, if anything does.
    fn repeated_from(&self, part: &Part<'_>) -> Option<u64> {
        let first = part.ids.first()?;
        let mut tails = self.store.tails.iter().rev();
        let mut in_memory = || tails.find_map(|tail| tail.revision_of(part.stream, *first));
        let sealed = || self.facts.streams.get(part.stream)?.begins;
        let (length, truncated) = (self.length(part.stream), self.truncated(part.stream));
        part.candidate(length, truncated > 0, || in_memory().or_else(sealed))
    }

    /// Where a part came to lie the first time, if what lies from `from` on is it.
    fn as_before(&self, part: &Part<'_>, from: u64) -> Result<AppendedTo> {
        let there = (from..).zip(&part.ids).map(|(revision, id)| {
            let (position, there) = self.event(part.stream, revision)?;
            (there == *id).then_some(position)
        });
        let positions = there.collect::<Option<Vec<u64>>>();
        let last = positions.and_then(|positions| positions.last().copied());
        let last_position = last.ok_or_else(|| self.conflict(part.stream, part.expected))?;
        Ok(AppendedTo {
            first_revision: from,
            last_revision: from + part.ids.len() as u64 - 1,
            last_position,
            repeated: true,
        })
    }

    /// Refuses what is meant for a stream that is deleted for good.
    pub(super) fn check_deleted(&self, parts: &[Part<'_>]) -> Result<()> {
        for Part { stream, .. } in parts {
            // Nor is anything said of one any more.
            let about = stream.about();
            let of = about.as_ref().unwrap_or(stream);
            if self.metadata(of).is_some_and(|metadata| metadata.tombstone) {
                return Err(is_tombstone(of));
            }
        }
        Ok(())
    }

    /// Refuses an append whose checks do not hold.
    pub(super) fn check(&self, append: &Append) -> Result<()> {
        let looks = append.looks();
        for (number, check) in append.checks.iter().enumerate() {
            match check {
                Check::Stream(stream, expected) => {
                    let (length, truncated) = (self.length(stream), self.truncated(stream));
                    let holds = match expected {
                        Expected::Any => true,
                        Expected::NoStream => length <= truncated,
                        Expected::StreamExists => length > truncated,
                        Expected::Revision(last) => last.checked_add(1) == Some(length),
                    };
                    if !holds {
                        return Err(self.conflict(stream, *expected));
                    }
                }
                Check::Query { query, after } => {
                    let sealed = self.facts.matches.get(&number).copied();
                    let query = query.sought(looks);
                    let found = self.store.last_match(&query).or(sealed);
                    query.check()?;
                    let is_behind = |found: &u64| Some(*found) > *after;
                    if let Some(found) = found.filter(is_behind)
                        && !planted(Planted::IgnoreQuery)
                    {
                        return Err(came_behind(found, *after));
                    }
                }
            }
        }
        Ok(())
    }

    fn conflict(&self, name: &StreamName, expected: Expected) -> Error {
        let expected = match expected {
            Expected::Any => "no part of this append".to_owned(),
            Expected::NoStream => "no stream".to_owned(),
            Expected::StreamExists => "a stream".to_owned(),
            Expected::Revision(revision) => format!("revision {revision}"),
        };
        let is = match self.length(name) {
            0 => "does not exist".to_owned(),
            length if length <= self.truncated(name) => {
                format!("is deleted, its next revision is {length}")
            }
            length => format!("is at revision {}", length - 1),
        };
        let message =
            format!("stream {name} {is}, the append expects {expected}: read it, decide again");
        Error::new(Kind::Conflict, message)
    }
}

fn came_behind(found: u64, after: Option<u64>) -> Error {
    let after = after.map_or("anywhere".to_owned(), |after| {
        format!("behind position {after}")
    });
    let message = format!(
        "an event at position {found} matches, the append expects none {after}: read on, decide again"
    );
    Error::new(Kind::Conflict, message)
}

pub(super) fn unnamed() -> Error {
    Error::new(Kind::Internal, "an event of no part; report it")
}
