//! Dead letters given back: their records are outstanding again, wherever the floor is.
//!
//! ```text
//!  dead-letter log   ──x──x──x──|──x──x──      x  letters, each names its record
//!                     given back└ upto: the next command begins here
//! ```
//! [`Verdict::Revived`] is all that is journaled of it: the records, and how far the letters are done with.
//! A record is then *sought*: read again where it lies in the topic, for its key and its time, and entered as
//! if it had come for the first time. A restart seeks what is not at its end again.

use mente_engine::{Now, Offset};
use serde::{Deserialize, Serialize};

use super::partition::{SETTLED_PER_VERDICT, WINDOW};
use super::{Arriving, Effects, Queue, Verdict};
use crate::planted::{Planted, planted};

/// Reason of a dead letter whose record could not be read when it was given back.
const UNREADABLE: &str = "Unreadable";

/// In the numbers of records that were given back, with their offsets.
const REVIVED: u64 = 0x7ffe << 48;

/// A dead letter by where it lies, and the record that it is a copy of; `None` if that cannot be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub at: Offset,
    pub record: Option<(u32, Offset)>,
}

/// What came of giving letters back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revival {
    pub revived: u64,
    /// Letters below this are done with.
    pub upto: Offset,
    pub stopped: Option<Stop>,
}

/// Why not all letters were given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// So many that were given back wait to be done with.
    Full,
    /// The copy is there, which is not confirmed yet.
    Unconfirmed,
    /// Letters were given back meanwhile by somebody else.
    Moved,
}

impl Queue {
    /// Where the first dead letter lies that was not given back.
    pub fn revived_upto(&self) -> Offset {
        let upto = self.durable().map(|durable| durable.revived_upto);
        upto.max().unwrap_or_default()
    }

    /// Gives back the records of these letters, which follow each other from `from` on, as long as there is
    /// room: each once, whoever asks how often.
    pub fn revive(
        &mut self,
        now: Now,
        from: Offset,
        letters: &[Letter],
        effects: &mut Effects,
    ) -> Revival {
        let mut done = Revival {
            upto: self.revived_upto(),
            ..Revival::default()
        };
        if done.upto != from {
            done.stopped = Some(Stop::Moved);
            return done;
        }
        let revived: usize = self.durable().map(|durable| durable.revived.len()).sum();
        let mut room = WINDOW.saturating_sub(revived);
        let mut partition = 0;
        for letter in letters {
            // What such a letter names may be forged, or have been given back by another letter.
            let record = letter
                .record
                .filter(|(p, _)| (*p as usize) < self.partitions.len());
            if record.is_some_and(|(p, offset)| self.is_dying(p, offset)) {
                done.stopped = Some(Stop::Unconfirmed);
                break;
            }
            let record = record.filter(|(p, offset)| self.is_at_its_end(*p, *offset));
            if record.is_some() && room == 0 {
                done.stopped = Some(Stop::Full);
                break;
            }
            room = room.saturating_sub(record.iter().len());
            done.revived += record.iter().len() as u64;
            partition = record.map_or(partition, |(partition, _)| partition);
            let record = record.filter(|_| !planted(Planted::ReviveNothing));
            done.upto = Offset(letter.at.0.saturating_add(1));
            let verdict = Verdict::Revived {
                partition,
                offsets: record.iter().map(|(_, offset)| offset.0).collect(),
                at_ms: now.wall.0,
                upto: done.upto.0,
            };
            self.decide(verdict, effects);
        }
        done
    }

    /// The first record of this log that was given back and is to be read again, beside what
    /// [`Queue::wants`]: a place that cannot be read now holds up nothing else.
    pub fn sought(&self, partition: u32) -> Option<Offset> {
        let p = self.partitions.get(partition as usize)?;
        let mut sought = p.sought.iter();
        sought
            .find(|offset| !p.durable.moved.contains_key(offset))
            .copied()
    }

    /// A record that lies behind one that is sought, or is it.
    pub fn revisit(&mut self, partition: u32, arriving: &Arriving<'_>, now: Now) {
        let offset = arriving.offset;
        if self.moved_to((partition, offset)).is_some() {
            // It is read where it lies now.
            return;
        }
        let p = self.partitions.get(partition as usize);
        let since = p.and_then(|p| p.revived_since(offset));
        // It has its whole time to live again.
        let time = since.map_or(arriving.time, |since| since.max(arriving.time));
        let arriving = Arriving { time, ..*arriving };
        let mut entry = self.entry_of(&arriving);
        // Its number is not known any more.
        entry.number = REVIVED | offset.0;
        let p = self.partitions.get_mut(partition as usize);
        if p.is_some_and(|p| p.revisit(offset, entry)) {
            self.take_in(partition, &arriving, now);
        }
    }

    /// Everything below `next` was read: what is still sought there is not to be had, and given up again.
    pub fn revisited(&mut self, partition: u32, next: Offset, now: Now, effects: &mut Effects) {
        let p = self.partitions.get(partition as usize);
        let missing = p.map(|p| {
            let sought = p.sought.range(..next).copied();
            let here = sought.filter(|offset| !p.durable.moved.contains_key(offset));
            here.collect::<Vec<_>>()
        });
        for offset in missing.unwrap_or_default() {
            self.unreadable(partition, offset, effects);
        }
        self.let_go(effects);
        self.serve(now, effects);
    }

    /// A record that is sought cannot be read: its next dead letter says what can be said.
    pub fn unreadable(&mut self, partition: u32, offset: Offset, effects: &mut Effects) {
        let Some(p) = self.partitions.get(partition as usize) else {
            return;
        };
        let verdict = Verdict::Dead {
            partition,
            offset: offset.0,
            attempts: 0,
            reason: UNREADABLE.to_owned(),
            detail: "its record could not be read again".to_owned(),
            floor: p.floor().at.0,
            passed: p.floor().passed,
            since: self.next_letter(),
            to: None,
        };
        self.decide(verdict, effects);
    }

    /// The log begins only at `start` now: what was given back below, and nobody has, is lost.
    pub(super) fn lose_revived(&mut self, partition: u32, start: Offset, effects: &mut Effects) {
        let Some(p) = self.partitions.get(partition as usize) else {
            return;
        };
        let floor = p.floor();
        for offsets in p.revived_below(start).chunks(SETTLED_PER_VERDICT) {
            let offsets = offsets.to_vec();
            let lost = Verdict::Settled {
                partition,
                offsets,
                floor: floor.at.0,
                passed: floor.passed,
            };
            self.decide(lost, effects);
        }
    }

    /// Whether something lies below `start` that was given back.
    pub(crate) fn has_revived_below(&self, partition: u32, start: Offset) -> bool {
        let p = self.partitions.get(partition as usize);
        p.is_some_and(|p| p.durable.revived.range(..start).next().is_some())
    }

    fn is_dying(&self, partition: u32, offset: Offset) -> bool {
        let p = self.partitions.get(partition as usize);
        p.is_some_and(|p| p.durable.dying.contains_key(&offset))
    }

    fn is_at_its_end(&self, partition: u32, offset: Offset) -> bool {
        let p = self.partitions.get(partition as usize);
        p.is_some_and(|p| p.is_at_its_end(offset))
    }
}

/// Whether this one is taken into the verdict before it, so that many letters are few records of the journal.
pub(super) fn joins(verdict: &Verdict, before: Option<&mut Verdict>) -> bool {
    let Verdict::Revived {
        partition,
        offsets,
        at_ms,
        upto,
    } = verdict
    else {
        return false;
    };
    match before {
        Some(Verdict::Revived {
            partition: same,
            offsets: before,
            at_ms: then,
            upto: lower,
        }) if partition == same
            && at_ms == then
            && before.len() + offsets.len() <= SETTLED_PER_VERDICT =>
        {
            before.extend_from_slice(offsets);
            *lower = *upto;
            true
        }
        _ => false,
    }
}
