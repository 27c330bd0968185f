//! Rows that appends to the store wait for: in them before the append is answered, or the append is refused.
//!
//! ```text
//!   append ─▶ shard: decided ─▶ statements, in a savepoint ─▶ log, durable ─▶ COMMIT with the checkpoint ─▶ answer
//!                                   │ failed
//!                                   └─▶ refused: neither in the log nor in the rows
//! ```
//! The log is the truth, and readers of the log may be ahead by that COMMIT. What a crash or a full disk kept
//! from the rows is read from the log before the next append is asked about, and before the door opens.
//!
//! A projection follows the log as others do until it is at the end for the first time; then it joins. It stays
//! joined through a rebuild, whose rows take over between two rounds.

mod task;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use mente_broker::{EntityName, Error, Inline, Kind, Result, StreamEvent};
use mente_engine::{Offset, limits};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::board::Board;
use super::database::Database;
use super::fact::{Batch, Fact};
use super::source::Reader;
use super::status::Failure;
use super::writer::{Alive, Progress, show_checkpoints};

/// How often a swap looks whether a round has ended.
const LOOK: Duration = Duration::from_millis(1);

/// A projection as the store's shard knows it.
#[derive(Debug)]
pub(super) struct Inlined {
    name: EntityName,
    reader: Reader,
    board: Arc<Board>,
    rows: Arc<Mutex<Joined>>,
}

/// The rows, or why there are none to ask.
#[derive(Debug)]
pub(super) enum Joined {
    Closed(String),
    Open(Thread),
}

/// The thread that works on the rows.
#[derive(Debug)]
pub(super) struct Thread {
    asks: mpsc::Sender<Ask>,
    /// Everything below is in the rows.
    next: u64,
    round: Round,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Everything is kept or undone.
    Over,
    /// The rows are at the end of the log, and appends are asked about.
    Open,
    /// Somebody did not wait for an answer: what was asked may yet be done.
    Unsure,
}

type Answer = oneshot::Sender<Result<(), Failure>>;

#[derive(Debug)]
enum Ask {
    Fold(Batch, Answer),
    Apply(Vec<Fact>, Answer),
    TakeBack(Answer),
    Keep(u64, Answer),
    Undo(Answer),
    /// Gives the rows back.
    End(oneshot::Sender<Box<Database>>),
}

impl Inlined {
    pub(super) fn new(name: EntityName, reader: Reader, board: Arc<Board>) -> Arc<Self> {
        let closed = Joined::Closed("is not open yet".to_owned());
        Arc::new(Self {
            name,
            reader,
            board,
            rows: Arc::new(Mutex::new(closed)),
        })
    }

    /// From now on appends wait for it.
    pub(super) fn join(self: &Arc<Self>) {
        let view: Arc<dyn Inline> = Arc::clone(self) as _;
        self.reader.inlines().join(self.name.clone(), view);
    }

    /// Nothing waits for it any more.
    pub(super) fn leave(&self) {
        self.reader.inlines().leave(&self.name);
    }

    /// The rows between two rounds; whoever appends waits until they are let go.
    pub(super) async fn hold(&self) -> OwnedMutexGuard<Joined> {
        let until = Instant::now() + Duration::from_millis(limits::INLINE_WAIT_MS);
        loop {
            let rows = Arc::clone(&self.rows).lock_owned().await;
            let is_busy = matches!(&*rows, Joined::Open(thread) if thread.round != Round::Over);
            // A round that went away left its appends behind.
            if !is_busy || Instant::now() > until {
                return rows;
            }
            drop(rows);
            sleep(LOOK).await;
        }
    }

    /// What was appended before anybody asked is in the rows when this returns.
    pub(super) async fn reach_unasked(&self) -> Result<(), Failure> {
        let end = self.reader.end_of_unasked().await?;
        match &mut *self.hold().await {
            Joined::Open(thread) => {
                thread.forget_round().await?;
                self.catch_up(thread, end).await
            }
            Joined::Closed(why) => Err(Failure::passing(why.clone())),
        }
    }

    /// Brings the rows to the end of the log if an append got there without them: one whose outcome was not known,
    /// or one that could not be kept.
    async fn look(&self) -> Result<(), Failure> {
        let end = self.reader.bounds(0).await?.end;
        let is_behind = match &*self.rows.lock().await {
            Joined::Open(thread) => thread.next < end.0,
            Joined::Closed(_) => false,
        };
        match is_behind {
            true => self.reach_unasked().await,
            false => Ok(()),
        }
    }

    /// Appends are refused until it is open again.
    pub(super) async fn close(&self, why: String) {
        *self.hold().await = Joined::Closed(why);
    }

    /// Starts to work on rows, which appends wait for once this is joined.
    pub(super) fn start(
        &self,
        database: Box<Database>,
        alive: Alive,
    ) -> Result<(Thread, oneshot::Receiver<()>), Failure> {
        database.become_inline()?;
        let next = database.checkpoints().get(&0).map_or(0, |c| c.next);
        let (asks, receiver) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let progress = Arc::clone(&self.board.live);
        let work = move || {
            serve(database, receiver, &progress);
            drop((end, alive));
        };
        let thread = std::thread::Builder::new().name("inline".to_owned());
        thread
            .spawn(work)
            .map_err(|error| Failure::passing(format!("no thread could be started: {error}")))?;
        let thread = Thread {
            asks,
            next,
            round: Round::Over,
        };
        Ok((thread, ended))
    }

    /// An answer within the time that an append waits.
    async fn asked<T>(
        &self,
        work: impl AsyncFnOnce(&mut Thread) -> Result<T, Failure>,
    ) -> Result<T> {
        let until = Instant::now() + Duration::from_millis(limits::INLINE_WAIT_MS);
        let answered = timeout_at(until, async {
            match &mut *self.rows.lock().await {
                Joined::Open(thread) => work(thread).await,
                Joined::Closed(why) => Err(Failure::passing(why.clone())),
            }
        });
        let late = |_| Failure::passing("took too long".to_owned());
        let answer = answered.await.map_err(late).and_then(|answer| answer);
        // What an append is told, an operator is shown.
        self.board.set_trouble(answer.as_ref().err());
        answer.map_err(|failure| self.error(&failure))
    }

    fn error(&self, failure: &Failure) -> Error {
        let name = &self.name;
        if failure.retry {
            let message = format!(
                "appends wait for the inline projection {name}, which {failure}: repeat; its status tells more"
            );
            return Error::new(Kind::Throttled, message);
        }
        let event = match &failure.at {
            Some(at) => format!("event {:?} of type {}", at.event_id, at.event_type),
            None => "the append".to_owned(),
        };
        let why = Failure {
            at: None,
            ..failure.clone()
        };
        let message = format!("the inline projection {name} refuses {event}: {why}");
        Error::new(Kind::Refused, message)
    }

    async fn catch_up(&self, thread: &mut Thread, end: Offset) -> Result<(), Failure> {
        let behind = |failure: Failure| {
            Failure::passing(format!("is behind the log and stands still ({failure})"))
        };
        while thread.next < end.0 {
            let batch = self.reader.read(0, thread.next).await.map_err(behind)?;
            let next = batch.next;
            if next == thread.next {
                return Ok(());
            }
            let folded = thread.ask(|answer| Ask::Fold(batch, answer)).await;
            folded.map_err(behind)?;
            thread.next = next;
        }
        Ok(())
    }
}

impl Thread {
    async fn ask(&self, ask: impl FnOnce(Answer) -> Ask) -> Result<(), Failure> {
        let ended = || Failure::passing("has lost its thread".to_owned());
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// Whether this round of appends knows these rows, and they all of it that was applied.
    fn is_asked(&self) -> Result<(), Failure> {
        match self.round {
            Round::Open => Ok(()),
            Round::Over => Err(Failure::passing(
                "had its rows replaced just now".to_owned(),
            )),
            Round::Unsure => Err(Failure::passing("was late before".to_owned())),
        }
    }

    /// Of a round that went away nothing is left.
    async fn forget_round(&mut self) -> Result<(), Failure> {
        if self.round != Round::Over {
            self.ask(Ask::Undo).await?;
            self.round = Round::Over;
        }
        Ok(())
    }

    /// The rows as of the last round.
    pub(super) async fn end(self) -> Result<Box<Database>, Failure> {
        let ended = |_| Failure::passing("the thread of the rows ended".to_owned());
        let (end, rows) = oneshot::channel();
        self.asks
            .send(Ask::End(end))
            .await
            .map_err(|_| Failure::passing("the thread of the rows ended".to_owned()))?;
        rows.await.map_err(ended)
    }
}

impl Inline for Inlined {
    fn reach(&self, end: Offset) -> BoxFuture<'_, Result<()>> {
        self.asked(async move |thread| {
            thread.forget_round().await?;
            self.catch_up(thread, end).await?;
            thread.round = Round::Open;
            Ok(())
        })
        .boxed()
    }

    fn apply(&self, events: Arc<[StreamEvent]>) -> BoxFuture<'_, Result<()>> {
        self.asked(async move |thread| {
            thread.is_asked()?;
            let facts = self.reader.facts(&events).await?;
            thread.round = Round::Unsure;
            let applied = thread.ask(|answer| Ask::Apply(facts, answer)).await;
            thread.round = Round::Open;
            applied
        })
        .boxed()
    }

    fn take_back(&self) -> BoxFuture<'_, ()> {
        async {
            // If it cannot be asked its round is lost, and the log tells it again.
            let _ = self
                .asked(async move |thread| {
                    thread.is_asked()?;
                    thread.round = Round::Unsure;
                    thread.ask(Ask::TakeBack).await?;
                    thread.round = Round::Open;
                    Ok(())
                })
                .await;
        }
        .boxed()
    }

    fn keep(&self, next: Offset) -> BoxFuture<'_, Result<()>> {
        self.asked(async move |thread| {
            let kept = match thread.is_asked() {
                Ok(()) => {
                    thread.round = Round::Unsure;
                    thread.ask(|answer| Ask::Keep(next.0, answer)).await
                }
                unasked => unasked,
            };
            if let Err(failure) = kept {
                // It is durable in the log, so it can be read there.
                tracing::warn!(projection = %self.name, %failure, "appends are folded in again");
                thread.forget_round().await?;
                return self.catch_up(thread, next).await;
            }
            thread.round = Round::Over;
            thread.next = next.0;
            Ok(())
        })
        .boxed()
    }

    fn undo(&self) -> BoxFuture<'_, ()> {
        async {
            let _ = self
                .asked(async move |thread| thread.forget_round().await)
                .await;
        }
        .boxed()
    }
}

fn serve(mut database: Box<Database>, mut asks: mpsc::Receiver<Ask>, progress: &Progress) {
    // Nobody listens to an answer if the append was given up: the next one asks to forget the round.
    while let Some(ask) = asks.blocking_recv() {
        match ask {
            Ask::Fold(batch, answer) => drop(answer.send(database.apply(&batch))),
            Ask::Apply(facts, answer) => drop(answer.send(database.apply_append(&facts))),
            Ask::TakeBack(answer) => {
                database.take_back();
                let _ = answer.send(Ok(()));
            }
            Ask::Keep(next, answer) => {
                let kept = database.keep(next);
                show_checkpoints(progress, database.checkpoints());
                let _ = answer.send(kept);
                continue;
            }
            Ask::Undo(answer) => {
                database.undo();
                let _ = answer.send(Ok(()));
            }
            Ask::End(end) => {
                database.undo();
                let _ = end.send(database);
                return;
            }
        }
        show_checkpoints(progress, database.checkpoints());
    }
}
