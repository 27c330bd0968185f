//! A link of a sender: what comes on it goes to the broker in its order, all that is there with one call, while
//! the call before is under way.

use std::collections::VecDeque;

use bytes::Bytes;
use mente_broker::{Attached, Broker, EntityName, Error, Kind, Message, Principal};
use mente_engine::limits;
use mente_wire::amqp::machine::{Connection, Delivery, DeliveryId, LinkId};
use mente_wire::amqp::message::BATCH_FORMAT;
use mente_wire::amqp::{self, DeliveryState, Outcome, condition, event};
use tokio::sync::OwnedSemaphorePermit;

use super::client::{Desk, Done};
use super::condition::{ARGUMENT_ERROR, Refusal};
use super::transactions::{Transactions, within};

/// What a client may send before it hears of more. Python's clients do not listen.
pub(super) const CREDIT: u32 = 1_000;
/// Deliveries that wait beyond which no more credit is given.
const WAITING: usize = 2_000;
/// Messages and bytes that go to the broker with one call.
const MESSAGES_PER_CALL: usize = 1_000;
const BYTES_PER_CALL: usize = 2 << 20;

pub(super) struct Sender {
    pub(super) who: Principal,
    to: EntityName,
    path: String,
    /// Largest delivery, as the client was told.
    bytes: u64,
    requires_session: bool,
    _attached: Attached,
    waiting: VecDeque<Sent>,
    is_calling: bool,
}

/// A delivery on its way, one message or a batch.
struct Sent {
    id: DeliveryId,
    settled: bool,
    messages: Vec<Message>,
    /// Of the payload.
    bytes: usize,
    _room: OwnedSemaphorePermit,
}

/// What became of a delivery.
pub(super) struct Verdict {
    id: DeliveryId,
    settled: bool,
    result: Result<(), Refusal>,
}

impl Sender {
    pub(super) const fn new(
        who: Principal,
        to: EntityName,
        path: String,
        bytes: u64,
        requires_session: bool,
        attached: Attached,
    ) -> Self {
        Self {
            who,
            to,
            path,
            bytes,
            requires_session,
            _attached: attached,
            waiting: VecDeque::new(),
            is_calling: false,
        }
    }

    pub(super) fn delivered(
        &mut self,
        machine: &mut Connection,
        delivery: &Delivery,
        room: OwnedSemaphorePermit,
    ) {
        match self.messages(delivery) {
            Ok(messages) => self.waiting.push_back(Sent {
                id: delivery.id,
                settled: delivery.settled,
                messages,
                bytes: delivery.payload.len(),
                _room: room,
            }),
            Err(error) if delivery.settled => {
                tracing::debug!(
                    ?error,
                    "a message that its sender wants no word of was not taken"
                );
            }
            Err(error) => reject(machine, delivery.link, delivery.id, error),
        }
    }

    /// The same within a transaction: it waits there.
    pub(super) fn delivered_within(
        &self,
        machine: &mut Connection,
        delivery: &Delivery,
        transactions: &mut Transactions,
        desk: &Desk,
    ) {
        let (link, id) = (delivery.link, delivery.id);
        let Some(DeliveryState::Transactional { txn_id, .. }) = &delivery.state else {
            let words = "a message with a state that is not that of a transaction";
            let error = amqp::Error::new(condition::NOT_IMPLEMENTED, words);
            return reject(machine, link, id, error);
        };
        // What waits for minutes keeps nothing of the frames that it came in.
        let delivery = &Delivery {
            payload: Bytes::copy_from_slice(&delivery.payload),
            ..delivery.clone()
        };
        let messages = self.messages(delivery);
        let bytes = delivery.payload.len();
        match transactions.send(txn_id, &self.who, &self.to, messages, bytes, desk) {
            Ok(()) => {
                let accepted = within(txn_id, Some(Outcome::Accepted));
                let _ = machine.settle(link, id, Some(accepted));
            }
            Err(error) => reject(machine, link, id, error),
        }
    }

    fn messages(&self, delivery: &Delivery) -> Result<Vec<Message>, amqp::Error> {
        if delivery.payload.len() as u64 > self.bytes {
            let words = format!(
                "a message of more than the {} bytes that are taken",
                self.bytes
            );
            return Err(amqp::Error::new(condition::MESSAGE_SIZE_EXCEEDED, words));
        }
        if delivery.format != BATCH_FORMAT {
            return Ok(vec![self.message(&delivery.payload)?]);
        }
        let batch = amqp::Message::split(&delivery.payload)?.batched()?;
        batch.iter().map(|payload| self.message(payload)).collect()
    }

    fn message(&self, payload: &Bytes) -> Result<Message, amqp::Error> {
        let message = message(payload, &self.path)?;
        if self.requires_session && message.session.is_none() {
            let words = format!(
                "{} requires sessions, and the message has no session id (group-id)",
                self.path
            );
            return Err(Refusal::not_allowed(words).to_error());
        }
        Ok(message.message)
    }

    /// Sends on what waits, and lets the client send more.
    pub(super) fn pump(&mut self, machine: &mut Connection, id: LinkId, desk: &Desk) {
        if !self.is_calling && !self.waiting.is_empty() {
            let sent = self.next_call();
            let (broker, who, to) = (desk.broker(), self.who.clone(), self.to.clone());
            self.is_calling = true;
            desk.begin(async move { Done::Sent(id, send(&broker, &who, &to, sent).await) });
        }
        let is_low = machine.credit(id).is_ok_and(|left| left < CREDIT / 2);
        if is_low && self.waiting.len() < WAITING {
            let _ = machine.grant(id, CREDIT);
        }
    }

    /// At least one delivery.
    fn next_call(&mut self) -> Vec<Sent> {
        let (mut messages, mut bytes) = (0, 0);
        let fits = |sent: &&Sent| {
            let is_first = messages == 0;
            messages += sent.messages.len().max(1);
            bytes += sent.bytes;
            is_first || (messages <= MESSAGES_PER_CALL && bytes <= BYTES_PER_CALL)
        };
        let count = self.waiting.iter().take_while(fits).count();
        self.waiting.drain(..count).collect()
    }

    /// Tells the client what became of its deliveries.
    pub(super) fn sent(&mut self, machine: &mut Connection, id: LinkId, verdicts: Vec<Verdict>) {
        self.is_calling = false;
        for verdict in verdicts {
            match verdict.result {
                _ if verdict.settled => {}
                Ok(()) => {
                    let accepted = DeliveryState::Outcome(Outcome::Accepted);
                    let _ = machine.settle(id, verdict.id, Some(accepted));
                }
                Err(refusal) => reject(machine, id, verdict.id, refusal.to_error()),
            }
        }
    }
}

/// A message for the broker, and what only the door looks at.
pub(super) struct Read {
    pub(super) message: Message,
    pub(super) session: Option<String>,
}

/// A message as it came on a link or within a request.
pub(super) fn message(payload: &Bytes, path: &str) -> Result<Read, amqp::Error> {
    let incoming = event::read(payload, path).map_err(|unfit| {
        let error = amqp::Error::new(ARGUMENT_ERROR, unfit.to_string());
        amqp::Error {
            condition: amqp::Symbol::from_static(unfit.condition()),
            ..error
        }
    })?;
    let mut event = incoming.event;
    if event.id.is_empty() {
        // JS' subscribers fail without one.
        event.id = uuid::Uuid::new_v4().simple().to_string();
    }
    Ok(Read {
        message: Message {
            event,
            time_to_live: incoming.time_to_live,
            due: incoming.scheduled,
        },
        session: incoming.session,
    })
}

fn reject(machine: &mut Connection, link: LinkId, id: DeliveryId, error: amqp::Error) {
    let rejected = DeliveryState::Outcome(Outcome::Rejected(Some(error)));
    let _ = machine.settle(link, id, Some(rejected));
}

/// With one call; each by itself if that is refused for what it holds, since one delivery is not answered with what
/// is wrong with another.
async fn send(broker: &Broker, who: &Principal, to: &EntityName, sent: Vec<Sent>) -> Vec<Verdict> {
    let count = sent.len();
    let together: Vec<Message> = sent.iter().flat_map(|sent| sent.messages.clone()).collect();
    let result = match count {
        1 => Err(None),
        _ if together.len() > limits::EVENTS_PER_BATCH => Err(None),
        _ => broker.send(who, to, together).await.map_err(Some),
    };
    let shared = match result {
        Ok(()) => Ok(()),
        Err(Some(error)) if !is_of_content(&error) => Err(Refusal::from(error)),
        Err(_) => return send_each(broker, who, to, sent).await,
    };
    let verdict = |sent: Sent| Verdict {
        id: sent.id,
        settled: sent.settled,
        result: shared.clone(),
    };
    sent.into_iter().map(verdict).collect()
}

async fn send_each(
    broker: &Broker,
    who: &Principal,
    to: &EntityName,
    sent: Vec<Sent>,
) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(sent.len());
    for sent in sent {
        let result = match sent.messages.is_empty() {
            // A batch of nothing.
            true => Ok(()),
            false => broker.send(who, to, sent.messages).await,
        };
        verdicts.push(Verdict {
            id: sent.id,
            settled: sent.settled,
            result: result.map_err(Refusal::from),
        });
    }
    verdicts
}

/// Whether certainly nothing was done, for what the messages are.
fn is_of_content(error: &Error) -> bool {
    matches!(
        error.kind,
        Kind::Invalid | Kind::TooLarge | Kind::OutOfRange
    )
}
