//! Damage of packs, of their sources and of the record between them.

use mente_engine::conformance::batch;
use mente_engine::engine::Retention;
use mente_engine::{Engine, Error, LogConfig, LogId, Offset, SetName};
use mente_log::{Disk, MemDisk};

use super::{Values, append, make, names, read, sample};
use crate::driven::{Cranked, now, open, turned};

/// Every batch in every pack, hurt in turn: its log stops there, the others do not notice.
#[test]
fn rot_in_a_pack_stops_the_log_it_hurts_and_no_other() {
    let disk = MemDisk::default();
    let (cranked, logs, values) = sample(&disk);
    cranked.writer.close().unwrap();
    let mut stopped = [0; 3];
    for name in names(&disk, ".pack") {
        let good = disk.contents(&name).unwrap();
        for at in (0..good.len()).step_by(97) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x20;
            disk.plant(&name, bytes);
            let (engine, _writer) = open(&disk.after_crash(3));
            for (index, log) in logs.iter().enumerate() {
                let (found, error) = read(&engine, *log, 1 << 20);
                match error {
                    Some(Error::Corrupt(offset)) => {
                        let before: Values = values[index]
                            .range(..offset.0)
                            .map(|(o, v)| (*o, v.clone()))
                            .collect();
                        assert_eq!(found, before, "{name} {at}");
                        stopped[index] += 1;
                    }
                    None => assert_eq!(found, values[index], "{name} {at}"),
                    Some(other) => panic!("{name} {at}: {other}"),
                }
            }
        }
        disk.plant(&name, good);
    }
    assert!(stopped[0] > 100 && stopped[1] > 100, "{stopped:?}");
}

#[test]
fn a_lost_pack_stops_its_logs_and_nothing_goes_away() {
    let disk = MemDisk::default();
    let mut cranked = Cranked::open(&disk);
    let quiet = make(&mut cranked, "t/late", 1, Retention::default())[0];
    drop(cranked);
    let (mut cranked, logs, values) = {
        let (cranked, logs, values) = sample(&disk);
        (cranked, logs, values)
    };
    append(&mut cranked, quiet, "late");
    cranked.writer.close().unwrap();
    let lost = names(&disk, ".pack")[0].clone();
    disk.remove(&lost).unwrap();
    disk.sync_dir().unwrap();
    for _ in 0..2 {
        let mut cranked = Cranked::open(&disk.after_crash(4));
        assert_eq!(cranked.writer.recovered().lost[..], [lost.as_str()]);
        let before = disk.list().unwrap();
        for (log, values) in logs.iter().zip(&values).take(2) {
            let (found, error) = read(&cranked.engine, *log, 1 << 20);
            let Some(Error::Corrupt(at)) = error else {
                panic!("{log}: {error:?}")
            };
            assert!(found.len() < values.len() && found.keys().all(|o| *o < at.0));
        }
        assert_eq!(read(&cranked.engine, quiet, 1 << 20).0.len(), 1);
        append(&mut cranked, quiet, "on");
        assert!(
            before
                .iter()
                .all(|name| disk.list().unwrap().contains(name))
        );
    }
}

/// The record that names a pack is hurt right after its sources went: that must be told.
#[test]
fn rot_in_the_record_that_moved_is_never_taken_for_a_torn_write() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let name = SetName::new("t/a").unwrap();
    let made = turned(&mut writer, engine.create(&name, 1, LogConfig::default()));
    let log = made.unwrap().log(0);
    for _ in 0..80 {
        let append = engine.append(&[], vec![(log, batch(&[&"x".repeat(3000)]))]);
        turned(&mut writer, append).unwrap();
    }
    let mut packer = writer.packer();
    while disk.contents("00000001.wal").is_some() {
        writer.turn().unwrap();
        packer.turn().unwrap();
    }
    let packs = names(&disk, ".pack");
    // Not the one that was made ahead.
    let is_used = |name: &String| disk.contents(name).unwrap()[4096..].iter().any(|b| *b != 0);
    let last = names(&disk, ".wal").into_iter().rfind(is_used).unwrap();
    let good = disk.contents(&last).unwrap();
    let end = good.iter().rposition(|byte| *byte != 0).unwrap();
    // The last commit with more than a header is the record.
    let has_body = |at: &usize| good[at + 72..at + 4096].iter().any(|byte| *byte != 0);
    let record = (0..=end / 4096)
        .map(|block| block * 4096)
        .rfind(has_body)
        .unwrap();
    let mut told = 0;
    for at in (4096..=end).step_by(61) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        disk.plant(&last, bytes);
        let after = disk.after_crash(6);
        let cranked = Cranked::open(&after);
        let is_told = !cranked.writer.recovered().damaged.is_empty();
        let is_torn = cranked.writer.recovered().cut.is_some();
        assert!(!is_torn || at >= record + 4096, "byte {at}");
        match now(cranked.engine.bounds(log)) {
            Err(Error::Gone) => assert!(is_told, "byte {at}"),
            _ => {
                let (found, error) = read(&cranked.engine, log, 1 << 20);
                assert!(found.len() == 80 || is_told || error.is_some(), "byte {at}");
            }
        }
        assert_eq!(names(&after, ".pack"), packs);
        told += usize::from(is_told);
    }
    assert!(told > 0);
}

#[test]
fn rot_in_a_source_is_told_and_the_source_stays() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let name = SetName::new("t/a").unwrap();
    let made = turned(&mut writer, engine.create(&name, 2, LogConfig::default()));
    let logs = [0, 1].map(|index| made.clone().unwrap().log(index));
    for round in 0..80 {
        let append = engine.append(&[], vec![(logs[round % 2], batch(&[&"x".repeat(3000)]))]);
        turned(&mut writer, append).unwrap();
    }
    writer.close().unwrap();
    let mut bytes = disk.contents("00000001.wal").unwrap();
    bytes[3 * 4096 + 1000] ^= 1;
    disk.plant("00000001.wal", bytes);
    let mut cranked = Cranked::open(&disk);
    let files = disk.list().unwrap();
    assert!(cranked.turn());
    let left = disk.list().unwrap();
    assert!(files.iter().all(|name| left.contains(name)), "{left:?}");
    let append = cranked.engine.append(&[], vec![(logs[1], batch(&["y"]))]);
    assert_eq!(cranked.done(append), Err(Error::Corrupt(Offset(0))));
    append_is_fine(&mut cranked, logs[0]);
}

fn append_is_fine(cranked: &mut Cranked, log: LogId) {
    let before = read(&cranked.engine, log, 1 << 20);
    append(cranked, log, "on");
    let after = read(&cranked.engine, log, 1 << 20);
    assert_eq!((before.0.len() + 1, None), (after.0.len(), after.1));
}
