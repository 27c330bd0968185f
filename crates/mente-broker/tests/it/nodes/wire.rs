//! What lies between the nodes: their calls to the one engine, and their questions to each other.
//!
//! A call waits on its way until the world lets it go on, and so does its answer. Calls of one node to one
//! log keep their order, as the engine promises; nothing else does. Appends fail as a cluster lets them
//! fail: refused, or with an outcome that nobody knows, which lands, or does not, or lands later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;
use futures::FutureExt;
use futures::channel::oneshot;
use mente_engine::engine::Change;
use mente_engine::memory::{Fault, MemoryEngine};
use mente_engine::{
    Answer, Appended, Batch, Bounds, Chunk, Engine, Error, Fence, Limit, LogConfig, LogId, Offset,
    SetId, SetInfo, SetName, Term, Timestamp,
};

/// Calls to one log by one node; their order is kept.
type Lane = (usize, LogId);
/// An append under way though its caller was told already.
type Late = (Vec<Fence>, Vec<(LogId, Batch)>);
type Act = Box<dyn FnOnce(&mut State) + Send>;

#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<State>>);

struct State {
    memory: MemoryEngine,
    rng: Rng,
    calls: BTreeMap<Lane, VecDeque<Act>>,
    /// On their way back, and questions on theirs: in any order.
    messages: Vec<oneshot::Sender<()>>,
    /// Unknown to their callers, and not there yet.
    late: Vec<Late>,
    /// Nothing more lands under these.
    broken: BTreeSet<(LogId, Term)>,
    newest: BTreeMap<LogId, Fence>,
    faults: usize,
    /// Appends of owners that were deposed.
    refused: usize,
    /// Nothing fails and nothing waits any more.
    is_calm: bool,
    /// The planted bug: whoever appends does it under the newest fence.
    is_unfenced: bool,
}

impl Wire {
    pub(super) fn new(memory: MemoryEngine, rng: Rng, is_unfenced: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            memory,
            rng,
            calls: BTreeMap::new(),
            messages: Vec::new(),
            late: Vec::new(),
            broken: BTreeSet::new(),
            newest: BTreeMap::new(),
            faults: 0,
            refused: 0,
            is_calm: true,
            is_unfenced,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn engine_of(&self, node: usize) -> Arc<dyn Engine> {
        Arc::new(SlowEngine {
            wire: self.clone(),
            node,
        })
    }

    pub(super) fn storm(&self) {
        self.state().is_calm = false;
    }

    /// From now on everything arrives at once; what is on its way does so now.
    pub(super) fn calm(&self) {
        self.state().is_calm = true;
        while self.go_on() {}
    }

    /// Appends that failed, and that came from deposed owners.
    pub(super) fn failures(&self) -> (usize, usize) {
        let state = self.state();
        (state.faults, state.refused)
    }

    /// Lets one call, answer or question arrive; false if there is none.
    pub(super) fn go_on(&self) -> bool {
        let mut state = self.state();
        let lanes: Vec<Lane> = state.calls.keys().copied().collect();
        let (calls, messages, late) = (lanes.len(), state.messages.len(), state.late.len());
        let ways = calls + messages + late;
        if ways == 0 {
            return false;
        }
        let choice = state.rng.usize(..ways);
        if choice < calls {
            let mut queue = state.calls.remove(&lanes[choice]).unwrap();
            let act = queue.pop_front().unwrap();
            if !queue.is_empty() {
                state.calls.insert(lanes[choice], queue);
            }
            act(&mut state);
        } else if choice < calls + messages {
            // Its receiver may have crashed.
            let _ = state.messages.swap_remove(choice - calls).send(());
        } else {
            let (fences, batches) = state.late.remove(choice - calls - messages);
            // Too late, if the log was claimed since.
            let _ = now(state.memory.append(&fences, batches));
        }
        true
    }

    /// What a node that crashed had on its way arrives, or does not; in each log the rest is lost with the
    /// first that is.
    pub(super) fn crash(&self, node: usize) {
        let mut state = self.state();
        let (of_node, others) = std::mem::take(&mut state.calls)
            .into_iter()
            .partition(|((of, _), _)| *of == node);
        state.calls = others;
        let of_node: BTreeMap<Lane, VecDeque<Act>> = of_node;
        for queue in of_node.into_values() {
            let sent = state.rng.usize(..=queue.len());
            for act in queue.into_iter().take(sent) {
                act(&mut state);
            }
        }
    }

    /// A message on its way.
    pub(super) async fn travel(&self) {
        let way = {
            let mut state = self.state();
            if state.is_calm {
                return;
            }
            let (sender, way) = oneshot::channel();
            state.messages.push(sender);
            way
        };
        let _ = way.await;
    }

    /// Whether a message gets lost.
    pub(super) fn loses(&self) -> bool {
        let mut state = self.state();
        !state.is_calm && state.rng.u32(..24) == 0
    }

    fn call<T: Send + 'static>(
        &self,
        lane: Lane,
        act: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'static,
    ) -> Answer<T> {
        let mut state = self.state();
        if state.is_calm {
            return Box::pin(std::future::ready(act(&mut state)));
        }
        let (sender, answer) = oneshot::channel();
        let act = Box::new(move |state: &mut State| {
            let result = act(state);
            // Who called may have crashed; what it called for is done.
            let _ = sender.send(result);
        });
        state.calls.entry(lane).or_default().push_back(act);
        drop(state);
        let wire = self.clone();
        Box::pin(async move {
            let result = answer
                .await
                .unwrap_or(Err(Error::Unknown("the node crashed".into())));
            wire.travel().await;
            result
        })
    }
}

impl State {
    fn append(
        &mut self,
        mut fences: Vec<Fence>,
        batches: Vec<(LogId, Batch)>,
    ) -> Result<Vec<Appended>, Error> {
        if self.is_unfenced {
            for fence in &mut fences {
                *fence = self.newest[&fence.log];
            }
        } else if fences
            .iter()
            .any(|f| self.broken.contains(&(f.log, f.term)))
        {
            return Err(Error::Fenced);
        }
        if self.is_calm || self.rng.u32(..9) > 0 {
            let appended = now(self.memory.append(&fences, batches));
            self.refused += usize::from(appended == Err(Error::Fenced));
            return appended;
        }
        self.faults += 1;
        let kind = self.rng.u32(..4);
        if kind == 0 {
            self.broken.extend(fences.iter().map(|f| (f.log, f.term)));
            return Err(Error::Busy("injected".into()));
        }
        if kind == 1 {
            self.broken.extend(fences.iter().map(|f| (f.log, f.term)));
            self.late.push((fences, batches));
            return Err(Error::Unknown("injected: late".into()));
        }
        let fault = match kind {
            2 => Fault::UnknownButDone,
            _ => Fault::UnknownAndLost,
        };
        self.memory.inject(batches[0].0, fault);
        now(self.memory.append(&fences, batches))
    }

    fn claim(&mut self, log: LogId) -> Result<Fence, Error> {
        let fault = (!self.is_calm).then(|| self.rng.u32(..20));
        if fault == Some(0) {
            return Err(Error::Busy("injected".into()));
        }
        let fence = now(self.memory.claim(log))?;
        self.newest.insert(log, fence);
        if fault == Some(1) {
            return Err(Error::Unknown("injected: claimed".into()));
        }
        Ok(fence)
    }
}

/// The memory engine's answers are there at once.
fn now<T>(answer: Answer<T>) -> Result<T, Error> {
    answer.now_or_never().expect("memory answers at once")
}

/// The engine as one node sees it.
struct SlowEngine {
    wire: Wire,
    node: usize,
}

impl std::fmt::Debug for SlowEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlowEngine({})", self.node)
    }
}

impl SlowEngine {
    fn memory(&self) -> MemoryEngine {
        self.wire.state().memory.clone()
    }

    /// Most reads are quick, or a world would do little else.
    fn is_quick(&self) -> bool {
        let mut state = self.wire.state();
        state.rng.u32(..6) > 0
    }
}

impl Engine for SlowEngine {
    fn create(&self, name: &SetName, logs: u32, config: LogConfig) -> Answer<SetId> {
        self.memory().create(name, logs, config)
    }

    fn alter(&self, set: SetId, change: Change) -> Answer<()> {
        self.memory().alter(set, change)
    }

    fn delete(&self, set: SetId) -> Answer<()> {
        self.memory().delete(set)
    }

    fn list(&self, prefix: &str) -> Answer<Vec<SetInfo>> {
        self.memory().list(prefix)
    }

    fn append(&self, fences: &[Fence], batches: Vec<(LogId, Batch)>) -> Answer<Vec<Appended>> {
        let (lane, fences) = ((self.node, batches[0].0), fences.to_vec());
        self.wire
            .call(lane, move |state| state.append(fences, batches))
    }

    fn read(&self, log: LogId, from: Offset, limit: Limit) -> Answer<Chunk> {
        let read = move |state: &mut State| now(state.memory.read(log, from, limit));
        if self.is_quick() {
            return Box::pin(std::future::ready(read(&mut self.wire.state())));
        }
        self.wire.call((self.node, log), read)
    }

    fn bounds(&self, log: LogId) -> Answer<Bounds> {
        let bounds = move |state: &mut State| now(state.memory.bounds(log));
        if self.is_quick() {
            return Box::pin(std::future::ready(bounds(&mut self.wire.state())));
        }
        self.wire.call((self.node, log), bounds)
    }

    fn watch(&self, log: LogId, seen: Offset) -> Answer<Offset> {
        self.memory().watch(log, seen)
    }

    fn offset_at(&self, log: LogId, time: Timestamp) -> Answer<Offset> {
        self.memory().offset_at(log, time)
    }

    fn trim(&self, log: LogId, before: Offset) -> Answer<()> {
        let trim = move |state: &mut State| now(state.memory.trim(log, before));
        self.wire.call((self.node, log), trim)
    }

    fn claim(&self, log: LogId) -> Answer<Fence> {
        self.wire
            .call((self.node, log), move |state| state.claim(log))
    }
}
