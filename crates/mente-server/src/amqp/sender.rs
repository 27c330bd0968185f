//! A link of a sender: what comes on it goes to the broker in its order, all that is there with one call, while
//! the call before is under way.

use std::collections::VecDeque;

use bytes::Bytes;
use mente_broker::{Attached, Body, Broker, EntityName, Error, Kind, Message, Principal, Sending};
use mente_engine::limits;
use mente_wire::amqp::event::{self, Incoming};
use mente_wire::amqp::machine::{Connection, Delivery, DeliveryId, LinkId, Part};
use mente_wire::amqp::message::BATCH_FORMAT;
use mente_wire::amqp::{self, DeliveryState, Outcome, condition};
use tokio::sync::OwnedSemaphorePermit;

use super::client::{Desk, Done, share};
use super::condition::Refusal;
use super::transactions::{Transactions, no_room, within};
use super::upload::{Placed, Upload, error_of, is_large};

/// What a client may send before it hears of more. Python's clients do not listen.
pub(super) const CREDIT: u32 = 1_000;
/// Deliveries that wait beyond which no more credit is given.
const WAITING: usize = 2_000;
/// Messages and bytes that go to the broker with one call.
const MESSAGES_PER_CALL: usize = 1_000;
const BYTES_PER_CALL: usize = 2 << 20;
/// Deliveries that come together where more are likely to be there already.
const MANY: usize = 16;

pub(super) struct Sender {
    pub(super) who: Principal,
    to: EntityName,
    path: String,
    /// Largest delivery, as the client was told.
    bytes: u64,
    requires_session: bool,
    _attached: Attached,
    waiting: VecDeque<Sent>,
    /// The large one that is coming.
    upload: Option<Box<Upload>>,
    uploads_begun: u64,
    is_calling: bool,
}

/// A delivery on its way, one message or a batch.
struct Sent {
    id: DeliveryId,
    settled: bool,
    messages: Vec<Message>,
    /// Its one message is to be, once its data is kept.
    upload: Option<Box<Upload>>,
    /// Of the payload.
    bytes: usize,
    _room: OwnedSemaphorePermit,
}

/// What is made of a delivery.
enum Taken {
    Messages(Vec<Message>),
    Large(Box<Upload>),
}

/// Deliveries of one link that go to the broker together.
pub(super) struct Call {
    link: LinkId,
    who: Principal,
    to: EntityName,
    sent: Vec<Sent>,
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
            upload: None,
            uploads_begun: 0,
            is_calling: false,
        }
    }

    pub(super) fn delivered(
        &mut self,
        machine: &mut Connection,
        delivery: &Delivery,
        room: OwnedSemaphorePermit,
    ) {
        let taken = match self.upload.take_if(|upload| upload.id() == delivery.id) {
            Some(mut upload) => {
                if delivery.state.is_some() {
                    // Its transaction may be named by its last transfer alone.
                    upload.fail(no_room().to_error());
                }
                upload.add(&delivery.payload);
                upload.end(&self.path, self.requires_session);
                Ok(Taken::Large(upload))
            }
            None => self.taken(delivery),
        };
        let (messages, upload) = match taken {
            Ok(Taken::Messages(messages)) => (messages, None),
            Ok(Taken::Large(upload)) => (Vec::new(), Some(upload)),
            Err(error) if delivery.settled => {
                tracing::debug!(
                    ?error,
                    "a message that its sender wants no word of was not taken"
                );
                return;
            }
            Err(error) => return reject(machine, delivery.link, delivery.id, error),
        };
        self.waiting.push_back(Sent {
            id: delivery.id,
            settled: delivery.settled,
            messages,
            upload,
            bytes: delivery.payload.len(),
            _room: room,
        });
    }

    /// More is to come of it.
    pub(super) fn part(&mut self, part: &Part) {
        let upload = match self.upload.take() {
            Some(upload) if upload.id() == part.id => upload,
            _ => self.begin_upload(part),
        };
        let upload = self.upload.insert(upload);
        if part.state.is_some() {
            upload.fail(no_room().to_error());
        }
        upload.add(&part.payload);
    }

    fn new_upload(&mut self, id: DeliveryId) -> Box<Upload> {
        self.uploads_begun += 1;
        Box::new(Upload::new(id, self.uploads_begun))
    }

    fn begin_upload(&mut self, part: &Part) -> Box<Upload> {
        let mut upload = self.new_upload(part.id);
        if part.format == BATCH_FORMAT {
            let most = limits::EVENT_BYTES;
            let words = format!("a batch of more than the {most} bytes that are taken of one");
            upload.fail(amqp::Error::new(condition::MESSAGE_SIZE_EXCEEDED, words));
        }
        upload
    }

    /// Larger than the client was told: nothing more is heard of it.
    pub(super) fn too_large(
        &mut self,
        machine: &mut Connection,
        link: LinkId,
        id: DeliveryId,
        settled: bool,
    ) {
        self.aborted(id);
        if !settled {
            reject(machine, link, id, self.exceeded());
        }
    }

    /// It never was.
    pub(super) fn aborted(&mut self, id: DeliveryId) {
        self.upload.take_if(|upload| upload.id() == id);
    }

    /// The large one that is coming will not be kept.
    pub(super) fn fail_upload(&mut self, refusal: &Refusal) {
        if let Some(upload) = &mut self.upload {
            upload.fail(refusal.to_error());
        }
    }

    /// Whether nothing is kept of it.
    pub(super) fn passes_over(&self, id: DeliveryId) -> bool {
        let upload = self.upload.as_ref();
        upload.is_some_and(|upload| upload.id() == id && upload.failed().is_some())
    }

    pub(super) fn is_coming(&self, id: DeliveryId) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.id() == id)
    }

    /// Pieces of large messages that wait here; none if there is no such message.
    pub(super) fn pieces(&self) -> Option<usize> {
        if self.uploads_begun == 0 {
            return None;
        }
        let waiting = self
            .waiting
            .iter()
            .filter_map(|sent| sent.upload.as_deref());
        let uploads = self.upload.as_deref().into_iter().chain(waiting);
        uploads.map(Upload::waiting).reduce(|sum, held| sum + held)
    }

    fn upload_of(&mut self, serial: u64) -> Option<&mut Upload> {
        let waiting = self.waiting.iter_mut();
        let waiting = waiting.filter_map(|sent| sent.upload.as_deref_mut());
        let mut uploads = self.upload.as_deref_mut().into_iter().chain(waiting);
        uploads.find(|upload| upload.serial() == serial)
    }

    pub(super) fn placed(&mut self, placed: Placed) {
        if let Some(upload) = self.upload_of(placed.serial) {
            upload.placed(placed);
        }
    }

    /// The data of one is kept.
    pub(super) fn kept(&mut self, serial: u64, body: mente_broker::Result<Body>) {
        let is_it = |sent: &&mut Sent| {
            let upload = sent.upload.as_deref();
            upload.is_some_and(|upload| upload.serial() == serial)
        };
        if let Some(sent) = self.waiting.iter_mut().find(is_it)
            && let Some(upload) = &mut sent.upload
            && let Some(message) = upload.message(body)
        {
            sent.messages.push(message);
            sent.upload = None;
        }
    }

    fn exceeded(&self) -> amqp::Error {
        let words = format!(
            "a message of more than the {} bytes that are taken",
            self.bytes
        );
        amqp::Error::new(condition::MESSAGE_SIZE_EXCEEDED, words)
    }

    fn taken(&mut self, delivery: &Delivery) -> Result<Taken, amqp::Error> {
        let messages = self.messages(delivery)?;
        let is_large = |message: &Message| is_large(&message.event);
        if delivery.format == BATCH_FORMAT || !messages.iter().any(is_large) {
            return Ok(Taken::Messages(messages));
        }
        let mut upload = self.new_upload(delivery.id);
        upload.add(&delivery.payload);
        upload.end(&self.path, self.requires_session);
        Ok(Taken::Large(upload))
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
        let messages = self.messages(delivery).and_then(|messages| {
            let is_large = messages.iter().any(|message| is_large(&message.event));
            (!is_large)
                .then_some(messages)
                .ok_or_else(|| no_room().to_error())
        });
        let bytes = delivery.payload.len();
        match transactions.send(txn_id, &self.who, &self.to, messages, bytes, desk) {
            Ok(()) => {
                let accepted = within(txn_id, Some(Outcome::Accepted));
                let _ = machine.settle(link, id, Some(accepted));
            }
            Err(error) if delivery.settled => {
                tracing::debug!(
                    ?error,
                    "a message within a transaction was not taken, and its sender wants no word of it"
                );
            }
            Err(error) => reject(machine, link, id, error),
        }
    }

    fn messages(&self, delivery: &Delivery) -> Result<Vec<Message>, amqp::Error> {
        let most = match delivery.format {
            BATCH_FORMAT => self.bytes.min(limits::EVENT_BYTES as u64),
            _ => self.bytes,
        };
        if delivery.payload.len() as u64 > most {
            return Err(self.exceeded());
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
            return Err(without_session(&self.path));
        }
        Ok(message.message)
    }

    /// Lets the client send more, and gives what is to be sent on of what waits.
    pub(super) fn pump(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        desk: &Desk,
    ) -> Option<Call> {
        // Most links never carry a large message, and are pumped at each turn.
        if self.uploads_begun > 0 {
            let waiting = self.waiting.iter_mut();
            let waiting = waiting.filter_map(|sent| sent.upload.as_deref_mut());
            for upload in self.upload.as_deref_mut().into_iter().chain(waiting) {
                upload.pump(id, &self.who, &self.to, desk);
            }
            self.reject_failed(machine, id);
        }
        let is_next = |sent: &Sent| sent.upload.is_none();
        let calls = !self.is_calling && self.waiting.front().is_some_and(is_next);
        let call = calls.then(|| Call {
            link: id,
            sent: self.next_call(),
            who: self.who.clone(),
            to: self.to.clone(),
        });
        self.is_calling |= calls;
        let is_low = machine.credit(id).is_ok_and(|left| left < CREDIT / 2);
        if is_low && self.waiting.len() < WAITING {
            let _ = machine.grant(id, CREDIT);
        }
        call
    }

    /// Tells of those whose data could not be kept.
    fn reject_failed(&mut self, machine: &mut Connection, id: LinkId) {
        self.waiting.retain(|sent| {
            let error = sent.upload.as_ref().and_then(|upload| upload.failed());
            if let Some(error) = error.filter(|_| !sent.settled) {
                reject(machine, id, sent.id, error.clone());
            }
            error.is_none()
        });
    }

    /// At least one delivery.
    fn next_call(&mut self) -> Vec<Sent> {
        let (mut messages, mut bytes) = (0, 0);
        let fits = |sent: &&Sent| {
            let is_first = messages == 0;
            messages += sent.messages.len().max(1);
            bytes += sent.bytes;
            let fits = messages <= MESSAGES_PER_CALL && bytes <= BYTES_PER_CALL;
            // What comes behind one whose data is not kept yet waits with it.
            sent.upload.is_none() && (is_first || fits)
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
    let incoming = event::read(payload, path).map_err(|unfit| error_of(&unfit))?;
    Ok(read_of(incoming))
}

pub(super) fn read_of(incoming: Incoming) -> Read {
    let mut event = incoming.event;
    if event.id.is_empty() {
        // JS' subscribers fail without one.
        event.id = uuid::Uuid::new_v4().simple().to_string();
    }
    Read {
        message: Message {
            event,
            time_to_live: incoming.time_to_live,
            due: incoming.scheduled,
            body: None,
        },
        session: incoming.session,
    }
}

pub(super) fn without_session(path: &str) -> amqp::Error {
    let words = format!("{path} requires sessions, and the message has no session id (group-id)");
    Refusal::not_allowed(words).to_error()
}

fn reject(machine: &mut Connection, link: LinkId, id: DeliveryId, error: amqp::Error) {
    let rejected = DeliveryState::Outcome(Outcome::Rejected(Some(error)));
    let _ = machine.settle(link, id, Some(rejected));
}

/// What became of the deliveries of one link.
pub(super) type Answered = (LinkId, Vec<Verdict>);

/// Has the broker send each of these by itself: others do not wait for them.
pub(super) fn begin_each(calls: Vec<Call>, desk: &Desk) {
    for call in calls {
        begin_group(vec![call], desk);
    }
}

/// Has the broker send these; those of several links together, where the engine has it so.
pub(super) fn begin(calls: Vec<Call>, desk: &Desk) {
    let together = desk.door.broker.sends_together();
    let (mut group, mut size) = (Vec::new(), (0, 0));
    for call in calls {
        let (messages, bytes) = call.size();
        let is_full = size.0 + messages > MESSAGES_PER_CALL || size.1 + bytes > BYTES_PER_CALL;
        if !group.is_empty() && (!together || is_full) {
            begin_group(std::mem::take(&mut group), desk);
            size = (0, 0);
        }
        size = (size.0 + messages, size.1 + bytes);
        group.push(call);
    }
    if !group.is_empty() {
        begin_group(group, desk);
    }
}

fn begin_group(mut group: Vec<Call>, desk: &Desk) {
    let broker = desk.broker();
    let is_large = group.iter().map(|call| call.sent.len()).sum::<usize>() >= MANY;
    desk.begin_apart(async move {
        if group.len() > 1 {
            let (answered, again) = send_together(&broker, group).await;
            return Done::Sent(answered, again);
        }
        let Some(Call {
            link,
            who,
            to,
            sent,
        }) = group.pop()
        else {
            return Done::Nothing;
        };
        Done::Sent(
            vec![(link, send(&broker, &who, &to, sent).await)],
            Vec::new(),
        )
    });
    if is_large {
        share();
    }
}

impl Call {
    fn sending(&self) -> Sending<'_> {
        Sending {
            who: &self.who,
            to: &self.to,
            messages: self.sent.iter().flat_map(|sent| &sent.messages).collect(),
        }
    }

    /// Messages and bytes.
    fn size(&self) -> (usize, usize) {
        let sum = |(messages, bytes), sent: &Sent| {
            (messages + sent.messages.len().max(1), bytes + sent.bytes)
        };
        self.sent.iter().fold((0, 0), sum)
    }
}

/// What became of them, and those of which each delivery is to be sent by itself, which takes longer.
async fn send_together(broker: &Broker, calls: Vec<Call>) -> (Vec<Answered>, Vec<Call>) {
    let sendings: Vec<_> = calls.iter().map(Call::sending).collect();
    let results = broker.send_together(&sendings).await;
    drop(sendings);
    let (mut answered, mut again) = (Vec::with_capacity(calls.len()), Vec::new());
    for (call, result) in calls.into_iter().zip(results) {
        match result {
            Err(error) if is_of_content(&error) && call.sent.len() > 1 => again.push(call),
            result => {
                let verdicts = told(call.sent, &result.map_err(Refusal::from));
                answered.push((call.link, verdicts));
            }
        }
    }
    (answered, again)
}

/// The same of all of them.
fn told(sent: Vec<Sent>, result: &Result<(), Refusal>) -> Vec<Verdict> {
    let verdict = |sent: Sent| Verdict {
        id: sent.id,
        settled: sent.settled,
        result: result.clone(),
    };
    sent.into_iter().map(verdict).collect()
}

/// With one call; each by itself if that is refused for what it holds, since one delivery is not answered with what
/// is wrong with another.
async fn send(broker: &Broker, who: &Principal, to: &EntityName, sent: Vec<Sent>) -> Vec<Verdict> {
    let count = sent.len();
    let together: Vec<&Message> = sent.iter().flat_map(|sent| &sent.messages).collect();
    let result = match count {
        1 => Err(None),
        _ if together.len() > limits::EVENTS_PER_BATCH => Err(None),
        _ => broker.send_all(who, to, &together).await.map_err(Some),
    };
    let shared = match result {
        Ok(()) => Ok(()),
        Err(Some(error)) if !is_of_content(&error) => Err(Refusal::from(error)),
        Err(_) => return send_each(broker, who, to, sent).await,
    };
    told(sent, &shared)
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

#[cfg(test)]
mod tests {
    use mente_broker::SubscriptionName;

    use super::*;
    use crate::alone::broker;

    #[tokio::test]
    async fn a_piece_of_a_delivery_that_was_aborted_is_none_of_the_next_one_with_its_id() {
        let to = EntityName::new("q").unwrap();
        let attached = broker().await.attach(SubscriptionName::queue(to.clone()));
        let who = Principal::Anonymous;
        let mut sender = Sender::new(who, to, "q".to_owned(), 2 << 20, false, attached);
        let id = DeliveryId(5);
        let first = sender.new_upload(id);
        let serial = first.serial();
        sender.upload = Some(first);
        sender.aborted(id);
        sender.upload = Some(sender.new_upload(id));
        sender.placed(Placed {
            serial,
            index: 0,
            result: Err(Error::new(Kind::Refused, "too late")),
        });
        assert!(!sender.passes_over(id));
    }
}
