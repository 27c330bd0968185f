//! Bits that flip in data that was synced long ago: always noticed, never served, never cut.

use std::collections::BTreeMap;

use mente_engine::conformance::batch;
use mente_engine::{Engine, Error, Limit, LogConfig, LogId, Offset, SetName};
use mente_log::{MemDisk, OpenError};

use crate::driven::{now, open, try_open, turned};

const FILE: &str = "00000001.wal";

/// Two logs with values in closed commits; the log was closed in order.
fn sample() -> (Vec<u8>, [LogId; 2], BTreeMap<LogId, Vec<String>>) {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let name = SetName::new("test/a").unwrap();
    let set = turned(&mut writer, engine.create(&name, 2, LogConfig::default())).unwrap();
    let logs = [set.log(0), set.log(1)];
    let mut values: BTreeMap<LogId, Vec<String>> = BTreeMap::new();
    for (at, log) in [0, 1, 0, 1, 1, 0]
        .into_iter()
        .map(|log| logs[log])
        .enumerate()
    {
        let value = format!("value {at}");
        turned(
            &mut writer,
            engine.append(&[], vec![(log, batch(&[&value]))]),
        )
        .unwrap();
        values.entry(log).or_default().push(value);
    }
    writer.close().unwrap();
    (disk.contents(FILE).unwrap(), logs, values)
}

/// What can be read of a log, and the damage that stopped it.
fn read(engine: &dyn Engine, log: LogId) -> (Vec<String>, Option<Error>) {
    let (mut from, mut found) = (Offset(0), Vec::new());
    loop {
        let chunk = match now(engine.read(log, from, Limit { bytes: 100 })) {
            Ok(chunk) if chunk.batches.is_empty() => return (found, None),
            Ok(chunk) => chunk,
            Err(error) => return (found, Some(error)),
        };
        for batch in &chunk.batches {
            let (_, record) = batch.records().next().unwrap().unwrap();
            found.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
        from = chunk.next;
    }
}

#[test]
fn every_flipped_byte_is_noticed_and_hurts_no_more_than_it_must() {
    let (good, logs, values) = sample();
    let end = good.iter().rposition(|byte| *byte != 0).unwrap();
    let mut noticed = 0;
    for at in (0..=end).filter(|at| good[*at] != 0 || at % 8 == 0) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        let disk = MemDisk::default();
        disk.plant(FILE, bytes);
        let (engine, mut writer) = open(&disk);
        let damaged = !writer.recovered().damaged.is_empty();
        let mut stopped = 0;
        for log in logs {
            let (found, error) = read(&engine, log);
            assert!(values[&log].starts_with(&found), "byte {at}: {found:?}");
            if error == Some(Error::Gone) {
                // The record that made the set is hurt, and the opening said so.
                assert!(damaged && found.is_empty(), "byte {at}");
                stopped += 1;
            } else if let Some(error) = error {
                let at_end = Offset(found.len() as u64);
                assert_eq!(error, Error::Corrupt(at_end), "byte {at}");
                let append = engine.append(&[], vec![(log, batch(&["x"]))]);
                let append = turned(&mut writer, append);
                assert!(
                    matches!(append, Err(Error::Corrupt(_))),
                    "byte {at}: {append:?}"
                );
                stopped += 1;
            } else if !damaged {
                assert_eq!(found, values[&log], "byte {at}: cut without a word");
                let append = engine.append(&[], vec![(log, batch(&["x"]))]);
                turned(&mut writer, append).unwrap();
            }
        }
        noticed += usize::from(stopped > 0 || damaged);
    }
    assert!(noticed > 300, "{noticed}");
}

#[test]
fn a_lost_header_stops_only_logs_that_cannot_prove_continuity() {
    let (good, logs, values) = sample();
    // The commits: the set, then six appends, one block each, from block 1 on.
    for (lost, stopped) in [(3, logs[1]), (4, logs[0]), (6, logs[1]), (7, logs[0])] {
        let mut bytes = good.clone();
        bytes[lost * 4096..][..4096].fill(0);
        let disk = MemDisk::default();
        disk.plant(FILE, bytes);
        for _ in 0..2 {
            let (engine, mut writer) = open(&disk);
            let (_, error) = read(&engine, stopped);
            assert!(matches!(error, Some(Error::Corrupt(_))), "block {lost}");
            let other = logs[usize::from(stopped == logs[0])];
            let (found, error) = read(&engine, other);
            if let Some(error) = error {
                // Nothing after the loss vouches for it.
                assert!(lost >= 6, "block {lost}: {error}");
                assert_eq!(found, values[&other]);
            } else {
                let append = engine.append(&[], vec![(other, batch(&["on"]))]);
                turned(&mut writer, append).unwrap();
            }
        }
    }
}

#[test]
fn a_lost_file_header_stops_everything_and_stays_lost() {
    let (good, logs, _) = sample();
    let mut bytes = good;
    bytes[..4096].fill(0xee);
    let disk = MemDisk::default();
    disk.plant(FILE, bytes.clone());
    for _ in 0..3 {
        let (engine, mut writer) = open(&disk);
        assert!(!writer.recovered().damaged.is_empty());
        let name = SetName::new("test/new").unwrap();
        let made = turned(&mut writer, engine.create(&name, 1, LogConfig::default()));
        assert!(matches!(made, Err(Error::Corrupt(_))), "{made:?}");
        assert_eq!(now(engine.bounds(logs[0])), Err(Error::Gone));
        assert_eq!(
            disk.contents(FILE).unwrap(),
            bytes,
            "nothing is overwritten"
        );
        writer.close().unwrap();
    }
}

#[test]
fn a_newer_format_is_refused() {
    let (good, ..) = sample();
    let mut bytes = good;
    for at in [0, 2048] {
        bytes[at + 13] = 9;
        let crc = crc32c::crc32c(&bytes[at + 12..at + 64]);
        bytes[at + 8..at + 12].copy_from_slice(&crc.to_be_bytes());
    }
    let disk = MemDisk::default();
    disk.plant(FILE, bytes);
    let refused = try_open(&disk).expect_err("newer");
    assert!(
        matches!(refused, OpenError::Newer { found: 9, .. }),
        "{refused}"
    );
}

/// Version 1 had an entry for every batch; the layout is the same.
#[test]
fn a_log_of_the_first_version_is_read_and_goes_on() {
    let (mut bytes, logs, values) = sample();
    let mut patch = |at: usize, length: usize| {
        bytes[at + 12..at + 14].copy_from_slice(&1u16.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[at + 12..at + length]);
        bytes[at + 8..at + 12].copy_from_slice(&crc.to_be_bytes());
    };
    // The commits have one block and one entry each; the last, of the closing, has none.
    [0, 2048].into_iter().for_each(|at| patch(at, 64));
    (1..=7).for_each(|block| patch(block * 4096, 72 + 40));
    patch(8 * 4096, 72);
    let disk = MemDisk::default();
    disk.plant(FILE, bytes);
    for more in 0..2 {
        let (engine, mut writer) = open(&disk);
        assert_eq!(writer.recovered().damaged, []);
        for log in logs {
            let (found, error) = read(&engine, log);
            assert_eq!((found.len(), error), (values[&log].len() + more, None));
            let append = engine.append(&[], vec![(log, batch(&["on"]))]);
            turned(&mut writer, append).unwrap();
        }
    }
}

/// A write that lands at another block, of this file or of another: the header names its place, so
/// that the commit is missed where it should be and not believed where it is.
#[test]
fn a_misdirected_write_is_noticed() {
    let (good, logs, values) = sample();
    for (from, to) in [(3, 5), (5, 3), (2, 9), (7, 4)] {
        let mut bytes = good.clone();
        let moved = bytes[from * 4096..][..4096].to_vec();
        bytes[to * 4096..][..4096].copy_from_slice(&moved);
        bytes[from * 4096..][..4096].fill(0);
        let disk = MemDisk::default();
        disk.plant(FILE, bytes.clone());
        disk.plant("00000002.wal", bytes);
        let (engine, writer) = open(&disk);
        assert!(!writer.recovered().damaged.is_empty(), "{from} to {to}");
        let mut stopped = 0;
        for log in logs {
            let (found, error) = read(&engine, log);
            assert!(
                values[&log].starts_with(&found),
                "{from} to {to}: {found:?}"
            );
            stopped += usize::from(error.is_some());
        }
        assert!(stopped > 0, "{from} to {to}");
    }
}

/// The checksum of a batch leaves out its first bytes: the index vouches for those.
#[test]
fn a_flip_in_the_bytes_before_the_checksum_is_noticed() {
    let (good, logs, _) = sample();
    let body = 2 * 4096 + 72 + 40;
    for at in (body..body + 16).filter(|at| good[*at] == 0) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let disk = MemDisk::default();
        disk.plant(FILE, bytes);
        let (engine, _writer) = open(&disk);
        assert_eq!(
            read(&engine, logs[0]),
            (vec![], Some(Error::Corrupt(Offset(0)))),
            "byte {at}"
        );
    }
}

#[test]
fn rot_that_a_reader_found_is_remembered() {
    let (good, logs, values) = sample();
    let mut bytes = good;
    // The body of the second commit that holds something of the first log.
    bytes[4 * 4096 + 150] ^= 1;
    let disk = MemDisk::default();
    disk.plant(FILE, bytes);
    let (engine, mut writer) = open(&disk);
    let (found, error) = read(&engine, logs[0]);
    assert_eq!((found.len(), error), (1, Some(Error::Corrupt(Offset(1)))));
    writer.turn().unwrap();
    let (engine, mut writer) = open(&disk.after_crash(8));
    assert_eq!(writer.recovered().damaged.len(), 1);
    let append = engine.append(&[], vec![(logs[0], batch(&["x"]))]);
    assert_eq!(turned(&mut writer, append), Err(Error::Corrupt(Offset(1))));
    assert_eq!(read(&engine, logs[1]), (values[&logs[1]].clone(), None));
}

/// A run of two batches in a file that nobody wrote just now, and where it begins in that.
fn run_of_two() -> (MemDisk, LogId, usize) {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let name = SetName::new("test/a").unwrap();
    let set = turned(&mut writer, engine.create(&name, 1, LogConfig::default())).unwrap();
    let log = set.log(0);
    let both = vec![(log, batch(&["first"])), (log, batch(&["second"]))];
    turned(&mut writer, engine.append(&[], both)).unwrap();
    writer.close().unwrap();
    let bytes = disk.contents(FILE).unwrap();
    let at = bytes.windows(5).position(|bytes| bytes == b"first");
    (disk, log, at.unwrap())
}

fn flip(disk: &MemDisk, at: usize) {
    let mut bytes = disk.contents(FILE).unwrap();
    bytes[at] ^= 1;
    disk.plant(FILE, bytes);
}

#[test]
fn what_one_reader_verified_the_next_one_has_from_memory() {
    let (disk, log, at) = run_of_two();
    let (engine, _writer) = open(&disk);
    let whole = |engine: &dyn Engine| now(engine.read(log, Offset(0), Limit::default()));
    assert_eq!(whole(&engine).unwrap().batches.len(), 2);
    flip(&disk, at);
    assert_eq!(whole(&engine).unwrap().batches.len(), 2);
    let (engine, _writer) = open(&disk);
    assert_eq!(whole(&engine).unwrap_err(), Error::Corrupt(Offset(0)));
}

#[test]
fn what_no_reader_asked_for_is_not_taken_for_verified() {
    let (disk, log, at) = run_of_two();
    flip(&disk, at);
    let (engine, _writer) = open(&disk);
    let read = |from| now(engine.read(log, Offset(from), Limit::default()));
    assert_eq!(read(1).unwrap().batches.len(), 1);
    assert_eq!(read(0).unwrap_err(), Error::Corrupt(Offset(0)));
}

/// An unused file behind it is no reason to take the log for a new one.
#[test]
fn a_lost_file_header_beside_a_file_made_ahead_stops_everything() {
    let (good, logs, _) = sample();
    let disk = MemDisk::default();
    disk.plant(FILE, good);
    let (_, writer) = open(&disk);
    writer.preparer().turn().unwrap();
    let mut bytes = disk.contents(FILE).unwrap();
    bytes[..4096].fill(0);
    disk.plant(FILE, bytes.clone());
    for _ in 0..3 {
        let (engine, writer) = open(&disk);
        assert!(!writer.recovered().damaged.is_empty());
        assert_eq!(now(engine.bounds(logs[0])), Err(Error::Gone));
        assert_eq!(disk.contents(FILE).unwrap(), bytes);
    }
}

/// Closing proves the last commit even where the file has no room for the proof.
#[test]
fn rot_in_the_last_commit_of_a_full_file_is_noticed_after_a_close() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let name = SetName::new("test/a").unwrap();
    let set = turned(&mut writer, engine.create(&name, 1, LogConfig::default())).unwrap();
    let log = set.log(0);
    let mut appended = 0;
    while disk.contents(FILE).unwrap()[15 * 4096..]
        .iter()
        .all(|byte| *byte == 0)
    {
        let append = engine.append(&[], vec![(log, batch(&["value"]))]);
        turned(&mut writer, append).unwrap();
        appended += 1;
    }
    writer.close().unwrap();
    let mut bytes = disk.contents(FILE).unwrap();
    bytes[15 * 4096 + 40] ^= 1;
    disk.plant(FILE, bytes);
    let (engine, writer) = open(&disk);
    assert!(!writer.recovered().damaged.is_empty());
    let (found, error) = read(&engine, log);
    let at = Offset(found.len() as u64);
    assert!(
        found.len() + 1 == appended && error == Some(Error::Corrupt(at)),
        "{found:?} {error:?}"
    );
}

/// What was trimmed hurts nobody when it is lost, but it may have held a term.
#[test]
fn a_term_that_was_lost_with_what_was_trimmed_is_not_given_again() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let name = SetName::new("test/owned").unwrap();
    let owned = LogConfig {
        owned: true,
        ..LogConfig::default()
    };
    let set = turned(&mut writer, engine.create(&name, 1, owned)).unwrap();
    let log = set.log(0);
    // Blocks from 1 on: the set, two claims, what is appended, the trim and the append after it.
    turned(&mut writer, engine.claim(log)).unwrap();
    let fence = turned(&mut writer, engine.claim(log)).unwrap();
    for value in ["a", "b"] {
        let append = engine.append(&[fence], vec![(log, batch(&[value]))]);
        turned(&mut writer, append).unwrap();
    }
    turned(&mut writer, engine.trim(log, Offset(3))).unwrap();
    let append = engine.append(&[fence], vec![(log, batch(&["c"]))]);
    turned(&mut writer, append).unwrap();
    writer.close().unwrap();

    let mut bytes = disk.contents(FILE).unwrap();
    bytes[2 * 4096..4 * 4096].fill(0);
    disk.plant(FILE, bytes);
    let mut last = fence.term;
    for opening in 0..3 {
        let (engine, mut writer) = open(&disk);
        assert_eq!(writer.recovered().damaged, [], "nothing is needed of it");
        let claimed = turned(&mut writer, engine.claim(log)).unwrap();
        assert!(claimed.term > last, "opening {opening}: {claimed:?}");
        last = claimed.term;
        writer.close().unwrap();
    }
}
