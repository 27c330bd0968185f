//! The life of one projection: open, follow, rebuild, fail, go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mente_broker::EntityName;
use tokio::sync::{RwLock, mpsc};

use super::database::{Checkpoints, Owner};
use super::declaration::Declaration;
use super::follow::{Follower, Until};
use super::inline::Inlined;
use super::program::Programs;
use super::rows::{Built, Place, Rows};
use super::source::Reader;
use super::status::{Failure, State};
use super::writer::{Alive, Progress};

/// Wait before what failed in passing is tried again, and the longest, if it goes on failing.
pub(super) const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Rebuild,
    Resume,
}

/// What a task shows of itself.
#[derive(Debug, Default)]
pub(super) struct Board {
    shown: Mutex<Shown>,
    pub(super) live: Progress,
    pub(super) side: Progress,
    joining: Mutex<Joining>,
    is_troubled: AtomicBool,
    /// Whether the rows were ours since the server began.
    made: AtomicBool,
}

/// Whether appends wait for the rows, and so whoever reads them may count on every answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Joining {
    /// Nobody has looked yet, or they are brought to the end of the log.
    #[default]
    Awaited,
    /// They do not, and the rows promise nothing.
    Apart,
    Joined,
    /// They do, and are refused: the rows stand still.
    Closed,
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
    pub(super) place: Place,
    pub(super) board: Arc<Board>,
    /// Shared by readers of the live file; a swap needs it alone.
    pub(super) gate: Arc<RwLock<()>>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) alive: Alive,
    pub(super) programs: Programs,
    /// Of rows that appends wait for.
    pub(super) inlined: Option<Arc<Inlined>>,
}

impl Task {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        // Unknown until the rows can be reached. Rows under construction mean that a rebuild was
        // cut off.
        let mut rebuild = None;
        let mut wait = RETRY;
        self.join_again().await;
        loop {
            let before = self.board.live();
            let Err(failure) = self.life(&mut rebuild).await else {
                continue;
            };
            let (retry, stands_by) = (failure.retry, failure.stands_by);
            if !self.board.is_failing_so(&failure) {
                tracing::warn!(projection = %self.name, %failure, retry, "projection stopped");
            }
            if let Some(inlined) = &self.inlined {
                inlined.close(format!("stands still: {failure}")).await;
            }
            self.board.fail(failure);
            if stands_by {
                // What was asked for here is the owner's to do, or was done by it.
                rebuild = None;
            }
            // Whoever stands by is asked often, since nothing is wrong; what is away has time.
            let is_new = stands_by || before != self.board.live();
            wait = if is_new {
                RETRY
            } else {
                (wait * 2).min(self.retry_max())
            };
            let command = if retry {
                tokio::time::timeout(wait, self.command()).await.ok()
            } else {
                Some(self.command().await)
            };
            if let Some(command) = command {
                rebuild = Some(command == Command::Rebuild);
                wait = RETRY;
            }
        }
    }

    fn retry_max(&self) -> Duration {
        match self.place {
            Place::Files(_) => RETRY,
            Place::Postgres(_) => RETRY_MAX,
        }
    }

    async fn life(&mut self, rebuild: &mut Option<bool>) -> Result<(), Failure> {
        let mut known = match *rebuild {
            Some(known) => known,
            None => self.is_rebuilding().await?,
        };
        let lived = self.live(&mut known).await;
        *rebuild = Some(known);
        lived
    }

    /// One life, until a failure, a command or a swap.
    async fn live(&mut self, rebuild: &mut bool) -> Result<(), Failure> {
        let identity = self.reader.identity().await?;
        let owner = Owner {
            name: self.name.clone(),
            declaration: Arc::clone(&self.declaration),
            source: identity.clone(),
            programs: self.programs.clone(),
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
        let live = match live {
            Some(live) => match live.check().await {
                Ok(()) => Some(live),
                Err(failure) if *rebuild && !failure.retry => None,
                Err(failure) => return Err(failure),
            },
            None => None,
        };
        match live {
            // Appends wait for these rows whether they are built anew or not.
            Some(live) if self.inlined.is_some() => self.keep_inline(owner, live, rebuild).await,
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
        // Nobody waits for rows that are not there yet.
        self.stand_apart();
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
        let mut built = blocking(&self.alive, move || side.finish()).await?;
        while let Some((again, failure)) = self.swap(owner.clone(), built).await? {
            // What was built went away with its session: it is built again.
            if again.is_gone() {
                return Err(failure);
            }
            // Somebody has the live rows open: the rebuilt ones wait for that to end.
            built = again;
            self.board.fail(failure);
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                command = self.command() => {
                    *rebuild = command == Command::Rebuild;
                    return Ok(());
                }
            }
        }
        *rebuild = false;
        self.board.swapped();
        Ok(())
    }

    pub(super) fn follower(
        &self,
        identity: &str,
        database: Rows,
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

    /// The live rows, unless they are another declaration's.
    async fn open_live(&self, owner: Owner, rebuild: bool) -> Result<Option<Rows>, Failure> {
        let place = self.place.clone();
        let progress = Arc::clone(&self.board.live);
        let (name, board) = (self.name.clone(), Arc::clone(&self.board));
        blocking(&self.alive, move || {
            let Some(live) = place.open_live(owner, rebuild)? else {
                return Ok(None);
            };
            board.made.store(true, Ordering::Relaxed);
            if let Some(reason) = live.outdated() {
                tracing::info!(projection = %name, reason, "projection is rebuilt");
                let shown = &mut *progress.lock().unwrap_or_else(PoisonError::into_inner);
                shown.clone_from(live.checkpoints());
                return Ok(None);
            }
            Ok(Some(live))
        })
        .await
    }

    pub(super) async fn open_side(&self, owner: Owner) -> Result<Rows, Failure> {
        let place = self.place.clone();
        blocking(&self.alive, move || place.open_rebuild(owner)).await
    }

    /// Waits for readers, and gives back what cannot take its place yet.
    async fn swap(&self, owner: Owner, built: Built) -> Result<Option<(Built, Failure)>, Failure> {
        let alone = Arc::clone(&self.gate).write_owned().await;
        let place = self.place.clone();
        blocking(&self.alive, move || {
            let swapped = place.swap(owner, built);
            drop(alone);
            match swapped {
                Ok(()) => Ok(None),
                Err((built, failure)) if failure.retry && !failure.stands_by => {
                    Ok(Some((built, failure)))
                }
                Err((_, failure)) => Err(failure),
            }
        })
        .await
    }

    async fn is_rebuilding(&self) -> Result<bool, Failure> {
        let place = self.place.clone();
        blocking(&self.alive, move || place.is_rebuilding()).await
    }

    /// The next command; never resolves once nobody can send one.
    pub(super) async fn command(&mut self) -> Command {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stand_apart();
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

    pub(super) fn is_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    pub(super) fn joining(&self) -> Joining {
        *self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_joining(&self, joining: Joining) {
        *self.joining.lock().unwrap_or_else(PoisonError::into_inner) = joining;
    }

    /// Whether it is shown already, so that what goes on for hours is logged once.
    fn is_failing_so(&self, failure: &Failure) -> bool {
        self.shown().error.as_ref() == Some(failure)
    }

    pub(super) fn show(&self, state: State) {
        self.change(|shown| {
            shown.state = state;
            shown.error = None;
        });
    }

    /// What an append was told of the rows, until one is told nothing. A refusal is no trouble.
    pub(super) fn set_trouble(&self, failure: Option<&Failure>) {
        let failure = failure.filter(|failure| failure.retry);
        if self.is_troubled.swap(failure.is_some(), Ordering::Relaxed) || failure.is_some() {
            self.change(|shown| shown.error = failure.cloned());
        }
    }

    /// It goes on all the same.
    pub(super) fn set_error(&self, failure: Failure) {
        self.change(|shown| shown.error = Some(failure));
    }

    pub(super) fn fail(&self, failure: Failure) {
        if self.joining() != Joining::Apart {
            self.set_joining(Joining::Closed);
        }
        self.change(|shown| {
            if !failure.retry {
                shown.state = State::Failed;
            }
            shown.error = Some(failure);
        });
    }

    pub(super) fn swapped(&self) {
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
