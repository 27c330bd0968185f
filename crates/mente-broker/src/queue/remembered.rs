//! Ids that all views of a broker remember together, so that many of them take no more memory than a few.
//!
//! While there is room each may have as many as one view may. Beyond, whoever has more than an equal share forgets its
//! oldest ones when the next comes. A view to which nothing comes forgets nothing, so there may be twice as many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mente_engine::limits;

use super::duplicates::IDS;

const TOGETHER: usize = if cfg!(test) {
    600
} else {
    limits::DUPLICATE_IDS
};

/// Of all views that drop duplicates.
#[derive(Debug, Default)]
pub struct Remembered {
    ids: AtomicUsize,
    views: AtomicUsize,
}

/// What one of them has.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<Remembered>,
    ids: usize,
}

impl Share {
    pub(super) fn of(all: &Arc<Remembered>) -> Self {
        all.views.fetch_add(1, Ordering::Relaxed);
        let all = Arc::clone(all);
        Self { all, ids: 0 }
    }

    pub(super) fn set(&mut self, ids: usize) {
        match ids.checked_sub(self.ids) {
            Some(more) => self.all.ids.fetch_add(more, Ordering::Relaxed),
            None => self.all.ids.fetch_sub(self.ids - ids, Ordering::Relaxed),
        };
        self.ids = ids;
    }

    /// The most that the view may remember just now.
    pub(super) fn most(&self) -> usize {
        if self.all.ids.load(Ordering::Relaxed) <= TOGETHER {
            return IDS;
        }
        let views = self.all.views.load(Ordering::Relaxed);
        IDS.min(TOGETHER / views.max(1))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
        self.all.views.fetch_sub(1, Ordering::Relaxed);
    }
}
