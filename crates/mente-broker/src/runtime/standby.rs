//! A shard that this node does not decide for: whoever asks is sent away, and the catalogue is followed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, select};
use mente_engine::{Clock, Engine, Takes};

use super::{RETRY, Runtime, not_owner};
use crate::catalogue::SharedCatalogue;
use crate::duty::{Duty, Progress};
use crate::error::Error;
use crate::restore::{Logs, Warm};

/// How often it is looked whether this node's place is certain again.
const LOOK: Duration = Duration::from_millis(100);

impl Runtime {
    /// Until this node is to decide; whoever asks meanwhile is sent away, and the catalogue is followed. False
    /// once every handle is gone.
    pub(super) async fn stand_by(&mut self, warm: &mut Warm) -> bool {
        if self.is_on_duty() {
            return true;
        }
        self.duty.report(Progress::Away);
        let follow = follow(
            Arc::clone(&self.engine),
            self.logs,
            self.catalogue.clone(),
            Arc::clone(&self.clock),
            self.duty.clone(),
            warm,
        );
        futures::pin_mut!(follow);
        loop {
            let changed = self.duty.bell().after(self.duty.bell().rings());
            if self.is_on_duty() {
                return true;
            }
            // The bell tells of the duty, but nothing tells that this node's place is certain again.
            let look = match self.duty.is_on() {
                true => self.clock.sleep_until(self.clock.now().monotone + LOOK),
                false => Box::pin(std::future::pending()),
            };
            futures::pin_mut!(changed);
            let wait = select(select(changed, look), follow.as_mut());
            match select(self.mailbox.next(), wait).await {
                Either::Left((None, _)) => return false,
                Either::Left((Some(request), _)) => {
                    let _ = request.reply.send(Err(not_owner()));
                }
                Either::Right(_) => {}
            }
        }
    }

    /// Whoever asks hears why this shard stands still, until it is another node's. False once every handle
    /// is gone.
    pub(super) async fn refuse(&mut self, error: &Error) -> bool {
        while self.duty.is_on() {
            let look = self.clock.sleep_until(self.clock.now().monotone + LOOK);
            match select(self.mailbox.next(), look).await {
                Either::Left((None, _)) => return false,
                Either::Left((Some(request), _)) => {
                    let _ = request.reply.send(Err(error.clone()));
                }
                Either::Right(_) => {}
            }
        }
        true
    }

    /// Who comes to make room must find what there is.
    async fn show_catalogue(&self) {
        let unread = self.catalogue.iter().find(|shared| !shared.is_read());
        if let Some(shared) = unread {
            let mut warm = Warm::new(self.tail_events);
            let read = warm.catch_up(&*self.engine, self.logs, &self.duty);
            if read.await.is_ok() {
                shared.replace(warm.catalogue().clone());
            }
        }
    }

    /// Waits before the journal is claimed again, on a full disk until there is room for a claim; whoever
    /// calls meanwhile hears so. False once every handle is gone.
    pub(super) async fn rest(&mut self) -> bool {
        loop {
            let mut over = self.clock.sleep_until(self.clock.now().monotone + RETRY);
            let Err(full) = self.engine.room().check(Takes::Decisions) else {
                over.await;
                return true;
            };
            self.show_catalogue().await;
            while let Either::Left((request, left)) = select(self.mailbox.next(), over).await {
                let Some(request) = request else {
                    return false;
                };
                self.refused.fetch_add(1, Ordering::Relaxed);
                let _ = request.reply.send(Err(full.clone().into()));
                over = left;
            }
        }
    }
}

/// Keeps the doors' catalogue that of the journal, for ever, where another node decides on it.
async fn follow(
    engine: Arc<dyn Engine>,
    logs: Logs,
    shared: Option<SharedCatalogue>,
    clock: Arc<dyn Clock>,
    duty: Duty,
    warm: &mut Warm,
) {
    let Some(shared) = shared else {
        return std::future::pending().await;
    };
    loop {
        let caught_up = warm.catch_up(&*engine, logs, &duty).await;
        match caught_up {
            Ok(()) => {
                shared.follow(warm.catalogue(), warm.next());
                if engine.watch(logs.journal, warm.next()).await.is_ok() {
                    continue;
                }
            }
            Err(error) => tracing::warn!(?error, "the catalogue cannot be followed just now"),
        }
        clock.sleep_until(clock.now().monotone + RETRY).await;
    }
}
