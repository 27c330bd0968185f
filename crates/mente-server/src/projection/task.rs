//! The life of one projection: open, follow, rebuild, fail, go on.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mente_broker::EntityName;
use tokio::sync::{RwLock, mpsc};

use super::database::{Checkpoints, Database, Mode, Owner};
use super::declaration::Declaration;
use super::files::{self, Files};
use super::follow::{Follower, Until};
use super::sandbox::Rules;
use super::source::Reader;
use super::status::{Failure, State};
use super::writer::{Alive, Progress};

/// Wait before what failed in passing is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Rebuild,
    Resume,
}

/// What a task shows of itself.
#[derive(Debug, Default)]
pub(super) struct Board {
    shown: Mutex<Shown>,
    live: Progress,
    side: Progress,
}

#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) error: Option<Failure>,
    pub(super) rebuilds: u64,
}

pub(super) struct Task {
    pub(super) name: EntityName,
    pub(super) declaration: Arc<Declaration>,
    pub(super) reader: Reader,
    pub(super) files: Files,
    pub(super) board: Arc<Board>,
    /// Shared by readers of the live file; a swap needs it alone.
    pub(super) gate: Arc<RwLock<()>>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) alive: Alive,
}

impl Task {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        // A file under construction means that a rebuild was cut off.
        let mut rebuild = self.files.rebuild.exists();
        loop {
            let Err(failure) = self.live(&mut rebuild).await else {
                continue;
            };
            let retry = failure.retry;
            tracing::warn!(projection = %self.name, %failure, retry, "projection stopped");
            self.board.fail(failure);
            let command = if retry {
                tokio::time::timeout(RETRY, self.command()).await.ok()
            } else {
                Some(self.command().await)
            };
            if let Some(command) = command {
                rebuild = command == Command::Rebuild;
            }
        }
    }

    /// One life, until a failure, a command or a swap.
    async fn live(&mut self, rebuild: &mut bool) -> Result<(), Failure> {
        let identity = self.reader.identity().await?;
        let owner = Owner {
            name: self.name.clone(),
            declaration: Arc::clone(&self.declaration),
            source: identity.clone(),
        };
        let live = match self.open_live(owner.clone(), *rebuild).await {
            Ok(live) => live,
            // What cannot be opened is replaced.
            Err(failure) if *rebuild && !failure.retry => None,
            Err(failure) => return Err(failure),
        };
        let live = match live {
            Some(live) => Some(self.follower(&identity, live, &self.board.live)?),
            None => None,
        };
        match live {
            Some(live) if !*rebuild => self.follow(live, rebuild).await,
            live => {
                *rebuild = true;
                self.rebuild(owner, live, rebuild).await
            }
        }
    }

    async fn follow(&mut self, mut live: Follower, rebuild: &mut bool) -> Result<(), Failure> {
        self.board.show(State::Running);
        let command = tokio::select! {
            ended = live.follow(Until::Forever) => return ended,
            command = self.command() => command,
        };
        *rebuild = command == Command::Rebuild;
        live.finish().await.map(|_| ())
    }

    /// Builds a file beside the live one, which goes on following meanwhile; then swaps.
    async fn rebuild(
        &mut self,
        owner: Owner,
        mut live: Option<Follower>,
        rebuild: &mut bool,
    ) -> Result<(), Failure> {
        self.board.show(State::Rebuilding);
        let identity = owner.source.clone();
        let side = self.open_side(owner.clone()).await?;
        let mut side = self.follower(&identity, side, &self.board.side)?;
        let following = async {
            if let Some(live) = &mut live {
                // Its failure shows again when it is opened the next time.
                let _ = live.follow(Until::Forever).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            built = side.follow(Until::CaughtUp) => built?,
            () = following => {}
            command = self.command() => {
                *rebuild = command == Command::Rebuild;
                return Ok(());
            }
        }
        // Readers must not see rows go back, so the new file gets as far as the old one was.
        let reached = match live {
            Some(live) => {
                let before = live.checkpoints();
                live.finish()
                    .await
                    .map_or(before, |live| live.checkpoints().clone())
            }
            None => Checkpoints::new(),
        };
        side.follow(Until::Reached(&reached)).await?;
        let side = side.finish().await?;
        let finish = move || side.finish().map_err(|(_, failure)| failure);
        blocking(&self.alive, finish).await?;
        while let Err(failure) = self.swap(owner.clone()).await {
            if !failure.retry {
                return Err(failure);
            }
            // Somebody has the live file open: the rebuilt one waits for that to end.
            self.board.fail(failure);
            tokio::time::sleep(RETRY).await;
        }
        *rebuild = false;
        self.board.swapped();
        Ok(())
    }

    fn follower(
        &self,
        identity: &str,
        database: Database,
        progress: &Progress,
    ) -> Result<Follower, Failure> {
        let (reader, alive) = (self.reader.clone(), self.alive.clone());
        Follower::start(
            reader,
            identity.to_owned(),
            database,
            Arc::clone(progress),
            alive,
        )
    }

    /// The live database, unless its rows are another declaration's.
    async fn open_live(&self, owner: Owner, rebuild: bool) -> Result<Option<Database>, Failure> {
        let files = self.files.clone();
        let progress = Arc::clone(&self.board.live);
        blocking(&self.alive, move || {
            if !rebuild {
                files::remove(&files.rebuild)
                    .map_err(|error| files::failure("removing an old rebuild", &error))?;
            }
            if rebuild && !files.live.exists() {
                return Ok(None);
            }
            let live = Database::open(&files.live, Mode::Live, owner, Rules::default())?;
            if let Some(reason) = live.outdated {
                tracing::info!(file = %files.live.display(), reason, "projection is rebuilt");
                let shown = &mut *progress.lock().unwrap_or_else(PoisonError::into_inner);
                shown.clone_from(live.checkpoints());
                return Ok(None);
            }
            Ok(Some(live))
        })
        .await
    }

    async fn open_side(&self, owner: Owner) -> Result<Database, Failure> {
        let path: PathBuf = self.files.rebuild.clone();
        blocking(&self.alive, move || {
            files::remove(&path)
                .map_err(|error| files::failure("removing an old rebuild", &error))?;
            Database::open(&path, Mode::Build, owner, Rules::default())
        })
        .await
    }

    async fn swap(&self, owner: Owner) -> Result<(), Failure> {
        let alone = Arc::clone(&self.gate).write_owned().await;
        let files = self.files.clone();
        blocking(&self.alive, move || {
            let swapped = files.swap(owner);
            drop(alone);
            swapped
        })
        .await
    }

    /// The next command; never resolves once nobody can send one.
    async fn command(&mut self) -> Command {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            state: State::Running,
            error: None,
            rebuilds: 0,
        }
    }
}

impl Board {
    /// How far the live file is.
    pub(super) fn live(&self) -> Checkpoints {
        copy(&self.live)
    }

    /// How far the file under construction is.
    pub(super) fn side(&self) -> Checkpoints {
        copy(&self.side)
    }

    pub(super) fn shown(&self) -> Shown {
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn show(&self, state: State) {
        self.change(|shown| {
            shown.state = state;
            shown.error = None;
        });
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.change(|shown| {
            if !failure.retry {
                shown.state = State::Failed;
            }
            shown.error = Some(failure);
        });
    }

    fn swapped(&self) {
        self.change(|shown| {
            shown.state = State::Running;
            shown.rebuilds += 1;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn copy(progress: &Progress) -> Checkpoints {
    progress
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Work on files, away from the async threads; whoever waits for the files waits for it too.
pub(super) async fn blocking<T: Send + 'static>(
    alive: &Alive,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let alive = alive.clone();
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(alive);
        result
    });
    let lost = |error| Failure::passing(format!("work on the database was cut off: {error}"));
    done.await.map_err(lost)?
}
