//! Power cuts before every operation, tears of the last commit at every byte, and crashes of
//! the recovery itself. After each: everything acknowledged is there, nothing else but what was
//! called is, offsets are not used again, and the log opens and goes on.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use mente_engine::conformance::batch;
use mente_engine::{Answer, Appended, Engine, Fence, Limit, LogConfig, LogId, Offset, SetName};
use mente_log::{Embedded, MemDisk};

use crate::driven::{Cranked, now, try_open};

/// What a script called and what it was told.
#[derive(Clone, Default)]
struct History {
    logs: Vec<LogId>,
    /// Every value that was ever sent to a log.
    sent: BTreeMap<LogId, Vec<String>>,
    acked: BTreeMap<LogId, BTreeMap<u64, String>>,
    /// Highest trim that was called; what lies below may be gone.
    trimmed: BTreeMap<LogId, u64>,
    fence: Option<Fence>,
}

type Sent = (LogId, String, Answer<Vec<Appended>>);

fn ready<T>(answer: &mut Answer<T>) -> Option<Result<T, mente_engine::Error>> {
    match pin!(answer)
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

impl History {
    fn append(&mut self, engine: &Embedded, log: LogId, value: String) -> Sent {
        let fences: Vec<_> = self.fence.into_iter().filter(|f| f.log == log).collect();
        let answer = engine.append(&fences, vec![(log, batch(&[&value]))]);
        self.sent.entry(log).or_default().push(value.clone());
        (log, value, answer)
    }

    fn settle(&mut self, sent: Vec<Sent>) {
        for (log, value, mut answer) in sent {
            if let Some(Ok(appended)) = ready(&mut answer) {
                let acked = self.acked.entry(log).or_default();
                assert!(acked.insert(appended[0].base.0, value).is_none());
            }
        }
    }

    /// Makes two sets, writes to them in groups, trims, retires files; stops where the power does.
    fn run(&mut self, cranked: &mut Cranked, rounds: usize) -> Option<()> {
        let owned = LogConfig {
            owned: true,
            ..LogConfig::default()
        };
        for (name, logs, config) in [("t/a", 2, LogConfig::default()), ("t/b", 1, owned)] {
            let mut made = cranked
                .engine
                .create(&SetName::new(name).unwrap(), logs, config);
            cranked.turn();
            let set = ready(&mut made)?.ok()?;
            self.logs.extend((0..logs).map(|index| set.log(index)));
        }
        let mut claim = cranked.engine.claim(self.logs[2]);
        cranked.turn();
        self.fence = Some(ready(&mut claim)?.ok()?);
        for round in 0..rounds {
            let mut sent = Vec::new();
            for log in self.logs.clone() {
                for i in 0..=round % 2 {
                    let value =
                        format!("{log} round {round} {i} {}", "x".repeat(round * 151 % 3600));
                    sent.push(self.append(&cranked.engine, log, value));
                }
            }
            let alive = cranked.turn();
            self.settle(sent);
            if !alive {
                return None;
            }
            if round % 3 == 2 {
                self.trim(cranked, self.logs[round % 2])?;
            }
        }
        Some(())
    }

    fn trim(&mut self, cranked: &mut Cranked, log: LogId) -> Option<()> {
        let before = now(cranked.engine.bounds(log))
            .ok()?
            .end
            .0
            .saturating_sub(3);
        self.trimmed.insert(log, before);
        let mut trim = cranked.engine.trim(log, Offset(before));
        cranked.turn();
        ready(&mut trim)?.ok()
    }

    /// What is there after a crash, against what was told: at once, and after the log has
    /// retired what it could.
    fn check(&self, cranked: &mut Cranked, seed: u64) {
        assert_eq!(cranked.writer.recovered().damaged, [], "seed {seed}");
        assert!(cranked.writer.recovered().lost.is_empty(), "seed {seed}");
        self.check_values(&cranked.engine, seed);
        assert!(cranked.turn(), "seed {seed}");
        self.check_values(&cranked.engine, seed);
        let Some(fence) = self.fence else { return };
        let claim = cranked.engine.claim(fence.log);
        let later = cranked.done(claim).expect("claimed");
        assert!(
            later.term > fence.term && later.at > fence.at,
            "seed {seed}"
        );
        let last = self
            .acked
            .get(&fence.log)
            .and_then(|acked| acked.keys().next_back());
        assert!(
            last.is_none_or(|last| later.at.0 > *last),
            "an offset again, seed {seed}"
        );
    }

    fn check_values(&self, engine: &Embedded, seed: u64) {
        for log in &self.logs {
            let found = read(engine, *log);
            let trimmed = self.trimmed.get(log).copied().unwrap_or(0);
            for (offset, value) in self.acked.get(log).into_iter().flatten() {
                if *offset >= trimmed {
                    assert_eq!(found.get(offset), Some(value), "lost, seed {seed}");
                }
            }
            let sent = self.sent.get(log).map_or(&[][..], Vec::as_slice);
            assert!(
                found.values().all(|v| sent.contains(v)),
                "invented, seed {seed}"
            );
            let mut values: Vec<_> = found.values().collect();
            values.sort();
            values.dedup();
            assert_eq!(values.len(), found.len(), "twice, seed {seed}");
        }
    }
}

fn read(engine: &Embedded, log: LogId) -> BTreeMap<u64, String> {
    let bounds = now(engine.bounds(log)).unwrap();
    let (mut from, mut found) = (bounds.start, BTreeMap::new());
    while from < bounds.end {
        let chunk = now(engine.read(log, from, Limit::default())).unwrap();
        for batch in chunk.batches.iter().filter(|b| b.term().is_none()) {
            let (offset, record) = batch.records().next().unwrap().unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.insert(offset.0, value);
        }
        from = chunk.next;
    }
    found
}

/// Runs the script until the power goes before operation `op`; `None` if it never went.
fn run_until(op: u64, rounds: usize) -> (MemDisk, History, bool) {
    let disk = MemDisk::default();
    disk.cut_power_at(op);
    let mut history = History::default();
    let finished = Cranked::try_open(&disk)
        .ok()
        .and_then(|mut cranked| history.run(&mut cranked, rounds))
        .is_some();
    (disk, history, finished)
}

fn seeds(of: u64, count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(move |i| (of * 1000 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[test]
fn power_cut_before_every_operation() {
    for op in 0.. {
        let (disk, history, finished) = run_until(op, 40);
        for seed in seeds(op, 6) {
            let after = disk.after_crash(seed);
            history.check(&mut Cranked::open(&after), seed);
        }
        if finished {
            let names = mente_log::Disk::list(&disk).unwrap();
            assert!(names.iter().any(|name| name.ends_with(".pack")));
            assert!(
                op > 150 && disk.contents("00000002.wal").is_none(),
                "{op}: {names:?}"
            );
            break;
        }
    }
}

#[test]
fn power_cut_again_during_recovery() {
    for op in (0..).step_by(7) {
        let (disk, history, finished) = run_until(op, 32);
        for seed in seeds(op, 2) {
            let first = disk.after_crash(seed);
            for second_op in 0.. {
                let second = first.after_kill();
                second.cut_power_at(second_op);
                let opened = try_open(&second).is_ok();
                let after = second.after_crash(seed ^ second_op << 7);
                history.check(&mut Cranked::open(&after), seed);
                if opened {
                    break;
                }
            }
        }
        if finished {
            let names = mente_log::Disk::list(&disk).unwrap();
            assert!(names.iter().any(|name| name.ends_with(".pack")));
            break;
        }
    }
}

#[test]
fn a_crash_after_a_crash_keeps_what_was_written_between() {
    for op in (3..120).step_by(3) {
        let (disk, mut history, _) = run_until(op, 12);
        for seed in seeds(op, 2) {
            let between = disk.after_crash(seed);
            let mut cranked = Cranked::open(&between);
            history.check(&mut cranked, seed);
            let mut history = history.clone();
            if let Some(log) = history.logs.first().copied() {
                let sent = history.append(&cranked.engine, log, format!("between {op} {seed}"));
                assert!(cranked.turn());
                history.settle(vec![sent]);
            }
            history.fence = None;
            history.check(&mut Cranked::open(&between.after_crash(seed + 1)), seed);
        }
        history.fence = None;
    }
}

/// The bytes of the file that holds the end of the log, after each round of a script.
#[test]
fn cut_at_every_byte_of_the_last_commits() {
    let disk = MemDisk::default();
    let mut cranked = Cranked::open(&disk);
    let mut history = History::default();
    history.run(&mut cranked, 2).unwrap();
    let file = "00000001.wal";
    let mut states = vec![(disk.contents(file).unwrap(), history.clone())];
    for round in 0..3 {
        let mut sent = Vec::new();
        for log in history.logs.clone() {
            sent.push(history.append(&cranked.engine, log, format!("{log} late {round}")));
        }
        assert!(cranked.turn());
        history.settle(sent);
        states.push((disk.contents(file).unwrap(), history.clone()));
    }
    let (before, acked_before) = &states[1];
    let (whole, last) = &states[3];
    let from = (0..whole.len())
        .find(|at| before[*at] != whole[*at])
        .unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 2;
    for cut in from..=end {
        for gone in [false, true] {
            let mut bytes = whole.clone();
            if gone {
                bytes.truncate(cut);
            } else {
                bytes[cut..].fill(0);
            }
            let after = MemDisk::default();
            after.plant(file, bytes);
            // Acknowledged: every state whose bytes are all there.
            let mut whole_states = states.iter().filter(|(bytes, _)| {
                let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
                end < cut
            });
            let mut expected = whole_states
                .next_back()
                .map_or(acked_before, |(_, h)| h)
                .clone();
            expected.sent = last.sent.clone();
            let mut cranked = Cranked::open(&after);
            if gone {
                // No power cut takes the size that a file was made with: what is told is rot.
                let damaged = &cranked.writer.recovered().damaged;
                assert!(damaged.iter().any(|damage| damage.log.is_none()));
                expected.check_values(&cranked.engine, cut as u64);
            } else {
                expected.check(&mut cranked, cut as u64);
            }
        }
    }
}
