//! Room for messages that are larger than an event: a client asks for it once, and gives it back behind the last.

use std::sync::Arc;

use futures::FutureExt;
use mente_engine::limits;
use mente_wire::amqp::machine::{Connection, Part};
use tokio::sync::OwnedSemaphorePermit;

use super::{Client, Done, Link};

/// What may be held of messages that have begun to come before room is taken for them.
const PARTIAL_BYTES: usize = limits::EVENT_BYTES + (64 << 10);
/// Pieces of large messages that one connection has on their way to the broker; beyond, it is not listened to.
pub(super) const PIECES: usize = 3;
/// Taken from the budget of large messages for one connection: what it holds of those that have begun, and pieces.
const LANE_BYTES: u32 =
    (crate::amqp::connection::PARTIAL_BYTES + (PIECES + 1) * limits::PIECE_BYTES) as u32;

/// The client's part of the budget of large messages: one for all that it sends, so that nobody waits for more while
/// having some.
pub(super) enum Lane {
    Free,
    /// Nothing more is heard until it is there; what has come of a message waits with it.
    Asked(Option<Box<Part>>),
    Had {
        _room: OwnedSemaphorePermit,
    },
}

impl Client {
    /// Of large messages, that are in memory on their way to the broker.
    pub(super) fn pieces(&self) -> usize {
        let senders = self
            .uploads
            .iter()
            .filter_map(|id| match self.links.get(id) {
                Some(Link::Sender(sender)) => sender.pieces(),
                _ => None,
            });
        senders.sum::<usize>() + self.pieces_under_way()
    }

    /// On their way to the log, for messages that may be given up on by now.
    fn pieces_under_way(&self) -> usize {
        Arc::strong_count(&self.desk.pieces) - 1
    }

    /// Takes room before more is held of messages that have begun than one event has, and gives it back behind
    /// them.
    pub(in crate::amqp) fn keep_lane(&mut self, machine: &Connection) {
        let is_little = machine.partial_bytes() <= PARTIAL_BYTES;
        match &self.lane {
            Lane::Free if !is_little => self.ask_lane(None),
            Lane::Had { .. }
                if is_little && self.uploads.is_empty() && self.pieces_under_way() == 0 =>
            {
                self.lane = Lane::Free;
            }
            _ => {}
        }
    }

    pub(super) fn ask_lane(&mut self, part: Option<Box<Part>>) {
        self.lane = Lane::Asked(part);
        let lane = Arc::clone(&self.desk.door.large).acquire_many_owned(LANE_BYTES);
        self.desk.begin(lane.map(|lane| Done::Lane(lane.ok())));
    }

    /// Whether large messages of the client hold room that others wait for.
    pub(in crate::amqp) const fn has_lane(&self) -> bool {
        matches!(self.lane, Lane::Had { .. })
    }

    pub(super) fn part(&mut self, part: &Part) {
        self.transactions.spoil_large(part.state.as_ref());
        if let Some(Link::Sender(sender)) = self.links.get_mut(&part.link) {
            sender.part(part);
            self.uploads.insert(part.link);
            self.due.insert(part.link);
        }
    }
}
