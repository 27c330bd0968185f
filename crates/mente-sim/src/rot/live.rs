//! Where the records that somebody can read lie: found by their bytes, knowing nothing of how files are
//! laid out, so that the log is not asked what it should have noticed.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use mente_log::MemDisk;

use super::injury::Injury;
use super::whole::Whole;

/// Of a batch: its offset, length and checksum, and what lies between.
const HEAD_BYTES: usize = 24;
/// Where every batch has a 2.
const MAGIC_AT: usize = 16;

/// Files, and the ranges of them.
#[derive(Default)]
pub(super) struct Live(BTreeMap<String, Vec<Range<usize>>>);

type Places = Vec<(String, Range<usize>)>;

impl Live {
    pub(super) fn of(disk: &MemDisk, names: &[String], whole: &Whole) -> Self {
        // By the bytes of a batch: how many logs have it, and where it is found.
        let mut batches: BTreeMap<Bytes, (usize, Places)> = BTreeMap::new();
        let mut heads: BTreeMap<Bytes, Vec<Bytes>> = BTreeMap::new();
        let seen = whole.logs.values().flat_map(|seen| seen.batches.values());
        for bytes in seen {
            let (held, _) = batches.entry(bytes.clone()).or_default();
            *held += 1;
            if *held == 1 {
                let head = bytes.slice(..HEAD_BYTES);
                heads.entry(head).or_default().push(bytes.clone());
            }
        }
        for name in names {
            let contents = disk.contents(name).unwrap_or_default();
            let starts = 0..contents.len().saturating_sub(HEAD_BYTES);
            for at in starts.filter(|at| contents[at + MAGIC_AT] == 2) {
                let candidates = heads.get(&contents[at..at + HEAD_BYTES]);
                for bytes in candidates.into_iter().flatten() {
                    if contents[at..].starts_with(bytes)
                        && let Some((_, places)) = batches.get_mut(bytes)
                    {
                        places.push((name.clone(), at..at + bytes.len()));
                    }
                }
            }
        }
        let mut live = Self::default();
        // Found more often than it is held: some of the places are dead, and which is not known.
        let sure = batches
            .into_values()
            .filter(|(held, places)| places.len() <= *held);
        for (name, range) in sure.flat_map(|(_, places)| places) {
            live.0.entry(name).or_default().push(range);
        }
        live
    }

    pub(super) fn is_hit(&self, injury: &Injury) -> bool {
        injury.changed.iter().any(|(name, changed)| {
            let ranges = self.0.get(name).map_or(&[][..], Vec::as_slice);
            let overlaps = |r: &Range<usize>| r.start < changed.end && changed.start < r.end;
            ranges.iter().any(overlaps)
        })
    }

    pub(super) fn batches(&self) -> u64 {
        self.0.values().map(|ranges| ranges.len() as u64).sum()
    }
}
