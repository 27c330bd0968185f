//! Full disks: producers wait, owners go on while the reserve lasts, what lets go of data always does,
//! and all of it resumes alone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use mente_engine::conformance::batch;
use mente_engine::{Engine, Error, Fence, Limit, LogConfig, LogId, Offset, SetName, Takes};
use mente_log::{Disk, DiskFile, MemDisk, Options, Writer};

use crate::driven::{now, open, small, turned};

const FILE: usize = 64 << 10;

fn name() -> SetName {
    SetName::new("test/a").unwrap()
}

#[test]
fn a_full_disk_says_busy_lets_trims_pass_and_resumes_alone() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let log = turned(&mut writer, engine.create(&name(), 1, LogConfig::default()))
        .unwrap()
        .log(0);
    disk.set_capacity(Some(3 * (64 << 10)));
    let mut done = 0;
    loop {
        match turned(&mut writer, engine.append(&[], vec![(log, batch(&["a"]))])) {
            Ok(_) => done += 1,
            Err(error) => {
                assert!(matches!(error, Error::Busy(_)), "{error}");
                break;
            }
        }
        assert!(done < 100);
    }
    let (again, _writer) = open(&disk.after_kill());
    assert_eq!(now(again.bounds(log)).unwrap().end, Offset(done));
    // Who comes up asks for the sets that it has.
    let same = engine.create(&name(), 1, LogConfig::default());
    assert_eq!(turned(&mut writer, same), Ok(log.set));
    let other = SetName::new("test/other").unwrap();
    let other = turned(&mut writer, engine.create(&other, 1, LogConfig::default()));
    assert!(matches!(other, Err(Error::Busy(_))), "{other:?}");
    turned(&mut writer, engine.trim(log, Offset(done))).unwrap();
    for _ in 0..20 {
        turned(&mut writer, engine.append(&[], vec![(log, batch(&["b"]))])).unwrap();
        turned(&mut writer, engine.trim(log, Offset(u64::MAX))).unwrap();
    }
}

/// Twenty times in one life: refused while it is full, taken as soon as there is room, and
/// after a kill everything that was taken is there.
#[test]
fn a_disk_that_is_full_and_has_room_again_loses_nothing() {
    let disk = MemDisk::default();
    let (engine, mut writer) = open(&disk);
    let log = turned(&mut writer, engine.create(&name(), 1, LogConfig::default()))
        .unwrap()
        .log(0);
    let mut taken = 0;
    for round in 0..20 {
        disk.set_capacity(Some((4 + 2 * round) * (64 << 10)));
        loop {
            let append = engine.append(&[], vec![(log, batch(&[&format!("{taken:>2000}")]))]);
            match turned(&mut writer, append) {
                Ok(appended) => assert_eq!(appended[0].base, Offset(taken)),
                Err(Error::Busy(_)) => break,
                Err(other) => panic!("{other}"),
            }
            taken += 1;
        }
        disk.set_capacity(None);
        // A try on a full disk costs a file of zeros, so that not every call is one.
        let resumed = (0..200).any(|_| {
            let append = engine.append(&[], vec![(log, batch(&[&format!("{taken:>2000}")]))]);
            turned(&mut writer, append).is_ok()
        });
        assert!(resumed, "round {round}");
        taken += 1;
    }
    assert!(taken > 200, "{taken}");
    let (engine, _writer) = open(&disk.after_kill());
    let mut from = Offset(0);
    while from < Offset(taken) {
        let chunk = now(engine.read(log, from, Limit::default())).unwrap();
        for batch in &chunk.batches {
            let (offset, record) = batch.records().next().unwrap().unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            assert_eq!(value.trim(), offset.to_string());
        }
        assert!(chunk.next > from);
        from = chunk.next;
    }
    assert_eq!(now(engine.bounds(log)).unwrap().end, Offset(taken));
}

/// Where each commit is as large as it may be, and the last one of them ends where it likes.
#[test]
fn a_full_disk_lets_trims_pass_after_bursts_of_any_size() {
    for size in (100..12_000).step_by(700) {
        let disk = MemDisk::default();
        let (engine, mut writer) = open(&disk);
        let made = engine.create(&name(), 1, LogConfig::default());
        let log = turned(&mut writer, made).unwrap().log(0);
        disk.set_capacity(Some(3 * (64 << 10)));
        let one = batch(&[&"x".repeat(size)]);
        let append = || engine.append(&[], vec![(log, one.clone())]);
        loop {
            let burst: Vec<_> = (0..32).map(|_| append()).collect();
            while writer.turn().unwrap() {}
            let answers: Vec<_> = burst.into_iter().map(now).collect();
            if answers.iter().any(|a| matches!(a, Err(Error::Busy(_)))) {
                break;
            }
            assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        }
        let end = now(engine.bounds(log)).unwrap().end;
        let trimmed = turned(&mut writer, engine.trim(log, end));
        assert_eq!(trimmed, Ok(()), "appends of {size} bytes");
        turned(&mut writer, append()).unwrap();
    }
}

/// A topic and a journal on a disk whose reserve is six files.
struct Shop {
    engine: mente_log::Embedded,
    writer: Writer,
    topic: LogId,
    journal: Fence,
    /// Of the next event and the next decision.
    events: Vec<u64>,
    decisions: u64,
}

impl Shop {
    fn open(disk: &MemDisk) -> Self {
        Self::on(Arc::new(disk.clone()))
    }

    fn on(disk: Arc<dyn Disk>) -> Self {
        let options = Options {
            reserve_bytes: 6 * FILE as u64,
            ..small()
        };
        let (engine, mut writer) = mente_log::open(disk, options, Arc::new(|| {})).unwrap();
        let topic = engine.create(&name(), 1, LogConfig::default());
        let topic = turned(&mut writer, topic).unwrap().log(0);
        let owned = LogConfig {
            owned: true,
            ..LogConfig::default()
        };
        let journal = engine.create(&SetName::new("test/journal").unwrap(), 1, owned);
        let journal = turned(&mut writer, journal).unwrap().log(0);
        let journal = turned(&mut writer, engine.claim(journal)).unwrap();
        Self {
            engine,
            writer,
            topic,
            journal,
            events: Vec::new(),
            decisions: 0,
        }
    }

    fn publish(&mut self) -> Result<(), Error> {
        let value = format!("{:>2000}", self.events.len());
        let append = self
            .engine
            .append(&[], vec![(self.topic, batch(&[&value]))]);
        let appended = turned(&mut self.writer, append)?;
        self.events.push(appended[0].base.0);
        Ok(())
    }

    /// Every so often what lies before is told anew, and goes.
    fn decide(&mut self) -> Result<(), Error> {
        let value = format!("{:>900}", self.decisions);
        let append = vec![(self.journal.log, batch(&[&value]))];
        let append = self.engine.append(&[self.journal], append);
        let at = turned(&mut self.writer, append)?[0].base;
        self.decisions += 1;
        if self.decisions.is_multiple_of(40) {
            turned(&mut self.writer, self.engine.trim(self.journal.log, at))?;
        }
        Ok(())
    }

    fn fill(&mut self) {
        loop {
            match self.publish() {
                Ok(()) => {}
                Err(Error::Busy(_)) => return,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// Twenty times: nothing is published, and who consumes does not notice, however long it takes.
#[test]
fn on_a_full_disk_decisions_go_on_under_one_fence() {
    let disk = MemDisk::default();
    let mut shop = Shop::open(&disk);
    let mut refused = 0;
    for round in 0..20 {
        disk.set_capacity(Some(disk.used_bytes() + (7 + round % 3) * FILE));
        shop.fill();
        let room = shop.engine.room();
        assert_eq!(room.takes, Takes::Decisions, "{room:?}");
        let free = room.free_bytes.unwrap();
        assert!(
            free < 6 * FILE as u64 && free >= 5 * FILE as u64,
            "{room:?}"
        );
        for _ in 0..400 {
            shop.decide().unwrap();
            assert!(matches!(shop.publish(), Err(Error::Busy(_))));
        }
        assert_eq!(shop.engine.room().refused, refused + 401);
        refused += 401;
        if round % 2 == 0 {
            disk.set_capacity(Some(disk.used_bytes() + 20 * FILE));
        } else {
            let end = Offset(shop.events.last().unwrap() + 1);
            turned(&mut shop.writer, shop.engine.trim(shop.topic, end)).unwrap();
        }
        shop.publish().unwrap();
    }
    assert!(shop.decisions == 8_000 && shop.events.len() > 300);
    let start = now(shop.engine.bounds(shop.topic)).unwrap().start;
    let (again, _writer) = open(&disk.after_kill());
    let mut found = Vec::new();
    let mut from = start;
    while from < Offset(shop.events.last().unwrap() + 1) {
        let chunk = now(again.read(shop.topic, from, Limit::default())).unwrap();
        found.extend(chunk.batches.iter().map(|batch| batch.base_offset().0));
        from = chunk.next;
    }
    let kept = shop.events.iter().filter(|offset| **offset >= start.0);
    assert!(kept.eq(&found), "{found:?}");
}

/// Others took all of the disk, the reserve too: an owner that asks first is never refused.
#[test]
fn with_nothing_left_an_owner_is_told_before_its_fence_ends() {
    let disk = MemDisk::default();
    let mut shop = Shop::open(&disk);
    for _ in 0..10 {
        shop.publish().unwrap();
    }
    for round in 0..10 {
        disk.set_capacity(Some(disk.used_bytes() + 1_000));
        let mut decided = 0;
        while shop.engine.room().takes >= Takes::Decisions {
            // None of them is trimmed: nothing dies.
            let append = vec![(shop.journal.log, batch(&[&"d".repeat(900)]))];
            let append = shop.engine.append(&[shop.journal], append);
            turned(&mut shop.writer, append).unwrap();
            decided += 1;
            assert!(decided < 1_000);
        }
        assert!(matches!(shop.publish(), Err(Error::Busy(_))));
        let start = Offset(shop.events[round] + 1);
        turned(&mut shop.writer, shop.engine.trim(shop.topic, start)).unwrap();
        assert_eq!(now(shop.engine.bounds(shop.topic)).unwrap().start, start);
        // Nobody calls: the disk is looked at all the same.
        disk.set_capacity(Some(disk.used_bytes() + 20 * FILE));
        shop.writer.turn().unwrap();
        assert_eq!(shop.engine.room().takes, Takes::Everything);
        shop.decide().unwrap();
        shop.publish().unwrap();
    }
}

/// A server comes up on a disk that is below its reserve: it claims, and makes logs of its own.
#[test]
fn an_owner_comes_up_on_a_full_disk() {
    let disk = MemDisk::default();
    let mut shop = Shop::open(&disk);
    disk.set_capacity(Some(disk.used_bytes() + 5 * FILE));
    shop.fill();
    let disk = disk.after_kill();
    disk.set_capacity(Some(disk.used_bytes() + 3 * FILE));
    let mut again = Shop::open(&disk);
    assert!(again.journal.term > shop.journal.term);
    again.decide().unwrap();
    assert!(matches!(again.publish(), Err(Error::Busy(_))));
    let other = SetName::new("test/other").unwrap();
    let data = again.engine.create(&other, 1, LogConfig::default());
    let refused = turned(&mut again.writer, data);
    assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
    let owned = LogConfig {
        owned: true,
        ..LogConfig::default()
    };
    turned(&mut again.writer, again.engine.create(&other, 1, owned)).unwrap();
}

/// Says that there is room and gives none for a new file, as under a quota.
#[derive(Clone, Debug, Default)]
struct Quota {
    disk: MemDisk,
    is_used_up: Arc<AtomicBool>,
}

impl Disk for Quota {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.is_used_up.load(Relaxed) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.disk.create(name)
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

/// The file that is made ahead once a quota gives room again is seen at once: no fence ends for want of it.
#[test]
fn a_quota_that_gives_room_again_costs_no_fence() {
    for before in [1, 10, 70] {
        let quota = Quota::default();
        let mut shop = Shop::on(Arc::new(quota.clone()));
        quota.is_used_up.store(true, Relaxed);
        shop.fill();
        for _ in 0..before {
            while shop.writer.turn().unwrap() {}
            assert!(matches!(shop.publish(), Err(Error::Busy(_))));
        }
        quota.is_used_up.store(false, Relaxed);
        shop.writer.preparer().turn().unwrap();
        assert_eq!(shop.engine.room().takes, Takes::Everything);
        for decision in 0..200 {
            let decided = shop.decide();
            assert!(
                decided.is_ok(),
                "after {before}, decision {decision}: {decided:?}"
            );
        }
    }
}
