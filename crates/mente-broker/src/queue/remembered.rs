//! Ids that all views of a broker remember together, so that many of them take no more memory than a few.
//!
//! While there is room each may have as much as one view may. Beyond, whoever has more than an equal share forgets its
//! oldest ids when the next comes. A view to which nothing comes forgets nothing, so there may be twice as much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mente_engine::limits;

use super::shelf::Shelf;

/// What views may have, and how they have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Ids of one view, wherever they lie.
    pub(super) ids: usize,
    /// Memory of one view.
    pub(super) bytes: usize,
    /// Memory of all.
    pub(super) together_bytes: usize,
    /// Of one block at most, so that closing one holds up its shard for milliseconds only.
    pub(super) ids_per_block: usize,
    /// So many blocks of one size are looked at together.
    pub(super) blocks_per_bundle: usize,
    /// Fewer of a block are not worth a file.
    pub(super) shelved_ids_min: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ids: limits::DUPLICATE_IDS_PER_VIEW,
            bytes: limits::DUPLICATE_BYTES_PER_VIEW,
            together_bytes: limits::DUPLICATE_BYTES,
            ids_per_block: 256 << 10,
            blocks_per_bundle: 16,
            shelved_ids_min: 8 << 10,
        }
    }
}

/// Of all views that drop duplicates.
#[derive(Debug, Default)]
pub struct Remembered {
    bytes: AtomicUsize,
    views: AtomicUsize,
    limits: Limits,
    shelf: Option<Arc<dyn Shelf>>,
}

impl Remembered {
    /// On this shelf, if there is one.
    pub(crate) fn on(shelf: Option<Arc<dyn Shelf>>) -> Self {
        Self::within(Limits::default(), shelf)
    }

    pub(super) fn within(limits: Limits, shelf: Option<Arc<dyn Shelf>>) -> Self {
        Self {
            limits,
            shelf,
            ..Self::default()
        }
    }
}

/// What one of them has.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<Remembered>,
    bytes: usize,
}

impl Share {
    pub(super) fn of(all: &Arc<Remembered>) -> Self {
        all.views.fetch_add(1, Ordering::Relaxed);
        let all = Arc::clone(all);
        Self { all, bytes: 0 }
    }

    pub(super) fn set(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.all.bytes.fetch_add(more, Ordering::Relaxed),
            None => (self.all.bytes).fetch_sub(self.bytes - bytes, Ordering::Relaxed),
        };
        self.bytes = bytes;
    }

    /// The most memory that the view may take just now.
    pub(super) fn most_bytes(&self) -> usize {
        let Limits {
            bytes,
            together_bytes,
            ..
        } = self.all.limits;
        if self.all.bytes.load(Ordering::Relaxed) <= together_bytes {
            return bytes;
        }
        let views = self.all.views.load(Ordering::Relaxed);
        bytes.min(together_bytes / views.max(1))
    }

    pub(super) fn limits(&self) -> Limits {
        self.all.limits
    }

    /// Where a block of so many ids goes.
    pub(super) fn shelf(&self, ids: usize) -> Option<&dyn Shelf> {
        let shelf = self.all.shelf.as_deref();
        shelf.filter(|_| ids >= self.all.limits.shelved_ids_min)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
        self.all.views.fetch_sub(1, Ordering::Relaxed);
    }
}
