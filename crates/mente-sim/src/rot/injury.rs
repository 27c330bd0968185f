//! Ways in which a closed log is hurt.

use std::ops::Range;

use mente_log::{Disk, MemDisk};

use crate::random::Random;

const SECTOR: usize = 512;
const BLOCK: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Flip,
    Zeros,
    Cut,
    Missing,
    Misplaced,
}

pub(super) struct Injury {
    pub(super) told: String,
    /// Files, and the bytes of them that are other ones now, or gone.
    pub(super) changed: Vec<(String, Range<usize>)>,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Self::Flip,
        Self::Zeros,
        Self::Cut,
        Self::Missing,
        Self::Misplaced,
    ];

    pub(super) fn draw(random: &mut Random) -> Self {
        match random.below(10) {
            0..=3 => Self::Flip,
            4 | 5 => Self::Zeros,
            6 | 7 => Self::Cut,
            8 => Self::Missing,
            _ => Self::Misplaced,
        }
    }

    pub(super) const fn told(self) -> &'static str {
        match self {
            Self::Flip => "one bit turned",
            Self::Zeros => "sectors of zeros",
            Self::Cut => "file cut short",
            Self::Missing => "file missing",
            Self::Misplaced => "blocks elsewhere",
        }
    }
}

impl Injury {
    /// One that changes something.
    pub(super) fn inflict(
        kind: Kind,
        disk: &MemDisk,
        names: &[String],
        random: &mut Random,
    ) -> Self {
        loop {
            let before: Vec<_> = names.iter().map(|name| disk.contents(name)).collect();
            let name: &String = random.pick(names);
            let told = match kind {
                Kind::Flip => flip(disk, name, random),
                Kind::Zeros => zeros(disk, name, random),
                Kind::Cut => cut(disk, name, random),
                Kind::Missing => missing(disk, name),
                Kind::Misplaced => misplace(disk, names, random),
            };
            let mut changed = Vec::new();
            let mut is_other = false;
            for (name, before) in names.iter().zip(before) {
                let (before, now) = (before.unwrap_or_default(), disk.contents(name));
                is_other |= now.as_deref() != Some(&before[..]);
                let now = now.unwrap_or_default();
                let ranges = differing(&before, &now).into_iter();
                changed.extend(ranges.map(|range| (name.clone(), range)));
            }
            if is_other {
                return Self { told, changed };
            }
        }
    }
}

fn differing(before: &[u8], now: &[u8]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for at in (0..before.len()).filter(|at| now.get(*at) != Some(&before[*at])) {
        match ranges.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => ranges.push(at..at + 1),
        }
    }
    ranges
}

fn flip(disk: &MemDisk, name: &str, random: &mut Random) -> String {
    let bytes = disk.contents(name).unwrap_or_default();
    let mut at = random.below(bytes.len() as u64) as usize;
    // Most of a file may be zeros; those are tried as well, but less.
    for _ in 0..random.below(40) {
        if bytes[at] == 0 {
            at = random.below(bytes.len() as u64) as usize;
        }
    }
    let bit = random.below(8) as u8;
    disk.flip(name, at, bit);
    format!("bit {bit} of byte {at} of {name}")
}

/// The end of what is not zeros, for as often as not what lies behind it is of no interest.
fn end_of_data(bytes: &[u8], random: &mut Random) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    if random.one_in(4) {
        bytes.len()
    } else {
        last + 1
    }
}

fn zeros(disk: &MemDisk, name: &str, random: &mut Random) -> String {
    let mut bytes = disk.contents(name).unwrap_or_default();
    let unit = *random.pick(&[SECTOR, BLOCK]);
    let end = end_of_data(&bytes, random);
    let first = random.below(end.div_ceil(unit) as u64) as usize * unit;
    let count = random.within(1..5) as usize;
    let last = (first + count * unit).min(bytes.len());
    bytes[first..last].fill(0);
    disk.plant(name, bytes);
    format!("zeros from {first} to {last} of {name}")
}

fn cut(disk: &MemDisk, name: &str, random: &mut Random) -> String {
    let mut bytes = disk.contents(name).unwrap_or_default();
    let end = end_of_data(&bytes, random);
    let mut length = random.below(end as u64) as usize;
    if random.one_in(2) {
        length -= length % BLOCK;
    }
    bytes.truncate(length);
    disk.plant(name, bytes);
    format!("{name} cut to {length} bytes")
}

fn missing(disk: &MemDisk, name: &str) -> String {
    let gone = disk.remove(name).and_then(|()| disk.sync_dir());
    gone.expect("a disk in memory, whole, with that file");
    format!("{name} missing")
}

/// Some blocks lie elsewhere, and where they should be is what was there before.
fn misplace(disk: &MemDisk, names: &[String], random: &mut Random) -> String {
    let (from_name, to_name): (&String, &String) = (random.pick(names), random.pick(names));
    let mut from = disk.contents(from_name).unwrap_or_default();
    let blocks = (from.len() / BLOCK).max(1);
    let end = end_of_data(&from, random).div_ceil(BLOCK).min(blocks);
    let first = random.below(end as u64) as usize;
    let count = (random.within(1..4) as usize).min(blocks - first);
    let moved = from[first * BLOCK..][..count * BLOCK].to_vec();
    from[first * BLOCK..][..count * BLOCK].fill(0);
    disk.plant(from_name, from);
    let mut to = disk.contents(to_name).unwrap_or_default();
    let room = (to.len() / BLOCK).saturating_sub(count);
    let target = random.below(room as u64 + 1) as usize * BLOCK;
    if let Some(place) = to.get_mut(target..target + moved.len()) {
        place.copy_from_slice(&moved);
        disk.plant(to_name, to);
    }
    format!("{count} blocks from {first} of {from_name} at byte {target} of {to_name}")
}
