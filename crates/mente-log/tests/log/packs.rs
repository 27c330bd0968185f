//! Files retire: what is live moves into packs, space comes back, readers and appends go on.

use std::collections::BTreeMap;
use std::time::Duration;

use mente_engine::conformance::batch;
use mente_engine::engine::Retention;
use mente_engine::{Engine, Error, Limit, LogConfig, LogId, Offset, SetName, Timestamp};
use mente_log::{Disk, MemDisk};

use crate::driven::{Cranked, now, open, turned};

mod rot;

pub(crate) type Values = BTreeMap<u64, String>;

pub(crate) fn names(disk: &MemDisk, ending: &str) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(ending));
    names
}

fn bytes(disk: &MemDisk) -> usize {
    let sizes = names(disk, "").into_iter();
    sizes.map(|name| disk.contents(&name).unwrap().len()).sum()
}

fn make(cranked: &mut Cranked, name: &str, logs: u32, retention: Retention) -> Vec<LogId> {
    let config = LogConfig {
        owned: false,
        retention,
    };
    let name = SetName::new(name).unwrap();
    let set = cranked.done(cranked.engine.create(&name, logs, config));
    let set = set.unwrap();
    (0..logs).map(|index| set.log(index)).collect()
}

fn append(cranked: &mut Cranked, log: LogId, value: &str) -> Offset {
    let append = cranked.engine.append(&[], vec![(log, batch(&[value]))]);
    cranked.done(append).unwrap()[0].last
}

/// What can be read of a log, in steps of `limit_bytes`, and what stopped it.
pub(crate) fn read(engine: &dyn Engine, log: LogId, limit_bytes: usize) -> (Values, Option<Error>) {
    let bounds = now(engine.bounds(log)).unwrap();
    let (mut from, mut found) = (bounds.start, Values::new());
    let limit = Limit { bytes: limit_bytes };
    loop {
        let chunk = match now(engine.read(log, from, limit)) {
            Ok(chunk) if chunk.batches.is_empty() => return (found, None),
            Ok(chunk) => chunk,
            Err(error) => return (found, Some(error)),
        };
        for batch in &chunk.batches {
            let (offset, record) = batch.records().next().unwrap().unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.insert(offset.0, value);
        }
        assert!(chunk.next > from);
        from = chunk.next;
    }
}

/// Two logs that keep all, one that is trimmed as it goes, in enough files for some packs.
fn sample(disk: &MemDisk) -> (Cranked, Vec<LogId>, Vec<Values>) {
    let mut cranked = Cranked::open(disk);
    let logs = make(&mut cranked, "t/a", 3, Retention::default());
    let mut values = vec![Values::new(); 3];
    for round in 0..60 {
        for (at, log) in logs.iter().enumerate() {
            let value = format!("{at} {round} {}", "x".repeat(round * 331 % 2500));
            let offset = append(&mut cranked, *log, &value);
            values[at].insert(offset.0, value);
        }
        let end = now(cranked.engine.bounds(logs[2])).unwrap().end;
        let before = Offset(end.0.saturating_sub(2));
        let trim = cranked.engine.trim(logs[2], before);
        cranked.done(trim).unwrap();
        values[2].retain(|offset, _| *offset >= before.0);
    }
    assert!(names(disk, ".pack").len() >= 2, "{:?}", disk.list());
    (cranked, logs, values)
}

#[test]
fn what_moved_is_read_as_before_and_after_a_restart() {
    let disk = MemDisk::default();
    let (cranked, logs, values) = sample(&disk);
    let restarted = Cranked::open(&disk.after_crash(1));
    for engine in [&cranked.engine, &restarted.engine] {
        for (log, values) in logs.iter().zip(&values) {
            for limit_bytes in [1, 5000, 1 << 20] {
                let (found, error) = read(engine, *log, limit_bytes);
                assert!(&found == values && error.is_none(), "{log}: {error:?}");
            }
        }
    }
}

#[test]
fn one_live_record_does_not_pin_a_file() {
    let disk = MemDisk::default();
    let mut cranked = Cranked::open(&disk);
    let logs = make(&mut cranked, "t/a", 2, Retention::default());
    let mut values = Values::new();
    for round in 0..600 {
        if round % 20 == 0 {
            let value = format!("kept {round}");
            values.insert(append(&mut cranked, logs[0], &value).0, value);
        }
        let last = append(&mut cranked, logs[1], &"x".repeat(3000));
        let trim = cranked.engine.trim(logs[1], Offset(last.0 + 1));
        cranked.done(trim).unwrap();
    }
    // 600 commits of 4 KiB and as many trims went through files of 64 KiB.
    assert!(bytes(&disk) < 10 * (64 << 10), "{:?}", disk.list());
    assert!(names(&disk, ".pack").len() <= 8, "{:?}", disk.list());
    // What was trimmed was not written again.
    let packed = names(&disk, ".pack").into_iter();
    for name in packed {
        assert!(disk.contents(&name).unwrap().len() < 20_000, "{name}");
    }
    assert_eq!(read(&cranked.engine, logs[0], 1 << 20), (values, None));
}

#[test]
fn retention_by_age_and_by_size_frees_the_disk() {
    let disk = MemDisk::default();
    let mut cranked = Cranked::open(&disk);
    let by_age = Retention {
        age: Some(Duration::from_secs(3600)),
        bytes: None,
    };
    let by_size = Retention {
        age: None,
        bytes: Some(30_000),
    };
    let logs = [
        make(&mut cranked, "t/age", 1, by_age)[0],
        make(&mut cranked, "t/size", 1, by_size)[0],
        make(&mut cranked, "t/all", 1, Retention::default())[0],
    ];
    for round in 0..80 {
        for log in logs {
            let size = if log == logs[2] { 50 } else { 2500 };
            append(&mut cranked, log, &format!("{round} {}", "x".repeat(size)));
        }
        // The records are of time 1000: too young for the age.
        cranked.writer.enforce(Timestamp(2000));
        assert!(cranked.turn());
    }
    let (found, _) = read(&cranked.engine, logs[1], 1 << 20);
    assert!((12..=25).contains(&found.len()), "{}", found.len());
    assert_eq!(read(&cranked.engine, logs[0], 1 << 20).0.len(), 80);
    let before = bytes(&disk);
    cranked.writer.enforce(Timestamp(1000 + 3_600_001));
    assert!(cranked.turn());
    assert_eq!(read(&cranked.engine, logs[0], 1 << 20).0.len(), 0);
    assert!(before > bytes(&disk) + 150_000, "{before} {}", bytes(&disk));
    let set = logs[1].set;
    cranked.done(cranked.engine.delete(set)).unwrap();
    let reopened = Cranked::open(&disk.after_crash(2));
    assert_eq!(read(&reopened.engine, logs[2], 1 << 20).0.len(), 80);
}

/// Also where only part of a run is trimmed.
#[test]
fn what_is_settled_is_not_written_again() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let name = SetName::new("t/a").unwrap();
    let made = turned(&mut writer, engine.create(&name, 1, LogConfig::default()));
    let log = made.unwrap().log(0);
    let answers: Vec<_> = ["settled", "kept"]
        .into_iter()
        .map(|value| engine.append(&[], vec![(log, batch(&[value]))]))
        .collect();
    while writer.turn().unwrap() {}
    answers
        .into_iter()
        .for_each(|answer| drop(now(answer).unwrap()));
    turned(&mut writer, engine.trim(log, Offset(1))).unwrap();
    let mut cranked = Cranked {
        packer: writer.packer(),
        engine,
        writer,
    };
    for _ in 0..60 {
        append(&mut cranked, log, &"x".repeat(3000));
    }
    let packs = names(&disk, ".pack");
    let packs: Vec<_> = packs
        .iter()
        .map(|name| disk.contents(name).unwrap())
        .collect();
    let has = |what: &[u8]| {
        packs
            .iter()
            .any(|pack| pack.windows(what.len()).any(|w| w == what))
    };
    assert!(has(b"kept") && !has(b"settled"));
}

/// Whatever sync of a pack fails: the sources stay the storage, and a later try makes it.
#[test]
fn a_pack_whose_sync_fails_changes_nothing() {
    for failing in 1..40 {
        let disk = MemDisk::default();
        let (engine, mut writer) = open(&disk);
        let name = SetName::new("t/a").unwrap();
        let made = turned(&mut writer, engine.create(&name, 1, LogConfig::default()));
        let log = made.unwrap().log(0);
        let mut values = Values::new();
        for round in 0..80 {
            let value = format!("{round} {}", "x".repeat(3000));
            let append = engine.append(&[], vec![(log, batch(&[&value]))]);
            let appended = turned(&mut writer, append).unwrap();
            values.insert(appended[0].base.0, value);
        }
        let mut packer = writer.packer();
        disk.fail_sync_at(disk.ops() + failing);
        let mut turn = packer.turn();
        while let Ok(true) = turn {
            turn = packer.turn();
        }
        let failed = turn.is_err();
        disk.fail_sync_at(u64::MAX);
        let after = |seed| read(&Cranked::open(&disk.after_crash(seed)).engine, log, 1 << 20);
        assert_eq!(read(&engine, log, 1 << 20), (values.clone(), None));
        for seed in 1..20 {
            assert_eq!(after(seed * 77), (values.clone(), None), "sync {failing}");
        }
        if failed {
            assert!(names(&disk, ".pack").is_empty() && names(&disk, ".new").is_empty());
        }
        // Again, with the writer's part in it.
        let mut cranked = Cranked {
            engine,
            writer,
            packer,
        };
        assert!(cranked.turn());
        assert!(!names(&disk, ".pack").is_empty());
        assert_eq!(read(&cranked.engine, log, 1 << 20), (values.clone(), None));
        assert_eq!(after(5), (values, None));
    }
}

/// Between any two turns of a retirement everything is read, and trims and deletions land.
#[test]
fn reads_trims_and_deletions_go_on_during_a_retirement() {
    for disturbed_at in 0..6 {
        let disk = MemDisk::default();
        let (engine, mut writer) = open(&disk);
        let mut logs = Vec::new();
        for name in ["t/read", "t/trimmed", "t/deleted"] {
            let name = SetName::new(name).unwrap();
            let made = turned(&mut writer, engine.create(&name, 1, LogConfig::default()));
            logs.push(made.unwrap().log(0));
        }
        let mut values = Values::new();
        for round in 0..80 {
            let value = format!("{round} {}", "x".repeat(900));
            let batches = logs.iter().map(|log| (*log, batch(&[&value]))).collect();
            let appended = turned(&mut writer, engine.append(&[], batches)).unwrap();
            values.insert(appended[0].base.0, value);
        }
        let mut packer = writer.packer();
        let mut step = 0;
        loop {
            let packed = packer.turn().unwrap();
            for log in &logs[..1] {
                assert_eq!(read(&engine, *log, 1 << 20), (values.clone(), None));
            }
            if step == disturbed_at {
                turned(&mut writer, engine.trim(logs[1], Offset(33))).unwrap();
                turned(&mut writer, engine.delete(logs[2].set)).unwrap();
            }
            if step > disturbed_at {
                let trimmed = values.range(33..).map(|(o, v)| (*o, v.clone())).collect();
                assert_eq!(read(&engine, logs[1], 1 << 20), (trimmed, None));
            }
            let wrote = writer.turn().unwrap();
            step += 1;
            if !packed && !wrote && step > disturbed_at + 1 {
                break;
            }
        }
        assert!(!names(&disk, ".pack").is_empty(), "{:?}", disk.list());
        let again = Cranked::open(&disk.after_crash(9));
        assert_eq!(
            read(&again.engine, logs[0], 1 << 20),
            (values.clone(), None)
        );
        assert_eq!(read(&again.engine, logs[1], 1 << 20).0.len(), 80 - 33);
    }
}

#[test]
fn a_full_disk_stops_packing_and_not_the_log() {
    let disk = MemDisk::default();
    let mut cranked = Cranked::open(&disk);
    let logs = make(&mut cranked, "t/a", 2, Retention::default());
    for round in 0..60 {
        append(&mut cranked, logs[round % 2], &"x".repeat(3000));
    }
    disk.set_capacity(Some(bytes(&disk) + 1000));
    let end = now(cranked.engine.bounds(logs[0])).unwrap().end;
    for _ in 0..40 {
        let trim = cranked.engine.trim(logs[0], end);
        turned(&mut cranked.writer, trim).unwrap();
        let _ = cranked.packer.turn();
    }
    disk.set_capacity(None);
    assert!(cranked.turn());
    let (found, error) = read(&cranked.engine, logs[1], 1 << 20);
    assert_eq!((found.len(), error), (30, None));
}

#[test]
fn so_many_files_are_open_and_no_more() {
    let disk = MemDisk::default();
    let options = mente_log::Options {
        open_files: 3,
        recent_bytes: 0,
        wal_files: 1000,
        ..crate::driven::small()
    };
    let shared: std::sync::Arc<dyn Disk> = std::sync::Arc::new(disk.clone());
    let reopen = || mente_log::open(shared.clone(), options.clone(), std::sync::Arc::new(|| {}));
    let (engine, mut writer) = reopen().unwrap();
    let name = SetName::new("t/a").unwrap();
    let made = turned(&mut writer, engine.create(&name, 1, LogConfig::default()));
    let log = made.unwrap().log(0);
    for _ in 0..300 {
        let append = engine.append(&[], vec![(log, batch(&[&"x".repeat(3000)]))]);
        turned(&mut writer, append).unwrap();
    }
    assert!(names(&disk, ".wal").len() > 15);
    assert_eq!(read(&engine, log, 5000).0.len(), 300);
    // Beside the readers' files: the one that is written to and one made ahead.
    assert!(disk.open_files() <= 5, "{}", disk.open_files());
    drop((engine, writer));
    let (engine, _writer) = reopen().unwrap();
    assert!(disk.open_files() <= 5, "{}", disk.open_files());
    assert_eq!(read(&engine, log, 5000).0.len(), 300);
}

/// Readers whose file goes between the plan and the reading find it where it went.
#[test]
fn readers_race_with_the_packer() {
    let dir = tempfile::tempdir().unwrap();
    let disk = std::sync::Arc::new(mente_log::RealDisk::open(dir.path()).unwrap());
    let options = mente_log::Options {
        recent_bytes: 0,
        open_files: 1,
        ..crate::driven::small()
    };
    let (engine, mut writer) = mente_log::open(disk, options, std::sync::Arc::new(|| {})).unwrap();
    let name = SetName::new("t/a").unwrap();
    let made = turned(&mut writer, engine.create(&name, 2, LogConfig::default()));
    let logs = [0, 1].map(|index| made.clone().unwrap().log(index));
    let mut packer = writer.packer();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let is_over = || stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over() {
                packer.turn().unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over() {
                    let end = now(engine.bounds(logs[0])).unwrap().end.0;
                    let (found, error) = read(&engine, logs[0], 20_000);
                    assert_eq!(error, None);
                    assert!(
                        found.len() as u64 >= end
                            && found.keys().copied().eq(0..found.len() as u64)
                    );
                }
            });
        }
        for round in 0..1_500 {
            let batches = logs.iter().map(|log| (*log, batch(&[&"x".repeat(700)])));
            let append = engine.append(&[], batches.collect());
            let end = turned(&mut writer, append).unwrap()[1].last.0;
            if round % 7 == 0 {
                turned(&mut writer, engine.trim(logs[1], Offset(end))).unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(
        dir.path()
            .join("00000001.wal")
            .try_exists()
            .is_ok_and(|there| !there)
    );
}
