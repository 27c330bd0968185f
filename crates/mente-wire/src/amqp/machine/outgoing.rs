//! Deliveries of the door, cut into transfers as the peer takes them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::{DeliveryId, Outgoing, Refused};
use super::session::Session;
use super::wire::Wire;
use crate::amqp::performative::{
    DELIVERY_TAG_BYTES, Disposition, Flow, Performative, Role, Transfer,
};

/// What waits for the window of its session: the rest of one delivery, and behind it what must
/// not be told before. No other delivery is begun then. JS ends a connection on which a number of
/// a delivery is left out, so that numbers are given to what is written at once only.
#[derive(Debug)]
pub(super) enum Queued {
    Transfer(Box<Sending>),
    Drained {
        link: u64,
        delivery_count: u32,
    },
    Disposition {
        link: u64,
        disposition: Box<Disposition>,
    },
}

#[derive(Debug)]
pub(super) struct Sending {
    link: u64,
    transfer: Transfer,
    /// What is left of it, and of the parts that the door added behind it since.
    payload: Bytes,
    behind: VecDeque<Bytes>,
    /// The door has not sent the last one.
    is_open: bool,
}

impl Queued {
    const fn link(&self) -> u64 {
        match self {
            Self::Transfer(sending) => sending.link,
            Self::Drained { link, .. } | Self::Disposition { link, .. } => *link,
        }
    }

    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            Self::Transfer(sending) => sending.payload_bytes(),
            Self::Drained { .. } | Self::Disposition { .. } => 0,
        }
    }
}

impl Session {
    pub(super) fn send(
        &mut self,
        serial: u64,
        outgoing: Outgoing,
        wire: &mut Wire,
    ) -> Result<DeliveryId, Refused> {
        let most = self.limits.unsettled_per_link;
        let is_held = wire.unsettled >= self.limits.unsettled;
        let has_window = self.peer_window > 0;
        let is_full = !self.queue.is_empty() || !wire.has_room(&self.limits);
        let link = self.attached(serial)?;
        if link.role != Role::Sender {
            return Err(Refused::OutOfPlace);
        }
        if outgoing.tag.len() > DELIVERY_TAG_BYTES {
            return Err(Refused::TagTooLong);
        }
        if link.credit == 0 {
            return Err(Refused::NoCredit);
        }
        if !has_window {
            return Err(Refused::NoWindow);
        }
        if is_full {
            return Err(Refused::Full);
        }
        if !outgoing.settled && (link.unsettled >= most || is_held) {
            return Err(Refused::Unsettled);
        }
        link.credit -= 1;
        link.delivery_count = link.delivery_count.wrapping_add(1);
        let unsettled = usize::from(!outgoing.settled);
        link.unsettled += unsettled;
        wire.unsettled += unsettled;
        let handle = link.handle_out;
        let id = self.next_delivery_id();
        if !outgoing.settled {
            self.sent.insert(id, serial);
            self.open.insert(id, serial);
        }
        let transfer = Transfer {
            handle,
            delivery_id: Some(id),
            delivery_tag: Some(outgoing.tag),
            message_format: Some(outgoing.format),
            settled: Some(outgoing.settled),
            state: outgoing.state,
            ..Transfer::default()
        };
        let mut sending = Sending {
            link: serial,
            transfer,
            payload: outgoing.payload,
            behind: VecDeque::new(),
            is_open: outgoing.more,
        };
        wire.queued_bytes += sending.payload_bytes();
        // Nothing waits, so that it may go at once, as most do.
        if !self.write_on(&mut sending, wire) {
            let sending = Box::new(sending);
            self.queue.push_back(Queued::Transfer(sending));
        }
        Ok(DeliveryId(id))
    }

    /// Adds to the delivery that is being sent.
    pub(super) fn append(
        &mut self,
        serial: u64,
        id: DeliveryId,
        payload: Bytes,
        is_last: bool,
        wire: &mut Wire,
    ) -> Result<(), Refused> {
        self.attached(serial)?;
        let sending = match self.queue.front_mut() {
            Some(Queued::Transfer(sending)) if sending.is_it(serial, id) => sending,
            _ => return Err(Refused::NoDelivery),
        };
        wire.queued_bytes += payload.len();
        if !payload.is_empty() {
            sending.behind.push_back(payload);
        }
        sending.is_open = !is_last;
        self.pump(wire);
        Ok(())
    }

    /// Of those that are settled already an id may come again; of the others there are far fewer
    /// than ids.
    fn next_delivery_id(&mut self) -> u32 {
        while self.sent.contains_key(&self.next_delivery) {
            self.next_delivery = self.next_delivery.wrapping_add(1);
        }
        let id = self.next_delivery;
        self.next_delivery = id.wrapping_add(1);
        id
    }

    /// The door has sent what it had: the rest of the credit is used up (§2.6.7).
    pub(super) fn drained(&mut self, serial: u64, wire: &mut Wire) -> Result<(), Refused> {
        let link = self.attached(serial)?;
        if link.role != Role::Sender || !link.is_draining {
            return Err(Refused::OutOfPlace);
        }
        link.delivery_count = link.delivery_count.wrapping_add(link.credit);
        link.credit = 0;
        link.is_draining = false;
        let now = link.delivery_count;
        let mut of_link = self
            .queue
            .iter_mut()
            .rev()
            .filter(|queued| queued.link() == serial);
        match of_link.next() {
            // A peer that keeps its window shut and asks for one drain after the other is
            // answered once.
            Some(Queued::Drained { delivery_count, .. }) => *delivery_count = now,
            _ => self.queue.push_back(Queued::Drained {
                link: serial,
                delivery_count: now,
            }),
        }
        self.pump(wire);
        Ok(())
    }

    /// Writes what the peer's window and the bound of the output allow.
    pub(super) fn pump(&mut self, wire: &mut Wire) {
        while let Some(mut queued) = self.queue.pop_front() {
            match &mut queued {
                Queued::Transfer(sending) => {
                    if !self.write_on(sending, wire) {
                        self.queue.push_front(queued);
                        return;
                    }
                }
                Queued::Disposition { disposition, .. } => {
                    let disposition = Disposition::clone(disposition);
                    wire.put(self.channel, &Performative::Disposition(disposition));
                }
                &mut Queued::Drained {
                    link,
                    delivery_count,
                } => self.write_drained(link, delivery_count, wire),
            }
        }
    }

    /// The same of one delivery. Whether it is written to its end.
    fn write_on(&mut self, sending: &mut Sending, wire: &mut Wire) -> bool {
        loop {
            let is_full = wire.written_bytes() >= self.limits.output_bytes;
            let before = sending.payload_bytes();
            let waits = sending.is_open && before == 0;
            if self.peer_window == 0 || is_full || waits {
                return false;
            }
            if !sending.write_frame(self.channel, wire) {
                return false;
            }
            let left = sending.payload_bytes();
            wire.queued_bytes -= before - left;
            self.peer_window -= 1;
            self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
            if !sending.is_open && left == 0 {
                return true;
            }
        }
    }

    /// JS complains about credit that is left when a drain is answered, so that later credit is
    /// not told of here.
    fn write_drained(&self, link: u64, delivery_count: u32, wire: &mut Wire) {
        let Some(link) = self.links.get(&link) else {
            return;
        };
        let flow = Flow {
            handle: Some(link.handle_out),
            delivery_count: Some(delivery_count),
            link_credit: Some(0),
            available: Some(0),
            drain: true,
            ..self.flow()
        };
        wire.put(self.channel, &Performative::Flow(Box::new(flow)));
    }

    /// Drops what waits of a link that ends.
    pub(super) fn unqueue(&mut self, serial: u64, wire: &mut Wire) {
        self.queue.retain(|queued| {
            let stays = queued.link() != serial;
            if !stays {
                wire.queued_bytes -= queued.payload_bytes();
            }
            stays
        });
    }

    /// Whether not all of a delivery has been written.
    pub(super) fn is_queued(&self, id: u32) -> bool {
        self.queue.iter().any(|queued| match queued {
            Queued::Transfer(sending) => sending.transfer.delivery_id == Some(id),
            _ => false,
        })
    }
}

impl Sending {
    fn payload_bytes(&self) -> usize {
        self.payload.len() + self.behind.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether it is this delivery, and may be added to.
    fn is_it(&self, link: u64, id: DeliveryId) -> bool {
        self.is_open && self.link == link && self.transfer.delivery_id == Some(id.0)
    }

    /// One frame of it. False if the peer's frames are too small for one.
    fn write_frame(&mut self, channel: u16, wire: &mut Wire) -> bool {
        if self.payload.is_empty()
            && let Some(next) = self.behind.pop_front()
        {
            self.payload = next;
        }
        let is_more = self.is_open || !self.behind.is_empty();
        let (payload_bytes, frame_bytes) = (self.payload.len(), wire.frame_bytes);
        let fitting =
            self.transfer
                .write_frame(channel, payload_bytes, is_more, frame_bytes, wire.out());
        let Some(fitting) = fitting else {
            wire.is_overlong = true;
            return false;
        };
        wire.out()
            .extend_from_slice(&self.payload.split_to(fitting));
        true
    }
}
