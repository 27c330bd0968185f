//! What was called and not yet done, in call order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use futures::channel::oneshot;
use mente_engine::engine::Change;
use mente_engine::{
    Appended, Batch, Error, Fence, LogConfig, LogId, Offset, SetId, SetName, Takes, Term,
};

use crate::run::ENTRY_BYTES;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What a call that carries no batch is taken to weigh, in the queue and in a commit.
const CALL_BYTES: usize = 512;

#[derive(Debug)]
pub(crate) enum Call {
    Create {
        name: SetName,
        logs: u32,
        config: LogConfig,
        reply: Reply<SetId>,
    },
    Alter {
        set: SetId,
        change: Change,
        reply: Reply<()>,
    },
    Delete {
        set: SetId,
        reply: Reply<()>,
    },
    Append {
        fences: Vec<Fence>,
        batches: Vec<(LogId, Batch)>,
        reply: Reply<Vec<Appended>>,
    },
    Trim {
        log: LogId,
        before: Offset,
        reply: Reply<()>,
    },
    Claim {
        log: LogId,
        reply: Reply<Fence>,
    },
    /// A reader met a batch that is not what was written.
    Rot {
        log: LogId,
        at: Offset,
    },
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    limit_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    calls: VecDeque<Call>,
    bytes: usize,
    /// Fences that a refusal at the door has ended: later calls must not overtake it.
    broken: BTreeMap<LogId, Term>,
    stopped: Option<String>,
}

impl Call {
    /// No less than it adds to a commit.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append { batches, .. } => append_bytes(batches) + CALL_BYTES,
            _ => CALL_BYTES,
        }
    }

    /// What the disk must have room for: whoever brings data waits while room is scarce, owners
    /// while there is none, and what makes room goes on.
    pub(crate) fn needs(&self) -> Takes {
        match self {
            Self::Append { fences, .. } if fences.is_empty() => Takes::Everything,
            Self::Create { config, .. } if !config.owned => Takes::Everything,
            Self::Append { .. } | Self::Create { .. } | Self::Claim { .. } => Takes::Decisions,
            _ => Takes::Nothing,
        }
    }
}

pub(crate) fn append_bytes(batches: &[(LogId, Batch)]) -> usize {
    batches
        .iter()
        .map(|(_, batch)| batch.size() + ENTRY_BYTES)
        .sum()
}

impl Queue {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            limit_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the queue is held")
    }

    /// Takes the call's place in the order, or says why not.
    pub(crate) fn push(&self, call: Call) -> Result<(), Error> {
        let mut state = self.lock();
        if let Some(why) = &state.stopped {
            return Err(Error::Busy(why.clone()));
        }
        if let Call::Append { fences, .. } = &call {
            state.check_fences(fences)?;
        }
        if state.bytes + call.bytes() > self.limit_bytes && !state.calls.is_empty() {
            if let Call::Append { fences, .. } = &call {
                state.break_fences(fences);
            }
            return Err(Error::Busy("too much waits for the disk".into()));
        }
        state.bytes += call.bytes();
        state.calls.push_back(call);
        Ok(())
    }

    /// An append was refused before it took a place: its fences end here.
    pub(crate) fn refuse(&self, fences: &[Fence]) -> Result<(), Error> {
        let mut state = self.lock();
        state.check_fences(fences)?;
        state.break_fences(fences);
        Ok(())
    }

    /// What a reader found goes in front of the limit: there is one for each log at most.
    pub(crate) fn report(&self, log: LogId, at: Offset) {
        let (mut state, call) = (self.lock(), Call::Rot { log, at });
        state.bytes += call.bytes();
        state.calls.push_back(call);
    }

    /// Weight of the first call, and what it needs.
    pub(crate) fn peek(&self) -> Option<(usize, Takes)> {
        let state = self.lock();
        let first = state.calls.front()?;
        Some((first.bytes(), first.needs()))
    }

    /// The first call, and those after it that need no more than `needs` and weigh together at most
    /// `limit_bytes`.
    pub(crate) fn take(&self, limit_bytes: usize, needs: Takes) -> Vec<Call> {
        let mut state = self.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(call) = state.calls.front() {
            bytes += call.bytes();
            let is_over = bytes > limit_bytes || call.needs() > needs;
            if is_over && !taken.is_empty() {
                break;
            }
            state.bytes = state.bytes.saturating_sub(call.bytes());
            taken.extend(state.calls.pop_front());
        }
        taken
    }

    pub(crate) fn forget_fence(&self, set: SetId) {
        self.lock().broken.retain(|log, _| log.set != set);
    }

    /// Ends it: what waits was certainly not done, and what comes is not either.
    pub(crate) fn stop(&self, why: &str) {
        let mut state = self.lock();
        state.stopped.get_or_insert_with(|| why.to_owned());
        state.bytes = 0;
        let waiting = std::mem::take(&mut state.calls);
        drop(state);
        waiting
            .into_iter()
            .for_each(|call| call.answer_error(Error::Busy(why.to_owned())));
    }
}

impl State {
    fn check_fences(&self, fences: &[Fence]) -> Result<(), Error> {
        let is_broken = |f: &Fence| self.broken.get(&f.log).is_some_and(|term| *term >= f.term);
        if fences.iter().any(is_broken) {
            return Err(Error::Fenced);
        }
        Ok(())
    }

    fn break_fences(&mut self, fences: &[Fence]) {
        for fence in fences {
            self.broken.insert(fence.log, fence.term);
        }
    }
}

impl Call {
    /// Whoever does not wait any more needs no answer.
    pub(crate) fn answer_error(self, error: Error) {
        match self {
            Self::Create { reply, .. } => drop(reply.send(Err(error))),
            Self::Append { reply, .. } => drop(reply.send(Err(error))),
            Self::Claim { reply, .. } => drop(reply.send(Err(error))),
            Self::Alter { reply, .. } | Self::Delete { reply, .. } | Self::Trim { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::Rot { .. } => {}
        }
    }
}
