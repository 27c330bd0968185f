//! What a task shows of itself: how its rows are, how far they are, and what could be gone back to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use mente_engine::Timestamp;

use super::database::Checkpoints;
use super::kept::KeptRows;
use super::parking::Held;
use super::status::{Failure, State};
use super::writer::Progress;

/// What a task shows of itself.
#[derive(Debug, Default)]
pub(super) struct Board {
    shown: Mutex<Shown>,
    pub(super) live: Progress,
    pub(super) side: Progress,
    joining: Mutex<Joining>,
    is_troubled: AtomicBool,
    /// Whether the rows were ours since the server began.
    made: AtomicBool,
    /// Rows that can be gone back to, as of the last time that rows were opened.
    kept: Mutex<Option<KeptRows>>,
    /// By partition where the live rows were when somebody looked, and when the event there was appended.
    oldest: Mutex<BTreeMap<u32, (u64, Timestamp)>>,
}

/// Whether appends wait for the rows, and so whoever reads them may count on every answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Joining {
    /// They do not, and the rows promise nothing.
    #[default]
    Apart,
    /// Nobody has looked yet, or they are brought to the end of the log.
    Awaited,
    Joined,
    /// They do, and are refused: the rows stand still.
    Closed,
}

#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) error: Option<Failure>,
    pub(super) rebuilds: u64,
    /// Rebuilt rows have caught up, and wait until somebody says switch.
    pub(super) is_ready: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            state: State::Running,
            error: None,
            rebuilds: 0,
            is_ready: false,
        }
    }
}

impl Board {
    /// How far the live file is.
    pub(super) fn live(&self) -> Checkpoints {
        copy(&self.live)
    }

    /// What is parked beside the live rows, where that is declared.
    pub(super) fn parked(&self) -> Option<Held> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.parked
    }

    pub(super) fn kept(&self) -> Option<KeptRows> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn note_kept(&self, kept: Option<KeptRows>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// When the event at this offset was appended, if that is known.
    pub(super) fn oldest(&self, partition: u32, offset: u64) -> Option<Timestamp> {
        let oldest = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, time) = oldest.get(&partition)?;
        (*known == offset).then_some(*time)
    }

    pub(super) fn note_oldest(&self, partition: u32, offset: u64, time: Timestamp) {
        let mut oldest = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        oldest.insert(partition, (offset, time));
    }

    /// How far the file under construction is.
    pub(super) fn side(&self) -> Checkpoints {
        copy(&self.side)
    }

    pub(super) fn shown(&self) -> Shown {
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn note_made(&self) {
        self.made.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    /// Whether it is shown already, so that what goes on for hours is logged once.
    pub(super) fn is_failing_so(&self, failure: &Failure) -> bool {
        self.shown().error.as_ref() == Some(failure)
    }

    pub(super) fn show(&self, state: State) {
        self.change(|shown| {
            shown.state = state;
            shown.error = None;
            shown.is_ready = false;
        });
    }

    pub(super) fn joining(&self) -> Joining {
        *self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_joining(&self, joining: Joining) {
        *self.joining.lock().unwrap_or_else(PoisonError::into_inner) = joining;
    }

    /// What an append was told of the rows, until one is told nothing. A refusal is no trouble.
    pub(super) fn set_trouble(&self, failure: Option<&Failure>) {
        let failure = failure.filter(|failure| failure.retry);
        if self.is_troubled.swap(failure.is_some(), Ordering::Relaxed) || failure.is_some() {
            self.change(|shown| shown.error = failure.cloned());
        }
    }

    /// Nothing is wrong any more, whatever it is that goes on.
    pub(super) fn clear_error(&self) {
        self.change(|shown| shown.error = None);
    }

    /// It goes on all the same.
    pub(super) fn set_error(&self, failure: Failure) {
        self.change(|shown| shown.error = Some(failure));
    }

    pub(super) fn fail(&self, failure: Failure) {
        if self.joining() != Joining::Apart {
            self.set_joining(Joining::Closed);
        }
        self.change(|shown| {
            if !failure.retry {
                shown.state = State::Failed;
            }
            shown.error = Some(failure);
        });
    }

    pub(super) fn ready(&self) {
        self.change(|shown| shown.is_ready = true);
    }

    pub(super) fn swapped(&self) {
        let side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone_from(&side);
        drop((side, live));
        self.change(|shown| {
            shown.state = State::Running;
            shown.rebuilds += 1;
            shown.is_ready = false;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn copy(progress: &Progress) -> Checkpoints {
    progress
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .checkpoints
        .clone()
}
