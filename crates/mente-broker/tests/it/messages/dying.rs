//! A broker that dies over an append.

use std::sync::Arc;

use futures::FutureExt;
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use mente_broker::{Broker, Options, Transaction};
use mente_engine::memory::MemoryEngine;

use super::*;
use crate::clock::HandClock;
use crate::queue_laws::world::{Fuse, Mortal};

pub(super) struct Dying {
    pub(super) engine: Mortal,
    pub(super) clock: HandClock,
    pub(super) pool: LocalPool,
    pub(super) broker: Broker,
}

impl Dying {
    /// It may die before it is ready.
    fn start(engine: Mortal, clock: HandClock) -> Self {
        let mut pool = LocalPool::new();
        let shared: Arc<dyn Engine> = Arc::new(engine.clone());
        let opened = Broker::open(shared, Arc::new(clock.clone()), Options::default());
        let (broker, tasks) = pool.run_until(opened).unwrap();
        for task in tasks {
            let task = async { drop(task.await) };
            pool.spawner().spawn_local(task).unwrap();
        }
        pool.run_until_stalled();
        Self {
            engine,
            clock,
            pool,
            broker,
        }
    }

    fn open(engine: Mortal, clock: HandClock) -> Self {
        let mut world = Self::start(engine, clock);
        world.pool.run_until(world.broker.ready()).unwrap();
        world.pool.run_until_stalled();
        world
    }

    /// Lets time go by, a little at a time.
    pub(super) fn pass(&mut self) {
        for _ in 0..9 {
            self.clock.pass(Duration::from_millis(3));
            self.pool.run_until_stalled();
        }
    }

    /// It dies now, and the next one too, over what it finds to be done; tells whether that died.
    pub(super) fn crash_into(self, fuse: Fuse) -> (Self, bool) {
        let Self { engine, clock, .. } = self;
        *engine.is_dead.lock().unwrap() = false;
        *engine.fuse.lock().unwrap() = Some(fuse);
        let mut world = Self::start(engine, clock);
        world.pass();
        let is_dead = *world.engine.is_dead.lock().unwrap();
        (world, is_dead)
    }

    pub(super) fn crash(self) -> Self {
        let Self { engine, clock, .. } = self;
        *engine.fuse.lock().unwrap() = None;
        *engine.is_dead.lock().unwrap() = false;
        let mut world = Self::open(engine, clock);
        world.clock.pass(Duration::from_millis(1));
        world.pool.run_until_stalled();
        world
    }

    /// With so many messages in its queue, of which so many are out.
    pub(super) fn with_queue(messages: usize, out: usize) -> (Self, Vec<Held>) {
        let engine = Mortal {
            engine: MemoryEngine::new(7),
            fuse: Arc::default(),
            is_dead: Arc::default(),
        };
        let mut world = Self::open(engine, HandClock::default());
        let (broker, view, to) = (world.broker.clone(), queue(), queue().topic);
        let made = broker.create_queue(&ME, "work", plain());
        world.pool.run_until(made).unwrap();
        let sent = broker.send(&ME, &to, (0..messages).map(message).collect());
        world.pool.run_until(sent).unwrap();
        let taking = Taking::locked(out, Duration::from_secs(1));
        let out = world.pool.run_until(broker.take(&ME, &view, taking));
        (world, out.unwrap())
    }

    /// `None` if it has no answer.
    pub(super) fn commit(&mut self, transaction: Transaction) -> Option<mente_broker::Result<()>> {
        let broker = self.broker.clone();
        let commit = async move { broker.commit(&queue().topic, transaction).await };
        let mut commit = self.pool.spawner().spawn_local_with_handle(commit).unwrap();
        for _ in 0..3 {
            self.pool.run_until_stalled();
            if let Some(done) = (&mut commit).now_or_never() {
                return Some(done);
            }
            self.clock.pass(Duration::from_millis(3));
        }
        None
    }

    pub(super) fn all(&mut self, view: &SubscriptionName) -> Vec<usize> {
        let taking = Taking::locked(100, Duration::ZERO);
        let broker = self.broker.clone();
        ids(&self.pool.run_until(broker.take(&ME, view, taking)).unwrap())
    }
}
