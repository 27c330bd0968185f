//! The life of a projection that appends wait for: it joins, stays, and has its rows replaced between two rounds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, oneshot};

use super::{Inlined, Joined};
use crate::projection::board::Joining;
use crate::projection::database::{Database, Owner};
use crate::projection::follow::{Follower, Until};
use crate::projection::rows::{Built, Place, Rows};
use crate::projection::status::{Failure, State};
use crate::projection::task::{Command, RETRY, Task, blocking};

/// Resolves when the thread of the rows is gone.
type Ended = oneshot::Receiver<()>;

/// How often rows are compared with the end of the log, for what got there without them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Task {
    /// Before anything else: if appends waited for the rows, they wait again.
    pub(in crate::projection) async fn join_again(&self) {
        let Some(inlined) = &self.inlined else {
            return;
        };
        let place = self.place.clone();
        let was_inline = blocking(&self.alive, move || match place {
            Place::Files(files) => Ok(files.are_inline()),
            Place::Postgres(_) => Ok(false),
        });
        if was_inline.await.unwrap_or(false) {
            inlined.join();
        } else {
            self.board.set_joining(Joining::Apart);
        }
    }

    /// No append waits for these rows.
    pub(in crate::projection) fn stand_apart(&self) {
        if let Some(inlined) = &self.inlined {
            inlined.leave();
            self.board.set_joining(Joining::Apart);
        }
    }

    /// Brings the rows to the end of the log, and keeps them there with every append.
    pub(in crate::projection) async fn keep_inline(
        &mut self,
        owner: Owner,
        mut live: Follower,
        rebuild: &mut bool,
    ) -> Result<(), Failure> {
        let Some(inlined) = self.inlined.clone() else {
            return Ok(());
        };
        self.board.show(State::Running);
        tokio::select! {
            caught_up = live.follow(Until::CaughtUp) => caught_up?,
            command = self.command() => {
                *rebuild |= is_rebuild(command);
                return live.finish().await.map(|_| ());
            }
        }
        let rows = file(live.finish().await?)?;
        let mut ended = self.join(&inlined, rows).await?;
        loop {
            if std::mem::take(rebuild) {
                *rebuild = self.replace(&inlined, &owner, &mut ended).await?;
                continue;
            }
            tokio::select! {
                _ = &mut ended => return Err(Failure::passing("the thread of the rows ended".to_owned())),
                command = self.command() => *rebuild = is_rebuild(command),
                () = tokio::time::sleep(LOOK_AGAIN) => inlined.look().await?,
            }
        }
    }

    async fn join(&self, inlined: &Arc<Inlined>, rows: Box<Database>) -> Result<Ended, Failure> {
        let mut held = inlined.hold().await;
        let ended = self.open(inlined, &mut held, rows)?;
        drop(held);
        inlined.join();
        // What was appended since it caught up and before it joined.
        if let Err(failure) = inlined.reach_unasked().await {
            // Rows that never were at the end hold nobody up.
            if self.board.joining() == Joining::Apart {
                inlined.leave();
            }
            return Err(failure);
        }
        self.board.set_joining(Joining::Joined);
        Ok(ended)
    }

    /// Builds the rows anew beside the live ones, for which appends go on to wait. A failure on the way is shown, and
    /// the live rows stay. Answers whether it is to begin anew.
    async fn replace(
        &mut self,
        inlined: &Arc<Inlined>,
        owner: &Owner,
        ended: &mut Ended,
    ) -> Result<bool, Failure> {
        self.board.show(State::Rebuilding);
        let mut side = self.open_side(owner.clone()).await;
        loop {
            let built = match side {
                Ok(side) => self.build(owner, side).await,
                Err(failure) => Err(failure),
            };
            let following = match built {
                Ok(Some(following)) => following,
                Ok(None) => return Ok(true),
                Err(failure) => {
                    self.keep_old(failure);
                    return Ok(false);
                }
            };
            // Queries wait first, then appends; both for the rest and for the swap alone.
            let alone = Arc::clone(&self.gate).write_owned().await;
            let mut held = inlined.hold().await;
            let swapped = match self.follow_to_live(&mut held, following).await {
                Ok(()) => self.swap_alone(owner).await,
                Err(failure) => Err(failure),
            };
            // The new rows, or the old ones again.
            let is_built = swapped.is_err();
            *ended = self.open_again(inlined, &mut held, owner, is_built).await?;
            drop((held, alone));
            match swapped {
                Ok(()) => {
                    self.board.swapped();
                    return Ok(false);
                }
                // Somebody has the live rows open: both grow until that ends.
                Err(failure) if failure.retry => self.board.set_error(failure),
                Err(failure) => {
                    self.keep_old(failure);
                    return Ok(false);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                _ = self.command() => return Ok(true),
            }
            side = self.open_side_again(owner.clone()).await;
        }
    }

    fn keep_old(&self, failure: Failure) {
        tracing::warn!(projection = %self.name, %failure, "not built anew: the rows stay as they are");
        self.board.show(State::Running);
        self.board.set_error(failure);
    }

    async fn swap_alone(&self, owner: &Owner) -> Result<(), Failure> {
        let (place, owner) = (self.place.clone(), owner.clone());
        blocking(&self.alive, move || {
            place
                .swap(owner, Built::File)
                .map_err(|(_, failure)| failure)
        })
        .await
    }

    /// None: somebody asked for something else meanwhile.
    async fn build(&mut self, owner: &Owner, side: Rows) -> Result<Option<Follower>, Failure> {
        let progress = Arc::clone(&self.board.side);
        let reader = self.reader.clone();
        let mut side = self.follower(reader, &owner.source, side, &progress)?;
        tokio::select! {
            caught_up = side.follow(Until::CaughtUp) => caught_up?,
            _ = self.command() => return Ok(None),
        }
        // Whether all of it went in is told by the end of the thread.
        let side = side.finish().await?;
        let reader = self.reader.clone();
        self.follower(reader, &owner.source, side, &progress)
            .map(Some)
    }

    /// Brings finished rows to where the live ones are, which are closed.
    async fn follow_to_live(
        &self,
        held: &mut OwnedMutexGuard<Joined>,
        mut side: Follower,
    ) -> Result<(), Failure> {
        let closed = Joined::Closed("has its rows replaced".to_owned());
        let Joined::Open(thread) = std::mem::replace(&mut **held, closed) else {
            return Err(Failure::passing("the live rows are not open".to_owned()));
        };
        let live = thread.end().await?;
        let reached = live.checkpoints().clone();
        side.follow(Until::Reached(&reached)).await?;
        let side = file(side.finish().await?)?;
        blocking(&self.alive, move || {
            drop(live);
            side.become_inline()?;
            side.finish().map_err(|(_, failure)| failure)
        })
        .await
    }

    async fn open_side_again(&self, owner: Owner) -> Result<Rows, Failure> {
        let place = self.place.clone();
        blocking(&self.alive, move || place.open_rebuild_again(owner)).await
    }

    fn open(
        &self,
        inlined: &Inlined,
        held: &mut OwnedMutexGuard<Joined>,
        rows: Box<Database>,
    ) -> Result<Ended, Failure> {
        let (thread, ended) = inlined.start(rows, self.alive.clone())?;
        **held = Joined::Open(thread);
        Ok(ended)
    }

    async fn open_again(
        &self,
        inlined: &Inlined,
        held: &mut OwnedMutexGuard<Joined>,
        owner: &Owner,
        is_built: bool,
    ) -> Result<Ended, Failure> {
        let (place, owner) = (self.place.clone(), owner.clone());
        let rows = blocking(&self.alive, move || place.open_live(owner, is_built)).await?;
        let rows = rows.ok_or_else(|| Failure::passing("the live rows are gone".to_owned()))?;
        self.open(inlined, held, file(rows)?)
    }
}

/// What else may be asked of rows is refused of inline ones where it is asked (`Projections::command`).
fn is_rebuild(command: Command) -> bool {
    matches!(command, Command::Rebuild)
}

fn file(rows: Rows) -> Result<Box<Database>, Failure> {
    match rows {
        Rows::File(database) => Ok(database),
        Rows::Postgres(_) => Err(Failure::plain(
            "rows in PostgreSQL are not inline".to_owned(),
        )),
    }
}
