//! A door that answers as the listener did whose clients were captured: it takes all messages,
//! has six in every entity, and settles as it is asked.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::amqp::machine::{By, Connection, Delivery, Disposed, Event, LinkId, Outgoing, Refused};
use crate::amqp::performative::{Attach, Role, SenderSettleMode};
use crate::amqp::sasl::SaslCode;
use crate::amqp::transaction::Control;
use crate::amqp::value::{Map, Value};
use crate::amqp::{DeliveryState, Destination, Error, Outcome, condition};

const MESSAGES: u32 = 6;
const CREDIT: u32 = 100;

#[derive(Default)]
pub(super) struct Door {
    links: BTreeMap<LinkId, Link>,
    /// A line an event.
    pub(super) told: Vec<String>,
    /// What it sent and is not settled.
    pub(super) sent: u32,
    pub(super) settled: u32,
}

struct Link {
    name: String,
    /// The client's.
    role: Role,
    node: String,
    is_settled: bool,
    sent: u32,
    /// Answers to requests that have come before any credit, as Go's do.
    owed: u32,
}

impl Door {
    /// Answers an event.
    pub(super) fn answer(&mut self, machine: &mut Connection, event: Event) {
        self.told.push(self.line(&event));
        let done = match event {
            Event::Authenticate { .. } => machine.sasl_outcome(SaslCode::Ok),
            Event::Attach { link, attach } => self.attach(machine, link, *attach),
            Event::Credit {
                link,
                credit,
                drain,
            } => self.credit(machine, link, credit, drain),
            Event::Delivery(delivery) => self.delivery(machine, &delivery),
            // No link of this door is bound.
            Event::Part(_) | Event::TooLarge { .. } | Event::Aborted { .. } => {
                Err(Refused::OutOfPlace)
            }
            Event::Control {
                link, id, control, ..
            } => {
                let state = match control {
                    Control::Declare(_) => DeliveryState::Declared {
                        txn_id: Bytes::from_static(b"txn1"),
                    },
                    Control::Discharge(_) => DeliveryState::Outcome(Outcome::Accepted),
                };
                machine.settle(link, id, Some(state))
            }
            Event::Disposition(disposed) => self.disposed(machine, *disposed),
            Event::Detached { link, .. } => {
                self.links.remove(&link);
                Ok(())
            }
            Event::Ended { session, .. } => {
                self.links.retain(|link, _| link.session != session);
                Ok(())
            }
            Event::Response(_)
            | Event::Opened(_)
            | Event::Begun { .. }
            | Event::Window { .. }
            | Event::Closed { .. } => Ok(()),
        };
        assert_eq!(done, Ok(()), "after {:?}", self.told.last());
    }

    fn attach(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        attach: Attach,
    ) -> Result<(), Refused> {
        let node = node(&attach);
        let filter = attach
            .source
            .as_ref()
            .and_then(|source| source.filter.as_ref());
        let filter = filter.and_then(|filter| filter.get("com.microsoft:session-filter"));
        let is_next = filter.is_some_and(|filter| *filter.undescribed() == Value::Null);
        if is_next || node == "missing" {
            let error = Error::new(condition::NOT_FOUND, "no");
            return machine.refuse(id, error);
        }
        let link = Link {
            name: attach.name.as_str().into(),
            role: attach.role,
            node,
            is_settled: attach.sender_settles == SenderSettleMode::Settled,
            sent: 0,
            owed: 0,
        };
        let role = link.role;
        self.links.insert(id, link);
        let answer = Attach {
            max_message_size: Some(1 << 20),
            properties: Some(Map::default()),
            ..attach
        };
        machine.accept(id, answer)?;
        match role {
            Role::Sender => machine.grant(id, CREDIT),
            Role::Receiver => Ok(()),
        }
    }

    fn credit(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        credit: u32,
        drain: bool,
    ) -> Result<(), Refused> {
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(());
        };
        let is_service = link.node.contains('$');
        let there = if is_service {
            link.owed
        } else {
            MESSAGES - link.sent
        };
        for _ in 0..credit.min(there) {
            if is_service {
                link.owed -= 1;
                machine.send(id, reply())?;
                continue;
            }
            link.sent += 1;
            self.sent += u32::from(!link.is_settled);
            let outgoing = Outgoing {
                tag: Bytes::from(vec![7; 16]),
                settled: link.is_settled,
                payload: Bytes::from_static(b"\0\x53\x75\xa0\x02hi"),
                ..Outgoing::default()
            };
            machine.send(id, outgoing)?;
        }
        match drain {
            true => machine.drained(id),
            false => Ok(()),
        }
    }

    fn delivery(&mut self, machine: &mut Connection, delivery: &Delivery) -> Result<(), Refused> {
        if !delivery.settled {
            let accepted = DeliveryState::Outcome(Outcome::Accepted);
            machine.settle(delivery.link, delivery.id, Some(accepted))?;
        }
        let node = &self.links[&delivery.link].node;
        if !node.contains('$') {
            return Ok(());
        }
        // A reply goes to the newest receiver of the node.
        let node = node.clone();
        let mut receivers = self.links.iter_mut().rev();
        let receiver = receivers.find(|(_, link)| link.role == Role::Receiver && link.node == node);
        let Some((&id, receiver)) = receiver else {
            return Ok(());
        };
        match machine.send(id, reply()) {
            Err(Refused::NoCredit) => {
                receiver.owed += 1;
                Ok(())
            }
            sent => sent.map(|_| ()),
        }
    }

    fn disposed(&mut self, machine: &mut Connection, disposed: Disposed) -> Result<(), Refused> {
        let mut state = disposed.state;
        if let Some(DeliveryState::Outcome(Outcome::Rejected(error))) = &mut state {
            *error = None;
        }
        for (link, id) in disposed.deliveries {
            self.settled += 1;
            if !disposed.settled {
                machine.settle(link, id, state.clone())?;
            }
        }
        Ok(())
    }

    fn line(&self, event: &Event) -> String {
        let name = |link: &LinkId| self.links.get(link).map_or("?", |link| &link.name);
        match event {
            Event::Authenticate { .. } => "authenticate".into(),
            Event::Response(_) => "response".into(),
            Event::Opened(open) => format!("open {}", open.container_id),
            Event::Begun { .. } => "begin".into(),
            Event::Window { .. } => "window".into(),
            Event::Attach { attach, .. } => format!("attach {}", attach.name),
            Event::Credit {
                link,
                credit,
                drain,
            } => {
                format!("credit {} {credit} {drain}", name(link))
            }
            Event::Part(part) => format!("part {} {}", name(&part.link), part.payload.len()),
            Event::TooLarge { link, .. } => format!("too large {}", name(link)),
            Event::Aborted { link, .. } => format!("aborted {}", name(link)),
            Event::Delivery(delivery) => {
                format!(
                    "delivery {} {}",
                    name(&delivery.link),
                    delivery.payload.len()
                )
            }
            Event::Control { link, control, .. } => match control {
                Control::Declare(_) => format!("declare {}", name(link)),
                Control::Discharge(_) => format!("discharge {}", name(link)),
            },
            Event::Disposition(disposed) => {
                format!("disposition of {}", disposed.deliveries.len())
            }
            Event::Detached { link, by, .. } => format!("detach {}{}", name(link), of(*by)),
            Event::Ended { by, .. } => format!("end{}", of(*by)),
            Event::Closed { by, error } => format!("close{} {error:?}", of(*by)),
        }
    }
}

/// What a request is answered with.
fn reply() -> Outgoing {
    Outgoing {
        settled: true,
        payload: Bytes::from_static(b"\0\x53\x77\xa1\x02ok"),
        ..Outgoing::default()
    }
}

const fn of(by: By) -> &'static str {
    match by {
        By::Peer => "",
        By::Machine => " by the machine",
    }
}

/// The node without the URI before it: of a receiver the source, of a sender the target.
fn node(attach: &Attach) -> String {
    let address = match (attach.role, &attach.target) {
        (Role::Receiver, _) => attach
            .source
            .as_ref()
            .and_then(|source| source.address.as_ref()),
        (Role::Sender, Some(Destination::Target(target))) => target.address.as_ref(),
        (Role::Sender, _) => None,
    };
    let address = address.map_or("", |address| address.as_str());
    let path = address.strip_prefix("amqps://localhost:5679/");
    path.unwrap_or(address).into()
}
