//! Writes the history while it happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::SimClock;
use crate::history::{Entry, Op, Phase};

/// Cheap to clone; clones write one history.
#[derive(Clone)]
pub(crate) struct Recorder {
    clock: SimClock,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    entries: Vec<Entry>,
    /// Calls that nobody answered yet, by process.
    open: BTreeMap<u64, Op>,
}

impl Recorder {
    pub(crate) fn new(clock: SimClock) -> Self {
        Self {
            clock,
            state: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("one thread")
    }

    fn push(&self, process: u64, phase: Phase, op: Op) {
        let time = self.clock.elapsed().as_nanos() as u64;
        let mut state = self.lock();
        state.entries.push(Entry {
            process,
            time,
            phase,
            op,
        });
    }

    pub(crate) fn invoke(&self, process: u64, op: Op) {
        self.lock().open.insert(process, op.clone());
        self.push(process, Phase::Invoke, op);
    }

    pub(crate) fn end(&self, process: u64, phase: Phase, op: Op) {
        self.lock().open.remove(&process);
        self.push(process, phase, op);
    }

    /// Something that happens at once.
    pub(crate) fn note(&self, process: u64, op: Op) {
        self.invoke(process, op.clone());
        self.end(process, Phase::Ok, op);
    }

    /// The server is gone: whoever waited will never know.
    pub(crate) fn cut_off(&self) {
        let open = std::mem::take(&mut self.lock().open);
        for (process, op) in open {
            self.push(process, Phase::Info, op);
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// A history of its own that begins with this one.
    pub(crate) fn fork(&self, clock: SimClock) -> Self {
        let state = self.lock().clone();
        Self {
            clock,
            state: Arc::new(Mutex::new(state)),
        }
    }
}
