//! A broker on an engine that may die over an append, and what is done to its queues.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use mente_broker::entity::{QueueProperties, Receiving, Sending};
use mente_broker::{
    Broker, Ending, EntityName, Error, Held, Message, Mode, Options, SessionLock, Standing,
    SubscriptionName, Taking, WantedSession,
};
use mente_engine::memory::MemoryEngine;
use mente_engine::{
    Answer, Appended, Batch, Bounds, Change, Chunk, Data, Engine, Fence, Limit, LogConfig, LogId,
    Offset, SetId, SetInfo, SetName, Timestamp,
};
use serde_json::Value;

use super::model::{Act, Heard, How, Row, Rules, SESSIONS, Sent, Time, Which};
use crate::clock::HandClock;
use crate::rounds::{ME, event};

/// After how many appends the process dies: before the next one, or when it is done and nobody has heard of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuse {
    pub(crate) appends: u32,
    pub(crate) is_done: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Mortal {
    pub(crate) engine: MemoryEngine,
    pub(crate) fuse: Arc<Mutex<Option<Fuse>>>,
    pub(crate) is_dead: Arc<Mutex<bool>>,
}

impl Engine for Mortal {
    fn create(&self, name: &SetName, logs: u32, config: LogConfig) -> Answer<SetId> {
        self.engine.create(name, logs, config)
    }
    fn alter(&self, set: SetId, change: Change) -> Answer<()> {
        self.engine.alter(set, change)
    }
    fn delete(&self, set: SetId) -> Answer<()> {
        self.engine.delete(set)
    }
    fn list(&self, prefix: &str) -> Answer<Vec<SetInfo>> {
        self.engine.list(prefix)
    }
    fn append(&self, fences: &[Fence], batches: Vec<(LogId, Batch)>) -> Answer<Vec<Appended>> {
        let mut is_dead = self.is_dead.lock().unwrap();
        if *is_dead {
            return futures::future::pending().boxed();
        }
        match &mut *self.fuse.lock().unwrap() {
            Some(fuse) if fuse.appends > 0 => fuse.appends -= 1,
            Some(fuse) => {
                *is_dead = true;
                let appended = fuse.is_done.then(|| self.engine.append(fences, batches));
                return async move {
                    if let Some(appended) = appended {
                        appended.await?;
                    }
                    futures::future::pending().await
                }
                .boxed();
            }
            None => {}
        }
        self.engine.append(fences, batches)
    }
    fn read(&self, log: LogId, from: Offset, limit: Limit) -> Answer<Chunk> {
        self.engine.read(log, from, limit)
    }
    fn bounds(&self, log: LogId) -> Answer<Bounds> {
        self.engine.bounds(log)
    }
    fn size(&self, log: LogId, offsets: Range<Offset>) -> Answer<Option<u64>> {
        self.engine.size(log, offsets)
    }
    fn watch(&self, log: LogId, seen: Offset) -> Answer<Offset> {
        self.engine.watch(log, seen)
    }
    fn offset_at(&self, log: LogId, time: Timestamp) -> Answer<Offset> {
        self.engine.offset_at(log, time)
    }
    fn trim(&self, log: LogId, before: Offset) -> Answer<()> {
        self.engine.trim(log, before)
    }
    fn claim(&self, log: LogId) -> Answer<Fence> {
        self.engine.claim(log)
    }
}

pub(super) struct World {
    engine: Mortal,
    clock: HandClock,
    pool: LocalPool,
    broker: Broker,
    rules: Rules,
    /// By the model's name of the lock.
    pub(super) locks: Vec<Lock>,
}

#[derive(Clone, Debug)]
pub(super) enum Lock {
    OnMessage(Which, mente_broker::Lock),
    OnSession(SessionLock),
}

/// What is to be seen of a queue.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) rows: Vec<Row>,
    pub(super) scheduled: Vec<Row>,
}

fn name(name: &str) -> EntityName {
    EntityName::new(name).unwrap()
}

pub(super) fn view(which: Which) -> SubscriptionName {
    let queue = SubscriptionName::queue(name("work"));
    match which {
        Which::Queue => queue,
        Which::Letters => queue.dead_letters(),
        Which::Other => SubscriptionName::queue(name("other")),
    }
}

impl World {
    pub(super) fn new(seed: u64, rules: &Rules) -> Self {
        let engine = Mortal {
            engine: MemoryEngine::new(seed),
            fuse: Arc::default(),
            is_dead: Arc::default(),
        };
        let mut world = Self::open(engine, HandClock::default(), rules.clone());
        let other = QueueProperties {
            receiving: Receiving {
                lock_duration_ms: rules.lock as u64,
                max_delivery_count: 1_000,
                ..Receiving::default()
            },
            ..QueueProperties::default()
        };
        let work = world.properties(false);
        let made = world.call(async move |b| {
            b.create_queue(&ME, "other", other).await?;
            b.create_queue(&ME, "work", work).await
        });
        made.expect("made at once").unwrap();
        world
    }

    fn open(engine: Mortal, clock: HandClock, rules: Rules) -> Self {
        let mut pool = LocalPool::new();
        let options = Options {
            shards: 4,
            ..Options::default()
        };
        let shared: Arc<dyn Engine> = Arc::new(engine.clone());
        let opened = Broker::open(shared, Arc::new(clock.clone()), options);
        let (broker, tasks) = pool.run_until(opened).unwrap();
        for task in tasks {
            let task = async { drop(task.await) };
            pool.spawner().spawn_local(task).unwrap();
        }
        pool.run_until(broker.ready()).unwrap();
        pool.run_until_stalled();
        Self {
            engine,
            clock,
            pool,
            broker,
            rules,
            locks: Vec::new(),
        }
    }

    fn properties(&self, forwards: bool) -> QueueProperties {
        let Rules {
            lock,
            max_delivery_count,
            has_sessions,
            window,
            letters_on_expiry,
            lives,
            forwards_letters,
        } = self.rules.clone();
        QueueProperties {
            receiving: Receiving {
                lock_duration_ms: lock as u64,
                max_delivery_count,
                requires_session: has_sessions,
                dead_letter_on_expiry: letters_on_expiry,
                forward_to: forwards.then(|| name("other")),
                forward_dead_letters_to: forwards_letters.then(|| name("other")),
            },
            sending: Sending {
                default_time_to_live_ms: lives.map(|lives| lives as u64),
                requires_duplicate_detection: window.is_some(),
                duplicate_window_ms: window.unwrap_or(20_000) as u64,
                ..Sending::default()
            },
        }
    }

    /// The process dies, and is there again after a while.
    pub(super) fn crash(self, down: Time) -> Self {
        let Self {
            engine,
            clock,
            rules,
            locks,
            pool,
            broker,
        } = self;
        drop((pool, broker));
        *engine.fuse.lock().unwrap() = None;
        *engine.is_dead.lock().unwrap() = false;
        clock.pass(Duration::from_millis(down as u64));
        let mut world = Self::open(engine, clock, rules);
        world.locks = locks;
        // It takes a moment until it is noticed that it is too late for a message.
        world.act(&Act::Pass(1), |_| 0);
        world
    }

    pub(super) fn arm(&mut self, fuse: Fuse) {
        *self.engine.fuse.lock().unwrap() = Some(fuse);
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.engine.is_dead.lock().unwrap()
    }

    /// Runs a call until nothing more happens; `None` if it has no answer by then.
    fn call<T: 'static, F: Future<Output = T> + 'static>(
        &mut self,
        call: impl FnOnce(Broker) -> F + 'static,
    ) -> Option<T> {
        let call = call(self.broker.clone());
        let answer = self.pool.spawner().spawn_local_with_handle(call).unwrap();
        self.pool.run_until_stalled();
        answer.now_or_never()
    }

    /// Does it; `None` if there is no answer. `numbers` tells those of scheduled messages.
    pub(super) fn act(&mut self, act: &Act, numbers: impl Fn(usize) -> u64) -> Option<Heard> {
        let answer = match act {
            Act::Send(sent) => {
                let messages = sent.iter().map(message).collect();
                let sent = self.call(async move |b| b.send(&ME, &name("work"), messages).await);
                sent?.map(|()| Heard::Done)
            }
            Act::Schedule(sent) => {
                let messages = sent.iter().map(message).collect();
                let sent = self.call(async move |b| b.schedule(&ME, &name("work"), messages).await);
                sent?.map(|_| Heard::Done)
            }
            Act::Cancel(serials) => {
                let numbers = serials.iter().map(|serial| numbers(*serial)).collect();
                let told =
                    self.call(async move |b| b.cancel_scheduled(&ME, &name("work"), numbers).await);
                told?.map(Heard::Held)
            }
            Act::Take {
                of,
                max,
                deletes,
                session,
            } => {
                let taking = Taking {
                    mode: mode(*deletes),
                    session: session.map(|lock| self.session(lock)),
                    ..Taking::locked(*max, Duration::ZERO)
                };
                let of = *of;
                let taken = self.call(async move |b| b.take(&ME, &view(of), taking).await);
                taken?.map(|held| self.handed(of, &held))
            }
            Act::TakeDeferred {
                of,
                numbers,
                deletes,
                session,
            } => {
                let session = session.map(|lock| self.session(lock));
                let (of, numbers, mode) = (*of, numbers.clone(), mode(*deletes));
                let taken = self.call(async move |b| {
                    b.take_deferred(&ME, &view(of), numbers, mode, session.as_ref())
                        .await
                });
                taken?.map(|held| self.handed(of, &held))
            }
            Act::End {
                of,
                locks,
                how,
                note,
            } => {
                let (of, tokens) = (*of, self.tokens(locks));
                let (how, ending) = (*how, ending(*how, note.clone()));
                let told = self.call(async move |b| match how {
                    How::CompleteSoon => b.complete_soon(&ME, &view(of), tokens).await,
                    _ => b.end_locks(&ME, &view(of), tokens, ending).await,
                });
                told?.map(Heard::Held)
            }
            Act::Renew { of, locks } => {
                let (of, tokens) = (*of, self.tokens(locks));
                let told = self.call(async move |b| b.renew_locks(&ME, &view(of), tokens).await);
                told?.map(|until| Heard::Renewed(until.into_iter().map(|u| Some(u?.0)).collect()))
            }
            Act::Delete { of, max, before } => {
                let (of, max, before) = (*of, *max, Timestamp(*before));
                let told = self.call(async move |b| {
                    b.delete_messages(&ME, &view(of), max as u64, before, None)
                        .await
                });
                told?.map(Heard::Deleted)
            }
            Act::Forward(on) => {
                let properties = self.properties(*on);
                let told =
                    self.call(async move |b| b.update_queue(&ME, &name("work"), properties).await);
                told?.map(|_| Heard::Done)
            }
            Act::Pass(time) => {
                self.clock.pass(Duration::from_millis(*time as u64));
                self.pool.run_until_stalled();
                Ok(Heard::Done)
            }
            _ => return self.of_session(act),
        };
        Some(answer.unwrap_or_else(refused))
    }

    fn of_session(&mut self, act: &Act) -> Option<Heard> {
        let queue = view(Which::Queue);
        let answer = match act {
            Act::Accept(wanted) => {
                let wanted = match wanted {
                    Some(name) => WantedSession::Named(SESSIONS[*name].to_owned()),
                    None => WantedSession::Next,
                };
                let told = self.call(async move |b| {
                    b.accept_session(&ME, &queue, wanted, Duration::ZERO).await
                });
                told?.map(|accepted| {
                    Heard::Accepted(accepted.map(|(lock, until)| {
                        let name = SESSIONS.iter().position(|name| *name == lock.session);
                        self.locks.push(Lock::OnSession(lock));
                        (name.unwrap(), until.0)
                    }))
                })
            }
            Act::RenewSession(lock) => {
                let lock = self.session(*lock);
                let told = self.call(async move |b| b.renew_session(&ME, &queue, &lock).await);
                told?.map(|until| Heard::Until(until.0))
            }
            Act::Release(lock) => {
                let lock = self.session(*lock);
                let told = self.call(async move |b| b.release_session(&ME, &queue, &lock).await);
                told?.map(|()| Heard::Done)
            }
            Act::SetState(lock, state) => {
                let (lock, state) = (
                    self.session(*lock),
                    state.map(|byte| Bytes::from(vec![byte])),
                );
                let told =
                    self.call(async move |b| b.set_session_state(&ME, &queue, &lock, state).await);
                told?.map(|()| Heard::Done)
            }
            Act::GetState(lock) => {
                let lock = self.session(*lock);
                let told = self.call(async move |b| b.session_state(&ME, &queue, &lock).await);
                told?.map(|state| Heard::State(state.map(|bytes| bytes[0])))
            }
            _ => unreachable!("{act:?} is of no session"),
        };
        Some(answer.unwrap_or_else(refused))
    }

    /// Everything that is there of a queue, from this number on.
    pub(super) fn peek(
        &mut self,
        of: Which,
        from: u64,
        max: usize,
        session: Option<usize>,
    ) -> Seen {
        let session = session.map(|name| SESSIONS[name]);
        let held = self.call(async move |b| b.peek(&ME, &view(of), from, max, session).await);
        let held = held.expect("peeking waits for nothing").unwrap();
        let (scheduled, rest) = held
            .iter()
            .partition::<Vec<_>, _>(|h| h.standing == Standing::Scheduled);
        Seen {
            rows: rest.into_iter().map(row).collect(),
            scheduled: scheduled.into_iter().map(row).collect(),
        }
    }

    /// Those that wait, dead letters, scheduled ones.
    pub(super) fn counts(&mut self, of: Which) -> (u64, u64, u64) {
        let counts = self.call(async move |b| b.message_counts(&ME, &view(of)).await);
        let counts = counts.expect("counted at once").unwrap();
        assert_eq!((counts.transfer, counts.transfer_dead_letters), (0, 0));
        (counts.active, counts.dead_letters, counts.scheduled)
    }

    pub(super) fn session_names(&mut self) -> Vec<String> {
        let names = self.call(async |b| b.sessions(&ME, &view(Which::Queue), None, 0, 10).await);
        names.expect("known at once").unwrap()
    }

    fn handed(&mut self, of: Which, held: &[Held]) -> Heard {
        let locks = held.iter().filter_map(|held| held.lock);
        self.locks
            .extend(locks.map(|lock| Lock::OnMessage(of, lock)));
        Heard::Handed(held.iter().map(row).collect())
    }

    fn tokens(&self, locks: &[usize]) -> Vec<mente_broker::queue::LockToken> {
        let token = |lock: &usize| match &self.locks[*lock] {
            Lock::OnMessage(_, lock) => lock.token,
            Lock::OnSession(lock) => unreachable!("{lock:?} is on no message"),
        };
        locks.iter().map(token).collect()
    }

    fn session(&self, lock: usize) -> SessionLock {
        match &self.locks[lock] {
            Lock::OnSession(lock) => lock.clone(),
            Lock::OnMessage(..) => unreachable!("{lock} is on no session"),
        }
    }
}

fn refused(error: Error) -> Heard {
    Heard::Refused(error.kind)
}

fn mode(deletes: bool) -> Mode {
    match deletes {
        true => Mode::Delete,
        false => Mode::Lock,
    }
}

fn ending(how: How, note: Option<String>) -> Ending {
    match how {
        How::Complete | How::CompleteSoon => Ending::Complete,
        How::Abandon => Ending::Abandon { note },
        How::Defer => Ending::Defer { note },
        How::DeadLetter => Ending::DeadLetter {
            reason: "Bad".to_owned(),
            description: "said its receiver".to_owned(),
            note,
        },
        How::Return => Ending::Return,
    }
}

fn message(sent: &Sent) -> Message {
    let mut event = event(sent.serial);
    event.id = sent.id.to_string();
    event.key = sent
        .session
        .map(|name| Bytes::from_static(SESSIONS[name].as_bytes()));
    Message {
        event,
        time_to_live: sent.lives.map(|lives| Duration::from_millis(lives as u64)),
        due: sent.due.map(Timestamp),
        body: None,
    }
}

fn row(held: &Held) -> Row {
    let event = &held.stored.event;
    let Data::Json(data) = &event.data else {
        panic!("{event:?} was not sent")
    };
    let data: Value = serde_json::from_slice(data).unwrap();
    let reason = event.extension(mente_broker::dead_letter::REASON);
    Row {
        number: held.number,
        serial: data["order"].as_u64().unwrap() as usize,
        id: event.id.parse().unwrap(),
        failed: held.failed,
        is_deferred: held.standing == Standing::Deferred,
        enqueued: held.stored.time.0,
        lives: held.time_to_live.map(|lives| lives.as_millis() as Time),
        due: held.due.map(|due| due.0),
        note: held.note.clone(),
        reason: reason.map(|reason| reason.to_text()),
    }
}
