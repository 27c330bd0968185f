//! The life of one projection: open, follow, rebuild, fail, go on.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mente_broker::EntityName;
use serde_json::Value;
use tokio::sync::{RwLock, mpsc, oneshot};

use super::board::Board;
use super::database::{Checkpoints, Owner};
use super::declaration::{Declaration, Switch, redeclared};
use super::follow::{Follower, Until};
use super::inline::Inlined;
use super::parking::{Asked, Retried};
use super::program::Programs;
use super::rows::{Built, Place, Rows, Stopper};
use super::source::Reader;
use super::status::{Failure, State};
use super::writer::{Alive, Progress};

/// Wait before what failed in passing is tried again, and the longest, if it goes on failing.
pub(super) const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub(super) enum Command {
    Rebuild,
    Resume,
    Retry(Retrying),
    /// Rebuilt rows that wait for it take the place of the live ones.
    Switch,
    /// The kept rows do.
    RollBack,
}

/// Parked events are to be tried again, and who asked is told what came of it.
#[derive(Debug)]
pub(super) struct Retrying {
    pub(super) asked: Asked,
    pub(super) told: oneshot::Sender<Result<Retried, Failure>>,
}

pub(super) struct Task {
    pub(super) name: EntityName,
    pub(super) declaration: Arc<Declaration>,
    /// As it was declared, with the place of the rows.
    pub(super) body: Value,
    pub(super) reader: Reader,
    pub(super) place: Place,
    pub(super) board: Arc<Board>,
    /// Shared by readers of the live file; a swap needs it alone.
    pub(super) gate: Arc<RwLock<()>>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// To be done as soon as the live rows are open.
    pub(super) retrying: Option<Retrying>,
    /// The kept rows take the place of the live ones before these are opened.
    pub(super) rolling_back: bool,
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
            if let Some(retrying) = self.retrying.take() {
                let _ = retrying.told.send(Err(failure.clone()));
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
                match command {
                    Command::Rebuild => rebuild = Some(true),
                    Command::Resume => {
                        rebuild = Some(false);
                        self.rolling_back = false;
                    }
                    Command::Retry(retrying) => self.retrying = Some(retrying),
                    Command::RollBack => {
                        // What failed to be built is not wanted any more.
                        rebuild = Some(false);
                        self.rolling_back = true;
                    }
                    // Nothing is built, or it is built anew first.
                    Command::Switch => {}
                }
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
        if self.rolling_back {
            let exchanged = self.exchange(owner).await;
            // Whoever has the rows open, or a view on them, holds it up and no more.
            let waits = |failure: &Failure| failure.retry && !failure.stands_by;
            self.rolling_back = exchanged.as_ref().is_err_and(waits);
            return exchanged;
        }
        let mut of_live = owner.clone();
        let live = match self.open_live(owner.clone(), *rebuild).await {
            Ok(Opened::Live(live)) => Some((live, self.reader.clone())),
            Ok(Opened::Earlier(live, earlier)) => {
                *rebuild = true;
                let source = earlier.declaration.source.clone();
                of_live = earlier;
                Some((live, self.reader.of(source)))
            }
            Ok(Opened::KeptAreOurs) if self.kept_can_catch_up().await? => {
                // What was being built is not wanted any more.
                *rebuild = false;
                // They have missed what came since, and nobody waits until they have caught up.
                self.stand_apart();
                return self.exchange(owner).await;
            }
            Ok(Opened::None | Opened::KeptAreOurs) => None,
            // What cannot be opened is replaced.
            Err(failure) if *rebuild && !failure.retry => None,
            Err(failure) => return Err(failure),
        };
        let live = match live {
            Some((live, reader)) => {
                Some(self.follower(reader, &identity, live, &self.board.live)?)
            }
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
            Some(live)
                if self.inlined.is_some() && of_live.declaration.text == owner.declaration.text =>
            {
                self.keep_inline(owner, live, rebuild).await
            }
            Some(live) if !*rebuild => self.follow(live, rebuild).await,
            live => {
                *rebuild = true;
                let live = live.map(|live| (live, of_live));
                self.rebuild(owner, live, rebuild).await
            }
        }
    }

    /// Whether all that the kept rows lack is still in the log.
    async fn kept_can_catch_up(&self) -> Result<bool, Failure> {
        match self.board.kept() {
            Some(kept) => kept.can_catch_up(&self.reader).await,
            None => Ok(false),
        }
    }

    async fn follow(&mut self, mut live: Follower, rebuild: &mut bool) -> Result<(), Failure> {
        self.board.show(State::Running);
        if let Some(retrying) = self.retrying.take() {
            return self.retry(live, retrying).await;
        }
        let command = tokio::select! {
            ended = live.follow(Until::Forever) => return ended,
            command = self.command() => command,
        };
        match command {
            Command::Rebuild => *rebuild = true,
            Command::Resume => *rebuild = false,
            Command::Retry(retrying) => self.retrying = Some(retrying),
            Command::RollBack => {
                *rebuild = false;
                self.rolling_back = true;
            }
            Command::Switch => {}
        }
        live.finish().await.map(|_| ())
    }

    /// Nothing else is written meanwhile; then the rows are opened anew.
    async fn retry(&mut self, live: Follower, retrying: Retrying) -> Result<(), Failure> {
        let Retrying { asked, told } = retrying;
        let mut rows = live.finish().await?;
        // Whoever ends the task does not wait for all that is parked.
        let interrupts = Interrupts(rows.stopper());
        let progress = Arc::clone(&self.board.live);
        let retried = blocking(&self.alive, move || {
            let retried = rows.retry(&asked);
            // Whoever asked sees in the status what it was told.
            if let Ok(retried) = &retried {
                let mut shown = progress.lock().unwrap_or_else(PoisonError::into_inner);
                shown.parked = Some(retried.parked);
            }
            drop(rows);
            Ok(retried)
        });
        let retried = retried.await?;
        std::mem::forget(interrupts);
        // Who asked may have gone.
        let _ = told.send(retried);
        Ok(())
    }

    /// Builds a file beside the live one, which goes on following meanwhile; then swaps.
    async fn rebuild(
        &mut self,
        owner: Owner,
        live: Option<(Follower, Owner)>,
        rebuild: &mut bool,
    ) -> Result<(), Failure> {
        self.board.show(State::Rebuilding);
        // Nobody waits for rows that are not there yet.
        self.stand_apart();
        let identity = owner.source.clone();
        let side = self.open_side(owner.clone()).await?;
        let reader = self.reader.clone();
        let mut side = self.follower(reader, &identity, side, &self.board.side)?;
        let rows = live.as_ref().map(|(_, of_live)| self.live_rows(of_live));
        let were_live = live.is_some();
        let mut live = live.map(|(live, _)| live);
        let mut following = Box::pin(go_on(&mut live, rows));
        let mut waits = self.declaration.switch == Switch::Manual;
        let board = Arc::clone(&self.board);
        loop {
            let building = async {
                side.follow(Until::CaughtUp).await?;
                if waits {
                    board.ready();
                    side.follow(Until::Forever).await?;
                }
                Ok::<(), Failure>(())
            };
            tokio::select! {
                built = building => {
                    built?;
                    break;
                }
                () = &mut following => {}
                told = self.rebuilding_command() => match told {
                    Told::Switch => waits = false,
                    Told::End { again } => {
                        *rebuild = again;
                        return Ok(());
                    }
                },
            }
        }
        drop(following);
        // Readers must not see rows go back, so the new file gets as far as the old one was.
        let reached = match live {
            Some(live) => {
                let before = live.checkpoints();
                live.finish()
                    .await
                    .map_or(before, |live| live.checkpoints().clone())
            }
            // They are away for a moment: as far as they were shown to be.
            None if were_live => self.board.live(),
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
                told = self.rebuilding_command() => match told {
                    Told::Switch => {}
                    Told::End { again } => {
                        *rebuild = again;
                        return Ok(());
                    }
                }
            }
        }
        *rebuild = false;
        self.board.swapped();
        Ok(())
    }

    fn live_rows(&self, of_live: &Owner) -> LiveRows {
        LiveRows {
            place: self.place.clone(),
            owner: of_live.clone(),
            reader: self.reader.of(of_live.declaration.source.clone()),
            board: Arc::clone(&self.board),
            alive: self.alive.clone(),
        }
    }

    pub(super) fn follower(
        &self,
        reader: Reader,
        identity: &str,
        database: Rows,
        progress: &Progress,
    ) -> Result<Follower, Failure> {
        let alive = self.alive.clone();
        Follower::start(
            reader,
            identity.to_owned(),
            database,
            Arc::clone(progress),
            alive,
        )
    }

    /// The live rows, unless they are another declaration's.
    async fn open_live(&self, owner: Owner, rebuild: bool) -> Result<Opened, Failure> {
        let place = self.place.clone();
        let progress = Arc::clone(&self.board.live);
        let (name, board) = (self.name.clone(), Arc::clone(&self.board));
        let body = self.body.clone();
        blocking(&self.alive, move || {
            let live = place.open_live(owner.clone(), rebuild)?;
            // Rows that nobody asks for keep nobody up.
            let kept = place.kept().unwrap_or_else(|failure| {
                tracing::warn!(projection = %name, %failure, "the kept rows cannot be gone back to");
                None
            });
            board.note_kept(kept.clone());
            let Some(live) = live else {
                return Ok(Opened::None);
            };
            board.note_made();
            if live.outdated().is_some() && kept.is_some_and(|kept| kept.are_of(&owner)) {
                return Ok(Opened::KeptAreOurs);
            }
            if let Some(reason) = live.outdated() {
                tracing::info!(projection = %name, reason, "projection is rebuilt");
                let mut shown = progress.lock().unwrap_or_else(PoisonError::into_inner);
                shown.checkpoints.clone_from(live.checkpoints());
                drop(shown);
                let earlier = live.earlier().and_then(|text| earlier(text, &body, &owner));
                drop(live);
                let Some(earlier) = earlier else {
                    return Ok(Opened::None);
                };
                return match place.open_live(earlier.clone(), true) {
                    Ok(Some(live)) => Ok(Opened::Earlier(live, earlier)),
                    Err(failure) if failure.retry => Err(failure),
                    // Whatever keeps them from going on: they are there to be asked.
                    Ok(None) | Err(_) => Ok(Opened::None),
                };
            }
            Ok(Opened::Live(live))
        })
        .await
    }

    /// The rows that were live before take the place of those that are.
    async fn exchange(&self, owner: Owner) -> Result<(), Failure> {
        let alone = Arc::clone(&self.gate).write_owned().await;
        let place = self.place.clone();
        let name = self.name.clone();
        blocking(&self.alive, move || {
            let exchanged = place.exchange(owner);
            drop(alone);
            if exchanged.is_ok() {
                tracing::info!(projection = %name, "projection went back to the rows before");
            }
            exchanged
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

    /// The next command that means something to a rebuild.
    async fn rebuilding_command(&mut self) -> Told {
        loop {
            match self.command().await {
                Command::Rebuild => return Told::End { again: true },
                Command::Resume => return Told::End { again: false },
                Command::Switch => return Told::Switch,
                // It was asked for before the rebuild began, and what it would go back to goes with it.
                Command::RollBack => {}
                Command::Retry(retrying) => {
                    let message = "the rows are being built anew, and what is parked in them goes with them: retry                                    when that is done, or say resume, which ends it";
                    let _ = retrying.told.send(Err(Failure::plain(message.to_owned())));
                }
            }
        }
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

/// Who the rows are of that were made by this text.
fn earlier(text: &str, body: &Value, owner: &Owner) -> Option<Owner> {
    let declared = redeclared(text, body)?;
    let declaration = Declaration::parse(&owner.name, &declared).ok()?;
    Some(Owner {
        declaration: Arc::new(declaration),
        ..owner.clone()
    })
}

/// What it takes to open the live rows once more while others are built.
struct LiveRows {
    place: Place,
    owner: Owner,
    reader: Reader,
    board: Arc<Board>,
    alive: Alive,
}

/// Lets the live rows follow while others are built, also after something has kept them from it in passing.
async fn go_on(live: &mut Option<Follower>, rows: Option<LiveRows>) {
    let Some(rows) = rows else {
        return std::future::pending().await;
    };
    loop {
        if let Some(following) = live {
            let Err(failure) = following.follow(Until::Forever).await else {
                continue;
            };
            // What no waiting mends shows again when they are opened the next time.
            if !failure.retry {
                return std::future::pending().await;
            }
            rows.board.set_error(failure);
            // Its thread has to let the rows go.
            *live = None;
        }
        tokio::time::sleep(RETRY).await;
        match rows.open().await {
            Ok(opened) => {
                rows.board.clear_error();
                *live = Some(opened);
            }
            Err(failure) => rows.board.set_error(failure),
        }
    }
}

impl LiveRows {
    async fn open(&self) -> Result<Follower, Failure> {
        let (place, owner) = (self.place.clone(), self.owner.clone());
        let live = blocking(&self.alive, move || place.open_live(owner, true)).await?;
        let live = live.ok_or_else(|| Failure::passing("the live rows are gone".to_owned()))?;
        let (reader, source) = (self.reader.clone(), self.owner.source.clone());
        let progress = Arc::clone(&self.board.live);
        Follower::start(reader, source, live, progress, self.alive.clone())
    }
}

/// What a rebuild is told.
enum Told {
    /// It need not wait any more.
    Switch,
    End {
        again: bool,
    },
}

/// What was found where the live rows should be.
enum Opened {
    Live(Rows),
    /// None, or those of another declaration: they are built.
    None,
    /// Those of an earlier declaration, whose owner this is: they go on by it until others have taken their place.
    Earlier(Rows, Owner),
    /// Those of another declaration, and the kept ones are of this one.
    KeptAreOurs,
}

/// Stops work on rows that nobody waits for any more.
struct Interrupts(Stopper);

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.0.stop();
    }
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
