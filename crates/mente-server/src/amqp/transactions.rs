//! Transactions of one connection. What is sent and settled within one waits here until it is discharged, and is then
//! one call of the broker.
//!
//! ```text
//! declare ─▶ open ─ send, settle, schedule ─▶ discharge ─▶ Broker::commit
//!              └─ 2 minutes, the end of the control link, discharge{fail} ─▶ nothing of it was done
//! ```
//! One member that is refused, and the transaction will not be committed: Java's senders do not look at what became of
//! a message that they sent within one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::AbortHandle;
use mente_broker::{
    EntityName, Error, Kind, Message, Principal, Sent, Settled, Transaction, Written,
};
use mente_engine::limits;
use mente_wire::amqp::machine::LinkId;
use mente_wire::amqp::transaction::Declare;
use mente_wire::amqp::{self, DeliveryState, Outcome, condition};
use tokio::sync::OwnedSemaphorePermit;

use super::client::{Desk, Done};
use super::condition::Refusal;

/// Open at one time on one connection.
const OPEN: usize = 100;
/// What each message counts at least.
const MESSAGE_BYTES: usize = 1 << 10;

#[derive(Default)]
pub(super) struct Transactions {
    open: BTreeMap<Bytes, Open>,
}

pub(super) struct Open {
    /// The control link that it was declared on: it ends with that.
    coordinator: LinkId,
    /// The queue or topic at which it settles or schedules. It sends to any.
    home: Option<EntityName>,
    transaction: Transaction,
    bytes: usize,
    /// For its messages.
    room: Vec<OwnedSemaphorePermit>,
    /// Why it will not be committed.
    spoilt: Option<Refusal>,
    /// Messages that are being scheduled.
    scheduling: usize,
    /// Says that its time is over.
    clock: AbortHandle,
}

/// How a delivery stands that is done when its transaction is.
pub(super) fn within(txn_id: &Bytes, outcome: Option<Outcome>) -> DeliveryState {
    DeliveryState::Transactional {
        txn_id: txn_id.clone(),
        outcome,
    }
}

impl Transactions {
    pub(super) fn declare(
        &mut self,
        coordinator: LinkId,
        declare: &Declare,
        desk: &Desk,
    ) -> Result<Bytes, Refusal> {
        if declare.global_id.is_some() {
            let words = "a transaction that others take part in (global-id)";
            return Err(Refusal::not_implemented(words));
        }
        if self.open.len() >= OPEN {
            let words = format!("{OPEN} transactions of this connection are open: discharge some");
            return Err(Refusal::new(condition::RESOURCE_LIMIT_EXCEEDED, 403, words));
        }
        // Never again, so that what is late joins no other one.
        let name = uuid::Uuid::new_v4();
        let id = Bytes::copy_from_slice(name.as_bytes());
        let over = id.clone();
        let clock = desk.begin_abortable(async move {
            tokio::time::sleep(Duration::from_secs(limits::TRANSACTION_SECONDS)).await;
            Done::TransactionOver(over)
        });
        let open = Open {
            coordinator,
            home: None,
            transaction: Transaction {
                name: name.simple().to_string(),
                ..Transaction::default()
            },
            bytes: 0,
            room: Vec::new(),
            spoilt: None,
            scheduling: 0,
            clock,
        };
        self.open.insert(id.clone(), open);
        Ok(id)
    }

    /// Messages of one delivery, or why it has none.
    pub(super) fn send(
        &mut self,
        id: &Bytes,
        who: &Principal,
        to: &EntityName,
        messages: Result<Vec<Message>, amqp::Error>,
        bytes: usize,
        desk: &Desk,
    ) -> Result<(), amqp::Error> {
        let open = self.find(id).map_err(|refusal| refusal.to_error())?;
        let messages = messages.inspect_err(|error| {
            let words = error.description.as_ref().map_or("", |text| text.as_str());
            open.spoil(&Refusal::argument(words));
        })?;
        let room = open.count(messages.len());
        let room = room.and_then(|()| open.take_room(messages.len(), bytes, desk));
        room.map_err(|refusal| refusal.to_error())?;
        let messages = messages.into_iter().map(|message| Sent {
            who: who.clone(),
            to: to.clone(),
            message,
        });
        open.transaction.sent.extend(messages);
        Ok(())
    }

    /// Locks that end with it, of one view, or why they cannot.
    pub(super) fn settle(
        &mut self,
        id: &Bytes,
        settled: Result<Vec<Settled>, Refusal>,
    ) -> Result<(), Refusal> {
        let open = self.find(id)?;
        let settled = settled.inspect_err(|refusal| open.spoil(refusal))?;
        if let Some(first) = settled.first() {
            let home = first.view.topic.clone();
            open.join(&home, settled.len())?;
        }
        open.transaction.settled.extend(settled);
        Ok(())
    }

    /// So many messages are about to be scheduled in it; gives its name.
    pub(super) fn schedule(
        &mut self,
        id: &Bytes,
        to: &EntityName,
        count: usize,
    ) -> Result<String, Refusal> {
        let open = self.find(id)?;
        open.join(to, count)?;
        open.scheduling += count;
        Ok(open.transaction.name.clone())
    }

    /// What came of that. Of a transaction that is over it goes by time.
    pub(super) fn scheduled(
        &mut self,
        id: &Bytes,
        count: usize,
        written: Result<&[Written], &Refusal>,
    ) {
        let Some(open) = self.open.get_mut(id) else {
            return;
        };
        open.scheduling -= count;
        match written {
            Ok(written) => open.transaction.scheduled.extend_from_slice(written),
            Err(refusal) => open.spoil(refusal),
        }
    }

    /// Something was asked for within it that is refused.
    pub(super) fn spoil(&mut self, id: &Bytes, refusal: &Refusal) {
        if let Some(open) = self.open.get_mut(id) {
            open.spoil(refusal);
        }
    }

    /// A member is larger than an event, whatever else becomes of it: if the state is that of a transaction, it will
    /// not be committed.
    pub(super) fn spoil_large(&mut self, state: Option<&DeliveryState>) {
        if let Some(DeliveryState::Transactional { txn_id, .. }) = state {
            self.spoil(txn_id, &no_room());
        }
    }

    fn find(&mut self, id: &Bytes) -> Result<&mut Open, Refusal> {
        self.open.get_mut(id).ok_or_else(unknown)
    }

    /// It ends now, by the client's word.
    pub(super) fn take(&mut self, id: &Bytes) -> Result<Open, Refusal> {
        let open = self.open.remove(id).ok_or_else(unknown)?;
        open.clock.abort();
        Ok(open)
    }

    /// Its time is over.
    pub(super) fn over(&mut self, id: &Bytes, desk: &Desk) {
        if let Ok(open) = self.take(id) {
            tracing::debug!("a transaction was not discharged in time");
            open.roll_back(desk);
        }
    }

    /// The control link is gone, and its transactions with it.
    pub(super) fn leave(&mut self, coordinator: LinkId, desk: &Desk) {
        let of_link = |(_, open): &(&Bytes, &Open)| open.coordinator == coordinator;
        let ids = self.open.iter().filter(of_link).map(|(id, _)| id.clone());
        for id in ids.collect::<Vec<_>>() {
            if let Ok(open) = self.take(&id) {
                open.roll_back(desk);
            }
        }
    }

    /// Nothing waits for their time any more: the connection ends before.
    pub(super) fn stop(&self) {
        self.open.values().for_each(|open| open.clock.abort());
    }
}

impl Open {
    fn spoil(&mut self, refusal: &Refusal) {
        self.spoilt.get_or_insert_with(|| refusal.clone());
    }

    /// So many operations more that its home has to decide on.
    fn join(&mut self, entity: &EntityName, count: usize) -> Result<(), Refusal> {
        let home = self.home.get_or_insert_with(|| entity.clone());
        if home == entity {
            return self.count(count);
        }
        let words = format!(
            "local transactions cannot span multiple top-level entities such as queue or topic: this one settles or schedules messages of {}, and {} is another one, to which it may send",
            home.as_path(),
            entity.as_path()
        );
        let refusal = Refusal::not_allowed(words);
        self.spoil(&refusal);
        Err(refusal)
    }

    /// So many operations more.
    fn count(&mut self, count: usize) -> Result<(), Refusal> {
        let all = self.transaction.operations() + self.scheduling + count;
        if all <= limits::TRANSACTION_OPERATIONS {
            return Ok(());
        }
        let words = format!(
            "a transaction sends and settles at most {} messages",
            limits::TRANSACTION_OPERATIONS
        );
        let refusal = Refusal::new(condition::RESOURCE_LIMIT_EXCEEDED, 403, words);
        self.spoil(&refusal);
        Err(refusal)
    }

    fn take_room(&mut self, count: usize, bytes: usize, desk: &Desk) -> Result<(), Refusal> {
        let bytes = bytes + count * MESSAGE_BYTES;
        let refusal = if self.bytes + bytes > limits::TRANSACTION_BYTES {
            let words = format!(
                "the messages of a transaction have at most {} bytes together",
                limits::TRANSACTION_BYTES
            );
            Refusal::new(condition::RESOURCE_LIMIT_EXCEEDED, 403, words)
        } else {
            let all = Arc::clone(&desk.door.transactions);
            match all.try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)) {
                Ok(room) => {
                    self.bytes += bytes;
                    self.room.push(room);
                    return Ok(());
                }
                Err(_) => {
                    Refusal::busy("open transactions hold too many messages: try again later")
                }
            }
        };
        self.spoil(&refusal);
        Err(refusal)
    }

    /// What was written for it goes.
    pub(super) fn roll_back(self, desk: &Desk) {
        let (Some(home), scheduled) = (self.home, self.transaction.scheduled) else {
            return;
        };
        if scheduled.is_empty() {
            return;
        }
        let broker = desk.broker();
        desk.begin(async move {
            if let Err(error) = broker.roll_back(&home, scheduled).await {
                tracing::debug!(%error, "messages of a transaction go by time");
            }
            Done::Nothing
        });
    }

    /// Whether it may be committed.
    pub(super) fn is_whole(&self) -> Result<(), Refusal> {
        match &self.spoilt {
            Some(refusal) => Err(rolled_back(&refusal.message)),
            None if self.scheduling > 0 => Err(rolled_back("not all of it was answered")),
            None => Ok(()),
        }
    }

    /// All of it, or nothing.
    pub(super) async fn commit(self, broker: Arc<mente_broker::Broker>) -> Result<(), Refusal> {
        // Where nothing is settled its messages wait where the first of them goes.
        let first = self.transaction.sent.first().map(|sent| sent.to.clone());
        let Some(home) = self.home.or(first) else {
            return Ok(());
        };
        let committed = broker.commit(&home, self.transaction).await;
        committed.map_err(|error: Error| match error.kind {
            Kind::Unknown => Refusal::from(error),
            _ => rolled_back(&error.message),
        })
    }
}

fn rolled_back(why: &str) -> Refusal {
    let words = format!("the transaction is rolled back: {why}");
    Refusal::new(condition::TRANSACTION_ROLLBACK, 400, words)
}

/// For a message that is larger than an event.
pub(super) fn no_room() -> Refusal {
    Refusal::not_implemented(
        "a message within a transaction has no room for more than an event: send it outside",
    )
}

fn unknown() -> Refusal {
    let words = format!(
        "no transaction of this connection has this id: one ends with its discharge, with its control link, or after {} s",
        limits::TRANSACTION_SECONDS
    );
    Refusal::new(condition::UNKNOWN_TRANSACTION, 404, words)
}
