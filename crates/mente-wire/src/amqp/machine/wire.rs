//! What all sessions of a connection share: its output, and counts of what they hold.

use bytes::Bytes;

use super::event::{LinkId, SessionId};
use super::options::Limits;
use crate::amqp::error::Malformed;
use crate::amqp::performative::{Disposition, Performative};
use crate::amqp::state::Error;

/// Most room that is made for output before there is any.
const ROOM_BYTES: usize = 128 << 10;

/// What a peer did wrong, by what has to end for it.
#[derive(Debug)]
pub(super) enum Fault {
    Connection(Error),
    Session(SessionId, Error),
    Link(LinkId, Error),
}

impl Fault {
    pub(super) fn connection(condition: &'static str, words: &'static str) -> Self {
        Self::Connection(Error::new(condition, words))
    }

    pub(super) fn malformed(malformed: Malformed) -> Self {
        Self::Connection(malformed.into())
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    out: Vec<u8>,
    /// The disposition at the end of the output, by channel: it is framed once it is whole, since the next delivery
    /// may be added to it.
    last: Option<(u16, Disposition)>,
    /// How much was taken last: about as much comes next.
    taken_bytes: usize,
    /// Largest frame that is sent.
    pub(super) frame_bytes: usize,
    /// Whether a frame was to be larger than that and could not be cut. The connection fails.
    pub(super) is_overlong: bool,
    /// Payload that waits for a window.
    pub(super) queued_bytes: usize,
    /// Payload of deliveries that have not come to their end.
    pub(super) partial_bytes: usize,
    /// Deliveries of all sessions that are not settled, in both directions.
    pub(super) unsettled: usize,
    /// Of all sessions, those too that wait for the peer's detach.
    pub(super) link_count: usize,
}

impl Wire {
    pub(super) const fn new(frame_bytes: usize) -> Self {
        Self {
            out: Vec::new(),
            last: None,
            taken_bytes: 0,
            frame_bytes,
            is_overlong: false,
            queued_bytes: 0,
            partial_bytes: 0,
            unsettled: 0,
            link_count: 0,
        }
    }

    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        self.frame_last();
        self.make_room();
        &mut self.out
    }

    /// Output that grows from nothing is copied again and again.
    fn make_room(&mut self) {
        if self.out.capacity() == 0 {
            self.out.reserve(self.taken_bytes.min(ROOM_BYTES));
        }
    }

    /// What has been framed and not taken, but for a disposition.
    pub(super) const fn written_bytes(&self) -> usize {
        self.out.len()
    }

    /// Whether anything more may wait to be written.
    pub(super) const fn has_room(&self, limits: &Limits) -> bool {
        self.out.len() + self.queued_bytes < limits.output_bytes
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.frame_last();
        let out = std::mem::take(&mut self.out);
        self.taken_bytes = out.len();
        (!out.is_empty()).then(|| out.into())
    }

    pub(super) fn put(&mut self, channel: u16, performative: &Performative) {
        self.frame_last();
        self.frame(channel, performative);
    }

    fn frame(&mut self, channel: u16, performative: &Performative) {
        self.make_room();
        let from = self.out.len();
        performative.write_frame(channel, &mut self.out);
        if self.out.len() - from > self.frame_bytes {
            self.out.truncate(from);
            self.is_overlong = true;
        }
    }

    /// Frames the disposition that was put last: nothing is added to it any more.
    pub(super) fn frame_last(&mut self) {
        if let Some((channel, last)) = self.last.take() {
            self.frame(channel, &Performative::Disposition(last));
        }
    }

    /// One that settles a delivery with the outcome of the one before it is a frame with it.
    pub(super) fn put_disposition(&mut self, channel: u16, disposition: Disposition) {
        if let Some((of, last)) = &mut self.last
            && *of == channel
            && is_next(last, &disposition)
        {
            last.last = Some(disposition.first);
            return;
        }
        self.frame_last();
        self.last = Some((channel, disposition));
    }
}

fn is_next(last: &Disposition, next: &Disposition) -> bool {
    // A range that goes on behind the highest number is one that clients walk for ever.
    let follows = last.last.unwrap_or(last.first).checked_add(1) == Some(next.first);
    follows
        && (last.role, last.settled) == (next.role, next.settled)
        && last.state == next.state
        && next.last.is_none()
}

/// `wanted` if the peer takes such a number and it is not in use, else the lowest that is.
/// None if there is none.
pub(super) fn free_number(wanted: u32, highest: u32, is_used: impl Fn(u32) -> bool) -> Option<u32> {
    let mut candidates = std::iter::once(wanted).chain(0..=highest);
    candidates.find(|number| *number <= highest && !is_used(*number))
}
