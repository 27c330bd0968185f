//! The sealed part of the store: looked up before an append is decided, and grown by what leaves memory.

use std::sync::Arc;

use mente_engine::{self as engine, Fence, Takes, limits};

use super::{Io, Tenure};
use crate::error::{Error, Kind, Result};
use crate::queue::Ticket;
use crate::shard::Outcome;
use crate::store::{Append, Facts, Lookup, Sealed, seal};

impl Tenure<'_> {
    /// Decides an append, or looks up first what memory does not hold.
    pub(super) fn append(&mut self, ticket: Ticket, append: Append, out: &mut Outcome) {
        let lookup = self.runtime.blocks.as_ref().map(Lookup::new);
        let store = self.shard.store();
        let needed = lookup.map(|lookup| (lookup.is_needed(store, &append), lookup));
        match needed {
            Some((Ok(true), _)) if self.lookups >= limits::LOOKUPS => {
                let message = "too many appends wait for older events of the store: repeat";
                let refused = Err(Error::new(Kind::Throttled, message));
                out.replies.push((ticket, refused));
            }
            Some((Ok(true), lookup)) => {
                self.lookups += 1;
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
                self.ready(ticket, append, Facts::default(), out);
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
        self.lookups -= 1;
        // Nobody waits, and nothing was done.
        if !self.callers.contains_key(&ticket) {
            return;
        }
        match result {
            // More was sealed meanwhile.
            Ok(facts) if facts.below() < self.shard.store().first() => {
                self.append(ticket, append, out);
            }
            Ok(facts) => self.ready(ticket, append, facts, out),
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
        let Some(fences) = self
            .store_fences
            .filter(|_| !self.sealing && room().is_ok())
        else {
            return;
        };
        if let Some(draft) = self.shard.store().draft() {
            self.sealing = true;
            let engine = Arc::clone(&self.runtime.engine);
            self.io.push(Box::pin(async move {
                Io::Sealed(seal(&*engine, fences.index, draft).await)
            }));
        }
    }

    /// A block is written, or was not: then its events stay in memory, and nothing more lands under this
    /// fence of the index. It is claimed again after a pause.
    pub(super) fn sealed(&mut self, result: Result<Sealed, engine::Error>, out: &mut Outcome) {
        let error = match result {
            Ok(sealed) => {
                self.sealing = false;
                self.shard.seal(sealed, out);
                return;
            }
            // Another node took over.
            Err(engine::Error::Fenced) => {
                self.broken = Some(engine::Error::Fenced);
                return;
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "a block of the store's index is not written yet");
        self.claim_index();
    }

    pub(super) fn index_claimed(&mut self, result: Result<Fence, engine::Error>) {
        match (result, &mut self.store_fences) {
            (Ok(fence), Some(fences)) => {
                fences.index = fence;
                self.sealing = false;
            }
            (Err(error), _) => {
                tracing::warn!(%error, "the log of the store's index is not claimed yet");
                self.claim_index();
            }
            (Ok(_), None) => {}
        }
    }

    fn claim_index(&mut self) {
        let Some(fences) = self.store_fences else {
            return;
        };
        let (engine, pause) = (Arc::clone(&self.runtime.engine), self.pause());
        self.io.push(Box::pin(async move {
            pause.await;
            Io::IndexClaimed(engine.claim(fences.index.log).await)
        }));
    }
}
