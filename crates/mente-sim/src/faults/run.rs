//! The run of which every call fails once: three lives of a log that makes sets, appends, claims, trims,
//! retires, packs, changes files, is read and backed up, loses power in a commit, and is closed twice.

mod process;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mente_engine::conformance::batch;
use mente_engine::engine::Retention;
use mente_engine::{
    Answer, Appended, Engine, Error, Fence, LogConfig, LogId, Offset, SetId, SetName, Timestamp,
};
use mente_log::{Crash, Embedded, MemDisk, Packer, Preparer, Writer};

use super::disk::{Actor, Calls, Site};
use super::history::{Found, History};
use super::{Ending, promised};

const ROUNDS: u32 = 36;
/// So often a call is made again that was refused for want of space: a full disk is not tried each time.
const TRIES: u32 = 200;

/// How a run went.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) sites: Vec<Site>,
    /// The first thing that was noticed.
    pub(super) ending: Ending,
    pub(super) broken: Vec<String>,
}

struct Run {
    calls: Calls,
    disk: MemDisk,
    /// Picks what a crash leaves.
    variant: u64,
    open: Option<Open>,
    history: History,
    logs: Vec<LogId>,
    fence: Option<Fence>,
    endings: Vec<Ending>,
    broken: Vec<String>,
}

struct Open {
    engine: Embedded,
    writer: Writer,
    packer: Packer,
    preparer: Preparer,
}

/// What a call that needs no waking has to say now.
pub(super) fn now<T>(answer: Answer<T>) -> Result<T, Error> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::Unknown("never answered".into())),
    }
}

/// Runs to the end, whatever fails on the way.
pub(super) fn canonical(calls: &Calls, variant: u64) -> Ran {
    let mut run = Run {
        calls: calls.clone(),
        disk: MemDisk::default(),
        variant,
        open: None,
        history: History::default(),
        logs: Vec::new(),
        fence: None,
        endings: Vec::new(),
        broken: Vec::new(),
    };
    run.start();
    run.declare();
    (0..ROUNDS).for_each(|round| run.round(round));
    run.pull_the_plug();
    run.start();
    run.look();
    (ROUNDS..ROUNDS + 6).for_each(|round| run.round(round));
    run.close();
    run.start();
    run.look();
    run.round(ROUNDS + 6);
    run.churn();
    run.close();
    run.look_at_what_is_left();
    Ran {
        sites: calls.sites(),
        ending: run.endings.first().copied().unwrap_or(Ending::Nothing),
        broken: run.broken,
    }
}

impl Run {
    fn make(&mut self, name: &str, logs: u32, config: LogConfig) -> Option<SetId> {
        let name = SetName::new(name).expect("a name");
        let set = self.persist(|engine, _| engine.create(&name, logs, config))?;
        for index in 0..logs {
            self.history.logs.entry(set.log(index)).or_default();
            self.logs.push(set.log(index));
        }
        Some(set)
    }

    fn declare(&mut self) {
        let owned = LogConfig {
            owned: true,
            ..LogConfig::default()
        };
        let short = LogConfig {
            retention: Retention {
                age: None,
                bytes: Some(9_000),
            },
            ..LogConfig::default()
        };
        self.make("t/a", 2, LogConfig::default());
        self.make("t/b", 1, owned);
        self.make("t/short", 1, short);
    }

    fn round(&mut self, round: u32) {
        if self.logs.len() < 4 {
            return self.broken.push("sets were not made".into());
        }
        let owned = self.logs[2];
        if self.fence.is_none() {
            self.fence = self.persist(|engine, _| engine.claim(owned));
        }
        let mut sent = Vec::new();
        for log in self.logs.clone() {
            for part in 0..=round % 2 {
                let filling = "x".repeat((round * 151 % 3600) as usize);
                sent.push((log, format!("round {round} part {part} {filling}")));
            }
        }
        self.append(&sent);
        if round % 3 == 2 {
            self.trim(self.logs[(round % 2) as usize]);
        }
        if round % 4 == 3 {
            self.enforce();
        }
        if round == 10 {
            self.make_and_delete();
        }
        if round % 6 == 5 {
            self.look();
        }
        if round == 20 {
            self.back_up();
        }
    }

    /// Appends each value, and again under another name what was refused, until all is there.
    fn append(&mut self, sent: &[(LogId, String)]) {
        let mut left: Vec<_> = sent.to_vec();
        for attempt in 0..TRIES {
            let Some(open) = &self.open else { return };
            let calls: Vec<_> = left
                .iter()
                .map(|(log, value)| {
                    let value = format!("try {attempt} {value}");
                    let fences: Vec<_> = self.fence.into_iter().filter(|f| f.log == *log).collect();
                    let answer = open.engine.append(&fences, vec![(*log, batch(&[&value]))]);
                    (*log, value, answer)
                })
                .collect();
            for (log, value, _) in &calls {
                let told = self.history.logs.entry(*log).or_default();
                told.sent.insert(value.clone());
            }
            let runs = self.turn();
            let again: Vec<bool> = calls
                .into_iter()
                .map(|(log, value, answer)| self.answered(log, value, now(answer)))
                .collect();
            if !runs {
                self.after_stop();
            }
            let mut again = again.into_iter();
            left.retain(|_| again.next().unwrap_or_default());
            if left.is_empty() {
                return;
            }
            if self.fence.is_none() {
                let owned = self.logs[2];
                self.fence = self.persist(|engine, _| engine.claim(owned));
            }
        }
        self.broken.push("appends are refused for ever".into());
    }

    /// Whether to send it again.
    fn answered(
        &mut self,
        log: LogId,
        value: String,
        answer: Result<Vec<Appended>, Error>,
    ) -> bool {
        let told = self.history.logs.entry(log).or_default();
        match answer {
            Ok(appended) => {
                if told.acked.insert(appended[0].base.0, value).is_some() {
                    let what = format!("an offset of {log} was given twice");
                    self.broken.push(what);
                }
                false
            }
            // Perhaps it is there.
            Err(Error::Unknown(_)) => {
                self.fence = None;
                false
            }
            Err(error) => {
                if matches!(&error, Error::Busy(why) if why.contains("full")) {
                    self.endings.push(Ending::Throttled);
                }
                told.refused.insert(value);
                if self.fence.is_some_and(|fence| fence.log == log) {
                    self.fence = None;
                }
                true
            }
        }
    }

    fn trim(&mut self, log: LogId) {
        let Some(open) = &self.open else { return };
        let Ok(bounds) = now(open.engine.bounds(log)) else {
            return;
        };
        let before = Offset(bounds.end.0.saturating_sub(3));
        self.history.logs.entry(log).or_default().trim(before);
        self.persist(|engine, _| engine.trim(log, before));
    }

    /// Files in which nothing is live in the end.
    fn churn(&mut self) {
        let log = self.logs[0];
        for round in 0..24 {
            let filling = "x".repeat(12_000);
            self.append(&[(log, format!("churn {round} {filling}"))]);
            self.trim(log);
        }
    }

    fn enforce(&mut self) {
        let Some(open) = &mut self.open else { return };
        let short = self.logs[3];
        if let Ok(bounds) = now(open.engine.bounds(short)) {
            self.history.logs.entry(short).or_default().trim(bounds.end);
        }
        open.writer.enforce(Timestamp(0));
        if !self.turn() {
            self.after_stop();
        }
    }

    fn make_and_delete(&mut self) {
        let name = SetName::new("t/gone").expect("a name");
        let set = self.persist(|engine, _| engine.create(&name, 1, LogConfig::default()));
        let Some(set) = set else { return };
        self.persist(|engine, _| engine.delete(set));
        self.history.deleted.insert(name);
    }

    /// Reads everything; who is told of an error asks again.
    fn look(&mut self) {
        for log in self.logs.clone() {
            let Some(open) = &self.open else { return };
            self.calls.by(Actor::Reader);
            let found = Found::read(&open.engine, log).or_else(|error| {
                if matches!(error, Error::Busy(_) | Error::Unreadable(_)) {
                    self.endings.push(Ending::Told);
                }
                Found::read(&open.engine, log)
            });
            match found {
                Ok(found) => {
                    let wrong = self.history.logs[&log].judge(log, &found);
                    self.tell("in life", wrong);
                }
                Err(error) => self.broken.push(format!("{log} cannot be read: {error}")),
            }
        }
    }

    fn back_up(&mut self) {
        self.calls.by(Actor::Backup);
        let Some(open) = &self.open else { return };
        let copy = copy(&open.engine).or_else(|_| {
            self.endings.push(Ending::Told);
            copy(&open.engine)
        });
        let copy = copy.map(|copy| {
            mente_log::open(
                Arc::new(copy),
                mente_log::Options::default(),
                Arc::new(|| {}),
            )
        });
        match copy {
            Ok(Ok((engine, writer))) => {
                let wrong = self.history.judge(&engine, writer.recovered());
                self.tell("in the backup", wrong);
            }
            Ok(Err(error)) => self.broken.push(format!("a backup does not open: {error}")),
            Err(error) => self.broken.push(format!("no backup: {error}")),
        }
    }

    /// The power goes when a commit is written and not synced: its last write is torn.
    fn pull_the_plug(&mut self) {
        let Some(open) = &self.open else { return };
        let value = format!("torn {}", "x".repeat(9_000));
        let log = self.logs[0];
        let torn = open.engine.append(&[], vec![(log, batch(&[&value]))]);
        let told = self.history.logs.entry(log).or_default();
        told.sent.insert(value);
        self.disk.cut_power_at(self.disk.ops() + 1);
        let runs = self.turn();
        let hit = self.calls.hit();
        let may_stop = hit.is_some_and(|(s, f)| promised(s, f).contains(&Ending::Stopped));
        match now(torn) {
            Ok(_) => self.broken.push("acknowledged without power".into()),
            Err(_) if runs => self.broken.push("a log that goes on without power".into()),
            // The run comes to its end here, by the power, or by a fault that may stop it and came before.
            Err(_) if may_stop && self.endings.is_empty() => self.endings.push(Ending::Stopped),
            Err(_) => {}
        }
        self.open = None;
        let tear = Crash::ALL[9];
        self.disk = self.disk.after_crash_by(tear, 0x7ea5, None);
        self.fence = None;
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.calls.by(Actor::Closing);
        if open.writer.close().is_err() {
            self.endings.push(Ending::NotClosed);
        }
        self.fence = None;
    }

    /// After everything: once more as after a kill, and as after a power cut.
    fn look_at_what_is_left(&mut self) {
        for variant in [0, 2 * self.variant + 1] {
            let disk = self.after_the_end(variant);
            let opened = mente_log::open(
                Arc::new(disk),
                mente_log::Options::default(),
                Arc::new(|| {}),
            );
            match opened {
                Ok((engine, writer)) => {
                    let wrong = self.history.judge(&engine, writer.recovered());
                    self.tell("at last", wrong);
                }
                Err(error) => self.broken.push(format!("does not open at last: {error}")),
            }
        }
    }
}

/// A directory with the files of a backup.
fn copy(engine: &Embedded) -> std::io::Result<MemDisk> {
    let backup = engine.backup()?;
    let disk = MemDisk::default();
    for file in backup.files() {
        let mut bytes = vec![0; file.bytes() as usize];
        for (piece, at) in bytes.chunks_mut(16 << 10).zip((0..).step_by(16 << 10)) {
            backup.read_at(file, piece, at)?;
        }
        disk.plant(&file.name(), bytes);
    }
    Ok(disk)
}
