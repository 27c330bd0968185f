//! A message that is larger than an event, on its way in: what comes of it goes to the broker piece by piece, and
//! never lies here whole.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use mente_broker::{Body, Broker, EntityName, Message, Pieces, Principal};
use mente_engine::{Event, Offset};
use mente_wire::amqp::event::{Incoming, Unfit, Unpacking};
use mente_wire::amqp::machine::{DeliveryId, LinkId};
use mente_wire::amqp::{self};

use super::client::{Desk, Done};
use super::condition::Refusal;
use super::sender;

/// Pieces of one message that the broker has at a time.
const UNDER_WAY: usize = 2;

pub(super) struct Upload {
    id: DeliveryId,
    /// Of its link, and never another one's: a client may use the id of a delivery again.
    serial: u64,
    unpacking: Unpacking,
    pieces: Pieces,
    /// Where they go, once the first has come there.
    kept: Option<mente_broker::Upload>,
    /// By their order; none of those that are not durable.
    places: Vec<Option<Offset>>,
    waiting: VecDeque<(usize, Bytes)>,
    under_way: usize,
    end: End,
}

enum End {
    /// More of it is to come.
    Not,
    /// All of it has come, and not all is durable.
    Came(Box<Incoming>),
    /// Its data is on its way to become something to claim.
    Keeping(Box<Incoming>),
    /// What comes of it is passed over.
    Failed(amqp::Error),
}

/// A piece that the broker has now.
pub(super) struct Placed {
    pub(super) serial: u64,
    pub(super) index: usize,
    pub(super) result: mente_broker::Result<(mente_broker::Upload, Offset)>,
}

impl Upload {
    pub(super) fn new(id: DeliveryId, serial: u64) -> Self {
        Self {
            id,
            serial,
            unpacking: Unpacking::default(),
            pieces: Pieces::default(),
            kept: None,
            places: Vec::new(),
            waiting: VecDeque::new(),
            under_way: 0,
            end: End::Not,
        }
    }

    pub(super) const fn id(&self) -> DeliveryId {
        self.id
    }

    pub(super) const fn serial(&self) -> u64 {
        self.serial
    }

    /// It will not be kept; the sender is told when its end has come.
    pub(super) fn fail(&mut self, error: amqp::Error) {
        self.waiting.clear();
        if !matches!(self.end, End::Failed(_)) {
            self.end = End::Failed(error);
        }
    }

    pub(super) fn failed(&self) -> Option<&amqp::Error> {
        match &self.end {
            End::Failed(error) => Some(error),
            End::Not | End::Came(_) | End::Keeping(_) => None,
        }
    }

    /// Pieces that are in memory here. Those on their way to the log are counted where they are, since they go on
    /// without it too ([`Desk::pieces`]).
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn add(&mut self, part: &[u8]) {
        if !matches!(self.end, End::Not) {
            return;
        }
        let mut full = Vec::new();
        let pieces = &mut self.pieces;
        let added = self
            .unpacking
            .add(part, |data| full.extend(pieces.add(data)));
        full.into_iter().for_each(|piece| self.queue(piece));
        if let Err(unfit) = added {
            self.fail(error_of(&unfit));
        }
    }

    /// All of it has come, to an entity of this path.
    pub(super) fn end(&mut self, path: &str, requires_session: bool) {
        if !matches!(self.end, End::Not) {
            return;
        }
        match std::mem::take(&mut self.unpacking).end(path) {
            Ok(incoming) if requires_session && incoming.session.is_none() => {
                self.fail(sender::without_session(path));
            }
            Ok(incoming) => {
                if let Some(piece) = self.pieces.last() {
                    self.queue(piece);
                }
                self.end = End::Came(Box::new(incoming));
                if self.places.is_empty() {
                    self.fail(Refusal::argument("a large message without data").to_error());
                }
            }
            Err(unfit) => self.fail(error_of(&unfit)),
        }
    }

    fn queue(&mut self, piece: Bytes) {
        self.waiting.push_back((self.places.len(), piece));
        self.places.push(None);
    }

    /// Sends on what can be. The first piece goes alone: it is told then where all go.
    pub(super) fn pump(&mut self, link: LinkId, who: &Principal, to: &EntityName, desk: &Desk) {
        let most = match self.kept {
            Some(_) => UNDER_WAY,
            None => 1,
        };
        while self.under_way < most
            && let Some((index, piece)) = self.waiting.pop_front()
        {
            self.under_way += 1;
            let (broker, kept) = (desk.broker(), self.kept.clone());
            let (who, to, serial) = (who.clone(), to.clone(), self.serial);
            let counted = Arc::clone(&desk.pieces);
            let door = Arc::clone(&desk.door);
            // Its turn does not wait for this connection's.
            desk.begin_apart_while_here(async move {
                let turn = door.inward.turn(piece.len()).await;
                let result = place(&broker, &who, &to, kept, piece).await;
                drop((turn, counted));
                let placed = Placed {
                    serial,
                    index,
                    result,
                };
                Done::Placed(link, placed)
            });
        }
        let is_all = self.waiting.is_empty() && self.under_way == 0;
        if let (true, End::Came(_), Some(kept)) = (is_all, &self.end, &self.kept) {
            let places: Vec<Offset> = self.places.iter().copied().flatten().collect();
            let (broker, kept, serial) = (desk.broker(), kept.clone(), self.serial);
            let pieces = std::mem::take(&mut self.pieces);
            let End::Came(incoming) = std::mem::replace(&mut self.end, End::Not) else {
                return;
            };
            let content_type = incoming.event.datacontenttype.clone();
            self.end = End::Keeping(incoming);
            desk.begin(async move {
                let word = uuid::Uuid::new_v4().as_u128();
                let body = broker.finish_body(&kept, &pieces, places, content_type, word);
                Done::Kept(link, serial, body.await)
            });
        }
    }

    pub(super) fn placed(&mut self, placed: Placed) {
        self.under_way -= 1;
        match placed.result {
            Ok((kept, at)) => {
                self.kept = Some(kept);
                if let Some(place) = self.places.get_mut(placed.index) {
                    *place = Some(at);
                }
            }
            Err(error) => self.fail(Refusal::from(error).to_error()),
        }
    }

    /// The message, once its data can be claimed.
    pub(super) fn message(&mut self, body: mente_broker::Result<Body>) -> Option<Message> {
        match (std::mem::replace(&mut self.end, End::Not), body) {
            (End::Keeping(incoming), Ok(body)) => {
                let message = sender::read_of(*incoming).message;
                Some(Message {
                    body: Some(body),
                    ..message
                })
            }
            (_, body) => {
                let error = body.err().map_or_else(
                    || Refusal::argument("a message without data of its own"),
                    Refusal::from,
                );
                self.fail(error.to_error());
                None
            }
        }
    }
}

async fn place(
    broker: &Broker,
    who: &Principal,
    to: &EntityName,
    kept: Option<mente_broker::Upload>,
    piece: Bytes,
) -> mente_broker::Result<(mente_broker::Upload, Offset)> {
    let kept = match kept {
        Some(kept) => kept,
        None => broker.begin_body(who, to).await?,
    };
    let at = broker.put_piece(&kept, piece).await?;
    Ok((kept, at))
}

/// Whether its data has to be kept beside it.
pub(super) fn is_large(event: &Event) -> bool {
    event.size_bytes() > mente_engine::limits::EVENT_BYTES
}

pub(super) fn error_of(unfit: &Unfit) -> amqp::Error {
    let error = amqp::Error::new(super::condition::ARGUMENT_ERROR, unfit.to_string());
    amqp::Error {
        condition: amqp::Symbol::from_static(unfit.condition()),
        ..error
    }
}
