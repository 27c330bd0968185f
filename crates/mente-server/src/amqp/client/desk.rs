//! From where a client's work is begun, and how long it goes on.

use std::future::ready;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{AbortHandle, Abortable};
use futures::stream::FuturesUnordered;
use mente_broker::Broker;
use tokio::task::JoinHandle;

use super::{Done, Pending};
use crate::amqp::Door;

pub(in crate::amqp) struct Desk {
    pub(in crate::amqp) door: Arc<Door>,
    pub(in crate::amqp) work: FuturesUnordered<Pending>,
    /// Whoever has a piece of a large message on its way to the log has this too, and so they are counted.
    pub(in crate::amqp) pieces: Arc<()>,
}

impl Desk {
    pub(in crate::amqp) fn broker(&self) -> Arc<Broker> {
        Arc::clone(&self.door.broker)
    }

    pub(in crate::amqp) fn begin(&self, work: impl Future<Output = Done> + Send + 'static) {
        self.work.push(work.boxed());
    }

    /// The same, and it begins now: what it asks for is asked for before whatever is begun later.
    pub(in crate::amqp) fn begin_now(&self, work: impl Future<Output = Done> + Send + 'static) {
        let mut work = work.boxed();
        match (&mut work).now_or_never() {
            Some(done) => self.begin(ready(done)),
            None => self.work.push(work),
        }
    }

    /// Work that may hold up who polls it, as an append does that drives the log's commit (ADR 4): in a task of its
    /// own, so that the connection goes on meanwhile, and what its other links append comes into the next commit.
    pub(in crate::amqp) fn begin_apart(&self, work: impl Future<Output = Done> + Send + 'static) {
        self.begin(outcome(tokio::spawn(work)));
    }

    /// The same, begun now.
    pub(in crate::amqp) fn begin_apart_now(
        &self,
        work: impl Future<Output = Done> + Send + 'static,
    ) {
        let mut work = Box::pin(work);
        match (&mut work).now_or_never() {
            Some(done) => self.begin(ready(done)),
            None => self.begin_apart(work),
        }
    }

    /// Work apart that goes on no longer than the connection: a piece that waits for its turn is in memory, and behind
    /// the connection no budget counts it.
    pub(in crate::amqp) fn begin_apart_while_here(
        &self,
        work: impl Future<Output = Done> + Send + 'static,
    ) {
        self.begin(tied(work));
    }

    /// Work that is dropped where it stands when the handle says so.
    pub(in crate::amqp) fn begin_abortable(
        &self,
        work: impl Future<Output = Done> + Send + 'static,
    ) -> AbortHandle {
        let (handle, registration) = AbortHandle::new_pair();
        let work = Abortable::new(work, registration);
        self.begin(work.map(|done| done.unwrap_or(Done::Nothing)));
        handle
    }
}

/// Has another thread of the executor do at once what was woken last, while this one goes on. The executor keeps that for
/// the thread that woke it until the task there waits, and lets the others sleep; what is woken behind it moves it on.
pub(in crate::amqp) fn share() {
    tokio::spawn(ready(()));
}

async fn outcome(work: JoinHandle<Done>) -> Done {
    match work.await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The executor ends, and nobody is told anything any more.
            Err(_) => Done::Nothing,
        },
    }
}

/// The outcome of a task that ends with whoever waits for it.
fn tied(work: impl Future<Output = Done> + Send + 'static) -> impl Future<Output = Done> {
    let work = tokio::spawn(work);
    let tie = Tie(work.abort_handle());
    async move {
        let _tie = tie;
        outcome(work).await
    }
}

struct Tie(tokio::task::AbortHandle);

impl Drop for Tie {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_of_a_piece_whose_connection_has_gone() {
        let piece = Arc::new(());
        let held = Arc::clone(&piece);
        let work = tied(async move {
            std::future::pending::<()>().await;
            drop(held);
            Done::Nothing
        });
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&piece), 2);
        drop(work);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&piece), 1);
    }
}
