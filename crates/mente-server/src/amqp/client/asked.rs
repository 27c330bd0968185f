//! Requests of a client, to the node that takes tokens and to those of entities, and their answers.

use std::collections::VecDeque;

use bytes::Bytes;
use mente_broker::queue::LockToken;
use mente_wire::amqp::machine::{Connection, Delivery, LinkId};
use mente_wire::amqp::{DeliveryState, Outcome};

use super::{Client, Done, Link, Node};
use crate::amqp::address::Place;
use crate::amqp::condition::Refusal;
use crate::amqp::management;
use crate::amqp::requests::{Request, Style};
use crate::amqp::transactions::within;

/// Bytes of a request's message-id and reply-to: both come back in its answer.
const NAMES_BYTES: usize = 2 << 10;
/// Bytes of answers that one link keeps until they are taken; one answer at least.
const OWED_BYTES: usize = 2 << 20;
/// Requests of one link that are under way or whose answers nobody takes; more are refused.
pub(super) const REQUESTS: usize = 200;

impl Client {
    pub(super) fn request(&mut self, machine: &mut Connection, delivery: &Delivery) {
        let id = delivery.link;
        let Some(Link::Requests { node, count }) = self.links.get_mut(&id) else {
            return;
        };
        let outcome = match Request::read(&delivery.payload) {
            Ok(request) if request.names_bytes() > NAMES_BYTES => {
                let words =
                    format!("message-id and reply-to have at most {NAMES_BYTES} bytes together");
                Err(Refusal::argument(words).to_error())
            }
            _ if *count >= REQUESTS => {
                let words = "as many requests as a link may have are under way";
                Err(Refusal::busy(words).to_error())
            }
            Ok(request) => Ok(request),
            Err(malformed) => Err(malformed.into()),
        };
        let (node, request) = match outcome {
            Ok(request) => (node.clone(), request),
            Err(error) => {
                let rejected = DeliveryState::Outcome(Outcome::Rejected(Some(error)));
                let _ = machine.settle(id, delivery.id, Some(rejected));
                return;
            }
        };
        *count += 1;
        let txn_id = match &delivery.state {
            Some(DeliveryState::Transactional { txn_id, .. }) => Some(txn_id.clone()),
            _ => None,
        };
        let accepted = match &txn_id {
            Some(txn_id) => within(txn_id, Some(Outcome::Accepted)),
            None => DeliveryState::Outcome(Outcome::Accepted),
        };
        let _ = machine.settle(id, delivery.id, Some(accepted));
        match node {
            Node::Tokens => {
                let refused =
                    txn_id.map(|_| Refusal::not_implemented("a token within a transaction"));
                let put = match refused {
                    None => self.claims.put(&self.desk.door, &request),
                    Some(refusal) => refusal.into(),
                };
                let broker = self.desk.broker();
                self.desk.begin(async move {
                    let answer = put.answer(&broker).await;
                    Done::Answered {
                        link: id,
                        answer: request.answer(Style::Tokens, &answer),
                        reply_to: request.reply_to,
                    }
                });
            }
            Node::Management {
                who,
                place,
                has_sessions,
            } => {
                let session = self.session_of(&place, &request);
                let large = match management::puts_aside(&request) {
                    true => self.large_of(&place),
                    false => Vec::new(),
                };
                let call = management::Call {
                    broker: self.desk.broker(),
                    who,
                    view: place.view(),
                    place,
                    has_sessions,
                    session,
                    large,
                };
                if let Some(txn_id) = txn_id {
                    self.request_within(machine, id, &txn_id, call, request);
                    return;
                }
                self.desk.begin(async move {
                    let answer = management::answer(&call, &request).await;
                    Done::Answered {
                        link: id,
                        answer: request.answer(Style::Management, &answer),
                        reply_to: request.reply_to,
                    }
                });
            }
        }
    }

    /// The lock on the session that a request is about, which a receiver of this connection has: by the session's
    /// name, or by the link's, which is all that Go says.
    fn session_of(&self, place: &Place, request: &Request) -> Option<mente_broker::SessionLock> {
        let session = management::session_id(request);
        let link = request.property("associated-link-name");
        let view = place.view();
        self.links.values().find_map(|found| match found {
            Link::Receiver(receiver) if receiver.view == view => {
                let lock = receiver.session.as_ref()?;
                let is_meant = match session {
                    Some(session) => session == lock.session,
                    None => link.is_some_and(|link| link == receiver.name),
                };
                is_meant.then(|| lock.clone())
            }
            _ => None,
        })
    }

    /// The locks of large messages that receivers of this connection have there.
    fn large_of(&self, place: &Place) -> Vec<LockToken> {
        let view = place.view();
        let receivers = self.links.values().filter_map(|link| match link {
            Link::Receiver(receiver) if receiver.view == view => Some(receiver),
            _ => None,
        });
        receivers
            .flat_map(|receiver| receiver.large_out())
            .collect()
    }

    /// Sends an answer on the link for it: of the same session and node, by its name or address, else the newest.
    pub(super) fn answered(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        reply_to: Option<&str>,
        answer: Bytes,
    ) {
        let asked = match self.links.get_mut(&id) {
            Some(Link::Requests { node, count }) => {
                *count = count.saturating_sub(1);
                node.clone()
            }
            _ => return,
        };
        self.due.insert(id);
        let mut newest = None;
        let mut named = None;
        for (link, found) in &self.links {
            if let Link::Replies { node, names, .. } = found
                && link.session == id.session
                && *node == asked
            {
                newest = Some(*link);
                if reply_to.is_some_and(|name| names.iter().any(|known| known == name)) {
                    named = Some(*link);
                }
            }
        }
        let Some(to) = named.or(newest) else {
            tracing::debug!("an answer that no link of its session is there for");
            return;
        };
        if let Some(Link::Replies { owed, .. }) = self.links.get_mut(&to) {
            owed.push_back(answer);
            // The oldest are what nobody waits for any more.
            let bytes = |owed: &VecDeque<Bytes>| owed.iter().map(Bytes::len).sum::<usize>();
            while owed.len() > REQUESTS || owed.len() > 1 && bytes(owed) > OWED_BYTES {
                owed.pop_front();
            }
            let _ = self.pump_link(machine, to);
        }
    }
}
