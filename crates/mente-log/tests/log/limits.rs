//! Full queues, failed syncs, files that go, times that are found.

use std::time::Duration;

use futures::FutureExt;
use mente_engine::conformance::batch;
use mente_engine::engine::Retention;
use mente_engine::{
    BatchBuilder, Engine, Error, Limit, LogConfig, Offset, Record, SetName, Timestamp,
};
use mente_log::MemDisk;

use crate::driven::{now, open, small, turned};

fn name() -> SetName {
    SetName::new("test/a").unwrap()
}

#[test]
fn a_queue_that_is_full_says_busy_and_ends_the_fence() {
    let disk = MemDisk::default();
    let options = mente_log::Options {
        queue_bytes: 8 << 10,
        ..small()
    };
    let disk = std::sync::Arc::new(disk);
    let (engine, mut writer) = mente_log::open(disk, options, std::sync::Arc::new(|| {})).unwrap();
    let owned = LogConfig {
        owned: true,
        ..LogConfig::default()
    };
    let log = turned(&mut writer, engine.create(&name(), 1, owned))
        .unwrap()
        .log(0);
    let fence = turned(&mut writer, engine.claim(log)).unwrap();
    let value = "x".repeat(2000);
    let calls: Vec<_> = (0..5)
        .map(|_| engine.append(&[fence], vec![(log, batch(&[&value]))]))
        .collect();
    while writer.turn().unwrap() {}
    let answers: Vec<_> = calls.into_iter().map(now).collect();
    assert!(answers[0].is_ok());
    let busy = answers
        .iter()
        .position(|a| matches!(a, Err(Error::Busy(_))))
        .expect("busy");
    assert!(answers[..busy].iter().all(Result::is_ok));
    assert!(
        answers[busy + 1..].iter().all(|a| *a == Err(Error::Fenced)),
        "{answers:?}"
    );
    let fence = turned(&mut writer, engine.claim(log)).unwrap();
    turned(
        &mut writer,
        engine.append(&[fence], vec![(log, batch(&["y"]))]),
    )
    .unwrap();
}

#[test]
fn trimmed_files_go_and_come_not_back() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let set = turned(&mut writer, engine.create(&name(), 2, LogConfig::default())).unwrap();
    let (kept, log) = (set.log(0), set.log(1));
    turned(
        &mut writer,
        engine.append(&[], vec![(kept, batch(&["kept"]))]),
    )
    .unwrap();
    let mut end = Offset(0);
    for _ in 0..200 {
        let appended = turned(&mut writer, engine.append(&[], vec![(log, batch(&["a"]))]));
        end = Offset(appended.unwrap()[0].last.0 + 1);
        turned(&mut writer, engine.trim(log, end)).unwrap();
    }
    let files = |disk: &MemDisk| mente_log::Disk::list(disk).unwrap().len();
    assert!(files(&disk) <= 4, "{:?}", mente_log::Disk::list(&disk));
    let (engine, mut writer) = open(&disk.after_crash(8));
    assert!(
        writer.recovered().damaged.is_empty(),
        "{:?}",
        writer.recovered()
    );
    let chunk = now(engine.read(kept, Offset(0), Limit::default())).unwrap();
    assert_eq!(chunk.batches.len(), 1);
    assert_eq!(now(engine.bounds(log)).unwrap().start, end);
    let appended = turned(&mut writer, engine.append(&[], vec![(log, batch(&["b"]))])).unwrap();
    assert_eq!(appended[0].base, end);
}

#[test]
fn terms_outlive_the_files_of_their_records() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let owned = LogConfig {
        owned: true,
        ..LogConfig::default()
    };
    let log = turned(&mut writer, engine.create(&name(), 1, owned))
        .unwrap()
        .log(0);
    let fence = turned(&mut writer, engine.claim(log)).unwrap();
    for _ in 0..50 {
        let appended = turned(
            &mut writer,
            engine.append(&[fence], vec![(log, batch(&["a"]))]),
        );
        let end = Offset(appended.unwrap()[0].last.0 + 1);
        turned(&mut writer, engine.trim(log, end)).unwrap();
    }
    assert!(disk.contents("00000001.wal").is_none());
    let (engine, mut writer) = open(&disk.after_crash(8));
    let again = turned(&mut writer, engine.claim(log)).unwrap();
    assert!(again.term > fence.term && again.at > fence.at);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let log = turned(&mut writer, engine.create(&name(), 1, LogConfig::default()))
        .unwrap()
        .log(0);
    turned(&mut writer, engine.append(&[], vec![(log, batch(&["a"]))])).unwrap();
    let mut lost = engine.append(&[], vec![(log, batch(&["lost"]))]);
    disk.fail_sync_at(disk.ops() + 1);
    writer.turn().unwrap_err();
    let lost = (&mut lost).now_or_never().expect("answered");
    assert!(matches!(lost, Err(Error::Unknown(_))), "{lost:?}");
    let later = now(engine.append(&[], vec![(log, batch(&["later"]))]));
    assert!(matches!(later, Err(Error::Busy(_))), "{later:?}");
    writer.turn().unwrap_err();
    assert_eq!(now(engine.bounds(log)).unwrap().end, Offset(1));
    drop(writer);

    // The page cache shows what the disk has not. What the next opening serves must be durable.
    let seen = disk.after_kill();
    let (engine, _writer) = open(&seen);
    let end = now(engine.bounds(log)).unwrap().end;
    for seed in 1..50 {
        let (engine, _writer) = open(&seen.after_crash(seed * 0x9e37_79b9));
        assert_eq!(now(engine.bounds(log)).unwrap().end, end);
    }
}

#[test]
fn retention_takes_what_is_too_old_or_too_much() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let one = batch(&["a"]);
    let retained = |age, bytes| LogConfig {
        owned: false,
        retention: Retention { age, bytes },
    };
    let configs = [
        retained(None, None),
        retained(Some(Duration::from_millis(500)), None),
        retained(None, Some(one.size() as u64 * 2)),
    ];
    for (at, config) in configs.into_iter().enumerate() {
        let name = SetName::new(format!("test/{at}")).unwrap();
        let set = turned(&mut writer, engine.create(&name, 1, config)).unwrap();
        for _ in 0..5 {
            turned(
                &mut writer,
                engine.append(&[], vec![(set.log(0), one.clone())]),
            )
            .unwrap();
        }
        // The records are of time 1000.
        for (now_ms, starts) in [(1400, [0, 0, 3]), (1600, [0, 5, 3])] {
            writer.enforce(Timestamp(now_ms));
            while writer.turn().unwrap() {}
            let bounds = now(engine.bounds(set.log(0))).unwrap();
            assert_eq!((bounds.start.0, bounds.end.0), (starts[at], 5));
        }
    }
}

/// Times out of order, and the earliest batches trimmed: the answer is what a look at every
/// batch would find.
#[test]
fn a_time_is_found_as_a_scan_would_find_it() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let set = turned(&mut writer, engine.create(&name(), 1, LogConfig::default())).unwrap();
    let log = set.log(0);
    let times: Vec<i64> = (0..60).map(|i| 100 + i * 37 % 50 + i / 2).collect();
    for time in &times {
        let record = Record {
            timestamp: Timestamp(*time),
            ..Record::default()
        };
        let batch = BatchBuilder::from_iter(&[record]).finish();
        turned(&mut writer, engine.append(&[], vec![(log, batch)])).unwrap();
    }
    for start in [0, 1, 13, 40, 60] {
        turned(&mut writer, engine.trim(log, Offset(start))).unwrap();
        let start = now(engine.bounds(log)).unwrap().start.0 as usize;
        for time in 90..200 {
            let scanned = (start..times.len()).find(|at| times[*at] >= time);
            let scanned = Offset(scanned.unwrap_or(times.len()) as u64);
            assert_eq!(now(engine.offset_at(log, Timestamp(time))), Ok(scanned));
        }
    }
}
