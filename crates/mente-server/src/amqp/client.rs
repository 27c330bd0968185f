//! What is known of a client: its links, and the work that is under way for it.
//!
//! ```text
//! machine ── event ──▶ Client ── futures ──▶ broker
//!    ▲                   │ ▲                   │
//!    └──── commands ─────┘ └────── Done ───────┘
//! ```

mod asked;
mod desk;
mod large;
mod transacting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::AbortHandle;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use mente_broker::{Body, Held, Principal, SubscriptionName, Written};
use mente_wire::amqp::machine::{
    Connection, Delivery, DeliveryId, Event, LinkId, Outgoing, SessionId,
};
use mente_wire::amqp::performative::{Attach, Role};
use mente_wire::amqp::sasl::SaslCode;
use mente_wire::amqp::transaction::Control;
use mente_wire::amqp::{DeliveryState, Outcome};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use self::asked::REQUESTS;
pub(super) use self::desk::{Desk, share};
use self::large::{Lane, Moved, PIECES, SMALL_BYTES};
use super::Door;
use super::address::Place;
use super::attach::{self, Lead};
use super::condition::Refusal;
use super::download::{Failed, Opened};
use super::management;
use super::receiver::{Receiver, Taken};
use super::requests::Request;
use super::sender::{self, Call, Sender};
use super::settle::Settlement;
use super::tokens::Claims;
use super::transactions::Transactions;
use super::upload::Placed;

/// Work under way for one connection; beyond it is not listened to.
const WORK: usize = 8_192;
/// What a client may send on a link for requests before it hears of more.
const REQUEST_CREDIT: u32 = 100;
/// How long the end of a token is waited for at a time: somebody may set the clock that it is told by.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
/// Largest request that shows a token: until one is taken nobody knows who it is.
const TOKEN_BYTES: usize = 64 << 10;
/// Largest declaration or discharge of a transaction, which needs no right either.
const CONTROL_BYTES: usize = 4 << 10;
/// How long what a client leaves behind may take.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

fn rejected(refusal: &Refusal) -> DeliveryState {
    DeliveryState::Outcome(Outcome::Rejected(Some(refusal.to_error())))
}

type Pending = Pin<Box<dyn Future<Output = Done> + Send>>;

/// Work that has come to its end.
pub(super) enum Done {
    /// Nobody waits for it.
    Nothing,
    Led(LinkId, Box<Result<Lead, Refusal>>),
    Took(LinkId, Taken),
    /// What a receiver did not send is others' again.
    Returned(LinkId),
    Completed(LinkId, mente_broker::Result<Vec<Held>>),
    /// With those that are to be sent again, by themselves.
    Sent(Vec<sender::Answered>, Vec<Call>),
    Settled(LinkId, Vec<Settlement>, Result<Vec<bool>, Refusal>),
    /// To a request of this link.
    Answered {
        link: LinkId,
        reply_to: Option<String>,
        answer: Bytes,
    },
    /// There is room for the delivery that waits.
    Room(Option<OwnedSemaphorePermit>),
    /// A transaction, by a delivery on its control link that is told if it is to be.
    Discharged(LinkId, Option<DeliveryId>, Result<(), Refusal>),
    TransactionOver(Bytes),
    /// Messages by a request of this link, as many as were to be, within a transaction.
    Scheduled {
        link: LinkId,
        request: Box<Request>,
        txn_id: Bytes,
        count: usize,
        written: Result<Vec<Written>, Refusal>,
    },
    /// The client may send what is larger than an event, or there was no room for that for too long.
    Lane(Option<OwnedSemaphorePermit>),
    Placed(LinkId, Placed),
    /// By the upload's serial.
    Kept(LinkId, u64, mente_broker::Result<Body>),
    Opened(LinkId, Box<Result<Opened, Failed>>),
    Piece(LinkId, mente_broker::Result<Bytes>),
}

pub(super) struct Client {
    pub(super) desk: Desk,
    claims: Claims,
    transactions: Transactions,
    links: BTreeMap<LinkId, Link>,
    /// Those that may have something to do.
    due: BTreeSet<LinkId>,
    /// Links that were to be drained before they were accepted.
    early_drains: BTreeSet<LinkId>,
    /// Those that wait until something is written.
    stuck: BTreeSet<LinkId>,
    /// A delivery that there is no room for: nothing more is heard meanwhile.
    stalled: Option<Box<Delivery>>,
    lane: Lane,
    moved: Moved,
    /// Links on which a large message comes.
    uploads: BTreeSet<LinkId>,
    /// Those on which one goes, or is about to.
    downloads: BTreeSet<LinkId>,
    is_leaving: bool,
}

enum Link {
    /// The client waits for our attach, since it is found out where the link leads.
    Asked {
        attach: Box<Attach>,
        work: AbortHandle,
    },
    Receiver(Box<Receiver>),
    Sender(Sender),
    /// Discharges are under way.
    Coordinator {
        count: usize,
    },
    Requests {
        node: Node,
        count: usize,
    },
    Replies {
        node: Node,
        /// What requests may say that their answers go to.
        names: Vec<String>,
        owed: VecDeque<Bytes>,
    },
}

/// What answers requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Tokens,
    Management {
        who: Principal,
        place: Place,
        /// Whether its messages are in sessions.
        has_sessions: bool,
    },
}

/// How a link came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// One of both said so.
    Said,
    /// With its connection.
    Broken,
}

impl Link {
    /// As whom it does what it does, if somebody must be allowed that.
    fn who(&mut self) -> Option<&mut Principal> {
        match self {
            Self::Receiver(receiver) => Some(&mut receiver.who),
            Self::Sender(sender) => Some(&mut sender.who),
            Self::Requests { node, .. } | Self::Replies { node, .. } => match node {
                Node::Tokens => None,
                Node::Management { who, .. } => Some(who),
            },
            Self::Asked { .. } | Self::Coordinator { .. } => None,
        }
    }
}

impl Client {
    pub(super) fn new(door: Arc<Door>) -> Self {
        Self {
            desk: Desk {
                door,
                work: FuturesUnordered::new(),
                pieces: Arc::default(),
            },
            claims: Claims::default(),
            transactions: Transactions::default(),
            links: BTreeMap::new(),
            due: BTreeSet::new(),
            early_drains: BTreeSet::new(),
            stuck: BTreeSet::new(),
            stalled: None,
            lane: Lane::Free,
            moved: Moved::Nothing,
            uploads: BTreeSet::new(),
            downloads: BTreeSet::new(),
            is_leaving: false,
        }
    }

    /// Whether another event may be answered now.
    pub(super) fn may_hear(&self) -> bool {
        self.stalled.is_none()
            && !matches!(self.lane, Lane::Asked(_))
            && self.pieces() < PIECES
            && !self.is_leaving
            && self.desk.work.len() < WORK
    }

    /// What the client does.
    pub(super) fn event(&mut self, machine: &mut Connection, event: Event) {
        match event {
            Event::Authenticate {
                mechanism,
                initial_response,
                ..
            } => {
                let response = initial_response.as_ref();
                let is_taken = self
                    .claims
                    .greet(&self.desk.door, mechanism.as_str(), response);
                let code = if is_taken {
                    SaslCode::Ok
                } else {
                    SaslCode::Auth
                };
                let _ = machine.sasl_outcome(code);
            }
            Event::Response(_) => {
                let _ = machine.sasl_outcome(SaslCode::Auth);
            }
            Event::Opened(open) => {
                tracing::debug!(container = %open.container_id, "an AMQP client is here");
            }
            Event::Begun { .. } => {}
            Event::Attach { link, attach } => self.attach(link, attach),
            Event::Credit {
                link,
                credit,
                drain,
            } => self.credit(machine, link, credit, drain),
            Event::Window { session } => self.window(session),
            Event::Delivery(delivery) => self.delivery(machine, delivery),
            Event::Part(part) => self.part_came(part),
            Event::TooLarge {
                link,
                id,
                settled,
                state,
            } => {
                self.transactions.spoil_large(state.as_ref());
                if let Some(Link::Sender(sender)) = self.links.get_mut(&link) {
                    sender.too_large(machine, link, id, settled);
                    self.due.insert(link);
                }
            }
            Event::Aborted { link, id } => {
                if let Some(Link::Sender(sender)) = self.links.get_mut(&link) {
                    sender.aborted(id);
                    self.due.insert(link);
                }
            }
            Event::Control {
                link,
                id,
                settled,
                control,
            } => {
                let told = (!settled).then_some(id);
                match control {
                    Control::Declare(declare) => self.declare(machine, link, told, &declare),
                    Control::Discharge(discharge) => {
                        self.discharge(machine, link, told, &discharge);
                    }
                }
            }
            Event::Disposition(disposed) => {
                if disposed.role == Role::Receiver {
                    for (link, id) in disposed.deliveries {
                        if let Some(Link::Receiver(receiver)) = self.links.get_mut(&link) {
                            let settled = disposed.settled;
                            match &disposed.state {
                                Some(DeliveryState::Transactional { txn_id, outcome }) => {
                                    let said = (txn_id, outcome.as_ref());
                                    let all = &mut self.transactions;
                                    receiver.disposed_within(id, settled, said, all);
                                }
                                state => receiver.disposed(id, settled, state.as_ref()),
                            }
                            self.due.insert(link);
                        }
                    }
                }
            }
            Event::Detached { link, .. } => self.drop_link(link, Left::Said),
            Event::Ended { session, .. } => {
                let gone = self.links.keys().filter(|link| link.session == session);
                for link in gone.copied().collect::<Vec<_>>() {
                    self.drop_link(link, Left::Said);
                }
            }
            Event::Closed { error, .. } => {
                if let Some(error) = error {
                    tracing::debug!(?error, "an AMQP connection was closed with an error");
                }
                self.forget();
            }
        }
    }

    fn attach(&mut self, id: LinkId, attach: Box<Attach>) {
        if self.is_leaving {
            return;
        }
        let lead = attach::lead(&self.desk.door, &self.claims, &attach);
        let work = lead.map(move |lead| Done::Led(id, Box::new(lead)));
        let work = self.desk.begin_abortable(work);
        self.links.insert(id, Link::Asked { attach, work });
    }

    fn led(&mut self, machine: &mut Connection, id: LinkId, lead: Result<Lead, Refusal>) {
        let Some(Link::Asked { attach, .. }) = self.links.remove(&id) else {
            self.early_drains.remove(&id);
            if let Ok(lead) = lead {
                lead.give_back(&self.desk);
            }
            return;
        };
        let lead = match lead {
            Ok(lead) => lead,
            Err(refusal) => {
                tracing::debug!(name = %attach.name, refusal = refusal.message, "a link was refused");
                let _ = machine.refuse(id, refusal.to_error());
                return;
            }
        };
        let answer = lead.answer(&attach);
        if machine.accept(id, answer).is_err() {
            lead.give_back(&self.desk);
            return;
        }
        let link = match lead {
            Lead::Coordinator => {
                let _ = machine.end_above(id, CONTROL_BYTES);
                let _ = machine.grant(id, REQUEST_CREDIT);
                Link::Coordinator { count: 0 }
            }
            Lead::Requests(node) => {
                if node == Node::Tokens {
                    let _ = machine.end_above(id, TOKEN_BYTES);
                }
                let _ = machine.grant(id, REQUEST_CREDIT);
                Link::Requests { node, count: 0 }
            }
            Lead::Replies(node) => Link::Replies {
                node,
                names: attach::names_of(&attach),
                owed: VecDeque::new(),
            },
            Lead::Sender {
                who,
                to,
                path,
                bytes,
                requires_session,
            } => {
                let _ = machine.bound(id, usize::try_from(bytes).unwrap_or(usize::MAX));
                let _ = machine.grant(id, sender::CREDIT);
                let attached = self
                    .desk
                    .door
                    .broker
                    .attach(SubscriptionName::queue(to.clone()));
                let sender = Sender::new(who, to, path, bytes, requires_session, attached);
                Link::Sender(sender)
            }
            Lead::Receiver {
                who,
                view,
                mode,
                has_sessions,
                session,
            } => {
                let session = session.map(|(lock, _)| lock);
                let name = attach.name.as_str().to_owned();
                let attached = self.desk.door.broker.attach(view.clone());
                let modes = (mode, attach.receiver_settles);
                let receiver =
                    Receiver::new(name, who, view, modes, has_sessions, session, attached);
                Link::Receiver(Box::new(receiver))
            }
        };
        self.links.insert(id, link);
        if let Some(need) = attach::need(&attach) {
            self.claims.hold(&self.desk.door, id, need);
        }
        self.due.insert(id);
        if self.early_drains.remove(&id) {
            let credit = machine.credit(id).unwrap_or(0);
            self.credit(machine, id, credit, true);
        }
    }

    fn credit(&mut self, machine: &mut Connection, id: LinkId, credit: u32, drain: bool) {
        match self.links.get_mut(&id) {
            Some(Link::Receiver(receiver)) => receiver.credit(id, credit, drain, &self.desk),
            Some(Link::Replies { .. }) if drain => {
                // Replies have nothing for the broker.
                let _ = self.pump_link(machine, id);
                let _ = machine.drained(id);
            }
            // It waits for the broker to say what it is.
            Some(Link::Asked { .. }) if drain => drop(self.early_drains.insert(id)),
            _ => {}
        }
        self.due.insert(id);
    }

    /// Of a sender. It is put aside while there is no room for it.
    fn delivery(&mut self, machine: &mut Connection, delivery: Box<Delivery>) {
        let bytes = u32::try_from(delivery.payload.len())
            .unwrap_or(u32::MAX)
            .max(1);
        let room = Arc::clone(&self.desk.door.room);
        match Arc::clone(&room).try_acquire_many_owned(bytes) {
            Ok(permit) => self.deliver(machine, &delivery, permit),
            Err(_) => {
                self.stalled = Some(delivery);
                let room = room.acquire_many_owned(bytes);
                self.desk.begin(room.map(|permit| Done::Room(permit.ok())));
            }
        }
    }

    fn deliver(
        &mut self,
        machine: &mut Connection,
        delivery: &Delivery,
        permit: OwnedSemaphorePermit,
    ) {
        let id = delivery.link;
        if delivery.handed_bytes > 0 || delivery.payload.len() > SMALL_BYTES {
            self.progress(true);
        }
        match self.links.get_mut(&id) {
            Some(Link::Sender(sender)) => {
                if delivery.state.is_some() && !sender.is_coming(delivery.id) {
                    let all = &mut self.transactions;
                    sender.delivered_within(machine, delivery, all, &self.desk);
                } else {
                    sender.delivered(machine, delivery, permit);
                    self.transactions.spoil_large(delivery.state.as_ref());
                    if sender.pieces().is_some() {
                        self.uploads.insert(id);
                    }
                }
                self.due.insert(id);
            }
            Some(Link::Requests { .. }) => self.request(machine, delivery),
            _ => {}
        }
    }

    /// Links whose tokens do not hold any more end, and the others go on by those that do.
    fn review(&mut self, machine: &mut Connection) {
        for (id, right) in self.claims.review(&self.desk.door) {
            match (right, self.links.get_mut(&id)) {
                (Ok(right), Some(link)) => {
                    if let Some(who) = link.who() {
                        *who = right;
                    }
                }
                (Ok(_), None) => {}
                (Err(refusal), _) => {
                    let _ = machine.detach(id, Some(refusal.to_error()));
                    self.drop_link(id, Left::Said);
                }
            }
        }
    }

    /// Looks whether a link's token is over.
    pub(super) fn tick(&mut self, machine: &mut Connection) {
        let end = self.claims.next_end();
        if end.is_some_and(|end| end <= self.desk.door.broker.now().wall) {
            self.review(machine);
        }
    }

    /// When to do so again, by the clock of the connection.
    pub(super) fn deadline(&self, now: Duration) -> Option<Duration> {
        let left = self.claims.next_end()?.0 - self.desk.door.broker.now().wall.0;
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Some(now + left.min(LOOK_AGAIN))
    }

    /// A receiver has more to send, or cannot go on.
    fn received(&mut self, machine: &mut Connection, id: LinkId, more: Result<(), Refusal>) {
        match more {
            Ok(()) => drop(self.due.insert(id)),
            Err(refusal) => {
                let _ = machine.detach(id, Some(refusal.to_error()));
                self.drop_link(id, Left::Said);
            }
        }
    }

    /// What came of work.
    pub(super) fn done(&mut self, machine: &mut Connection, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Led(id, lead) => self.led(machine, id, *lead),
            Done::Took(id, taken) => {
                if let Some(Link::Receiver(receiver)) = self.links.get_mut(&id) {
                    let taken = receiver.took(id, taken, &self.desk);
                    self.received(machine, id, taken);
                }
            }
            Done::Returned(id) => {
                if let Some(Link::Receiver(receiver)) = self.links.get_mut(&id) {
                    receiver.returned();
                    self.due.insert(id);
                }
            }
            Done::Completed(id, result) => {
                if let Some(Link::Receiver(receiver)) = self.links.get_mut(&id) {
                    let completed = receiver.completed(result);
                    self.received(machine, id, completed);
                }
            }
            Done::Sent(all, again) => {
                sender::begin_each(again, &self.desk);
                for (id, verdicts) in all {
                    if let Some(Link::Sender(sender)) = self.links.get_mut(&id) {
                        sender.sent(machine, id, verdicts);
                        self.due.insert(id);
                    }
                }
            }
            Done::Settled(id, settlements, held) => {
                if let Some(Link::Receiver(receiver)) = self.links.get_mut(&id) {
                    receiver.settled(machine, id, settlements, &held);
                    self.due.insert(id);
                }
            }
            Done::Answered {
                link,
                reply_to,
                answer,
            } => {
                let node = match self.links.get(&link) {
                    Some(Link::Requests { node, .. }) => Some(node),
                    _ => None,
                };
                // A client hears of its token before it hears what that ends.
                let may_be_put = node.is_none_or(|node| *node == Node::Tokens);
                self.answered(machine, link, reply_to.as_deref(), answer);
                if may_be_put {
                    self.review(machine);
                }
            }
            Done::Discharged(link, told, result) => self.discharged(machine, link, told, result),
            Done::TransactionOver(txn_id) => self.transactions.over(&txn_id, &self.desk),
            Done::Scheduled {
                link,
                request,
                txn_id,
                count,
                written,
            } => {
                let known = written.as_deref();
                self.transactions.scheduled(&txn_id, count, known);
                let numbers = |written: Vec<Written>| -> Vec<u64> {
                    written.into_iter().map(Written::number).collect()
                };
                let answer = written.map(|written| management::scheduled(&numbers(written)));
                self.answer(machine, link, &request, answer);
            }
            Done::Room(permit) => {
                if let (Some(delivery), Some(permit)) = (self.stalled.take(), permit) {
                    self.deliver(machine, &delivery, permit);
                }
            }
            Done::Lane(lane) => self.lane_came(machine, lane),
            Done::Placed(id, placed) => {
                if let Some(Link::Sender(sender)) = self.links.get_mut(&id) {
                    sender.placed(placed);
                    self.due.insert(id);
                }
            }
            Done::Kept(id, serial, body) => {
                if let Some(Link::Sender(sender)) = self.links.get_mut(&id) {
                    sender.kept(serial, body);
                    self.due.insert(id);
                }
            }
            Done::Opened(id, opened) => {
                if let Some(Link::Receiver(receiver)) = self.links.get_mut(&id) {
                    let opened = receiver.opened(*opened, &self.desk);
                    self.received(machine, id, opened);
                }
            }
            Done::Piece(id, piece) => {
                if let Some(Link::Receiver(receiver)) = self.links.get_mut(&id) {
                    let sent = receiver.piece(machine, id, piece, &self.desk);
                    self.received(machine, id, sent);
                }
            }
        }
    }

    /// Begins calls of receivers before anything is written; whether they should be let begin.
    pub(super) fn call_ahead(&mut self, machine: &mut Connection) -> bool {
        let (links, desk, is_leaving) = (&mut self.links, &self.desk, self.is_leaving);
        let begin = |found, id: &LinkId| match links.get_mut(id) {
            Some(Link::Receiver(receiver)) => {
                found | receiver.call_ahead(machine, *id, desk, is_leaving)
            }
            _ => found,
        };
        self.due.iter().fold(false, begin)
    }

    /// Lets every link do what it can that may have become able to.
    pub(super) fn pump(&mut self, machine: &mut Connection) {
        let mut due = std::mem::take(&mut self.due);
        if machine.has_room() {
            due.append(&mut self.stuck);
        }
        let calls: Vec<_> = due
            .into_iter()
            .filter_map(|id| self.pump_link(machine, id))
            .collect();
        sender::begin(calls, &self.desk);
    }

    /// Gives what a sender has for the broker.
    fn pump_link(&mut self, machine: &mut Connection, id: LinkId) -> Option<Call> {
        let mut call = None;
        let is_stuck = match self.links.get_mut(&id) {
            Some(Link::Receiver(receiver)) => {
                let is_stuck = receiver.pump(machine, id, &self.desk, self.is_leaving);
                match receiver.has_room() {
                    true => drop(self.downloads.insert(id)),
                    false => drop(self.downloads.remove(&id)),
                }
                is_stuck
            }
            Some(Link::Sender(sender)) => {
                call = sender.pump(machine, id, &self.desk);
                if sender.pieces().is_none() {
                    self.uploads.remove(&id);
                }
                false
            }
            Some(Link::Requests { count, .. } | Link::Coordinator { count }) => {
                let is_low = machine
                    .credit(id)
                    .is_ok_and(|left| left < REQUEST_CREDIT / 2);
                if is_low && *count < REQUESTS / 2 {
                    let _ = machine.grant(id, REQUEST_CREDIT);
                }
                false
            }
            Some(Link::Replies { owed, .. }) => {
                while let Some(payload) = owed.front() {
                    let outgoing = Outgoing {
                        tag: Bytes::from_static(&[0]),
                        settled: true,
                        payload: payload.clone(),
                        ..Outgoing::default()
                    };
                    if machine.send(id, outgoing).is_err() {
                        break;
                    }
                    owed.pop_front();
                }
                !owed.is_empty()
            }
            Some(Link::Asked { .. }) | None => false,
        };
        if is_stuck {
            self.stuck.insert(id);
        }
        call
    }

    fn window(&mut self, session: SessionId) {
        for (id, link) in &mut self.links {
            if id.session != session {
                continue;
            }
            if let Link::Receiver(receiver) = link {
                receiver.window();
            }
            self.due.insert(*id);
        }
    }

    fn drop_link(&mut self, id: LinkId, left: Left) {
        self.due.remove(&id);
        self.stuck.remove(&id);
        self.claims.let_go(id);
        self.uploads.remove(&id);
        self.downloads.remove(&id);
        match self.links.remove(&id) {
            Some(Link::Asked { work, .. }) => work.abort(),
            Some(Link::Receiver(receiver)) => receiver.leave(left, &self.desk),
            Some(Link::Coordinator { .. }) => self.transactions.leave(id, &self.desk),
            Some(Link::Sender(_) | Link::Requests { .. } | Link::Replies { .. }) | None => {}
        }
    }

    /// No link is there any more.
    pub(super) fn forget(&mut self) {
        self.forget_all(Left::Said);
    }

    fn forget_all(&mut self, left: Left) {
        self.is_leaving = false;
        self.stalled = None;
        self.lane = Lane::Free;
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.drop_link(id, left);
        }
    }

    /// Begins nothing more.
    pub(super) fn stop(&mut self) {
        self.is_leaving = true;
        self.transactions.stop();
        for link in self.links.values_mut() {
            match link {
                Link::Asked { work, .. } => work.abort(),
                Link::Receiver(receiver) => receiver.stop(),
                Link::Sender(_)
                | Link::Coordinator { .. }
                | Link::Requests { .. }
                | Link::Replies { .. } => {}
            }
        }
    }

    /// Whether everything that was asked for has been answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.desk.work.is_empty()
    }

    /// Gives back what the client had, and lets what it asked for come to its end.
    pub(super) async fn leave(&mut self) {
        // Links that are there still were not ended by anybody.
        self.forget_all(Left::Broken);
        let rest = async { while self.desk.work.next().await.is_some() {} };
        if timeout(LEAVE_WAIT, rest).await.is_err() {
            tracing::debug!("what an AMQP client left behind was not done in time");
        }
    }
}

#[cfg(test)]
mod tests;
