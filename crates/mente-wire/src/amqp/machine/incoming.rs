//! Deliveries of the peer, put together from their transfers.

use bytes::{Bytes, BytesMut};

use super::event::{Delivery, DeliveryId, Event, LinkId, Part, Refused};
use super::link::{Link, Stage};
use super::options::Limits;
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

/// Behind its first part a delivery is handed on in parts that are smaller by this: whoever reads megabytes at a time
/// has a processor to itself for milliseconds.
const LATER_PARTS: usize = 8;

/// A delivery that more parts are to come of.
#[derive(Debug)]
pub(super) struct Partial {
    /// Its first transfer, with what later ones say of settling.
    first: Transfer,
    payload: BytesMut,
    /// Of the payload, but each part counts for [`PART_BYTES`] at least.
    pub(super) counted_bytes: usize,
    before: Before,
}

/// What a delivery had that is not held any more.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// That the door has had, or that it was not given since it was too much.
    bytes: usize,
    counted_bytes: usize,
    /// The door knows of the delivery.
    is_told: bool,
    /// The door knows that it is larger than its link takes: what comes of it is passed over.
    is_refused: bool,
}

/// What has come of a transfer.
enum Gathered {
    Nothing,
    Whole(Transfer, Bytes, Before),
    Part {
        first: Transfer,
        payload: Bytes,
        is_told: bool,
    },
    TooLarge {
        first: Transfer,
        is_told: bool,
    },
    Aborted(Transfer),
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
        let limits = self.limits;
        let Some(link) = self.links.get_mut(&serial) else {
            return Ok(None);
        };
        let event = match link.gather(transfer, payload, &limits, wire)? {
            Gathered::Nothing => None,
            Gathered::Whole(transfer, payload, before) => {
                Some(self.delivered(serial, transfer, payload, before, wire)?)
            }
            Gathered::Part {
                first,
                payload,
                is_told,
            } => {
                if !is_told {
                    self.tell(serial, &first, wire)?;
                }
                Some(self.part(serial, &first, payload)?)
            }
            Gathered::TooLarge { first, is_told } => {
                if !is_told {
                    self.tell(serial, &first, wire)?;
                }
                let (link, id, settled) = self.named(serial, &first)?;
                let state = first.state;
                Some(Event::TooLarge {
                    link,
                    id,
                    settled,
                    state,
                })
            }
            Gathered::Aborted(first) => {
                let (link, id, _) = self.named(serial, &first)?;
                self.forget(Role::Sender, serial, id.0, wire);
                Some(Event::Aborted { link, id })
            }
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
        before: Before,
        wire: &mut Wire,
    ) -> Result<Event, Fault> {
        if !before.is_told {
            self.tell(serial, &transfer, wire)?;
        }
        let (link, id, settled) = self.named(serial, &transfer)?;
        if settled && before.is_told {
            // Its first part did not say so.
            self.forget(Role::Sender, serial, id.0, wire);
        }
        let Some(known) = self.links.get_mut(&serial) else {
            return Err(self.fault(condition::UNATTACHED_HANDLE, "no link has this handle"));
        };
        if known.is_coordinator {
            let control = control_of(&payload).map_err(|error| Fault::Link(link, error))?;
            return Ok(Event::Control {
                link,
                id,
                settled,
                control,
            });
        }
        Ok(Event::Delivery(Box::new(Delivery {
            link,
            id,
            tag: transfer.delivery_tag.unwrap_or_default(),
            format: transfer.message_format.unwrap_or(0),
            settled,
            receiver_settles: transfer.receiver_settles,
            state: transfer.state,
            payload,
            handed_bytes: before.bytes,
        })))
    }

    fn part(&self, serial: u64, first: &Transfer, payload: Bytes) -> Result<Event, Fault> {
        let (link, id, settled) = self.named(serial, first)?;
        Ok(Event::Part(Box::new(Part {
            link,
            id,
            format: first.message_format.unwrap_or(0),
            settled,
            state: first.state.clone(),
            payload,
        })))
    }

    fn named(&self, serial: u64, first: &Transfer) -> Result<(LinkId, DeliveryId, bool), Fault> {
        let Some(id) = first.delivery_id else {
            return Err(self.fault(condition::INVALID_FIELD, "a delivery without id and tag"));
        };
        let session = self.id;
        let link = LinkId { session, serial };
        Ok((link, DeliveryId(id), first.settled.unwrap_or(false)))
    }

    /// A delivery that the door is about to know of: from now on it waits to be settled.
    fn tell(&mut self, serial: u64, first: &Transfer, wire: &mut Wire) -> Result<(), Fault> {
        let (Some(id), Some(_)) = (first.delivery_id, &first.delivery_tag) else {
            return Err(self.fault(condition::INVALID_FIELD, "a delivery without id and tag"));
        };
        let most = self.limits.unsettled_per_link;
        if self.received.contains_key(&id) {
            let words = "the id of a delivery that is not settled";
            return Err(self.fault(condition::INVALID_FIELD, words));
        }
        let Some(link) = self.links.get_mut(&serial) else {
            return Err(self.fault(condition::UNATTACHED_HANDLE, "no link has this handle"));
        };
        if first.settled.unwrap_or(false) {
            return Ok(());
        }
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
        Ok(())
    }

    /// Has deliveries on a link refused as soon as they are known to be larger than `bytes`. Those that may be
    /// larger than [`Limits::part_bytes`] come to the door in parts.
    pub(super) fn bound(&mut self, serial: u64, bytes: usize) -> Result<(), Refused> {
        let (part_bytes, delivery_bytes) = (self.limits.part_bytes, self.limits.delivery_bytes);
        let link = self.attached(serial)?;
        link.bound_bytes = Some(bytes);
        if bytes > part_bytes {
            link.comes_in_parts = true;
            link.delivery_bytes = bytes.saturating_add(delivery_bytes);
        }
        Ok(())
    }
}

impl Link {
    /// Adds a transfer to what has come. The delivery, if this was its last part.
    fn gather(
        &mut self,
        transfer: Transfer,
        payload: Bytes,
        limits: &Limits,
        wire: &mut Wire,
    ) -> Result<Gathered, Fault> {
        match self.stage {
            Stage::Detaching => return Ok(Gathered::Nothing),
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
        let before = partial
            .as_ref()
            .map_or_else(Before::default, |partial| partial.before);
        // What was begun and is aborted never was (§2.6.14).
        if transfer.aborted {
            return Ok(match partial {
                Some(partial) if before.is_told => Gathered::Aborted(partial.first),
                _ => Gathered::Nothing,
            });
        }
        let already = partial.as_ref().map_or(0, |partial| partial.counted_bytes);
        let counted = match &partial {
            None if !transfer.more => payload.len(),
            _ => already + payload.len().max(PART_BYTES),
        };
        let held = partial.as_ref().map_or(0, |partial| partial.payload.len());
        let so_far = before.bytes + held + payload.len();
        let counted_so_far = before.counted_bytes + counted;
        if so_far > self.delivery_bytes || (transfer.more && counted_so_far > self.parts_max()) {
            let words = "a delivery larger than the link takes";
            return Err(self.fault(condition::MESSAGE_SIZE_EXCEEDED, words));
        }
        if self.bound_bytes.is_some_and(|most| so_far > most) {
            let before = Before {
                bytes: so_far,
                counted_bytes: counted_so_far,
                ..before
            };
            return self.pass_over(partial, transfer, before);
        }
        if transfer.more && wire.partial_bytes + counted > limits.partial_bytes {
            let words = "all deliveries that have begun are larger than a connection may hold";
            return Err(self.fault(condition::RESOURCE_LIMIT_EXCEEDED, words));
        }
        self.join(partial, transfer, payload, counted, limits, wire)
    }

    /// Keeps nothing of a delivery that is too large. The door hears of it once, and again of a state that it did
    /// not have then: its transaction is not to be done without it.
    fn pass_over(
        &mut self,
        partial: Option<Partial>,
        transfer: Transfer,
        before: Before,
    ) -> Result<Gathered, Fault> {
        let more = transfer.more;
        let mut is_told = before.is_refused;
        let first = match partial {
            Some(mut partial) => {
                self.check_same(&partial.first, &transfer)?;
                if let (None, Some(state)) = (&partial.first.state, &transfer.state) {
                    partial.first.state = copy_of(state);
                    is_told = false;
                }
                partial.first
            }
            None => {
                self.check_first(&transfer)?;
                apart(transfer)
            }
        };
        let gathered = match is_told {
            true => Gathered::Nothing,
            false => Gathered::TooLarge {
                first: first.clone(),
                is_told: before.is_told,
            },
        };
        if more {
            self.partial = Some(Partial {
                first,
                payload: BytesMut::new(),
                counted_bytes: 0,
                before: Before {
                    is_told: true,
                    is_refused: true,
                    ..before
                },
            });
        }
        Ok(gathered)
    }

    /// What the parts of one delivery may count: those of a small one may be small.
    const fn parts_max(&self) -> usize {
        self.delivery_bytes.saturating_add(1_024 * PART_BYTES)
    }

    fn check_first(&self, transfer: &Transfer) -> Result<(), Fault> {
        if transfer.delivery_id.is_none() || transfer.delivery_tag.is_none() {
            let words = "a delivery without id and tag";
            return Err(self.fault(condition::INVALID_FIELD, words));
        }
        Ok(())
    }

    fn check_same(&self, first: &Transfer, transfer: &Transfer) -> Result<(), Fault> {
        let is_other = transfer
            .delivery_id
            .is_some_and(|id| first.delivery_id != Some(id));
        if is_other {
            let words = "a delivery within another one of the same link";
            return Err(self.fault(condition::NOT_ALLOWED, words));
        }
        Ok(())
    }

    fn join(
        &mut self,
        partial: Option<Partial>,
        transfer: Transfer,
        payload: Bytes,
        counted_bytes: usize,
        limits: &Limits,
        wire: &mut Wire,
    ) -> Result<Gathered, Fault> {
        let more = transfer.more;
        let Some(mut partial) = partial else {
            self.check_first(&transfer)?;
            if !more {
                return Ok(Gathered::Whole(transfer, payload, Before::default()));
            }
            wire.partial_bytes += counted_bytes;
            self.partial = Some(Partial {
                // Copied, as all parts are: a slice would keep its whole frame.
                first: apart(transfer),
                payload: payload[..].into(),
                counted_bytes,
                before: Before::default(),
            });
            return Ok(Gathered::Nothing);
        };
        self.check_same(&partial.first, &transfer)?;
        if transfer.settled == Some(true) {
            partial.first.settled = Some(true);
        }
        if transfer.state.is_some() {
            partial.first.state = transfer.state.and_then(|state| copy_of(&state));
        }
        partial.payload.extend_from_slice(&payload);
        partial.counted_bytes = counted_bytes;
        if !more {
            let payload = partial.payload.freeze();
            return Ok(Gathered::Whole(partial.first, payload, partial.before));
        }
        let mut gathered = Gathered::Nothing;
        let part_bytes = match partial.before.is_told {
            true => limits.part_bytes / LATER_PARTS,
            false => limits.part_bytes,
        };
        if self.comes_in_parts && partial.payload.len() >= part_bytes {
            gathered = partial.hand_on();
        }
        wire.partial_bytes += partial.counted_bytes;
        self.partial = Some(partial);
        Ok(gathered)
    }
}

impl Partial {
    /// What has come of it is the door's.
    fn hand_on(&mut self) -> Gathered {
        let payload = std::mem::take(&mut self.payload).freeze();
        let is_told = self.before.is_told;
        self.before.bytes += payload.len();
        self.before.counted_bytes += std::mem::take(&mut self.counted_bytes);
        self.before.is_told = true;
        Gathered::Part {
            first: self.first.clone(),
            payload,
            is_told,
        }
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
