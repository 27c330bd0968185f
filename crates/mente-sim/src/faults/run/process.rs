//! The process under the run: it opens, acts, stops, and another takes its place.

use std::sync::Arc;

use mente_engine::conformance::batch;
use mente_engine::{Answer, Engine, Error};
use mente_log::{Crash, Disk, Embedded, MemDisk};

use super::{Open, Run, TRIES, now};
use crate::faults::Ending;
use crate::faults::disk::{Actor, FaultyDisk};

impl Run {
    pub(super) fn try_open(&self) -> Result<Open, mente_log::OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk {
            disk: self.disk.clone(),
            calls: self.calls.clone(),
        });
        let options = mente_log::Options {
            file_bytes: 64 << 10,
            wal_files: 3,
            recent_bytes: 1,
            open_files: 3,
            seed: 0xfa17,
            ..mente_log::Options::default()
        };
        self.calls.begin_life();
        self.calls.by(Actor::Opening);
        let (engine, writer) = mente_log::open(disk, options, Arc::new(|| {}))?;
        Ok(Open {
            packer: writer.packer(),
            preparer: writer.preparer(),
            engine,
            writer,
        })
    }

    pub(super) fn start(&mut self) {
        match self.try_open() {
            Ok(open) => self.open = Some(open),
            Err(_) => {
                self.endings.push(Ending::Refused);
                self.restart();
            }
        }
    }

    /// The process is gone; the machine too, in every other run. The disk is healed.
    pub(super) fn restart(&mut self) {
        self.open = None;
        self.disk = self.after_the_end(self.variant);
        match self.try_open() {
            Ok(open) => {
                let wrong = self.history.judge(&open.engine, open.writer.recovered());
                self.tell("after a restart", wrong);
                self.open = Some(open);
            }
            Err(error) => self.broken.push(format!("does not open again: {error}")),
        }
        self.fence = None;
    }

    pub(super) fn after_the_end(&self, variant: u64) -> MemDisk {
        match variant % 2 {
            0 => self.disk.after_kill(),
            _ => {
                let policy = Crash::ALL[(variant / 2) as usize % Crash::ALL.len()];
                let seed = variant.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                self.disk.after_crash_by(policy, seed, None)
            }
        }
    }

    pub(super) fn tell(&mut self, when: &str, wrong: Vec<String>) {
        let told = wrong.into_iter().map(|what| format!("{when}: {what}"));
        self.broken.extend(told);
    }

    /// Lets everybody act until nothing is left to do; false if the log has stopped.
    pub(super) fn turn(&mut self) -> bool {
        let prepares = self.calls.count().is_multiple_of(2);
        loop {
            let Some(open) = &mut self.open else {
                return false;
            };
            self.calls.by(Actor::Writer);
            let Ok(wrote) = open.writer.turn() else {
                return false;
            };
            self.calls.by(Actor::Preparer);
            if prepares && open.writer.wants_file() && open.preparer.turn().is_err() {
                self.endings.push(Ending::Again);
            }
            self.calls.by(Actor::Packer);
            let packed = open.packer.turn().unwrap_or_else(|_| {
                self.endings.push(Ending::Again);
                true
            });
            if !wrote && !packed {
                return true;
            }
        }
    }

    /// A stopped log answers no call, does nothing more, and gives way to another process.
    pub(super) fn after_stop(&mut self) {
        self.endings.push(Ending::Stopped);
        if let (Some(open), Some(log)) = (&mut self.open, self.logs.first()) {
            let before = self.calls.count();
            let late = now(open.engine.append(&[], vec![(*log, batch(&["late"]))]));
            let again = open.writer.turn();
            if !matches!(late, Err(Error::Busy(_))) || again.is_ok() {
                let what = format!("a stopped log goes on: {late:?}, {again:?}");
                self.broken.push(what);
            }
            if self.calls.count() != before {
                let what = "a stopped log uses the disk".into();
                self.broken.push(what);
            }
        }
        self.restart();
    }

    /// Calls until it is done. Whatever is called here may be called twice.
    pub(super) fn persist<T>(&mut self, call: impl Fn(&Embedded, &Self) -> Answer<T>) -> Option<T> {
        for _ in 0..TRIES {
            let open = self.open.as_ref()?;
            let answer = call(&open.engine, self);
            let runs = self.turn();
            let answer = now(answer);
            if !runs {
                self.after_stop();
            }
            match answer {
                Ok(done) => return Some(done),
                Err(Error::Busy(why)) if why.contains("full") => {
                    self.endings.push(Ending::Throttled);
                }
                Err(Error::Busy(_) | Error::Unknown(_)) => {}
                Err(Error::Gone) => return None,
                Err(other) => {
                    self.broken.push(format!("a call was refused: {other}"));
                    return None;
                }
            }
        }
        self.broken.push("it does not go on by itself".into());
        None
    }
}
