//! Room for messages that are larger than an event: a client asks for it once, and gives it back behind the last.

use std::sync::Arc;
use std::time::Duration;

use mente_engine::limits;
use mente_wire::amqp::machine::{Connection, Part};
use mente_wire::amqp::{Error, condition};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{Client, Done, Link, Node};
use crate::amqp::condition::{Refusal, SERVER_BUSY};

/// What may be held of messages that have begun to come before room is taken for them.
const PARTIAL_BYTES: usize = limits::EVENT_BYTES + (64 << 10);
/// Pieces of large messages that one connection has on their way to the broker; from so many on it is not listened to.
pub(super) const PIECES: usize = 8;
/// What one delivery brings at a time ([`Part`]): with a frame, since its first part is 1 MiB.
const PART_BYTES: usize = (1 << 20) + (256 << 10);
/// Taken from the budget of large messages for one connection: what it holds of those that have begun, and pieces.
const LANE_BYTES: u32 =
    (crate::amqp::connection::PARTIAL_BYTES + PIECES * limits::PIECE_BYTES + PART_BYTES) as u32;

/// How long a client waits for that, and is not listened to.
const LANE_WAIT: Duration = Duration::from_secs(30);
/// How long nothing may come of large messages that hold room.
const STILL_WAIT: Duration = Duration::from_secs(60);
const NO_ROOM: &str = "other large messages hold all the room that there is: try again later";

/// The client's part of the budget of large messages: one for all that it sends, so that nobody waits for more while
/// having some.
pub(super) enum Lane {
    Free,
    /// Nothing more is heard until it is there; what has come of a message waits with it.
    Asked(Option<Box<Part>>),
    Had {
        _room: OwnedSemaphorePermit,
        pace: Pace,
    },
}

/// How fast large messages come while they hold room that others wait for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the room was had, or the last large message came to its end.
    whole: Duration,
    /// When more came of one.
    part: Duration,
    looked: Duration,
    was_deaf: bool,
    partial_bytes: usize,
}

/// What has come since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Moved {
    #[default]
    Nothing,
    Part,
    Whole,
}

/// Deliveries of more count as progress when they are whole: several that begin together hold room as a large one does.
pub(super) const SMALL_BYTES: usize = 64 << 10;

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
    /// them; so does the end of a client that holds it and goes on too slowly, or that nobody has allowed to send
    /// anything.
    pub(in crate::amqp) fn keep_lane(&mut self, machine: &mut Connection, now: Duration) {
        let partial_bytes = machine.partial_bytes();
        let is_little = partial_bytes <= PARTIAL_BYTES;
        let is_over = is_little && self.uploads.is_empty() && self.pieces_under_way() == 0;
        let is_deaf = !self.may_hear();
        let moved = std::mem::take(&mut self.moved);
        match &mut self.lane {
            Lane::Free if !is_little && !self.links.values().any(Link::takes_large) => {
                let words = "more has begun to come than a client may send that sends no messages";
                self.hang_up(machine, condition::RESOURCE_LIMIT_EXCEEDED, words);
            }
            Lane::Free if !is_little => self.ask_lane(None),
            Lane::Had { .. } if is_over => self.lane = Lane::Free,
            Lane::Had { pace, .. } => {
                pace.keep(now, is_deaf, partial_bytes, moved);
                if pace.until() <= now && !is_deaf {
                    let words = "a large message holds room that others wait for, and too little comes of it";
                    self.hang_up(machine, condition::RESOURCE_LIMIT_EXCEEDED, words);
                }
            }
            Lane::Free | Lane::Asked(_) => {}
        }
    }

    /// When to look again whether what comes of large messages comes fast enough.
    pub(in crate::amqp) fn lane_deadline(&self) -> Option<Duration> {
        match &self.lane {
            Lane::Had { pace, .. } if self.may_hear() => Some(pace.until()),
            _ => None,
        }
    }

    /// Ends links on which nothing goes of a large message for too long.
    pub(in crate::amqp) fn keep_downloads(&mut self, machine: &mut Connection, now: Duration) {
        let is_deaf = !self.may_hear();
        for id in self.downloads.iter().copied().collect::<Vec<_>>() {
            let kept = match self.links.get_mut(&id) {
                Some(Link::Receiver(receiver)) => receiver.keep_pace(machine, id, now, is_deaf),
                _ => Ok(()),
            };
            if kept.is_err() {
                self.received(machine, id, kept);
            }
        }
    }

    /// When to look again whether they go on.
    pub(in crate::amqp) fn download_deadline(&self) -> Option<Duration> {
        let receivers = self
            .downloads
            .iter()
            .filter_map(|id| match self.links.get(id) {
                Some(Link::Receiver(receiver)) => receiver.deadline(),
                _ => None,
            });
        receivers.min()
    }

    fn hang_up(&mut self, machine: &mut Connection, condition: &'static str, words: &'static str) {
        let _ = machine.close(Some(Error::new(condition, words)));
        self.forget();
    }

    /// More has come of a delivery; the whole of a large one, or a part.
    pub(super) fn progress(&mut self, is_whole: bool) {
        self.moved = match self.moved {
            Moved::Whole => Moved::Whole,
            _ if is_whole => Moved::Whole,
            _ => Moved::Part,
        };
    }

    fn ask_lane(&mut self, part: Option<Box<Part>>) {
        self.lane = Lane::Asked(part);
        let lane = Arc::clone(&self.desk.door.large).acquire_many_owned(LANE_BYTES);
        self.desk.begin(async move {
            let lane = timeout(LANE_WAIT, lane).await;
            Done::Lane(lane.ok().and_then(Result::ok))
        });
    }

    /// There is room, or there was none for too long.
    pub(super) fn lane_came(
        &mut self,
        machine: &mut Connection,
        lane: Option<OwnedSemaphorePermit>,
    ) {
        // Of a client that has left meanwhile nothing waits.
        let Lane::Asked(part) = std::mem::replace(&mut self.lane, Lane::Free) else {
            return;
        };
        match (lane, part) {
            (Some(_room), part) => {
                let pace = Pace::default();
                self.lane = Lane::Had { _room, pace };
                self.progress(true);
                if let Some(part) = part {
                    self.part(&part);
                }
            }
            (None, Some(part)) => {
                self.part(&part);
                if let Some(Link::Sender(sender)) = self.links.get_mut(&part.link) {
                    sender.fail_upload(&Refusal::busy(NO_ROOM));
                }
            }
            // Parts of several messages, of which none is the one too many.
            (None, None) => self.hang_up(machine, SERVER_BUSY, NO_ROOM),
        }
    }

    /// A part of a large message; one that is passed over needs no room.
    pub(super) fn part_came(&mut self, part: Box<Part>) {
        self.progress(false);
        let is_passed_over = match self.links.get(&part.link) {
            Some(Link::Sender(sender)) => sender.passes_over(part.id),
            _ => true,
        };
        match &self.lane {
            Lane::Had { .. } => self.part(&part),
            _ if is_passed_over => self.part(&part),
            _ => self.ask_lane(Some(part)),
        }
    }

    fn part(&mut self, part: &Part) {
        self.transactions.spoil_large(part.state.as_ref());
        if let Some(Link::Sender(sender)) = self.links.get_mut(&part.link) {
            sender.part(part);
            self.uploads.insert(part.link);
            self.due.insert(part.link);
        }
    }
}

impl Pace {
    /// `partial_bytes` are held of what has begun to come. No time is counted in which the client is not listened to.
    fn keep(&mut self, now: Duration, is_deaf: bool, partial_bytes: usize, moved: Moved) {
        let passed = now.saturating_sub(self.looked);
        self.looked = now;
        if moved == Moved::Whole {
            self.whole = now;
        } else if self.was_deaf {
            self.whole += passed;
        }
        if moved != Moved::Nothing || partial_bytes != self.partial_bytes || self.was_deaf {
            self.part = now;
        }
        self.was_deaf = is_deaf;
        self.partial_bytes = partial_bytes;
    }

    fn until(&self) -> Duration {
        let whole = self.whole + Duration::from_secs(limits::UPLOAD_SECONDS);
        whole.min(self.part + STILL_WAIT)
    }
}

impl Link {
    /// Whether somebody was allowed something by which more comes than an event has.
    const fn takes_large(&self) -> bool {
        match self {
            Self::Sender(_) => true,
            Self::Requests { node, .. } => matches!(node, Node::Management { .. }),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_comes_of_a_delivery_counts_and_time_in_which_nobody_listens_does_not() {
        let mut pace = Pace::default();
        pace.keep(at(100), false, 0, Moved::Whole);
        assert_eq!(pace.until(), at(160));
        // Nothing of it: heartbeats.
        pace.keep(at(130), false, 0, Moved::Nothing);
        assert_eq!(pace.until(), at(160));
        pace.keep(at(140), false, 7, Moved::Nothing);
        assert_eq!(pace.until(), at(200));
        pace.keep(at(150), true, 7, Moved::Part);
        pace.keep(at(1_150), false, 7, Moved::Nothing);
        assert_eq!(pace.until(), at(1_210));
        // As slow as it can be, to the end of the whole: 100 and 600, and 1,000 between in which nobody listened.
        for second in (1_200..1_700).step_by(50) {
            pace.keep(at(second), false, 7, Moved::Part);
        }
        assert_eq!(pace.until(), at(1_700));
        pace.keep(at(1_700), false, 0, Moved::Whole);
        assert_eq!(pace.until(), at(1_760));
    }
}
