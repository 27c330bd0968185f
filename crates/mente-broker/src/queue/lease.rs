//! Leases and the tokens that name them.
//!
//! A record may be handed out as several events, which share its lease: each has a token of its own. When all
//! of them are completed, the record is. Any other word on one of them is on the record as a whole: it is
//! released or rejected with all of its parts, whose tokens are void then. Which parts are completed is known
//! while the lease lasts and not longer, as leases are: after a restart all of them go out again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Now, Offset, Term};
use serde::{Deserialize, Serialize};

use super::{Queue, Timer};

/// Identifies a lease. Void after a restart or a change of owner, and for a later subscription of
/// the same name, whose leases are counted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockToken {
    pub(super) term: Term,
    pub(super) view: u64,
    pub(super) lease: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<Part>,
}

/// One of several events that a record is handed out as, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Part {
    number: u32,
    of: u32,
}

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) partition: u32,
    pub(super) offset: Offset,
    pub(super) until: Duration,
    /// A bit for each part that is completed.
    pub(super) done: u32,
    /// Holds as long as the lock on this session does.
    pub(super) session: Option<Arc<str>>,
}

impl LockToken {
    pub(super) fn new(term: Term, view: u64, lease: u64) -> Self {
        let part = None;
        Self {
            term,
            view,
            lease,
            part,
        }
    }

    /// Of one part of the record; the whole, where it is the only one.
    pub(crate) fn of_part(self, number: usize, of: usize) -> Self {
        let part = Part {
            number: number as u32,
            of: of as u32,
        };
        let part = Some(part).filter(|part| part.of > 1);
        Self { part, ..self }
    }

    /// As 16 bytes, from which [`LockToken::from_bytes`] makes it again: 5 of the term, 5 of the view, 6 of the
    /// lease. `None` of a part, or after more terms, decisions or leases than that.
    pub fn to_bytes(self) -> Option<[u8; 16]> {
        let fits = |value: u64, bytes: u32| value >> (8 * bytes) == 0;
        let is_whole = self.part.is_none();
        if !(is_whole && fits(self.term.0, 5) && fits(self.view, 5) && fits(self.lease, 6)) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..5].copy_from_slice(&self.term.0.to_be_bytes()[3..]);
        bytes[5..10].copy_from_slice(&self.view.to_be_bytes()[3..]);
        bytes[10..].copy_from_slice(&self.lease.to_be_bytes()[2..]);
        Some(bytes)
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        Self::new(
            Term(number(&bytes[..5])),
            number(&bytes[5..10]),
            number(&bytes[10..]),
        )
    }

    /// The number of the view that it is of.
    pub(crate) fn view(self) -> u64 {
        self.view
    }

    /// The lease that it is of, whichever part of the record it names.
    pub(crate) fn whole(self) -> Self {
        let part = None;
        Self { part, ..self }
    }

    /// Which part, from 1, and of how many; `None`: of the whole record.
    pub fn part(self) -> Option<(u32, u32)> {
        self.part.map(|part| (part.number + 1, part.of))
    }
}

impl Queue {
    /// Whether the lease lasts, and this part of it is not completed.
    pub(crate) fn is_open(&self, token: LockToken, now: Now) -> bool {
        if (token.term, token.view) != (self.term, self.view) {
            return false;
        }
        // A lease past its end is void even before its timer has run.
        let lease = self.leases.get(&token.lease);
        lease.is_some_and(|lease| {
            let is_done = token.part.is_some_and(|part| lease.done & part.bit() != 0);
            let holds = match &lease.session {
                Some(name) => self.session_holds(name, token.lease, now).is_some(),
                None => lease.until > now.monotone,
            };
            holds && !is_done
        })
    }

    /// Notes that a part is completed; whether all are.
    pub(super) fn is_last_part(&mut self, token: LockToken) -> bool {
        let Some((part, lease)) = token.part.zip(self.leases.get_mut(&token.lease)) else {
            return true;
        };
        lease.done |= part.bit();
        lease.done.count_ones() >= part.of
    }

    pub(super) fn end_lease(&mut self, token: LockToken) -> Option<Lease> {
        let lease = self.leases.remove(&token.lease)?;
        match &lease.session {
            Some(name) => self.sessions.give_back(name, token.lease),
            None => {
                self.timers
                    .remove(&(lease.until, Timer::Lease(token.lease)));
            }
        }
        Some(lease)
    }
}

impl Part {
    fn bit(self) -> u32 {
        1_u32.checked_shl(self.number).unwrap_or(0)
    }
}

impl fmt::Display for LockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.term.0, self.view, self.lease)?;
        match self.part {
            Some(part) => write!(f, "-{:x}-{:x}", part.number, part.of),
            None => Ok(()),
        }
    }
}

impl FromStr for LockToken {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // A sixth number already refuses it: a text from outside, however long, is read no further.
        let numbers = text
            .split('-')
            .take(6)
            .map(|digits| u64::from_str_radix(digits, 16));
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().map_err(|_| ())?;
        let token = |term, view, lease| Self::new(Term(term), view, lease);
        match numbers[..] {
            [term, view, lease] => Ok(token(term, view, lease)),
            [term, view, lease, number, of] if number < of && of <= u32::BITS.into() => {
                Ok(token(term, view, lease).of_part(number as usize, of as usize))
            }
            _ => Err(()),
        }
    }
}
