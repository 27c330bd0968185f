//! Which shards this node decides for, and what comes of it.
//!
//! Whoever knows the nodes sets it ([`Duty::set`]); the shard's runtime looks before every round, and says how far
//! it is. The right to decide comes from the journal's claim all the same: a duty that is out of date costs
//! time, never a decision.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mente_engine::{Offset, Term};

use crate::bell::Bell;

/// How far a shard is on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Another node's.
    #[default]
    Away,
    /// Reads its journal: from `next` up to `end`, more or less.
    Restoring { next: Offset, end: Offset },
    /// Decides, under this term.
    AtWork { term: Term },
}

impl Progress {
    /// Nothing is known of the journal any more.
    pub(crate) const LOST: Self = Self::Restoring {
        next: Offset(0),
        end: Offset(0),
    };
}

/// The duty of one shard; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Duty(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    bell: Bell,
}

#[derive(Debug)]
struct State {
    is_on: bool,
    progress: Progress,
}

impl Duty {
    pub(crate) fn new(is_on: bool) -> Self {
        let state = State {
            is_on,
            progress: Progress::default(),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            bell: Bell::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings at every change of duty and of progress.
    pub(crate) fn bell(&self) -> &Bell {
        &self.0.bell
    }

    pub(crate) fn is_on(&self) -> bool {
        self.state().is_on
    }

    pub(crate) fn set(&self, is_on: bool) {
        let before = std::mem::replace(&mut self.state().is_on, is_on);
        if before != is_on {
            self.0.bell.ring();
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.state().progress
    }

    /// As the shard's runtime says.
    pub(crate) fn report(&self, progress: Progress) {
        let before = std::mem::replace(&mut self.state().progress, progress);
        if std::mem::discriminant(&before) != std::mem::discriminant(&progress) {
            self.0.bell.ring();
        }
    }

    /// Resolves once duty and progress are as `is_so` wants them.
    pub(crate) async fn until(&self, is_so: impl Fn(bool, Progress) -> bool) {
        loop {
            let seen = self.0.bell.rings();
            let (is_on, progress) = {
                let state = self.state();
                (state.is_on, state.progress)
            };
            if is_so(is_on, progress) {
                return;
            }
            self.0.bell.after(seen).await;
        }
    }
}
