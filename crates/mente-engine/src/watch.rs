//! Who waits for a log to grow. Shared by the engines that see every append themselves.

use futures::channel::oneshot;

use crate::engine::Answer;
use crate::error::Error;
use crate::id::Offset;

/// The waiters of one log. Dropping it (the log is gone) answers them `Gone`.
#[derive(Debug, Default)]
pub struct Watchers {
    waiting: Vec<(Offset, oneshot::Sender<Offset>)>,
}

impl Watchers {
    /// Resolves with the committed end once it lies beyond `seen`; `end` is the present one.
    pub fn wait(&mut self, seen: Offset, end: Offset) -> Answer<Offset> {
        if end > seen {
            return Box::pin(std::future::ready(Ok(end)));
        }
        self.waiting.retain(|(_, waiter)| !waiter.is_canceled());
        let (sender, receiver) = oneshot::channel();
        self.waiting.push((seen, sender));
        Box::pin(async { receiver.await.map_err(|_| Error::Gone) })
    }

    /// Tells everybody who waited for less than `end`.
    pub fn advance(&mut self, end: Offset) {
        for (seen, waiter) in std::mem::take(&mut self.waiting) {
            if end > seen {
                // A waiter that went away needs no answer.
                let _ = waiter.send(end);
            } else {
                self.waiting.push((seen, waiter));
            }
        }
    }
}
