//! A backup holds what was acknowledged when it began, whatever happens while it is copied.

use std::sync::Arc;

use mente_engine::conformance::batch;
use mente_engine::engine::Retention;
use mente_engine::{Engine, LogConfig, LogId, Offset, SetName};
use mente_log::{Backup, Disk, MemDisk};

use crate::driven::{Cranked, now};
use crate::packs::{names, read};

/// A directory with the files of a backup.
fn copied(backup: &Backup, mut between: impl FnMut()) -> MemDisk {
    let disk = MemDisk::default();
    for file in backup.files() {
        let made = disk.create(&file.name()).unwrap();
        let mut piece = vec![0xaa; 10_000];
        let mut at = 0;
        while at < file.bytes() {
            let length = (file.bytes() - at).min(10_000) as usize;
            backup.read_at(file, &mut piece[..length], at).unwrap();
            made.write_at(&piece[..length], at).unwrap();
            at += length as u64;
            between();
        }
        made.sync_data().unwrap();
    }
    disk.sync_dir().unwrap();
    disk
}

fn logs(cranked: &mut Cranked) -> Vec<LogId> {
    let make = |name: &str, bytes| {
        let config = LogConfig {
            owned: false,
            retention: Retention { age: None, bytes },
        };
        (SetName::new(name).unwrap(), config)
    };
    let mut made = Vec::new();
    for (name, config) in [make("t/kept", None), make("t/short", Some(40_000))] {
        let set = cranked
            .done(cranked.engine.create(&name, 2, config))
            .unwrap();
        made.extend([set.log(0), set.log(1)]);
    }
    made
}

fn append(cranked: &mut Cranked, log: LogId, number: u64) {
    let value = format!("{number:>1000}");
    let append = cranked.engine.append(&[], vec![(log, batch(&[&value]))]);
    cranked.done(append).unwrap();
}

#[test]
fn a_backup_taken_under_load_is_the_log_as_it_was() {
    let disk = MemDisk::default();
    let mut cranked = Cranked::open(&disk);
    let logs = logs(&mut cranked);
    let (mut number, mut backups) = (0, 0);
    let mut seen_pack = false;
    for round in 0..12 {
        for _ in 0..60 {
            append(&mut cranked, logs[number as usize % 4], number);
            number += 1;
        }
        cranked.writer.enforce(mente_engine::Timestamp(0));
        if round % 2 == 0 {
            cranked.turn();
        }
        let before: Vec<_> = logs.iter().map(|log| contents(&cranked, *log)).collect();
        let backup = cranked.engine.backup().unwrap();
        seen_pack |= backup.files().iter().any(|f| f.name().ends_with(".pack"));
        // Appends, trims and retirements go on while it is copied.
        let mut later = 0;
        let copy = copied(&backup, || {
            if later < 100 {
                append(&mut cranked, logs[later % 4], 1_000_000 + later as u64);
                later += 1;
                cranked.writer.enforce(mente_engine::Timestamp(0));
                cranked.turn();
            }
        });
        drop(backup);
        backups += 1;
        let restored = Cranked::open(&copy);
        assert!(restored.writer.recovered().lost.is_empty(), "round {round}");
        assert!(restored.writer.recovered().damaged.is_empty());
        let after: Vec<_> = logs.iter().map(|log| contents(&restored, *log)).collect();
        assert!(after == before, "round {round}");
    }
    assert!(seen_pack && backups == 12, "the load makes packs");
    // Nothing is pinned any more: what retention let go goes.
    cranked.turn();
    assert!(names(&disk, "").len() < 40, "{:?}", disk.list());
}

type Contents = (Offset, Offset, Vec<String>);

fn contents(cranked: &Cranked, log: LogId) -> Contents {
    let engine: Arc<dyn Engine> = Arc::new(cranked.engine.clone());
    let bounds = now(engine.bounds(log)).unwrap();
    let (values, stopped) = read(&*engine, log, 100_000);
    assert_eq!(stopped, None);
    let inside = values.into_iter().filter(|(at, _)| *at >= bounds.start.0);
    (bounds.start, bounds.end, inside.map(|(_, v)| v).collect())
}
