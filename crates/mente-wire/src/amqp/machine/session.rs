//! Sessions: their windows in both directions (§2.5.6), and what each keeps of its links.

use std::collections::{BTreeMap, VecDeque};

use super::event::{Event, SessionId};
use super::link::{Link, is_behind};
use super::options::Limits;
use super::outgoing::Queued;
use super::wire::{Fault, Wire};
use crate::amqp::error::condition;
use crate::amqp::performative::{Begin, Flow, Performative};
use crate::amqp::state::Error;
use crate::amqp::value::Map;

/// The first transfer and the first delivery that we send.
const FIRST_OUTGOING_ID: u32 = 0;
/// What we say that we could send: nobody was seen to look at it.
const OUTGOING_WINDOW: u32 = i32::MAX as u32;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Ours, which is the peer's as a rule.
    pub(super) channel: u16,
    pub(super) limits: Limits,
    pub(super) peer_handle_max: u32,

    next_incoming_id: u32,
    /// Transfers that the peer may still send, as it was told.
    window_left: u32,
    /// Transfers that came beyond the window since it was told anew.
    beyond_window: u32,
    /// Deliveries of the peer that are not settled, and whose they are.
    pub(super) received: BTreeMap<u32, u64>,

    pub(super) next_outgoing_id: u32,
    /// Transfers that the peer still takes.
    pub(super) peer_window: u32,
    pub(super) next_delivery: u32,
    /// Deliveries of ours that are not settled, and whose they are.
    pub(super) sent: BTreeMap<u32, u64>,
    /// Those of them that the peer has said no outcome of: it says one once, so that ranges which it says again
    /// and again are walked once.
    pub(super) open: BTreeMap<u32, u64>,
    pub(super) queue: VecDeque<Queued>,

    pub(super) handles: BTreeMap<u32, u64>,
    pub(super) links: BTreeMap<u64, Link>,
    pub(super) links_attached: u64,
}

impl Session {
    /// Answers a begin that came on `channel_in`.
    pub(super) fn begin(
        id: SessionId,
        channel_in: u16,
        channel: u16,
        begin: &Begin,
        limits: Limits,
        wire: &mut Wire,
    ) -> Self {
        let session = Self {
            id,
            channel,
            limits,
            peer_handle_max: begin.handle_max,
            next_incoming_id: begin.next_outgoing_id,
            window_left: limits.incoming_window,
            beyond_window: 0,
            received: BTreeMap::new(),
            next_outgoing_id: FIRST_OUTGOING_ID,
            peer_window: begin.incoming_window,
            next_delivery: FIRST_OUTGOING_ID,
            sent: BTreeMap::new(),
            open: BTreeMap::new(),
            queue: VecDeque::new(),
            handles: BTreeMap::new(),
            links: BTreeMap::new(),
            links_attached: 0,
        };
        let answer = Begin {
            remote_channel: Some(channel_in),
            next_outgoing_id: FIRST_OUTGOING_ID,
            incoming_window: limits.incoming_window,
            outgoing_window: OUTGOING_WINDOW,
            handle_max: limits.links_per_session.saturating_sub(1),
            properties: Some(Map::default()),
            ..Begin::default()
        };
        wire.put(channel, &Performative::Begin(Box::new(answer)));
        session
    }

    pub(super) fn fault(&self, condition: &'static str, words: &'static str) -> Fault {
        Fault::Session(self.id, Error::new(condition, words))
    }

    /// What a flow says of the session alone.
    pub(super) fn flow(&self) -> Flow {
        Flow {
            next_incoming_id: Some(self.next_incoming_id),
            incoming_window: self.window_left,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: OUTGOING_WINDOW,
            ..Flow::default()
        }
    }

    /// What it says of a link, and whether the window has been opened by it.
    pub(super) fn receive_flow(
        &mut self,
        flow: &Flow,
        wire: &mut Wire,
    ) -> Result<(Option<Event>, bool), Fault> {
        let was_shut = self.peer_window == 0;
        // What the peer has not seen yet has its place in the window that it tells. Ids that we
        // never sent are passed over, since peers exist that count otherwise.
        let seen = flow.next_incoming_id.unwrap_or(FIRST_OUTGOING_ID);
        let under_way = self.next_outgoing_id.wrapping_sub(seen);
        let under_way = if is_behind(under_way) { under_way } else { 0 };
        self.peer_window = flow.incoming_window.saturating_sub(under_way);
        let event = match flow.handle {
            Some(handle) => self.link_flow(handle, flow, wire)?,
            None => {
                if flow.echo {
                    self.write_flow(wire);
                }
                None
            }
        };
        self.pump(wire);
        Ok((event, was_shut && self.peer_window > 0))
    }

    /// Takes one transfer out of the window. Python counts deliveries where transfers are meant,
    /// so that it sends beyond its window without knowing: a second one of the same size is
    /// borne.
    pub(super) fn count_transfer(&mut self) -> Result<(), Fault> {
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        if let Some(left) = self.window_left.checked_sub(1) {
            self.window_left = left;
            return Ok(());
        }
        self.beyond_window += 1;
        if self.beyond_window > self.limits.incoming_window {
            let words = "far more transfers than the window of the session";
            return Err(self.fault(condition::WINDOW_VIOLATION, words));
        }
        Ok(())
    }

    /// Tells the peer of its window anew when half of it can be given back. Deliveries that the
    /// door has not settled hold their place: that is what keeps senders back that know of no
    /// credit. Parts of a delivery hold none, or a large one would wait for itself.
    pub(super) fn top_up(&mut self, wire: &mut Wire) {
        let held = u32::try_from(self.received.len()).unwrap_or(u32::MAX);
        let window = self.limits.incoming_window;
        let room = window.saturating_sub(held);
        let gain = room.saturating_sub(self.window_left);
        if gain >= (window / 2).max(1) {
            self.window_left = room;
            self.beyond_window = 0;
            self.write_flow(wire);
        }
    }

    fn write_flow(&self, wire: &mut Wire) {
        wire.put(self.channel, &Performative::Flow(Box::new(self.flow())));
    }

    /// Gives up all that the session holds of what is counted for its connection.
    pub(super) fn close(self, wire: &mut Wire) {
        wire.link_count -= self.links.len();
        wire.unsettled -= self.received.len() + self.sent.len();
        for partial in self.links.values().filter_map(|link| link.partial.as_ref()) {
            wire.partial_bytes -= partial.counted_bytes;
        }
        for queued in &self.queue {
            wire.queued_bytes -= queued.payload_bytes();
        }
    }
}
