//! Views that an append waits for: what one of them refuses is not appended, and who has the answer to an
//! append finds it in all of them.
//!
//! ```text
//!   reach the end ─▶ decided ─▶ apply (a view) ─▶ apply (the next) ─▶ appended, durable ─▶ keep ─▶ reply
//!                                  │ no               │ no                │ failed
//!                                  ▼                  ▼                   ▼
//!                               refused           take back            undo: the log tells, later
//! ```
//! The log stays the truth: a view that was not kept is brought to the end of it before it hears of the next append.

use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use mente_engine::Offset;

use crate::broker::StreamEvent;
use crate::error::Result;
use crate::name::EntityName;

/// A view of the store. One round of the store's shard at a time speaks to it, and each wait is bounded by the view.
pub trait Inline: std::fmt::Debug + Send + Sync {
    /// Takes in what lies below `end` in the log, which is durable. Whatever was applied and not kept is gone.
    fn reach(&self, end: Offset) -> BoxFuture<'_, Result<()>>;

    /// Takes in the events of one append, as they were written; where they come to lie in the log is not known yet. An error refuses the append,
    /// and nothing of it was taken in.
    fn apply(&self, events: Arc<[StreamEvent]>) -> BoxFuture<'_, Result<()>>;

    /// Gives back what was applied last: another view refused it.
    fn take_back(&self) -> BoxFuture<'_, ()>;

    /// All that was applied is durable in the log, which ends at `next`: readers see it when this returns. An error means
    /// that they do not.
    fn keep(&self, next: Offset) -> BoxFuture<'_, Result<()>>;

    /// Of what was applied nothing is known to be in the log.
    fn undo(&self) -> BoxFuture<'_, ()>;
}

/// The views that appends to the store of one broker wait for, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Inlines(Arc<RwLock<Views>>);

pub(crate) type Views = Arc<[(EntityName, Arc<dyn Inline>)]>;

impl Inlines {
    /// From the next round on appends wait for this view, in place of one of the same name.
    pub fn join(&self, name: EntityName, view: Arc<dyn Inline>) {
        self.change(|views| {
            views.retain(|(other, _)| *other != name);
            views.push((name, view));
            views.sort_by(|(one, _), (other, _)| one.cmp(other));
        });
    }

    /// From the next round on nothing waits for it.
    pub fn leave(&self, name: &EntityName) {
        self.change(|views| views.retain(|(other, _)| other != name));
    }

    pub(crate) fn now(&self) -> Views {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<(EntityName, Arc<dyn Inline>)>)) {
        let mut views = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = views.to_vec();
        change(&mut changed);
        *views = changed.into();
    }
}
