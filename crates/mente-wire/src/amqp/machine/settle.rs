//! What becomes of deliveries: the peer says what it thinks, the door says what is (§2.6.12).

use super::event::{DeliveryId, Disposed, Event, LinkId, Refused};
use super::link::is_behind;
use super::outgoing::Queued;
use super::session::Session;
use super::wire::{Fault, Wire};
use crate::amqp::error::condition;
use crate::amqp::performative::{Disposition, Role};
use crate::amqp::state::DeliveryState;

impl Session {
    /// Deliveries that are not known are passed over: they were settled, or their link is gone.
    pub(super) fn disposition(
        &mut self,
        disposition: Disposition,
        wire: &mut Wire,
    ) -> Result<Option<Event>, Fault> {
        let (first, last) = (
            disposition.first,
            disposition.last.unwrap_or(disposition.first),
        );
        if !is_behind(last.wrapping_sub(first)) {
            let words = "a disposition whose last delivery is before its first";
            return Err(self.fault(condition::INVALID_FIELD, words));
        }
        let says_nothing = matches!(
            disposition.state,
            None | Some(DeliveryState::Received { .. })
        );
        if !disposition.settled && says_nothing {
            return Ok(None);
        }
        let is_said = !disposition.settled;
        let deliveries = self.known(disposition.role, first, last, is_said);
        if deliveries.is_empty() {
            return Ok(None);
        }
        if is_said && disposition.role == Role::Receiver {
            for (_, id) in &deliveries {
                self.open.remove(&id.0);
            }
        }
        if disposition.settled {
            for (link, id) in &deliveries {
                self.forget(disposition.role, link.serial, id.0, wire);
            }
            self.top_up(wire);
        }
        Ok(Some(Event::Disposition(Box::new(Disposed {
            role: disposition.role,
            deliveries,
            settled: disposition.settled,
            state: disposition.state,
        }))))
    }

    /// Those of a range that wait to be settled: the walk is over what is known, since the range
    /// is only claimed. Of a word that does not settle, those that none was said of before.
    fn known(&self, by: Role, first: u32, last: u32, is_said: bool) -> Vec<(LinkId, DeliveryId)> {
        let map = match by {
            Role::Receiver if is_said => &self.open,
            Role::Receiver => &self.sent,
            Role::Sender => &self.received,
        };
        let found: Box<dyn Iterator<Item = (&u32, &u64)>> = if first <= last {
            Box::new(map.range(first..=last))
        } else {
            Box::new(map.range(first..).chain(map.range(..=last)))
        };
        let named = found.map(|(id, serial)| {
            let link = LinkId {
                session: self.id,
                serial: *serial,
            };
            (link, DeliveryId(*id))
        });
        named.collect()
    }

    /// Settles a delivery and tells the peer.
    pub(super) fn settle(
        &mut self,
        serial: u64,
        id: DeliveryId,
        state: Option<DeliveryState>,
        wire: &mut Wire,
    ) -> Result<(), Refused> {
        let role = self.attached(serial)?.role;
        let peer = match role {
            Role::Sender => Role::Receiver,
            Role::Receiver => Role::Sender,
        };
        if !self.forget(peer, serial, id.0, wire) {
            return Err(Refused::NoDelivery);
        }
        let disposition = Disposition {
            role,
            first: id.0,
            last: None,
            settled: true,
            state,
            batchable: false,
        };
        if role == Role::Sender && self.is_queued(id.0) {
            self.queue.push_back(Queued::Disposition {
                link: serial,
                disposition: Box::new(disposition),
            });
        } else {
            wire.put_disposition(self.channel, disposition);
        }
        self.top_up(wire);
        Ok(())
    }

    /// Whether it was known as one of the link's, by the peer in this role.
    pub(super) fn forget(&mut self, peer: Role, serial: u64, id: u32, wire: &mut Wire) -> bool {
        let map = match peer {
            Role::Receiver => &mut self.sent,
            Role::Sender => &mut self.received,
        };
        if map.get(&id) != Some(&serial) {
            return false;
        }
        map.remove(&id);
        if peer == Role::Receiver {
            self.open.remove(&id);
        }
        wire.unsettled -= 1;
        if let Some(link) = self.links.get_mut(&serial) {
            link.unsettled -= 1;
        }
        true
    }
}
