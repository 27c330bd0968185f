//! Where a record is on its way through a view, for who asks what became of an event.

use mente_engine::Offset;
use serde::{Deserialize, Serialize};

use super::Queue;
use super::partition::State;

/// As far as the view knows. Whether its filter wants the record at all is for who asks to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whereabouts {
    /// Not delivered yet, given back by its receiver at once, or put aside.
    Waiting { attempts: u32 },
    /// Out under a lock, for this time counted from 1.
    Out { attempt: u32 },
    /// Failed; waits for the next attempt.
    Delayed { attempts: u32 },
    /// Given up on, its copy on the way to the dead letters.
    Dying { attempts: u32, reason: String },
    /// Nobody gets it any more: it was settled or is a dead letter, or the filter did not want it.
    AtItsEnd,
}

impl Queue {
    pub fn whereabouts(&self, partition: u32, offset: Offset) -> Option<Whereabouts> {
        let p = self.partitions.get(partition as usize)?;
        if let Some(obituary) = p.durable.dying.get(&offset) {
            return Some(Whereabouts::Dying {
                attempts: obituary.attempts,
                reason: obituary.reason.clone(),
            });
        }
        if let Some(entry) = p.entries.get(&offset) {
            let attempts = entry.attempts;
            return Some(match entry.state {
                State::Ready | State::Behind | State::Deferred | State::Going => {
                    Whereabouts::Waiting { attempts }
                }
                State::Delayed | State::Undecided { .. } => Whereabouts::Delayed { attempts },
                State::Leased => Whereabouts::Out {
                    attempt: attempts + 1,
                },
            });
        }
        let failure = p.durable.failed.get(&offset);
        let attempts = failure.map_or(0, |failure| failure.attempts);
        let waits = p.sought.contains(&offset) || !p.has_passed(offset);
        Some(match waits {
            true => Whereabouts::Waiting { attempts },
            false => Whereabouts::AtItsEnd,
        })
    }
}
