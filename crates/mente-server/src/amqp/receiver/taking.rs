//! Calls for messages. One that is likely to bring many has a task of its own, so that the connection writes what the
//! one before brought while they are read.

use std::sync::Arc;
use std::time::Duration;

use mente_broker::queue::LockToken;
use mente_broker::{Broker, Ending, Held, Mode, Principal, Result, SubscriptionName, Taking};
use mente_engine::limits;
use mente_wire::amqp::machine::{Connection, LinkId};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::client::{Desk, Done};
use super::super::condition::Refusal;
use super::{Receiver, WAIT};

/// Messages of one call: few enough that the next call is made while these are written.
const TAKEN: u32 = 128;
/// So many take a while to be written, in which others can work for this client.
const MANY: usize = 16;
/// How often the lock on a session is renewed for who receives without locks; the shortest lasts 5 s.
const RENEWAL: Duration = Duration::from_secs(2);
/// How long the last call before the answer to a drain may take: JS gives up on the link after 200 ms.
const DRAIN_WAIT: Duration = Duration::from_millis(100);

/// A call for messages. Until what it brought is here, or is others' again, there is no other: that would be given what
/// stands behind its messages.
pub(super) struct UnderWay {
    max: u32,
    /// Dropped, the call breaks off.
    stop: Option<oneshot::Sender<()>>,
}

/// What a call brought, nothing if it broke off. Whoever drops it gives back what is locked.
pub(in crate::amqp) struct Taken {
    held: Result<Vec<Held>>,
    taker: Taker,
}

/// Whose messages they are.
#[derive(Clone)]
pub(super) struct Taker {
    pub(super) broker: Arc<Broker>,
    pub(super) who: Principal,
    pub(super) view: SubscriptionName,
}

impl Receiver {
    pub(super) fn take(&mut self, id: LinkId, credit: u32, wait: Duration, desk: &Desk) {
        // In parts that are alike: a last one of a few would cost a call as well.
        let max = credit.div_ceil(credit.div_ceil(TAKEN));
        // A client that locks no messages has nothing that it could renew the lock on its session by.
        let renewed = self.session.clone().filter(|_| self.mode == Mode::Delete);
        let taking = Taking {
            max: max as usize,
            wait: match renewed {
                Some(_) => wait.min(RENEWAL),
                None => wait,
            },
            // Whoever leaves meanwhile leaves all that was not sent to others.
            mode: Mode::Lock,
            session: self.session.clone(),
        };
        let taker = self.taker(desk);
        let call = self.taker(desk);
        let call = async move {
            let Taker { broker, who, view } = call;
            let is_last = taking.wait.is_zero();
            if let Some(lock) = renewed {
                broker.renew_session(&who, &view, &lock).await?;
            }
            let taken = broker.take(&who, &view, taking);
            match is_last {
                false => taken.await,
                true => timeout(DRAIN_WAIT, taken)
                    .await
                    .unwrap_or_else(|_| Ok(Vec::new())),
            }
        };
        let (stop, stopped) = oneshot::channel();
        let call = async move {
            let held = tokio::select! {
                biased;
                _ = stopped => None,
                held = call => Some(held),
            };
            let held = match held {
                Some(held) => held,
                None => {
                    taker.broker.let_go(&taker.view).await;
                    Ok(Vec::new())
                }
            };
            Done::Took(id, Taken { held, taker })
        };
        match self.brought >= MANY {
            true => desk.begin_apart_now(call),
            false => desk.begin(call),
        }
        let stop = Some(stop);
        self.taking = Some(UnderWay { max, stop });
    }

    /// Takes no more than these.
    pub(super) fn break_off_beyond(&mut self, max: u32) {
        if let Some(taking) = self.taking.as_mut().filter(|taking| taking.max > max) {
            taking.stop = None;
        }
    }

    /// Takes no more.
    pub(in crate::amqp) fn stop(&mut self) {
        self.break_off_beyond(0);
    }

    pub(super) fn taker(&self, desk: &Desk) -> Taker {
        Taker {
            broker: desk.broker(),
            who: self.who.clone(),
            view: self.view.clone(),
        }
    }

    /// What came of the call; a refusal ends the link.
    pub(in crate::amqp) fn took(
        &mut self,
        id: LinkId,
        taken: Taken,
        desk: &Desk,
    ) -> std::result::Result<(), Refusal> {
        let was_wanted = self.taking.take().is_some_and(|call| call.stop.is_some());
        let held = taken.keep();
        if !was_wanted {
            self.give_back(id, held.into_iter().flatten(), desk);
            return Ok(());
        }
        let held = held.map_err(|error| self.refusal(error))?;
        self.brought = held.len();
        self.held.extend(held);
        Ok(())
    }

    /// Begins the calls that are due before what came is written, so that the broker works while this one writes. Whether
    /// it is worth while to let it begin.
    pub(in crate::amqp) fn call_ahead(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        desk: &Desk,
        is_leaving: bool,
    ) -> bool {
        let calls = |all: &Self| all.settling_calls + usize::from(all.taking.is_some());
        let before = calls(self);
        self.settle(id, desk);
        if !is_leaving {
            self.take_ahead(machine, id, desk);
        }
        calls(self) > before && self.held.len() >= MANY
    }

    fn take_ahead(&mut self, machine: &mut Connection, id: LinkId, desk: &Desk) {
        let held = self.held_now();
        if held == 0 || self.is_busy() {
            return;
        }
        let goes_on = self.mode == Mode::Lock && !self.is_draining && !self.looks && !self.is_shut;
        // What does not go at once is others' rather than locked here.
        let goes_at_once = machine.has_room() && machine.window(id).unwrap_or(0) > held;
        let is_large = |held: &Held| held.claim.is_some();
        let left = machine.credit(id).unwrap_or(0).saturating_sub(held);
        if left > 0 && goes_on && goes_at_once && !self.held.iter().any(is_large) {
            self.take(id, left, WAIT, desk);
        }
    }
}

impl Taken {
    fn keep(mut self) -> Result<Vec<Held>> {
        std::mem::replace(&mut self.held, Ok(Vec::new()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let held = self.held.iter().flatten();
        let tokens: Vec<_> = held.filter_map(|held| Some(held.lock?.token)).collect();
        // Without an executor the process ends, and with it all locks.
        if let (false, Ok(executor)) = (tokens.is_empty(), Handle::try_current()) {
            executor.spawn(self.taker.clone().give_back(tokens));
        }
    }
}

impl Taker {
    /// They are others' again, as if they had never been taken.
    pub(super) async fn give_back(self, tokens: Vec<LockToken>) {
        for part in tokens.chunks(limits::LOCK_TOKENS_PER_SETTLE) {
            let (who, view) = (&self.who, &self.view);
            let returned = self
                .broker
                .end_locks(who, view, part.to_vec(), Ending::Return);
            if let Err(error) = returned.await {
                tracing::debug!(%error, "messages were not given back: their locks run out");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mente_broker::entity::QueueProperties;
    use mente_broker::{EntityName, Message};
    use mente_engine::Event;

    use super::*;
    use crate::alone::broker;

    const ME: Principal = Principal::Anonymous;

    /// As soon as there are any.
    async fn take(broker: &Broker, view: &SubscriptionName) -> Vec<Held> {
        for _ in 0..10_000 {
            let taking = Taking::locked(10, Duration::ZERO);
            let held = broker.take(&ME, view, taking).await.unwrap();
            if !held.is_empty() {
                return held;
            }
            tokio::task::yield_now().await;
        }
        panic!("nothing is there");
    }

    #[tokio::test]
    async fn what_came_too_late_for_its_connection_is_others_at_once() {
        let broker = Arc::new(broker().await);
        let to = EntityName::new("q").unwrap();
        let properties = QueueProperties::default();
        broker.create_queue(&ME, "q", properties).await.unwrap();
        let message = Message {
            event: Event {
                id: "1".into(),
                source: "/s".into(),
                kind: "t".into(),
                ..Event::default()
            },
            ..Message::default()
        };
        broker.send(&ME, &to, vec![message]).await.unwrap();
        let view = SubscriptionName::queue(to);
        let taker = Taker {
            broker: Arc::clone(&broker),
            who: ME,
            view: view.clone(),
        };
        let held = Ok(take(&broker, &view).await);
        drop(Taken { held, taker });
        // The clock stands still: no lock runs out.
        let again = take(&broker, &view).await;
        assert_eq!((again.len(), again[0].failed), (1, 0));
    }
}
