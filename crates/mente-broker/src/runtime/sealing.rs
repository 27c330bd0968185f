//! The sealed part of the store: looked up before an append is decided, and grown by what leaves memory.

use mente_engine::{Now, Takes};

use super::{Io, Tenure};
use crate::error::{Kind, Result};
use crate::queue::Ticket;
use crate::shard::Outcome;
use crate::store::{Append, Facts, Lookup, seal};

impl Tenure<'_> {
    /// Decides an append, or looks up first what memory does not hold.
    pub(super) fn append(&mut self, now: Now, ticket: Ticket, append: Append, out: &mut Outcome) {
        let lookup = self.runtime.blocks.as_ref().map(Lookup::new);
        let store = self.shard.store();
        let needed = lookup.map(|lookup| (lookup.is_needed(store, &append), lookup));
        match needed {
            Some((Ok(true), lookup)) => {
                let below = store.first();
                self.io.push(Box::pin(async move {
                    let result = lookup.facts(&append, below).await;
                    Io::LookedUp {
                        ticket,
                        append,
                        result,
                    }
                }));
            }
            Some((Err(error), _)) => out.replies.push((ticket, Err(error))),
            Some((Ok(false), _)) | None => {
                let reply = self.shard.append(now, &append, &Facts::default(), out);
                out.replies.push((ticket, reply));
            }
        }
    }

    pub(super) fn looked_up(
        &mut self,
        ticket: Ticket,
        append: Append,
        result: Result<Facts>,
        out: &mut Outcome,
    ) {
        // Nobody waits, and nothing was done.
        if !self.callers.contains_key(&ticket) {
            return;
        }
        let now = self.runtime.clock.now();
        match result {
            // More was sealed meanwhile.
            Ok(facts) if facts.below() < self.shard.store().first() => {
                self.append(now, ticket, append, out);
            }
            Ok(facts) => {
                let reply = self.shard.append(now, &append, &facts, out);
                out.replies.push((ticket, reply));
            }
            Err(mut error) => {
                // Certainly nothing was appended.
                if error.kind == Kind::Unknown {
                    error.kind = Kind::Throttled;
                }
                out.replies.push((ticket, Err(error)));
            }
        }
    }

    /// The blocks are known to whoever reads at this node.
    pub(super) fn hear_of_blocks(&self) {
        if let Some(blocks) = &self.runtime.blocks {
            blocks.hear_of(self.shard.sealed());
        }
    }

    /// Writes the next block, if there is one to write.
    pub(super) fn start_sealing(&mut self) {
        let room = || self.runtime.engine.room().check(Takes::Everything);
        let Some(fences) = self.store_fences.filter(|_| !self.sealing) else {
            return;
        };
        if let Some(draft) = self.shard.store().draft()
            && room().is_ok()
        {
            self.sealing = true;
            let engine = std::sync::Arc::clone(&self.runtime.engine);
            self.io.push(Box::pin(async move {
                Io::Sealed(seal(&*engine, fences.index, draft).await)
            }));
        }
    }
}
