//! What is done to a server while clients work with it: it is killed, its power is cut, it is stopped for
//! a while, its clock is stepped.

use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mente_sim::history::{Op, Phase};

use super::clients::Crowd;
use super::episode::{Faults, KILL, Left, Stage};

/// An episode ends then, so that its history stays small enough to be judged in memory.
const EPISODE: Duration = Duration::from_secs(60);
const FAULTS: u32 = 100;
/// How calm it may be between two faults: storms and lulls.
const CALM: [u64; 4] = [1, 1, 20, 60];
/// What a pause or a step is left to bring about, in milliseconds: locks of a second run out, what was
/// released for a second comes again.
const AFTERMATH_MS: std::ops::Range<u64> = 500..1_500;
/// What the last life has of quiet: longer than a lock of the clients of queues, and than they wait to end one too
/// late. No other life need last as long as a lock does.
const QUIET: Duration = Duration::from_secs(7);
/// How calm it is then: many come to their locks, and the history stays small.
const QUIET_CALM: u64 = 10;
const STEP_SECONDS: std::ops::RangeInclusive<i64> = 300..=3_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The medium's own.
    Own,
    Pause,
    Step,
}

impl Faults {
    /// One of those that are left, but for the step that an episode ends with; each as likely as any.
    fn draw(self, chance: &mut fastrand::Rng) -> Option<Kind> {
        let steps = self.steps.saturating_sub(1);
        let all = self.own + self.pauses + steps;
        if all == 0 {
            return None;
        }
        Some(match chance.u32(0..all) {
            at if at < self.own => Kind::Own,
            at if at < self.own + self.pauses => Kind::Pause,
            _ => Kind::Step,
        })
    }
}

impl Stage {
    /// Faults until the time or their number is over; the server is ready afterwards.
    pub(super) async fn faults(&mut self, mut left: Left, crowd: &mut Crowd) -> Result<Left> {
        let since = Instant::now();
        for _ in 0..FAULTS {
            let kind = match left {
                _ if since.elapsed() > EPISODE => None,
                Left::Time(time) => Some(Kind::Own).filter(|_| since.elapsed() < time),
                Left::Faults(faults) => faults.draw(&mut self.chance),
            };
            let Some(kind) = kind else {
                break;
            };
            crowd.tempo.set(CALM[self.chance.usize(0..CALM.len())]);
            let up = Duration::from_millis(self.chance.u64(20..500));
            tokio::time::sleep(up).await;
            self.check(crowd)?;
            match kind {
                Kind::Own => self.break_down(&mut left).await?,
                Kind::Pause => self.pause().await?,
                Kind::Step => {
                    let is_back = self.chance.bool();
                    self.step(is_back).await?;
                }
            }
            if let Left::Faults(faults) = &mut left {
                match kind {
                    Kind::Own => {}
                    Kind::Pause => faults.pauses -= 1,
                    Kind::Step => faults.steps -= 1,
                }
            }
        }
        crowd.tempo.set(QUIET_CALM);
        tokio::time::sleep(QUIET).await;
        self.check(crowd)?;
        // Back, and no start comes behind it: what waits for the wall clock waits too long now.
        if let Left::Faults(faults) = &mut left
            && faults.steps > 0
        {
            self.step(true).await?;
            faults.steps -= 1;
            self.check(crowd)?;
        }
        Ok(match left {
            Left::Time(time) => Left::Time(time.saturating_sub(since.elapsed())),
            Left::Faults(_) => left,
        })
    }

    /// Nobody ends by himself.
    fn check(&mut self, crowd: &mut Crowd) -> Result<()> {
        crowd.check()?;
        if let Some(status) = self.server.ended()? {
            let said = self.server.last_words();
            bail!("the server ended by itself, {status}:\n{said}");
        }
        Ok(())
    }

    /// A fault of the medium's own, or a kill, until the server is there again.
    async fn break_down(&mut self, left: &mut Left) -> Result<()> {
        let mut fault = self.strike(left).await?;
        // Now and then the next one comes while the server is about to start.
        while self.chance.u32(0..6) == 0 && !matches!(left, Left::Faults(f) if f.own == 0) {
            self.server.begin()?;
            let early = Duration::from_millis(self.chance.u64(0..60));
            tokio::time::sleep(early).await;
            self.told(fault, "", None)?;
            fault = self.strike(left).await?;
        }
        // The last words of the one that is gone are no fault of the next.
        let past = self.said()?;
        let down = Instant::now();
        self.server.restart().await?;
        self.told(fault, &past, Some(down.elapsed()))
    }

    /// On a disk one fault of four is a kill: the next server takes what only the page cache holds
    /// for durable, and the cut that follows proves that it may not.
    async fn strike(&mut self, left: &mut Left) -> Result<&'static str> {
        let is_kill = self.image.is_none() || self.chance.u32(0..4) == 0;
        let fault = if is_kill { KILL } else { self.medium.fault() };
        self.diary.note(Phase::Invoke, &restart(fault))?;
        if let Left::Faults(faults) = left {
            faults.own -= u32::from(fault == self.medium.fault());
        }
        let Some(image) = self.image.as_mut().filter(|_| !is_kill) else {
            let pid = self.server.pid();
            self.server.kill().await?;
            if let Some(clock) = &self.clock {
                clock.sweep(pid);
            }
            return Ok(fault);
        };
        image.cut()?;
        // The server notices by itself, or dies without.
        let late = Duration::from_millis(self.chance.u64(0..30));
        tokio::time::sleep(late).await;
        self.server.kill().await?;
        image.remount()?;
        Ok(fault)
    }

    /// Stands still, and time goes on.
    async fn pause(&mut self) -> Result<()> {
        let longest = self.longest_pause.as_millis() as u64;
        let ms = self.chance.u64(longest.min(1_000)..=longest);
        self.diary.note(Phase::Invoke, &Op::Pause { ms })?;
        self.server.signal("STOP").await?;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.server.signal("CONT").await?;
        self.diary.note(Phase::Ok, &Op::Pause { ms })?;
        self.aftermath().await;
        Ok(())
    }

    async fn step(&mut self, is_back: bool) -> Result<()> {
        let seconds = self.chance.i64(STEP_SECONDS);
        let seconds = if is_back { -seconds } else { seconds };
        let op = Op::Step {
            ms: seconds * 1_000,
        };
        let clock = self.clock.as_mut().context("no clock to step")?;
        self.diary.note(Phase::Invoke, &op)?;
        clock.step(seconds, &self.server.url()).await?;
        self.diary.note(Phase::Ok, &op)?;
        self.aftermath().await;
        Ok(())
    }

    async fn aftermath(&mut self) {
        let wait = Duration::from_millis(self.chance.u64(AFTERMATH_MS));
        tokio::time::sleep(wait).await;
    }

    /// What the server's log has that was not looked at.
    fn said(&mut self) -> Result<String> {
        let mut file = std::fs::File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.log_read))?;
        let mut said = Vec::new();
        self.log_read += file.read_to_end(&mut said)? as u64;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// The server is there again, or was about to.
    fn told(&mut self, how: &str, past: &str, ready: Option<Duration>) -> Result<()> {
        let said = self.said()?;
        let rotten = |line: &&str| line.contains("read-only");
        let is_damage = |line: &&str| {
            // After a fault is over nothing may keep a server from starting but a port that is taken.
            let failed = ready.is_some() && line.starts_with("mente: ");
            rotten(line) || (failed && !line.contains("cannot listen"))
        };
        let damages = past.lines().filter(rotten);
        let damages = damages.chain(said.lines().filter(is_damage));
        let mut op = restart(how);
        if let Op::Restart {
            damaged, ready_us, ..
        } = &mut op
        {
            damaged.extend(damages.map(str::to_owned));
            *ready_us = ready.map(|ready| ready.as_micros() as u64);
        }
        self.diary.note(Phase::Ok, &op)
    }
}

fn restart(how: &str) -> Op {
    Op::Restart {
        how: how.to_owned(),
        damaged: Vec::new(),
        ready_us: None,
    }
}
