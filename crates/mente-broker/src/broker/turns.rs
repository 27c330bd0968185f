//! So many at a time: who comes when all turns are taken waits for one, without a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::channel::mpsc;
use futures::lock::Mutex;

use crate::error::{Error, Kind, Result};

pub(super) struct Turns {
    /// In words, what waits.
    what: &'static str,
    free: Mutex<mpsc::UnboundedReceiver<()>>,
    /// Never more in it than there are turns.
    back: mpsc::UnboundedSender<()>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Given back when it is dropped, on whatever thread.
pub(super) struct Turn(mpsc::UnboundedSender<()>);

struct Waiting<'a>(&'a AtomicUsize);

impl Turns {
    pub(super) fn new(what: &'static str, turns: usize, waiting_max: usize) -> Arc<Self> {
        let (back, free) = mpsc::unbounded();
        let turns_new = Self {
            what,
            free: Mutex::new(free),
            back,
            waiting: AtomicUsize::new(0),
            waiting_max,
        };
        for _ in 0..turns {
            drop(Turn(turns_new.back.clone()));
        }
        Arc::new(turns_new)
    }

    /// Waits for a turn; refuses where too many wait already.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.waiting_max {
            let message = format!(
                "too many {} wait for their turn: repeat a little later",
                self.what
            );
            return Err(Error::new(Kind::Throttled, message));
        }
        // A sender lives as long as this does, so there is a next one.
        self.free.lock().await.next().await;
        Ok(Turn(self.back.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.0.unbounded_send(());
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_turn_comes_back() {
        let turns = Turns::new("tests", 2, 2);
        let take = || turns.turn().now_or_never().map(Result::unwrap);
        let (first, second) = (take(), take());
        assert!(first.is_some() && second.is_some() && take().is_none());
        drop(first);
        let third = take();
        assert!(third.is_some(), "and who gave up waiting took none");
        let mut waiting = [Box::pin(turns.turn()), Box::pin(turns.turn())];
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none());
        }
        let refused = block_on(turns.turn()).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind, Kind::Throttled);
        drop(third);
        drop(second);
        for turn in waiting {
            assert!(block_on(turn).is_ok());
        }
    }
}
