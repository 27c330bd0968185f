//! Which files to retire, if any.
//!
//! The price is to write again what is live, the gain is the rest of the file. At less than
//! half live it frees more than it writes. Beyond that only the number of WAL files counts,
//! since each is scanned at an opening and weighs more in memory than a pack: then data that
//! nobody trims is written twice in its life, and no more. On a full disk room is worth more than
//! the writing: whatever frees some moves.

use crate::Options;
use crate::files::FileName;
use crate::index::FileUse;

/// WAL files less than half live are left until there are so many: most of them die alone,
/// and small packs make a crowd.
const SPARSE_FILES: usize = 4;
/// So many small packs become one, which makes a byte move at most once for every factor of
/// this between its first pack and a full one.
const SMALL_PACKS: usize = 8;

/// The frame of a pack is at most this share of what is in it, even where logs are small.
const FRAME_SHARE: u64 = 2;

/// While room is scarce a file with this share of garbage moves.
const GARBAGE_SHARE: u64 = 8;

pub(super) fn sources<'a>(
    files: impl Iterator<Item = &'a FileUse>,
    options: &Options,
    is_scarce: bool,
    room_bytes: u64,
) -> Vec<u32> {
    let target = u64::from(options.file_bytes);
    let (mut wal, packs): (Vec<_>, Vec<_>) =
        files.partition(|file| matches!(file.name, FileName::Wal(_)));
    // The last is written to, and the one before it holds what queues are just about to settle.
    wal.truncate(wal.len().saturating_sub(2));
    let sparse = of(&wal, is_sparse);
    let hollow = of(&packs, is_sparse);
    let garbage: u64 = hollow.iter().map(|file| file.bytes - file.live_bytes).sum();
    let small = of(&packs, |file| file.live_bytes < target / SMALL_PACKS as u64);
    let mut wasteful = of(&wal, is_wasteful);
    wasteful.extend(of(&packs, is_wasteful));
    let choices = [
        (
            wal.len() + 2 > options.wal_files.max(3),
            wal[..wal.len().div_ceil(2)].to_vec(),
        ),
        (sparse.len() >= SPARSE_FILES, sparse),
        (garbage >= target / 2, hollow),
        (small.len() >= SMALL_PACKS, small),
        (is_scarce, wasteful),
    ];
    let due = choices.into_iter().filter(|(is_due, _)| *is_due);
    let mut sources = due.map(|(_, files)| fill(files, target, room_bytes));
    sources.find(|some| !some.is_empty()).unwrap_or_default()
}

/// The frame of a pack is not garbage, or a pack of small logs would be written anew for ever.
fn is_wasteful(file: &FileUse) -> bool {
    file.body_bytes.saturating_sub(file.live_bytes) * GARBAGE_SHARE > file.bytes
}

fn is_sparse(file: &FileUse) -> bool {
    file.live_bytes * 2 < file.bytes
}

fn of<'a>(files: &[&'a FileUse], is_wanted: impl Fn(&FileUse) -> bool) -> Vec<&'a FileUse> {
    files
        .iter()
        .copied()
        .filter(|file| is_wanted(file))
        .collect()
}

/// As many of them, oldest first, as one pack of `target_bytes` holds, one at least, and as the disk
/// has room for. Dead ones are the writer's, who needs no pack for them.
fn fill(files: Vec<&FileUse>, target_bytes: u64, room_bytes: u64) -> Vec<u32> {
    let (mut sources, mut bytes) = (Vec::new(), 0);
    for file in files.into_iter().filter(|file| file.live_bytes > 0) {
        let more = bytes + file.live_bytes;
        if more > target_bytes && !sources.is_empty() {
            break;
        }
        if more + more / FRAME_SHARE <= room_bytes {
            bytes = more;
            sources.push(file.name.number());
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of 1000 bytes; the numbers are their live bytes.
    fn check(wal: &[u64], packs: &[(u64, u64)], expect: &[u32]) {
        check_in(false, wal, packs, expect);
    }

    fn check_in(is_scarce: bool, wal: &[u64], packs: &[(u64, u64)], expect: &[u32]) {
        assert_eq!(chosen(is_scarce, u64::MAX, wal, packs), expect);
    }

    fn chosen(is_scarce: bool, room: u64, wal: &[u64], packs: &[(u64, u64)]) -> Vec<u32> {
        let file = |name, bytes, live_bytes| FileUse {
            name,
            bytes,
            body_bytes: bytes - bytes / 10,
            live_bytes,
            is_moving: false,
        };
        let wal = wal.iter().enumerate();
        let mut files: Vec<_> = wal
            .map(|(at, live)| file(FileName::Wal(at as u32), 1000, *live))
            .collect();
        let packs = packs.iter().enumerate();
        files.extend(
            packs.map(|(at, (bytes, live))| file(FileName::Pack(100 + at as u32), *bytes, *live)),
        );
        let options = Options {
            file_bytes: 1000,
            wal_files: 6,
            ..Options::default()
        };
        sources(files.iter(), &options, is_scarce, room)
    }

    #[test]
    fn a_pack_is_no_larger_than_what_is_free() {
        let wal = [400, 10, 10, 10, 0, 0];
        for (room, expect) in [
            (u64::MAX, &[0, 1, 2, 3][..]),
            (630, &[0, 1, 2]),
            (600, &[0]),
            (599, &[1, 2, 3]),
            (14, &[]),
        ] {
            assert_eq!(chosen(true, room, &wal, &[]), expect, "{room}");
        }
        // None of those that come first fits; of the rest some do.
        assert_eq!(chosen(true, 500, &[900; 7], &[(1000, 300)]), [100]);
    }

    #[test]
    fn full_files_stay_until_they_are_too_many() {
        check(&[], &[], &[]);
        check(&[900; 6], &[(900, 900)], &[]);
        check(&[900; 7], &[], &[0]);
        check(&[300, 400, 100, 900, 900, 900, 900], &[], &[0, 1, 2]);
    }

    #[test]
    fn sparse_files_move_together() {
        check(&[400, 900, 10, 10, 0, 0], &[], &[]);
        check(&[400, 10, 10, 10, 0, 0], &[], &[0, 1, 2, 3]);
        check(&[400, 400, 400, 10, 0, 0], &[], &[0, 1]);
    }

    #[test]
    fn on_a_full_disk_whatever_frees_room_moves() {
        let packs = [(1000, 890), (1000, 700), (1000, 900)];
        check(&[900, 700, 900, 900], &packs, &[]);
        check_in(true, &[900, 700, 900, 900], &[], &[1]);
        check_in(true, &[900; 4], &packs, &[101]);
        // The frame alone: for ever the same.
        check_in(true, &[900; 4], &[(1000, 900), (100, 90)], &[]);
        check_in(true, &[900; 7], &packs, &[0]);
    }

    #[test]
    fn hollow_and_small_packs_are_written_anew() {
        check(&[900], &[(900, 800), (900, 500)], &[]);
        check(&[900], &[(900, 800), (900, 100)], &[101]);
        check(&[], &[(100, 100); 7], &[]);
        check(
            &[],
            &[(100, 100); 8],
            &[100, 101, 102, 103, 104, 105, 106, 107],
        );
    }
}
