//! The thread of one database: all of a projection's work on rows, none of it on an async thread.
//!
//! ```text
//!   follower ──▶ channel of a few batches ──▶ thread: one transaction a batch ──▶ checkpoints
//! ```
//! While a transaction runs, the next batch is read; a full channel holds the reader back.

use std::sync::{Arc, Mutex, PoisonError};

use mente_engine::limits;
use tokio::sync::{mpsc, oneshot};

use super::database::Checkpoints;
use super::fact::Batch;
use super::parking::Held;
use super::rows::{Rows, Stopper};
use super::status::Failure;

/// How far the rows are as of the last commit, for whoever looks.
pub(super) type Progress = Arc<Mutex<Reached>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    pub(super) checkpoints: Checkpoints,
    pub(super) parked: Option<Held>,
}

/// Held by everything that works on a projection's files; when all are dropped, they are free.
pub(super) type Alive = mpsc::Sender<()>;

#[derive(Debug)]
pub(super) struct Writer {
    /// None once no more will come.
    batches: Option<mpsc::Sender<Batch>>,
    ended: oneshot::Receiver<Result<Rows, Failure>>,
    stopper: Stopper,
    progress: Progress,
}

impl Writer {
    pub(super) fn start(database: Rows, progress: Progress, alive: Alive) -> Result<Self, Failure> {
        let (batches, receiver) = mpsc::channel(limits::PROJECTION_BATCHES);
        let (end, ended) = oneshot::channel();
        let stopper = database.stopper();
        show(&progress, &database);
        let writer = Self {
            batches: Some(batches),
            ended,
            stopper,
            progress: Arc::clone(&progress),
        };
        let work = move || {
            // Nobody listens if the follower went away; then the database is closed here.
            let _ = end.send(write(database, receiver, &progress));
            drop(alive);
        };
        let thread = std::thread::Builder::new()
            .name("projection".to_owned())
            .spawn(work);
        match thread {
            Ok(_) => Ok(writer),
            Err(error) => Err(Failure::passing(format!(
                "no thread could be started: {error}"
            ))),
        }
    }

    /// Hands a batch over; an error is that of an earlier one.
    pub(super) async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        if let Some(batches) = &self.batches
            && batches.send(batch).await.is_ok()
        {
            return Ok(());
        }
        Err(self.failed().await)
    }

    /// Resolves once the thread has stopped by a failure, which is told once.
    pub(super) async fn failed(&mut self) -> Failure {
        match self.ended().await {
            Err(failure) => failure,
            Ok(_) => ended(),
        }
    }

    /// What the thread left; whoever asks again hears that it ended.
    async fn ended(&mut self) -> Result<Rows, Failure> {
        if self.ended.is_terminated() {
            return Err(ended());
        }
        (&mut self.ended).await.map_err(|_| ended())?
    }

    /// Waits until all that was sent is committed, and gives the database back.
    pub(super) async fn finish(mut self) -> Result<Rows, Failure> {
        self.batches = None;
        self.ended().await
    }

    pub(super) fn checkpoints(&self) -> Checkpoints {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .checkpoints
            .clone()
    }
}

impl Drop for Writer {
    /// Whoever drops it unfinished does not wait: what runs is interrupted and rolled back.
    fn drop(&mut self) {
        if self.batches.is_some() {
            self.stopper.stop();
        }
    }
}

fn write(
    mut database: Rows,
    mut batches: mpsc::Receiver<Batch>,
    progress: &Progress,
) -> Result<Rows, Failure> {
    let stopper = database.stopper();
    while let Some(batch) = batches.blocking_recv() {
        if stopper.is_stopping() {
            break;
        }
        let applied = database.apply(&batch);
        show(progress, &database);
        applied?;
    }
    Ok(database)
}

fn ended() -> Failure {
    Failure::passing("the thread of the projection ended".to_owned())
}

fn show(progress: &Progress, database: &Rows) {
    let mut shown = progress.lock().unwrap_or_else(PoisonError::into_inner);
    shown.checkpoints.clone_from(database.checkpoints());
    shown.parked = database.parked();
}

/// The same for rows that nothing is parked beside.
pub(super) fn show_checkpoints(progress: &Progress, checkpoints: &Checkpoints) {
    let mut shown = progress.lock().unwrap_or_else(PoisonError::into_inner);
    shown.checkpoints.clone_from(checkpoints);
}
