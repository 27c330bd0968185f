//! What all sessions of a connection share: its output, and counts of what they hold.

use bytes::Bytes;

use super::event::{LinkId, SessionId};
use super::options::Limits;
use crate::amqp::error::Malformed;
use crate::amqp::performative::{Disposition, Performative};
use crate::amqp::state::Error;

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
struct Last {
    channel: u16,
    /// Where its frame begins, and where the output ended with it.
    from: usize,
    to: usize,
    disposition: Disposition,
}

#[derive(Debug)]
pub(super) struct Wire {
    out: Vec<u8>,
    /// The disposition at the end of the output, which the next delivery may be added to.
    last: Option<Last>,
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
            frame_bytes,
            is_overlong: false,
            queued_bytes: 0,
            partial_bytes: 0,
            unsettled: 0,
            link_count: 0,
        }
    }

    pub(super) const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// What has been framed and not taken.
    pub(super) const fn written_bytes(&self) -> usize {
        self.out.len()
    }

    /// Whether anything more may wait to be written.
    pub(super) const fn has_room(&self, limits: &Limits) -> bool {
        self.out.len() + self.queued_bytes < limits.output_bytes
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.last = None;
        let out = std::mem::take(&mut self.out);
        (!out.is_empty()).then(|| out.into())
    }

    pub(super) fn put(&mut self, channel: u16, performative: &Performative) {
        let from = self.out.len();
        performative.write_frame(channel, &mut self.out);
        if self.out.len() - from > self.frame_bytes {
            self.out.truncate(from);
            self.is_overlong = true;
        }
    }

    /// One that settles a delivery with the outcome of the one before it is a frame with it.
    pub(super) fn put_disposition(&mut self, channel: u16, mut disposition: Disposition) {
        if let Some(last) = self.last.take()
            && last.to == self.out.len()
            && last.channel == channel
            && is_next(&last.disposition, &disposition)
        {
            self.out.truncate(last.from);
            disposition.last = Some(disposition.first);
            disposition.first = last.disposition.first;
        }
        let from = self.out.len();
        let frame = Performative::Disposition(disposition);
        self.put(channel, &frame);
        if let Performative::Disposition(disposition) = frame {
            self.last = Some(Last {
                channel,
                from,
                to: self.out.len(),
                disposition,
            });
        }
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
