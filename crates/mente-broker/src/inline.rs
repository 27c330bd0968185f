//! Rows that are never behind the store: what is done with each append in the same breath.
//!
//! ```text
//!   decided ──▶ apply ──▶ written and synced ──▶ keep ──▶ reply
//!      error refuses ┘        failed ──▶ undo
//! ```
//! Whoever has a reply finds it in the rows. A crash between the log and `keep` leaves rows that are behind, which is
//! for their keeper to mend before anybody is let in: the log has what they lack. Readers of the log may see an event
//! some milliseconds before the rows have it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mente_engine::Offset;

use crate::broker::StreamEvent;
use crate::error::Result;

/// Keeps rows with the appends to the store. It is called by the task of the store's shard, which everything that is
/// decided there waits for.
pub trait Inline: Send {
    /// Whether it wants events at all: making them costs.
    fn is_wanted(&self) -> bool;
    /// Takes in the events of one append, which is decided and not written yet: their offsets are not known, all
    /// else is. An error refuses the append, and nothing of it may stay.
    fn apply(&mut self, events: &[StreamEvent]) -> Result<()>;
    /// All that was applied is written; the log goes on at this offset.
    fn keep(&mut self, next: Offset);
    /// What was applied may or may not be written: the log will tell.
    fn undo(&mut self);
}

/// Who keeps rows with the store of a broker; nobody at first.
#[derive(Clone, Default)]
pub(crate) struct Inlined(Arc<Mutex<Option<Box<dyn Inline>>>>);

impl Inlined {
    pub(crate) fn attach(&self, inline: Box<dyn Inline>) {
        *self.lock() = Some(inline);
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut dyn Inline) -> T) -> Option<T> {
        self.lock().as_mut().map(|inline| work(&mut **inline))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Inline>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inlined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlined").finish_non_exhaustive()
    }
}
