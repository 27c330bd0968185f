//! Whatever keeps what the catalogue declares: the loop, and a task for each declaration.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use mente_broker::{Broker, Definition, EntityName, Error, Principal, Result};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often the catalogue is looked at for declarations made elsewhere.
const LOOK: Duration = Duration::from_millis(500);

/// Reconciles now and every so often, until `stop` holds true; a sender that is gone means the same.
pub(crate) async fn keep<F: Future<Output = ()>>(
    mut stop: watch::Receiver<bool>,
    reconcile: impl Fn() -> F,
) {
    let keeping = async {
        loop {
            reconcile().await;
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = keeping => {}
    }
}

/// A task for each declaration of one kind, with a board of what it shows. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Tasks<B> {
    broker: Broker,
    kind: Definition,
    /// In whose name the catalogue is read.
    who: Principal,
    kept: Arc<Mutex<BTreeMap<EntityName, Kept<B>>>>,
    turns: Turns,
    running: Arc<AtomicBool>,
}

/// Whoever works for a name holds its turn: who takes over waits until the one before is gone.
type Turns = Arc<Mutex<BTreeMap<EntityName, Arc<tokio::sync::Mutex<()>>>>>;

#[derive(Debug)]
struct Kept<B> {
    body: Value,
    board: Arc<Mutex<B>>,
    /// None where the declaration cannot be kept; the board says why.
    task: Option<JoinHandle<()>>,
}

impl<B> Clone for Tasks<B> {
    fn clone(&self) -> Self {
        Self {
            broker: self.broker.clone(),
            kind: self.kind,
            who: self.who.clone(),
            kept: Arc::clone(&self.kept),
            turns: Arc::clone(&self.turns),
            running: Arc::clone(&self.running),
        }
    }
}

impl<B: Default> Tasks<B> {
    /// None is begun before [`Tasks::run`].
    pub(crate) fn new(broker: Broker, kind: Definition, who: &str) -> Self {
        Self {
            broker,
            kind,
            who: Principal::Key(who.to_owned()),
            kept: Arc::default(),
            turns: Arc::default(),
            running: Arc::default(),
        }
    }

    /// Keeps a task for each declaration until `stop` holds true; then all of them are ended.
    pub(crate) async fn run(
        &self,
        stop: watch::Receiver<bool>,
        start: impl Fn(&EntityName, &Value, &Arc<Mutex<B>>) -> Option<BoxFuture<'static, ()>>,
    ) {
        self.running.store(true, Ordering::Relaxed);
        keep(stop, || async { self.reconcile(&start) }).await;
        self.running.store(false, Ordering::Relaxed);
        self.lock().clear();
    }

    /// Stops what is no longer declared so, starts what is.
    pub(crate) fn reconcile(
        &self,
        start: impl Fn(&EntityName, &Value, &Arc<Mutex<B>>) -> Option<BoxFuture<'static, ()>>,
    ) {
        let mut kept = self.lock();
        // Read with the lock held, or an older look could undo a newer one.
        let declared = match self.declared(&self.who) {
            Ok(declared) if self.running.load(Ordering::Relaxed) => declared,
            _ => return,
        };
        // One that ended by itself failed: it is begun anew.
        let is_over = |kept: &Kept<B>| kept.task.as_ref().is_some_and(JoinHandle::is_finished);
        kept.retain(|name, kept| declared.get(name) == Some(&kept.body) && !is_over(kept));
        for (name, body) in declared {
            kept.entry(name).or_insert_with_key(|name| {
                let board = Arc::default();
                let work = start(name, &body, &board);
                let task = work.map(|work| {
                    let turn = self.turn(name);
                    tokio::spawn(async move {
                        let _turn = turn.lock_owned().await;
                        work.await;
                    })
                });
                Kept { body, board, task }
            });
        }
    }

    fn turn(&self, name: &EntityName) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(name.clone()).or_default())
    }

    /// It is begun anew by the next reconciling.
    pub(crate) fn forget(&self, name: &EntityName) {
        self.lock().remove(name);
    }

    pub(crate) fn declared(&self, who: &Principal) -> Result<BTreeMap<EntityName, Value>> {
        let catalogue = self.broker.catalogue(who)?;
        let declared = catalogue.definitions.iter();
        let declared = declared.filter(|((kind, _), _)| *kind == self.kind);
        Ok(declared
            .map(|((_, name), body)| (name.clone(), body.clone()))
            .collect())
    }

    /// What is declared under this name, at whatever node just now.
    pub(crate) async fn body(
        &self,
        who: &Principal,
        what: &str,
        name: &EntityName,
    ) -> Result<Value> {
        if let Some(body) = self.declared(who)?.remove(name) {
            return Ok(body);
        }
        self.broker.await_catalogue().await;
        let body = self.declared(who)?.remove(name);
        body.ok_or_else(|| Error::not_found(what, name.as_str()))
    }

    /// What is shown of one; none if it is not begun.
    pub(crate) fn board(&self, name: &EntityName) -> Option<Arc<Mutex<B>>> {
        self.lock().get(name).map(|kept| Arc::clone(&kept.board))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EntityName, Kept<B>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Drop for Kept<B> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
