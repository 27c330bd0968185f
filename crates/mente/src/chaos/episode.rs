//! One stretch of work on one medium: a fresh server, clients, faults (`faults.rs`), and at the end
//! everything is read. What happened stands in the histories alone.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::clients::{Crowd, Diaries, Doors};
use super::clock::WallClock;
use super::diary::Diary;
use super::power::{FileSystem, Image};
use crate::demo::{Server, Surroundings};

/// What histories call a kill.
pub(super) const KILL: &str = "kill";

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

    /// What this medium is there for, as histories call it.
    pub(super) fn fault(self) -> &'static str {
        match self {
            Self::Directory => KILL,
            Self::Disk(file_system) => file_system.cut(),
        }
    }
}

/// What a server goes through, and how much of it is left.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    /// Faults of the medium's own kind.
    Time(Duration),
    Faults(Faults),
}

/// So many of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Of the medium's own.
    pub(super) own: u32,
    pub(super) pauses: u32,
    /// Of the wall clock.
    pub(super) steps: u32,
}

impl Left {
    pub(super) fn is_nothing(self) -> bool {
        match self {
            Self::Time(time) => time.is_zero(),
            Self::Faults(faults) => faults == Faults::default(),
        }
    }
}

/// How pauses and steps are made, and in what.
#[derive(Clone, Debug, Default)]
pub(super) struct Means {
    pub(super) longest_pause: Duration,
    /// The library that steps clocks, if one is to be stepped.
    pub(super) library: Option<PathBuf>,
    /// More of the server's environment.
    pub(super) variables: Vec<(&'static str, OsString)>,
}

/// Runs an episode in `folder`, histories in `folder/history`; answers what is left then.
pub(super) async fn run(
    folder: &Path,
    medium: Medium,
    seed: u64,
    left: Left,
    means: &Means,
) -> Result<Left> {
    let history = folder.join("history");
    std::fs::create_dir_all(&history)
        .with_context(|| format!("cannot make {}", history.display()))?;
    let image = match medium {
        Medium::Directory => None,
        Medium::Disk(file_system) => Some(Image::make(folder, file_system)?),
    };
    let Faults { pauses, steps, .. } = match left {
        Left::Faults(faults) => faults,
        Left::Time(_) => Faults::default(),
    };
    let library = means.library.as_deref().filter(|_| steps > 0);
    let clock = library.map(|library| WallClock::make(library, folder));
    let clock = clock.transpose()?;
    let mut variables = means.variables.clone();
    variables.extend(clock.iter().flat_map(WallClock::variables));
    let surroundings = Surroundings {
        // What holds a mount or stands still must not outlive us.
        is_tied: image.is_some() || pauses > 0,
        has_queues: true,
        variables,
        ..Surroundings::default()
    };
    let data = image.as_ref().map_or(folder, Image::data).join("data");
    let since = Instant::now();
    let diaries = Diaries {
        folder: history,
        since,
    };
    let mut stage = Stage {
        server: Server::start_in(folder, &data, surroundings).await?,
        image,
        clock,
        medium,
        longest_pause: means.longest_pause,
        chance: fastrand::Rng::with_seed(seed),
        log: folder.join("server.log"),
        log_read: 0,
        diary: diaries.open(3, "faults")?,
        diaries,
    };
    let left = stage.play(seed, left).await?;
    let pid = stage.server.pid();
    stage.server.stop().await?;
    if let Some(clock) = &stage.clock {
        clock.sweep(pid);
    }
    if let Some(image) = stage.image {
        image.close().context("after the last cut")?;
    }
    Ok(left)
}

pub(super) struct Stage {
    // In the order in which they are dropped: nobody may use the image that is unmounted.
    pub(super) server: Server,
    pub(super) image: Option<Image>,
    /// If it is to be stepped.
    pub(super) clock: Option<WallClock>,
    pub(super) medium: Medium,
    pub(super) longest_pause: Duration,
    pub(super) chance: fastrand::Rng,
    pub(super) log: PathBuf,
    /// Bytes of the server's log that were looked at.
    pub(super) log_read: u64,
    diaries: Diaries,
    /// Where what is done to the server stands.
    pub(super) diary: Diary,
}

impl Stage {
    async fn play(&mut self, seed: u64, left: Left) -> Result<Left> {
        let doors = Doors::of(std::iter::once(&self.server))?;
        let mut crowd = Crowd::open(&doors, Ipv4Addr::LOCALHOST, &self.diaries, seed).await?;
        let left = self.faults(left, &mut crowd).await?;
        crowd.finish().await?;
        Ok(left)
    }
}
