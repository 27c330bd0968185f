//! From commit headers to the catalogue and the index, trusting only what is proved.

use std::collections::{BTreeMap, VecDeque};

use mente_engine::{Batch, LogId, Offset, SetId, Term};

use crate::OpenError;
use crate::catalogue::{self, Catalogue, Record};
use crate::commit::Header;
use crate::handles::Handles;
use crate::index::Index;
use crate::planted::{Planted, planted};
use crate::read::Rot;
use crate::run::{Entry, Run};

use super::packs::{self, Packed};
use super::{Damage, Reader};

/// What the commits say, together.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) catalogue: Catalogue,
    pub(super) damaged: Vec<Damage>,
    pub(super) lost: Vec<String>,
}

/// The folded catalogue, and what following the logs needs of how it came about.
#[derive(Debug)]
struct Folded {
    catalogue: Catalogue,
    /// The commit of the last snapshot, and where each log ended in it.
    snapshot: u64,
    ends: BTreeMap<LogId, Offset>,
    /// The commit that made a set, if that is later than the snapshot.
    born: BTreeMap<SetId, u64>,
}

/// One log on its way through the commits.
#[derive(Debug, Default)]
struct Track {
    start: Offset,
    end: Option<Offset>,
    /// Commits were lost since its last sign of life; they may have held some of it.
    suspect: bool,
    corrupt: Option<Offset>,
    term: Term,
    /// What lies in packs, and is not yet followed.
    packed: VecDeque<Run>,
    /// From where on, up to `end` at its last step through packs, all came out of packs.
    packed_from: Offset,
    packed_upto: Offset,
}

pub(super) fn replay(
    reader: &Reader<'_>,
    handles: &Handles,
    commits: &[Header],
    lost_tail: bool,
    index: &mut Index,
) -> Result<Replayed, OpenError> {
    let mut folded = fold(reader, commits, lost_tail)?;
    show_sets(&folded.catalogue, index);
    let Packed { runs, lost } = packs::read(handles, &folded.catalogue, index)?;
    let mut tracks = follow(reader, commits, &folded, runs, index)?;
    let mut damaged = Vec::new();
    if let Some(at) = folded.catalogue.corrupt {
        damaged.push(Damage { log: None, at });
        index.is_catalogue_damaged = true;
    }
    for (log, track) in &mut tracks {
        let end = track.end.unwrap_or_default().max(track.start);
        if track.suspect || lost_tail {
            track.corrupt.get_or_insert(end);
        }
        index.set_bounds(*log, track.start, end);
        if let Some(at) = folded.catalogue.head(*log).and_then(|head| head.corrupt) {
            track.damage(at);
        }
        if let Some(at) = track.corrupt {
            index.mark_corrupt(&Rot { log: *log, at });
            damaged.push(Damage {
                log: Some(*log),
                at,
            });
        }
        if let Some(head) = folded.catalogue.head_mut(*log) {
            head.end = end;
            if planted(Planted::ReuseOffset) {
                head.end.0 = head.end.0.saturating_sub(1);
            }
            head.term = track.term;
            head.corrupt = track.corrupt;
        }
    }
    Ok(Replayed {
        catalogue: folded.catalogue,
        damaged,
        lost,
    })
}

/// Folds the reserved log from its last whole snapshot on.
fn fold(reader: &Reader<'_>, commits: &[Header], lost_tail: bool) -> Result<Folded, OpenError> {
    let placed = commits.iter().flat_map(|commit| {
        let ours = commit
            .placed()
            .filter(|(entry, _)| entry.log == catalogue::LOG);
        ours.map(|(_, run)| (commit.sequence, run))
    });
    let mut changes = Vec::new();
    for (sequence, run) in placed.collect::<Vec<_>>().into_iter().rev() {
        let batch = read_batch(reader, &run)?;
        let records = batch.as_ref().and_then(catalogue::records);
        let is_snapshot = records.as_deref().is_some_and(is_snapshot);
        changes.push((sequence, run, records));
        if is_snapshot {
            break;
        }
    }
    let mut folded = Folded {
        catalogue: Catalogue::new(),
        snapshot: 0,
        ends: BTreeMap::new(),
        born: BTreeMap::new(),
    };
    for (sequence, run, records) in changes.into_iter().rev() {
        let catalogue = &mut folded.catalogue;
        let starts_here = records.as_deref().is_some_and(is_snapshot);
        let Some(records) = records.filter(|_| starts_here || run.base == catalogue.end) else {
            catalogue.corrupt = Some(catalogue.end);
            break;
        };
        records.iter().for_each(|record| catalogue.apply(record));
        catalogue.end = run.end();
        if starts_here {
            folded.snapshot = sequence;
            folded.ends = catalogue
                .heads()
                .map(|(log, head)| (log, head.end))
                .collect();
        } else {
            let made = records.iter().filter_map(|record| match record {
                Record::Set { id, .. } => Some((*id, sequence)),
                _ => None,
            });
            folded.born.extend(made);
        }
    }
    let end = commits.iter().map(|commit| commit.catalogue_end).max();
    if lost_tail || end.is_some_and(|end| end > folded.catalogue.end) {
        folded.catalogue.corrupt.get_or_insert(folded.catalogue.end);
    }
    Ok(folded)
}

fn is_snapshot(records: &[Record]) -> bool {
    matches!(records.first(), Some(Record::Start { .. }))
}

/// The batch of a run of one.
fn read_batch(reader: &Reader<'_>, run: &Run) -> Result<Option<Batch>, OpenError> {
    let bytes = reader.read(run.position, run.bytes as usize)?;
    let batch = Batch::parse(bytes.into()).ok();
    Ok(batch.filter(|batch| batch.base_offset() == run.base))
}

fn show_sets(catalogue: &Catalogue, index: &mut Index) {
    for (id, set) in &catalogue.sets {
        index.apply(&Record::Set {
            id: *id,
            name: set.name.clone(),
            config: set.config,
            logs: set.logs.len() as u32,
        });
    }
    for (log, head) in catalogue.heads() {
        index.set_bounds(log, head.start, head.start);
    }
}

fn follow(
    reader: &Reader<'_>,
    commits: &[Header],
    folded: &Folded,
    mut packed: BTreeMap<LogId, VecDeque<Run>>,
    index: &mut Index,
) -> Result<BTreeMap<LogId, Track>, OpenError> {
    let track = |(log, head): (LogId, &catalogue::Head)| {
        let track = Track {
            start: head.start,
            term: head.term,
            packed: packed.remove(&log).unwrap_or_default(),
            ..Track::default()
        };
        (log, track)
    };
    let mut tracks: BTreeMap<_, _> = folded.catalogue.heads().map(track).collect();
    let mut next = 1;
    for commit in commits {
        if commit.sequence > next {
            let was_there = |log: &LogId| {
                folded
                    .born
                    .get(&log.set)
                    .is_none_or(|b| *b < commit.sequence)
            };
            let old = tracks.iter_mut().filter(|(log, _)| was_there(log));
            old.for_each(|(_, track)| track.suspect = true);
        }
        next = commit.sequence + 1;
        if commit.sequence == folded.snapshot {
            for (log, end) in &folded.ends {
                if let Some(track) = tracks.get_mut(log) {
                    track.catch_up(*log, *end, index);
                    track.goes_on_at(*end);
                }
            }
        }
        for (entry, run) in commit.placed() {
            let Some(track) = tracks.get_mut(&entry.log) else {
                continue;
            };
            track.catch_up(entry.log, entry.end(), index);
            if track.has_moved(&entry) {
                continue;
            }
            // Terms up to the snapshot are in the snapshot.
            let is_in_snapshot = commit.sequence <= folded.snapshot;
            let lost = track.lost_before(entry.base);
            if !track.goes_on_at(entry.base) {
                continue;
            }
            if !is_in_snapshot {
                // Each of the lost may have been a term: none is given twice.
                track.term = Term(track.term.0.saturating_add(lost));
            }
            track.end = Some(entry.end());
            index.push(entry.log, run);
            if entry.is_term && !is_in_snapshot {
                match read_batch(reader, &run)?.and_then(|batch| batch.term()) {
                    Some(term) => track.term = track.term.max(term),
                    None => track.damage(entry.base),
                }
            }
        }
    }
    Ok(tracks)
}

impl Track {
    /// Whether the log can go on at `base`, having lost nothing that it should still have.
    fn goes_on_at(&mut self, base: Offset) -> bool {
        let joins = self.joins(base);
        // Commits lost before this one held nothing of the log that is not here.
        self.suspect &= !joins;
        joins
    }

    /// How many offsets nobody has seen before `base`. What was made after the snapshot began at 0.
    fn lost_before(&self, base: Offset) -> u64 {
        base.0.saturating_sub(self.end.unwrap_or_default().0)
    }

    fn joins(&mut self, base: Offset) -> bool {
        let end = self.end.unwrap_or(self.start.min(base));
        let lost_only_trimmed = base > end && base <= self.start;
        if self.corrupt.is_none() && (base == end || lost_only_trimmed) {
            self.end = Some(base);
            return true;
        }
        // Going back is damage as much as a gap: an offset is never used again.
        self.damage(base.min(end));
        false
    }

    /// Follows the log through its packs, as far as they begin before `upto`.
    fn catch_up(&mut self, log: LogId, upto: Offset, index: &mut Index) {
        while let Some(run) = self.packed.pop_front_if(|run| run.base < upto) {
            if !self.joins(run.base) {
                continue;
            }
            if run.base != self.packed_upto {
                self.packed_from = run.base;
            }
            self.packed_upto = run.end();
            self.end = Some(run.end());
            index.push(log, run);
        }
    }

    /// Whether a batch of the WAL is one that a pack has taken over: its file was not yet removed.
    fn has_moved(&mut self, entry: &Entry) -> bool {
        // What was trimmed did not move with the rest of its run.
        let from = entry.base.max(self.start.min(self.packed_from));
        let has_moved = self.packed_from <= from && entry.end() <= self.packed_upto;
        self.suspect &= !has_moved;
        has_moved
    }

    fn damage(&mut self, at: Offset) {
        let at = at.max(self.start);
        self.corrupt = Some(self.corrupt.map_or(at, |known| known.min(at)));
    }
}
