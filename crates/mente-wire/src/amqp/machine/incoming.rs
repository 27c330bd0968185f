//! Deliveries of the peer, put together from their transfers.

use bytes::{Bytes, BytesMut};

use super::event::{Delivery, DeliveryId, Event};
use super::link::{Link, Stage};
use super::session::Session;
use super::wire::{Fault, Wire};
use crate::amqp::composite::Field;
use crate::amqp::decode::Reader;
use crate::amqp::error::condition;
use crate::amqp::message::Message;
use crate::amqp::performative::{Role, Transfer};
use crate::amqp::state::{DeliveryState, Error};
use crate::amqp::transaction::Control;

/// What each part of a delivery counts at least, so that one of very many parts ends too.
const PART_BYTES: usize = 64;

/// A delivery that more parts are to come of.
#[derive(Debug)]
pub(super) struct Partial {
    /// Its first transfer, with what later ones say of settling.
    first: Transfer,
    payload: BytesMut,
    /// Of the payload, but each part counts for [`PART_BYTES`] at least.
    pub(super) counted_bytes: usize,
}

impl Session {
    pub(super) fn transfer(
        &mut self,
        transfer: Transfer,
        payload: Bytes,
        wire: &mut Wire,
    ) -> Result<Option<Event>, Fault> {
        self.count_transfer()?;
        let serial = self.serial_of(transfer.handle)?;
        let partial_bytes_max = self.limits.partial_bytes;
        let Some(link) = self.links.get_mut(&serial) else {
            return Ok(None);
        };
        let whole = link.gather(transfer, payload, partial_bytes_max, wire)?;
        let event = match whole {
            Some((transfer, payload)) => Some(self.delivered(serial, transfer, payload, wire)?),
            None => None,
        };
        self.top_up(wire);
        Ok(event)
    }

    /// A delivery has come to its end.
    fn delivered(
        &mut self,
        serial: u64,
        transfer: Transfer,
        payload: Bytes,
        wire: &mut Wire,
    ) -> Result<Event, Fault> {
        let (Some(id), Some(tag)) = (transfer.delivery_id, transfer.delivery_tag) else {
            return Err(self.fault(condition::INVALID_FIELD, "a delivery without id and tag"));
        };
        let settled = transfer.settled.unwrap_or(false);
        let most = self.limits.unsettled_per_link;
        let is_known = self.received.contains_key(&id);
        if is_known {
            let words = "the id of a delivery that is not settled";
            return Err(self.fault(condition::INVALID_FIELD, words));
        }
        let Some(link) = self.links.get_mut(&serial) else {
            return Err(self.fault(condition::UNATTACHED_HANDLE, "no link has this handle"));
        };
        let control = match link.is_coordinator {
            true => Some(control_of(&payload).map_err(|error| Fault::Link(link.id, error))?),
            false => None,
        };
        if !settled {
            if link.unsettled >= most {
                let words = "more deliveries that are not settled than a link may have";
                return Err(link.fault(condition::TRANSFER_LIMIT_EXCEEDED, words));
            }
            if wire.unsettled >= self.limits.unsettled {
                let words = "more deliveries that are not settled than a connection may have";
                return Err(link.fault(condition::RESOURCE_LIMIT_EXCEEDED, words));
            }
            link.unsettled += 1;
            wire.unsettled += 1;
            self.received.insert(id, serial);
        }
        let (link, id) = (link.id, DeliveryId(id));
        Ok(match control {
            Some(control) => Event::Control {
                link,
                id,
                settled,
                control,
            },
            None => Event::Delivery(Box::new(Delivery {
                link,
                id,
                tag,
                format: transfer.message_format.unwrap_or(0),
                settled,
                receiver_settles: transfer.receiver_settles,
                state: transfer.state,
                payload,
            })),
        })
    }
}

impl Link {
    /// Adds a transfer to what has come. The delivery, if this was its last part.
    fn gather(
        &mut self,
        transfer: Transfer,
        payload: Bytes,
        partial_bytes_max: usize,
        wire: &mut Wire,
    ) -> Result<Option<(Transfer, Bytes)>, Fault> {
        match self.stage {
            Stage::Detaching => return Ok(None),
            Stage::Attached => {}
            Stage::Asked(_) => {
                let words = "a transfer before the link was accepted";
                return Err(self.fault(condition::TRANSFER_LIMIT_EXCEEDED, words));
            }
        }
        if self.role != Role::Receiver {
            return Err(self.fault(condition::NOT_ALLOWED, "a transfer by a receiver"));
        }
        if transfer.resume {
            return Err(self.fault(condition::NOT_IMPLEMENTED, "resuming deliveries"));
        }
        let partial = self.partial.take();
        if let Some(partial) = &partial {
            wire.partial_bytes -= partial.counted_bytes;
        } else {
            self.delivery_count = self.delivery_count.wrapping_add(1);
            // Beyond the credit it is taken all the same, up to what may be unsettled: Python's
            // senders know of none.
            self.credit = self.credit.saturating_sub(1);
        }
        // What was begun and is aborted never was (§2.6.14).
        if transfer.aborted {
            return Ok(None);
        }
        let already = partial.as_ref().map_or(0, |partial| partial.counted_bytes);
        let counted = match &partial {
            None if !transfer.more => payload.len(),
            _ => already + payload.len().max(PART_BYTES),
        };
        let so_far = partial.as_ref().map_or(0, |partial| partial.payload.len()) + payload.len();
        if so_far > self.delivery_bytes || (transfer.more && counted > self.parts_max()) {
            let words = "a delivery larger than the link takes";
            return Err(self.fault(condition::MESSAGE_SIZE_EXCEEDED, words));
        }
        if transfer.more && wire.partial_bytes + counted > partial_bytes_max {
            let words = "all deliveries that have begun are larger than a connection may hold";
            return Err(self.fault(condition::RESOURCE_LIMIT_EXCEEDED, words));
        }
        self.join(partial, transfer, payload, counted, wire)
    }

    /// What the parts of one delivery may count: those of a small one may be small.
    const fn parts_max(&self) -> usize {
        self.delivery_bytes.saturating_add(1_024 * PART_BYTES)
    }

    fn join(
        &mut self,
        partial: Option<Partial>,
        transfer: Transfer,
        payload: Bytes,
        counted_bytes: usize,
        wire: &mut Wire,
    ) -> Result<Option<(Transfer, Bytes)>, Fault> {
        let more = transfer.more;
        let Some(mut partial) = partial else {
            if transfer.delivery_id.is_none() || transfer.delivery_tag.is_none() {
                let words = "a delivery without id and tag";
                return Err(self.fault(condition::INVALID_FIELD, words));
            }
            if !more {
                return Ok(Some((transfer, payload)));
            }
            wire.partial_bytes += counted_bytes;
            self.partial = Some(Partial {
                // Copied, as all parts are: a slice would keep its whole frame.
                first: apart(transfer),
                payload: payload[..].into(),
                counted_bytes,
            });
            return Ok(None);
        };
        let is_other = transfer
            .delivery_id
            .is_some_and(|id| partial.first.delivery_id != Some(id));
        if is_other {
            let words = "a delivery within another one of the same link";
            return Err(self.fault(condition::NOT_ALLOWED, words));
        }
        if transfer.settled == Some(true) {
            partial.first.settled = Some(true);
        }
        if transfer.state.is_some() {
            partial.first.state = transfer.state.and_then(|state| copy_of(&state));
        }
        partial.payload.extend_from_slice(&payload);
        partial.counted_bytes = counted_bytes;
        if !more {
            return Ok(Some((partial.first, partial.payload.freeze())));
        }
        wire.partial_bytes += counted_bytes;
        self.partial = Some(partial);
        Ok(None)
    }
}

/// The transfer without any slice of its frame.
fn apart(transfer: Transfer) -> Transfer {
    let copy = |tag: Bytes| Bytes::copy_from_slice(&tag);
    Transfer {
        delivery_tag: transfer.delivery_tag.map(copy),
        state: transfer.state.and_then(|state| copy_of(&state)),
        ..transfer
    }
}

/// What is written of a state is read again, in bytes of its own.
fn copy_of(state: &DeliveryState) -> Option<DeliveryState> {
    let mut out = Vec::new();
    state.write(&mut out);
    DeliveryState::read(&mut Reader::new(&out.into())).ok()?
}

fn control_of(payload: &Bytes) -> Result<Control, Error> {
    let message = Message::split(payload)?;
    Ok(Control::decode(&message)?)
}
