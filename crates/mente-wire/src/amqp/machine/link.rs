//! Links: how they begin and end, and who may send how much on them (§2.6).

use super::event::{By, Event, LinkId, Refused};
use super::incoming::Partial;
use super::options::Limits;
use super::session::Session;
use super::wire::{Fault, Wire, free_number};
use crate::amqp::error::condition;
use crate::amqp::performative::{
    Attach, Detach, Flow, Performative, ReceiverSettleMode, Role, SenderSettleMode,
};
use crate::amqp::state::Error;
use crate::amqp::terminus::Destination;
use crate::amqp::value::{Map, Text};

#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    /// Ours, which is the peer's as a rule.
    pub(super) handle_out: u32,
    /// Ours.
    pub(super) role: Role,
    pub(super) stage: Stage,
    /// Deliveries that the sender has begun, on from a number of its choice.
    pub(super) delivery_count: u32,
    /// What the receiver takes beyond `delivery_count`. Python's senders send without.
    pub(super) credit: u32,
    pub(super) is_draining: bool,
    /// Of its deliveries, in its direction.
    pub(super) unsettled: usize,
    pub(super) is_coordinator: bool,
    /// Largest delivery that comes in.
    pub(super) delivery_bytes: usize,
    /// Beyond so many bytes a delivery is refused as soon as that is known, if the door has said.
    pub(super) bound_bytes: Option<usize>,
    /// Whether large deliveries come to the door in parts.
    pub(super) comes_in_parts: bool,
    /// The delivery that is coming in.
    pub(super) partial: Option<Partial>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The door has not said whether it may be.
    Asked(Box<Asked>),
    Attached,
    /// We have detached it and the peer has not: what it still sends is passed over.
    Detaching,
}

/// What an answer says again.
#[derive(Debug)]
pub(super) struct Asked {
    name: Text,
    sender_settles: SenderSettleMode,
    receiver_settles: ReceiverSettleMode,
}

impl Link {
    pub(super) fn fault(&self, condition: &'static str, words: &'static str) -> Fault {
        Fault::Link(self.id, Error::new(condition, words))
    }
}

impl Session {
    pub(super) fn attach(&mut self, attach: Attach, wire: &mut Wire) -> Result<Event, Fault> {
        if attach.handle >= self.limits.links_per_session {
            let words = "a handle above the highest of the session";
            return Err(Fault::connection(condition::FRAMING_ERROR, words));
        }
        if self.handles.contains_key(&attach.handle) {
            return Err(self.fault(condition::HANDLE_IN_USE, "a link has this handle"));
        }
        if attach.name.as_bytes().len() > self.limits.link_name_bytes {
            return Err(self.fault(condition::INVALID_FIELD, "a longer link name than is taken"));
        }
        if wire.link_count >= self.limits.links {
            let words = "as many links as a connection may have are there";
            return Err(self.fault(condition::RESOURCE_LIMIT_EXCEEDED, words));
        }
        let is_used = |handle| self.links.values().any(|link| link.handle_out == handle);
        let Some(handle_out) = free_number(attach.handle, self.peer_handle_max, is_used) else {
            let words = "no handle is left that the begin of the session allows for an answer";
            return Err(self.fault(condition::RESOURCE_LIMIT_EXCEEDED, words));
        };
        let id = LinkId {
            session: self.id,
            serial: self.links_attached,
        };
        self.links_attached += 1;
        wire.link_count += 1;
        self.handles.insert(attach.handle, id.serial);
        self.links.insert(
            id.serial,
            Link::asked(id, handle_out, &attach, &self.limits),
        );
        Ok(Event::Attach {
            link: id,
            attach: Box::new(attach),
        })
    }

    /// The door's own fields; name, handle, role and first count are those of the link.
    pub(super) fn accept(
        &mut self,
        serial: u64,
        mut answer: Attach,
        wire: &mut Wire,
    ) -> Result<(), Refused> {
        let link = self.links.get_mut(&serial).ok_or(Refused::Gone)?;
        let asked = match std::mem::replace(&mut link.stage, Stage::Attached) {
            Stage::Asked(asked) => asked,
            Stage::Attached => return Err(Refused::OutOfPlace),
            Stage::Detaching => {
                link.stage = Stage::Detaching;
                return Err(Refused::Gone);
            }
        };
        answer.name = asked.name;
        answer.handle = link.handle_out;
        answer.role = link.role;
        answer.unsettled = None;
        answer.incomplete_unsettled = false;
        answer.initial_delivery_count = (link.role == Role::Sender).then_some(link.delivery_count);
        wire.put(self.channel, &Performative::Attach(Box::new(answer)));
        Ok(())
    }

    /// Detaches with the error; before the door's answer that is the refusal that SDKs know: an
    /// attach with neither source nor target, and the detach behind it.
    pub(super) fn detach(
        &mut self,
        serial: u64,
        error: Option<Error>,
        wire: &mut Wire,
    ) -> Result<(), Refused> {
        let link = self.links.get_mut(&serial).ok_or(Refused::Gone)?;
        match std::mem::replace(&mut link.stage, Stage::Detaching) {
            Stage::Detaching => return Err(Refused::Gone),
            Stage::Attached => {}
            Stage::Asked(asked) => link.write_refusal(&asked, self.channel, wire),
        }
        let detach = Detach {
            handle: link.handle_out,
            closed: true,
            error,
        };
        self.release(serial, wire);
        wire.put(self.channel, &Performative::Detach(detach));
        Ok(())
    }

    /// Of a link that is not there nothing is said: Python detaches links of ended sessions, and
    /// detaching twice does no harm.
    pub(super) fn detached(&mut self, detach: Detach, wire: &mut Wire) -> Option<Event> {
        let serial = self.handles.remove(&detach.handle)?;
        self.release(serial, wire);
        wire.link_count -= 1;
        let link = self.links.remove(&serial)?;
        match link.stage {
            Stage::Detaching => return None,
            Stage::Attached => {}
            // It must be attached before it can be detached, and the door's answer is moot.
            Stage::Asked(ref asked) => link.write_refusal(asked, self.channel, wire),
        }
        let answer = Detach {
            handle: link.handle_out,
            closed: detach.closed,
            error: None,
        };
        wire.put(self.channel, &Performative::Detach(answer));
        Some(Event::Detached {
            link: link.id,
            by: By::Peer,
            closed: detach.closed,
            error: detach.error,
        })
    }

    /// What the peer said of a link in a flow.
    pub(super) fn link_flow(
        &mut self,
        handle: u32,
        flow: &Flow,
        wire: &mut Wire,
    ) -> Result<Option<Event>, Fault> {
        let serial = self.serial_of(handle)?;
        let Some(link) = self.links.get_mut(&serial) else {
            return Ok(None);
        };
        if matches!(link.stage, Stage::Detaching) {
            return Ok(None);
        }
        let mut event = None;
        if link.role == Role::Sender
            && let Some(link_credit) = flow.link_credit
        {
            // What is under way to the receiver has been taken from its credit already. One that
            // speaks of more than was sent is believed in nothing but its credit.
            let under_way = link
                .delivery_count
                .wrapping_sub(flow.delivery_count.unwrap_or(0));
            let under_way = if is_behind(under_way) { under_way } else { 0 };
            link.credit = link_credit.saturating_sub(under_way);
            link.is_draining = flow.drain;
            event = Some(Event::Credit {
                link: link.id,
                credit: link.credit,
                drain: flow.drain,
            });
        }
        // A drain is answered when it is done. Of a link that was not answered there is no handle
        // to say anything by.
        let is_asked = matches!(link.stage, Stage::Asked(_));
        if flow.echo && !link.is_draining && !is_asked {
            self.write_link_flow(serial, wire);
        }
        Ok(event)
    }

    /// Lets the peer send so many deliveries from now on, in place of what it could before.
    pub(super) fn grant(
        &mut self,
        serial: u64,
        credit: u32,
        wire: &mut Wire,
    ) -> Result<(), Refused> {
        let link = self.attached(serial)?;
        if link.role != Role::Receiver {
            return Err(Refused::OutOfPlace);
        }
        link.credit = credit;
        self.write_link_flow(serial, wire);
        Ok(())
    }

    fn write_link_flow(&self, serial: u64, wire: &mut Wire) {
        let Some(link) = self.links.get(&serial) else {
            return;
        };
        let flow = Flow {
            handle: Some(link.handle_out),
            delivery_count: Some(link.delivery_count),
            link_credit: Some(link.credit),
            available: Some(0),
            drain: link.is_draining,
            ..self.flow()
        };
        wire.put(self.channel, &Performative::Flow(Box::new(flow)));
    }

    /// The link if the door may speak on it.
    pub(super) fn attached(&mut self, serial: u64) -> Result<&mut Link, Refused> {
        let link = self.links.get_mut(&serial).ok_or(Refused::Gone)?;
        match link.stage {
            Stage::Attached => Ok(link),
            Stage::Asked(_) => Err(Refused::OutOfPlace),
            Stage::Detaching => Err(Refused::Gone),
        }
    }

    pub(super) fn serial_of(&self, handle: u32) -> Result<u64, Fault> {
        let serial = self.handles.get(&handle).copied();
        serial.ok_or_else(|| self.fault(condition::UNATTACHED_HANDLE, "no link has this handle"))
    }

    /// Gives up what is kept for the link's deliveries, in both directions.
    pub(super) fn release(&mut self, serial: u64, wire: &mut Wire) {
        let Some(link) = self.links.get_mut(&serial) else {
            return;
        };
        if let Some(partial) = link.partial.take() {
            wire.partial_bytes -= partial.counted_bytes;
        }
        let held = std::mem::take(&mut link.unsettled);
        wire.unsettled -= held;
        if held > 0 {
            self.received.retain(|_, of| *of != serial);
            self.sent.retain(|_, of| *of != serial);
            self.open.retain(|_, of| *of != serial);
        }
        self.unqueue(serial, wire);
    }
}

impl Link {
    fn asked(id: LinkId, handle_out: u32, attach: &Attach, limits: &Limits) -> Self {
        let (role, delivery_count) = match attach.role {
            Role::Sender => (Role::Receiver, attach.initial_delivery_count.unwrap_or(0)),
            Role::Receiver => (Role::Sender, 0),
        };
        let asked = Asked {
            // A name of its own, since the one that came keeps its whole frame.
            name: attach.name.as_str().into(),
            sender_settles: attach.sender_settles,
            receiver_settles: attach.receiver_settles,
        };
        Self {
            id,
            handle_out,
            role,
            stage: Stage::Asked(Box::new(asked)),
            delivery_count,
            credit: 0,
            is_draining: false,
            unsettled: 0,
            is_coordinator: matches!(attach.target, Some(Destination::Coordinator(_))),
            delivery_bytes: limits.delivery_bytes,
            bound_bytes: None,
            comes_in_parts: false,
            partial: None,
        }
    }

    fn write_refusal(&self, asked: &Asked, channel: u16, wire: &mut Wire) {
        let attach = Attach {
            sender_settles: asked.sender_settles,
            receiver_settles: asked.receiver_settles,
            initial_delivery_count: (self.role == Role::Sender).then_some(0),
            properties: Some(Map::default()),
            ..Attach::new(asked.name.clone(), self.handle_out, self.role)
        };
        wire.put(channel, &Performative::Attach(Box::new(attach)));
    }
}

/// Whether a difference of serial numbers is that of a lesser one from a greater one (RFC 1982).
pub(super) const fn is_behind(difference: u32) -> bool {
    difference < 1 << 31
}
