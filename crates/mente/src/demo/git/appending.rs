//! Two at work: one reads the history, one appends what is read. Between them is a short queue, so that a
//! history of any length takes little memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::history::History;
use super::progress::Progress;
use super::repository::{Repository, failed};
use super::stream::Stream;
use super::telling::{Batch, Told, tell};
use crate::failure::Result;

/// Events that wait between the two.
const WAITING: usize = 64;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) commits: u64,
    pub(super) events: u64,
    /// Events that the stream had already.
    pub(super) repeated: u64,
    /// Of all events, as they are sent.
    pub(super) bytes: u64,
    /// The history was not cut short.
    pub(super) is_whole: bool,
    /// In which appends were under way that the stream did not have.
    pub(super) appending: Duration,
    pub(super) took: Duration,
}

/// Appends the events of all commits, or of the first `limit`.
pub(super) async fn append(
    stream: &Stream,
    repository: &Arc<Repository>,
    source: String,
    limit: Option<u64>,
) -> Result<Account> {
    let began = Instant::now();
    // An append is repeated whole or not at all, so none may reach over the end of what is there.
    let there = stream.length().await?;
    let (sender, mut events) = mpsc::channel(WAITING);
    let repository = Arc::clone(repository);
    let reader = tokio::task::spawn_blocking(move || read(&repository, &source, limit, &sender));
    let mut account = Account::default();
    let mut progress = Progress::new();
    let mut batch = Batch::default();
    while let Some(told) = events.recv().await {
        let next = account.events + batch.len() as u64;
        if !batch.has_room(&told) || (next == there && !batch.is_empty()) {
            account.append(stream, &mut batch).await?;
            let (commits, events) = (account.commits, account.events);
            progress.say(|| format!("{commits} commits told in {events} events"));
        }
        account.commits += u64::from(told.is_commit);
        batch.push(told);
    }
    if !batch.is_empty() {
        account.append(stream, &mut batch).await?;
    }
    let whole = reader.await;
    account.is_whole = whole.map_err(|error| failed(&format!("the reader failed: {error}")))??;
    account.took = began.elapsed();
    Ok(account)
}

impl Account {
    async fn append(&mut self, stream: &Stream, batch: &mut Batch) -> Result<()> {
        let began = Instant::now();
        let batch = std::mem::take(batch);
        let is_repeated = stream.append(self.events, &batch).await?;
        self.events += batch.len() as u64;
        self.bytes += batch.bytes() as u64;
        if is_repeated {
            self.repeated += batch.len() as u64;
        } else {
            self.appending += began.elapsed();
        }
        Ok(())
    }
}

/// Whether the history was read to its end. Ends early if nobody takes events any more.
fn read(
    repository: &Repository,
    source: &str,
    limit: Option<u64>,
    events: &mpsc::Sender<Told>,
) -> Result<bool> {
    let mut history = History::read(repository)?;
    let mut commits = 0;
    while let Some(commit) = history.next()? {
        if limit.is_some_and(|limit| commits >= limit) {
            return Ok(false);
        }
        commits += 1;
        for told in tell(source, &commit) {
            if events.blocking_send(told).is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
