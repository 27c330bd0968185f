//! The end of a transaction: everything is looked at before anything is done, and what is done is one decision.

use std::collections::{BTreeMap, BTreeSet};

use mente_engine::{Now, Offset, SetId};
use serde::{Deserialize, Serialize};

use super::{Outcome, Reply, Shard};
use crate::error::{Error, Kind, Result};
use crate::journal::Decision;
use crate::name::SubscriptionName;
use crate::queue::{LockToken, Settlement, scheduled_number};

/// What a transaction does to views of one shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transacting {
    pub settlings: Vec<Settling>,
    /// The hold view of its entity, and what it wrote there.
    pub held: Option<(SubscriptionName, Vec<Written>)>,
}

/// A message that waits for the end of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Of the log that it lies in: in that of a later entity of the name its place is another's.
    pub(crate) set: SetId,
    pub(crate) offset: Offset,
}

impl Written {
    /// As its sender knows it.
    pub fn number(self) -> u64 {
        scheduled_number(self.offset)
    }
}

/// A lock that ends with a transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settling {
    pub name: SubscriptionName,
    pub token: LockToken,
    pub how: Settlement,
    pub note: Option<String>,
}

impl Shard {
    /// `LockLost`, `NotFound`, `Throttled` and `Refused`: nothing of it was done. What it wrote waits still: who asked
    /// gives it up.
    pub(super) fn transact(
        &mut self,
        now: Now,
        transacting: &Transacting,
        out: &mut Outcome,
    ) -> Result<Reply> {
        self.may_transact(now, transacting)?;
        let (seq, mut within) = (self.seq, Outcome::default());
        for settling in &transacting.settlings {
            let Settling {
                token, how, note, ..
            } = settling;
            self.with_queue(&settling.name, &mut within, |queue, effects| {
                effects.is_one_record = true;
                if let Some(note) = note {
                    queue.note(now, *token, note, effects);
                }
                let held = queue.settle(now, *token, how, effects);
                debug_assert!(held, "the lock was looked at in this very moment");
            })?;
        }
        if let Some((name, held)) = &transacting.held {
            let offsets: Vec<_> = held.iter().map(|written| written.offset).collect();
            self.with_queue(name, &mut within, |queue, effects| {
                effects.is_one_record = true;
                queue.commit(now, &offsets, effects);
            })?;
        }
        out.replies.append(&mut within.replies);
        let verdicts = within.decisions.into_iter().filter_map(|d| match d {
            Decision::View { view, verdict } => Some((view, verdict)),
            _ => None,
        });
        let verdicts: Vec<_> = verdicts.collect();
        // However many verdicts, they are one decision.
        self.seq = seq;
        if !verdicts.is_empty() {
            self.seq += 1;
            out.decisions.push(Decision::Together(verdicts));
        }
        self.join_what_settled(transacting, out)?;
        Ok(Reply::Done)
    }

    /// Each of its views, once; these are decisions of their own.
    fn join_what_settled(&mut self, transacting: &Transacting, out: &mut Outcome) -> Result<()> {
        let settled = transacting.settlings.iter().map(|settling| &settling.name);
        let held = transacting.held.iter().map(|(name, _)| name);
        let names: BTreeSet<_> = settled.chain(held).collect();
        for name in names {
            self.with_queue(name, out, |queue, effects| queue.join_all_settled(effects))?;
        }
        Ok(())
    }

    fn may_transact(&self, now: Now, transacting: &Transacting) -> Result<()> {
        let mut leases = BTreeSet::new();
        let mut notes: BTreeMap<&SubscriptionName, usize> = BTreeMap::new();
        for settling in &transacting.settlings {
            let queue = self.queue_of(&settling.name)?;
            // What is said of one part may end the lock on all of them.
            let is_first = leases.insert(settling.token.whole());
            if !queue.is_open(settling.token, now) || !is_first {
                let message = format!(
                    "a lock on a message of {} is lost, or the message was settled: receive it again",
                    settling.name
                );
                return Err(Error::new(Kind::LockLost, message));
            }
            let noted = notes.entry(&settling.name).or_default();
            *noted += settling.note.as_ref().map_or(0, String::len);
            if !queue.has_room_for_notes(*noted) {
                let message = "too much is noted on messages of this entity: settle without, or settle some for good";
                return Err(Error::new(Kind::Throttled, message));
            }
        }
        if let Some((name, held)) = &transacting.held {
            let offsets = self.of_its_log(name, held);
            if offsets.len() < held.len() {
                let message = "messages of the transaction went with their queue or topic, which was deleted meanwhile";
                return Err(Error::new(Kind::Refused, message));
            }
            if !self.queue_of(name)?.may_commit(&offsets) {
                let message =
                    "messages of the transaction were given up, since its end came too late";
                return Err(Error::new(Kind::Refused, message));
            }
        }
        Ok(())
    }

    /// There may be no such view any more, or one of another log: then there is nothing to give up.
    pub(super) fn roll_back(
        &mut self,
        name: &SubscriptionName,
        held: &[Written],
        out: &mut Outcome,
    ) {
        let offsets = self.of_its_log(name, held);
        let _ = self.with_queue(name, out, |queue, effects| {
            queue.roll_back(&offsets, effects);
        });
    }

    /// Those that lie in the log which the view reads.
    fn of_its_log(&self, name: &SubscriptionName, held: &[Written]) -> Vec<Offset> {
        let view = self.names.get(name).and_then(|id| self.views.get(id));
        let set = view.map(|view| view.topic.set);
        let of_it = held.iter().filter(|written| Some(written.set) == set);
        of_it.map(|written| written.offset).collect()
    }

    fn queue_of(&self, name: &SubscriptionName) -> Result<&crate::queue::Queue> {
        let view = self.names.get(name).and_then(|id| self.views.get(id));
        let view = view.ok_or_else(|| Error::not_found("subscription", &name.to_string()))?;
        Ok(&view.queue)
    }
}
