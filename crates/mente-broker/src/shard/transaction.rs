//! The end of a transaction: everything is looked at before anything is done, and what is done is one decision.

use std::collections::{BTreeMap, BTreeSet};

use mente_engine::{Now, Offset};
use serde::{Deserialize, Serialize};

use super::{Outcome, Reply, Shard};
use crate::error::{Error, Kind, Result};
use crate::journal::Decision;
use crate::name::SubscriptionName;
use crate::queue::{LockToken, Settlement};

/// What a transaction does to views of one shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transacting {
    pub settlings: Vec<Settling>,
    /// The hold view of its entity, and what it wrote there.
    pub held: Option<(SubscriptionName, Vec<Offset>)>,
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
    /// `LockLost`, `NotFound`, `Throttled` and `Refused`: nothing of it was done, nor will be.
    pub(super) fn transact(
        &mut self,
        now: Now,
        transacting: &Transacting,
        out: &mut Outcome,
    ) -> Result<Reply> {
        if let Err(error) = self.may_transact(now, transacting) {
            if let Some((name, offsets)) = &transacting.held {
                // There may be no such view any more: then there is nothing to give up.
                let _ = self.with_queue(name, out, |queue, effects| {
                    queue.roll_back(offsets, effects);
                });
            }
            return Err(error);
        }
        let (seq, mut within) = (self.seq, Outcome::default());
        for settling in &transacting.settlings {
            let Settling {
                token, how, note, ..
            } = settling;
            self.with_queue(&settling.name, &mut within, |queue, effects| {
                if let Some(note) = note {
                    queue.note(now, *token, note, effects);
                }
                let held = queue.settle(now, *token, how, effects);
                debug_assert!(held, "the lock was looked at in this very moment");
            })?;
        }
        if let Some((name, offsets)) = &transacting.held {
            self.with_queue(name, &mut within, |queue, effects| {
                queue.commit(now, offsets, effects);
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
        Ok(Reply::Done)
    }

    fn may_transact(&self, now: Now, transacting: &Transacting) -> Result<()> {
        let mut tokens = BTreeSet::new();
        let mut notes: BTreeMap<&SubscriptionName, usize> = BTreeMap::new();
        for settling in &transacting.settlings {
            let queue = self.queue_of(&settling.name)?;
            if !queue.is_open(settling.token, now) || !tokens.insert(settling.token) {
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
        if let Some((name, offsets)) = &transacting.held
            && !self.queue_of(name)?.may_commit(offsets)
        {
            let message = "messages of the transaction were given up, since its end came too late";
            return Err(Error::new(Kind::Refused, message));
        }
        Ok(())
    }

    fn queue_of(&self, name: &SubscriptionName) -> Result<&crate::queue::Queue> {
        let view = self.names.get(name).and_then(|id| self.views.get(id));
        let view = view.ok_or_else(|| Error::not_found("subscription", &name.to_string()))?;
        Ok(&view.queue)
    }
}
