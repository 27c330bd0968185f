//! A message whose data is kept beside it, on its way out: a piece is read when there is room for it, so that never
//! more of it lies here than one piece and what waits to be written.

use std::sync::Arc;

use bytes::Bytes;
use mente_broker::{Broker, Claim, KeptBody, Kind, Principal, SubscriptionName};
use mente_engine::{Event, limits};
use mente_wire::amqp::event::{Packing, Stamp};
use mente_wire::amqp::machine::{Connection, DeliveryId, LinkId, Refused};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::{Desk, Done};
use super::condition::Refusal;

/// Taken from the budget of large messages for one on its way out: what waits to be written and what is being
/// written, a piece with what goes around it, and one that is read.
const ROOM_BYTES: u32 = (2 << 20) + 4 * limits::PIECE_BYTES as u32;

/// A message that may be sent now.
pub(super) struct Opened {
    /// Which one.
    number: u64,
    body: KeptBody,
    room: OwnedSemaphorePermit,
}

pub(super) struct Download {
    delivery: DeliveryId,
    packing: Option<Packing>,
    body: KeptBody,
    /// Which piece is next.
    next: usize,
    bytes: u64,
    checksum: u32,
    is_reading: bool,
    _room: OwnedSemaphorePermit,
}

/// Why a message cannot be sent, or not to its end.
pub(super) enum Failed {
    /// Its data is not what was kept: it is the message that has failed, not who receives it.
    Damaged,
    Refused(Refusal),
}

impl From<mente_broker::Error> for Failed {
    fn from(error: mente_broker::Error) -> Self {
        match error.kind {
            Kind::Corrupt => {
                tracing::error!(%error, "a message cannot be delivered");
                Self::Damaged
            }
            _ => Self::Refused(error.into()),
        }
    }
}

/// Waits for room, and looks where the data is.
pub(super) async fn open(
    budget: Arc<Semaphore>,
    broker: Arc<Broker>,
    who: Principal,
    view: SubscriptionName,
    number: u64,
    claim: Claim,
) -> Result<Opened, Failed> {
    let room = budget.acquire_many_owned(ROOM_BYTES).await;
    let room = room.map_err(|_| Failed::Refused(Refusal::busy("the server stops")))?;
    let body = broker.kept_body(&who, &view, &claim).await?;
    Ok(Opened { number, body, room })
}

impl Opened {
    pub(super) const fn is_of(&self, number: u64) -> bool {
        self.number == number
    }

    /// What goes first, and what follows it.
    pub(super) fn pack(&self, event: &Event, stamp: &Stamp<'_>) -> (Bytes, Packing) {
        let mut packing = Packing::of(event, stamp, self.body.bytes());
        (packing.head().into(), packing)
    }

    pub(super) fn begin(self, delivery: DeliveryId, packing: Packing) -> Download {
        Download {
            delivery,
            packing: Some(packing),
            body: self.body,
            next: 0,
            bytes: 0,
            checksum: 0,
            is_reading: false,
            _room: self.room,
        }
    }
}

impl Download {
    /// Whether the next step is the receiver's.
    pub(super) const fn waits_for_receiver(&self) -> bool {
        !self.is_reading
    }

    pub(super) const fn delivery(&self) -> DeliveryId {
        self.delivery
    }

    /// Reads the next piece if there is room for it. Whether it waits for something to be written.
    pub(super) fn read_on(&mut self, machine: &Connection, id: LinkId, desk: &Desk) -> bool {
        if self.is_reading {
            return false;
        }
        if !machine.has_room() {
            return true;
        }
        self.is_reading = true;
        let (door, body, index) = (Arc::clone(&desk.door), self.body.clone(), self.next);
        desk.begin_apart_while_here(async move {
            let turn = door.outward.turn(limits::PIECE_BYTES).await;
            let piece = door.broker.piece(&body, index).await;
            drop(turn);
            Done::Piece(id, piece)
        });
        false
    }

    /// Sends a piece; whether it was the last. What is not what was kept is not sent to its end.
    pub(super) fn send(
        &mut self,
        machine: &mut Connection,
        id: LinkId,
        piece: mente_broker::Result<Bytes>,
    ) -> Result<bool, Failed> {
        let piece = piece?;
        self.is_reading = false;
        self.next += 1;
        self.bytes += piece.len() as u64;
        self.checksum = KeptBody::sum(self.checksum, &piece);
        let is_last = self.next >= self.body.count();
        let is_it = (self.bytes, self.checksum) == (self.body.bytes(), self.body.checksum());
        let Some(packing) = self.packing.as_mut().filter(|_| !is_last || is_it) else {
            tracing::error!("the data of a message is not what was kept of it");
            return Err(Failed::Damaged);
        };
        let mut out = packing.add(&piece);
        if is_last && let Some(packing) = self.packing.take() {
            out.extend_from_slice(&packing.end());
        }
        match machine.append(id, self.delivery, out.into(), is_last) {
            // Its link is gone, of which there is an event.
            Ok(()) | Err(Refused::Gone | Refused::NoDelivery) => Ok(is_last),
            Err(refused) => Err(Failed::Refused(Refusal::busy(refused.to_string()))),
        }
    }
}
