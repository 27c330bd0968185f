//! One stretch of work on one medium: a fresh server, clients, faults, and at the end everything is
//! read. What happened stands in the histories alone.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;

use super::clients::{self, Hand, Tempo, Webhook};
use super::history::{Diary, Fault, Op};
use super::power::{FileSystem, Image};
use crate::demo::Server;

/// An episode ends then, so that its history stays small enough to be judged in memory.
const EPISODE: Duration = Duration::from_secs(60);
const FAULTS: u32 = 100;
/// How calm it may be between two faults: storms and lulls.
const CALM: [u64; 4] = [1, 1, 20, 60];
/// How long a client may take to finish what it does.
const FINISH: Duration = Duration::from_secs(60);

/// Where the data lies: a directory, whose server is killed, or a file system, whose power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Directory,
    Disk(FileSystem),
}

impl Medium {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Disk(file_system) => file_system.name(),
        }
    }

    /// What this medium is there for.
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Directory => Fault::Kill,
            Self::Disk(file_system) => file_system.cut(),
        }
    }
}

/// How much is left to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    Time(Duration),
    /// Faults of the medium's own kind.
    Faults(u32),
}

impl Left {
    pub(super) fn is_nothing(self) -> bool {
        matches!(self, Self::Time(Duration::ZERO) | Self::Faults(0))
    }

    fn minus(self, time: Duration, faults: u32) -> Self {
        match self {
            Self::Time(left) => Self::Time(left.saturating_sub(time)),
            Self::Faults(left) => Self::Faults(left.saturating_sub(faults)),
        }
    }
}

/// Runs an episode in `folder`, histories in `folder/history`; answers what is left then.
pub(super) async fn run(folder: &Path, medium: Medium, seed: u64, left: Left) -> Result<Left> {
    let history = folder.join("history");
    std::fs::create_dir_all(&history)
        .with_context(|| format!("cannot make {}", history.display()))?;
    let image = match medium {
        Medium::Directory => None,
        Medium::Disk(file_system) => Some(Image::make(folder, file_system)?),
    };
    let data = image.as_ref().map_or(folder, Image::data).join("data");
    let mut stage = Stage {
        server: Server::start_on(folder, &data, image.is_some()).await?,
        image,
        medium,
        chance: fastrand::Rng::with_seed(seed),
        log: folder.join("server.log"),
        log_read: 0,
        since: Instant::now(),
        history,
        diary: None,
    };
    let left = stage.play(seed, left).await?;
    stage.server.stop().await?;
    if let Some(image) = stage.image {
        image.close().context("after the last cut")?;
    }
    Ok(left)
}

struct Stage {
    // In the order in which they are dropped: nobody may use the image that is unmounted.
    server: Server,
    image: Option<Image>,
    medium: Medium,
    chance: fastrand::Rng,
    log: PathBuf,
    /// Bytes of the server's log that were looked at.
    log_read: u64,
    since: Instant,
    history: PathBuf,
    diary: Option<Diary>,
}

impl Stage {
    /// `number` keeps the hands of one client apart from those of the next.
    fn diary(&self, number: u64, name: &str) -> Result<Diary> {
        Diary::create(&self.history, number * 1_000, name, self.since)
    }

    async fn play(&mut self, seed: u64, left: Left) -> Result<Left> {
        let webhook = Webhook::open(self.diary(1, "webhook")?, seed).await?;
        let url = self.server.url();
        clients::furnish(&url, &webhook.url, &self.diary(2, "furnisher")?).await?;
        self.diary = Some(self.diary(3, "faults")?);
        let tempo = Arc::<Tempo>::default();
        let hand =
            |number, name| Hand::new(&url, self.diary(number, name)?, seed, Arc::clone(&tempo));
        let auditor = hand(4, "auditor")?;
        let drainer = hand(5, "drainer")?;
        let mut work: JoinSet<Result<()>> = JoinSet::new();
        for number in 10..14 {
            work.spawn(clients::publish(hand(number, "publisher")?));
        }
        for number in 20..23 {
            work.spawn(clients::consume(hand(number, "consumer")?));
        }
        for number in 30..33 {
            work.spawn(clients::append(hand(number, "appender")?));
        }
        work.spawn(clients::follow(hand(40, "reader")?));
        work.spawn(clients::fill(hand(50, "ballast")?));
        let left = self.faults(left, &mut work, &tempo).await?;
        tempo.stop();
        let finish = async {
            while let Some(ended) = work.join_next().await {
                ended.context("a client panicked")??;
            }
            anyhow::Ok(())
        };
        let finished = tokio::time::timeout(FINISH, finish).await;
        finished.context("a client does not come to its end")??;
        clients::drain(&drainer).await?;
        clients::audit(&auditor).await?;
        Ok(left)
    }

    /// Faults until the time or their number is over; the server is ready afterwards.
    async fn faults(
        &mut self,
        left: Left,
        work: &mut JoinSet<Result<()>>,
        tempo: &Tempo,
    ) -> Result<Left> {
        let since = Instant::now();
        let mut done = 0;
        loop {
            tempo.set(CALM[self.chance.usize(0..CALM.len())]);
            let up = Duration::from_millis(self.chance.u64(20..500));
            tokio::time::sleep(up).await;
            if let Some(ended) = work.try_join_next() {
                ended.context("a client panicked")??;
                bail!("a client ended before the work was over");
            }
            if let Some(status) = self.server.ended()? {
                let said = self.server.last_words();
                bail!("the server ended by itself, {status}:\n{said}");
            }
            let is_over = |done| {
                let left = left.minus(since.elapsed(), done);
                left.is_nothing() || since.elapsed() > EPISODE || done >= FAULTS
            };
            let mut fault = self.strike().await?;
            done += u32::from(fault == self.medium.fault());
            // Now and then the next one comes while the server is about to start.
            while !is_over(done) && self.chance.u32(0..6) == 0 {
                self.server.begin()?;
                let early = Duration::from_millis(self.chance.u64(0..60));
                tokio::time::sleep(early).await;
                self.told(fault, "", None)?;
                fault = self.strike().await?;
                done += u32::from(fault == self.medium.fault());
            }
            // The last words of the one that is gone are no fault of the next.
            let past = self.said()?;
            let down = Instant::now();
            self.server.restart().await?;
            self.told(fault, &past, Some(down.elapsed()))?;
            if is_over(done) {
                return Ok(left.minus(since.elapsed(), done));
            }
        }
    }

    /// On a disk one fault of four is a kill: the next server takes what only the page cache holds
    /// for durable, and the cut that follows proves that it may not.
    async fn strike(&mut self) -> Result<Fault> {
        let Some(image) = &mut self.image else {
            self.server.kill().await?;
            return Ok(Fault::Kill);
        };
        if self.chance.u32(0..4) == 0 {
            self.server.kill().await?;
            return Ok(Fault::Kill);
        }
        image.cut()?;
        // The server notices by itself, or dies without.
        let late = Duration::from_millis(self.chance.u64(0..30));
        tokio::time::sleep(late).await;
        self.server.kill().await?;
        image.remount()?;
        Ok(self.medium.fault())
    }

    /// What the server's log has that was not looked at.
    fn said(&mut self) -> Result<String> {
        let mut file = std::fs::File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.log_read))?;
        let mut said = Vec::new();
        self.log_read += file.read_to_end(&mut said)? as u64;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    fn told(&mut self, how: Fault, past: &str, ready: Option<Duration>) -> Result<()> {
        let said = self.said()?;
        let rotten = |line: &&str| line.contains("read-only");
        let is_damage = |line: &&str| {
            // After a fault is over nothing may keep a server from starting but a port that is taken.
            let failed = ready.is_some() && line.starts_with("mente: ");
            rotten(line) || (failed && !line.contains("cannot listen"))
        };
        let damaged = past.lines().filter(rotten);
        let damaged = damaged.chain(said.lines().filter(is_damage));
        let restart = Op::Restart {
            how,
            damaged: damaged.map(str::to_owned).collect(),
            ready_us: ready.map(|ready| ready.as_micros() as u64),
        };
        match &self.diary {
            Some(diary) => diary.tell(&restart),
            None => Ok(()),
        }
    }
}
