//! Branches of any moment of a busy broker: what they show is what was there then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use mente_broker::queue::{Settings, Settlement};
use mente_broker::{
    Branch, Broker, Direction, EntityName, Expected, Options, Query, Start, StreamName,
    SubscriptionName,
};
use mente_engine::memory::MemoryEngine;
use mente_engine::{Clock, Engine, Offset, Timestamp};

use crate::clock::HandClock;
use crate::rounds::{ME, event};

/// What there was at a moment, each event by its id.
#[derive(Clone, Debug, Default)]
struct Moment {
    at: i64,
    topic: Vec<String>,
    /// Not done with and not given up on.
    waiting: BTreeSet<String>,
    store: Vec<String>,
}

struct World {
    pool: LocalPool,
    clock: HandClock,
    broker: Broker,
    rng: Rng,
    ids: usize,
    now: Moment,
    moments: Vec<Moment>,
}

fn topic() -> EntityName {
    EntityName::new("orders").unwrap()
}

fn mail() -> SubscriptionName {
    SubscriptionName {
        topic: topic(),
        name: EntityName::new("mail").unwrap(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let (mut pool, clock) = (LocalPool::new(), HandClock::default());
        let options = Options {
            // One journal for all, the store's blocks too, or several.
            shards: if seed.is_multiple_of(3) { 1 } else { 3 },
            create_topics: true,
            snapshot_bytes: if seed.is_multiple_of(2) {
                2_000
            } else {
                40_000
            },
            tail_events: 8,
            ..Options::default()
        };
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new(seed));
        let opened = Broker::open(engine, Arc::new(clock.clone()), options);
        let (broker, tasks) = pool.run_until(opened).unwrap();
        for task in tasks {
            pool.spawner()
                .spawn_local(async { drop(task.await) })
                .unwrap();
        }
        pool.run_until(broker.ready()).unwrap();
        let settings = Settings {
            lock_duration_ms: 300_000,
            ..Settings::default()
        };
        let (name, rng) = (mail(), Rng::with_seed(seed));
        let made = broker.create_subscription(&ME, &name, settings, Start::Earliest);
        pool.run_until(made).unwrap();
        Self {
            pool,
            clock,
            broker,
            rng,
            ids: 0,
            now: Moment::default(),
            moments: Vec::new(),
        }
    }

    fn id(&mut self) -> usize {
        self.ids += 1;
        self.ids
    }

    fn step(&mut self) {
        let broker = self.broker.clone();
        match self.rng.u32(0..10) {
            0..3 => {
                let id = self.id();
                let topic = topic();
                let published = broker.publish(&ME, &topic, vec![event(id)]);
                self.pool.run_until(published).unwrap()[0].as_ref().unwrap();
                self.now.topic.push(id.to_string());
                self.now.waiting.insert(id.to_string());
            }
            3..6 => {
                let id = self.id();
                let stream = StreamName::new(format!("order-{}", self.rng.u32(0..4))).unwrap();
                let appended = broker.append_stream(&ME, &stream, Expected::Any, vec![event(id)]);
                self.pool.run_until(appended).unwrap();
                self.now.store.push(id.to_string());
            }
            _ => self.receive_and_settle(),
        }
        self.pool.run_until_stalled();
        self.now.at = self.clock.now().wall.0;
        self.moments.push(self.now.clone());
        self.clock.pass(Duration::from_millis(2));
        self.pool.run_until_stalled();
    }

    fn receive_and_settle(&mut self) {
        let (broker, name) = (self.broker.clone(), mail());
        let most = self.rng.usize(1..4);
        let received = broker.receive(&ME, &name, most, Duration::ZERO);
        let received = self.pool.run_until(received).unwrap();
        let how = match self.rng.u32(0..4) {
            0 => Settlement::Release {
                delay: Duration::ZERO,
                detail: "x".repeat(100),
            },
            1 => Settlement::Reject {
                reason: "no".into(),
                detail: "x".repeat(100),
            },
            _ => Settlement::Complete,
        };
        let is_end = !matches!(how, Settlement::Release { .. });
        let tokens = received.iter().map(|r| r.token).collect();
        let settled = broker.settle(&ME, &name, tokens, how);
        self.pool.run_until(settled).unwrap();
        if is_end {
            for one in &received {
                self.now.waiting.remove(&one.stored.event.id);
            }
        }
    }

    fn fork(&mut self, name: &str, at: Option<i64>) -> (Broker, bool) {
        let (broker, name) = (self.broker.clone(), EntityName::new(name).unwrap());
        let forked = broker.fork(&ME, &name, at.map(Timestamp));
        let forked = self.pool.run_until(forked).unwrap();
        let opened = self.pool.run_until(broker.open_branch(&name)).unwrap();
        let Branch { broker, shards, .. } = opened;
        for task in shards {
            self.pool
                .spawner()
                .spawn_local(async { drop(task.await) })
                .unwrap();
        }
        self.pool.run_until(broker.ready()).unwrap();
        (broker, forked.deliveries.is_none())
    }

    fn topic_of(&mut self, broker: &Broker) -> Vec<String> {
        let (mut next, mut found) = (Offset(0), Vec::new());
        loop {
            let name = topic();
            let read = broker.read(&ME, &name, 0, next, 3);
            let Ok((events, behind)) = self.pool.run_until(read) else {
                return found;
            };
            if behind <= next {
                return found;
            }
            next = behind;
            found.extend(events.into_iter().map(|stored| stored.event.id));
        }
    }

    fn store_of(&mut self, broker: &Broker) -> Vec<String> {
        let (query, mut from, mut events) = (Query::default(), 0, Vec::new());
        loop {
            let found = broker.find_events(&ME, &query, from, Direction::Forwards, 1_000);
            let found = self.pool.run_until(found).unwrap();
            events.extend(found.events);
            match found.next {
                Some(next) if next < found.end => from = next,
                _ => break,
            }
        }
        let positions = events.iter().map(|event| event.place.position);
        assert!(positions.eq(0..events.len() as u64), "dense");
        events.into_iter().map(|event| event.event.id).collect()
    }

    /// Everything that a subscription still delivers.
    fn drain(&mut self, broker: &Broker) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        loop {
            self.pool.run_until_stalled();
            let name = mail();
            let received = broker.receive(&ME, &name, 50, Duration::ZERO);
            // Of a moment before there was one.
            let Ok(received) = self.pool.run_until(received) else {
                return found;
            };
            if received.is_empty() {
                return found;
            }
            found.extend(received.into_iter().map(|r| r.stored.event.id));
        }
    }

    fn has_no_subscription(&mut self, broker: &Broker) -> bool {
        let name = topic();
        let listed = self.pool.run_until(broker.subscriptions(&ME, &name));
        listed.is_ok_and(|listed| listed.is_empty())
    }

    fn check(&mut self, branch: &Broker, moment: &Moment, is_exact: bool) {
        assert_eq!(self.topic_of(branch), moment.topic, "{moment:?}");
        assert_eq!(self.store_of(branch), moment.store, "{moment:?}");
        let verified = self.pool.run_until(branch.verify(&ME)).unwrap();
        assert!(verified.iter().all(|v| v.equal), "{verified:?}");
        let (own, orders) = (event(8_888), topic());
        let published = branch.publish(&ME, &orders, vec![own.clone()]);
        self.pool.run_until(published).unwrap()[0].as_ref().unwrap();
        let mut waiting = self.drain(branch);
        // A subscription of a moment before there was one has nothing to deliver.
        let has_own = waiting.remove(&own.id);
        assert!(has_own || self.has_no_subscription(branch), "{moment:?}");
        if is_exact {
            assert_eq!(waiting, moment.waiting, "{moment:?}");
            return;
        }
        let published: BTreeSet<_> = moment.topic.iter().cloned().collect();
        let is_of = |later: &Moment| {
            let there = later.waiting.intersection(&published);
            later.at >= moment.at && there.eq(waiting.iter())
        };
        assert!(self.moments.iter().any(is_of), "{waiting:?} {moment:?}");
    }
}

#[test]
fn a_branch_of_any_moment_is_that_moment() {
    let (mut exact, mut later) = (0, 0);
    for seed in 1..25 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.step();
        }
        let moments = world.moments.clone();
        let now = moments.last().unwrap().clone();
        let (branch, is_exact) = world.fork("now", None);
        assert!(is_exact);
        world.check(&branch, &now, true);
        for round in 0..6 {
            let moment = moments[world.rng.usize(0..moments.len())].clone();
            let (branch, is_exact) = world.fork(&format!("b{round}"), Some(moment.at));
            // What default does meanwhile is nothing to the branch.
            for _ in 0..3 {
                world.step();
            }
            world.check(&branch, &moment, is_exact);
            match is_exact {
                true => exact += 1,
                false => later += 1,
            }
            // And the other way about.
            let stream = StreamName::new("order-0").unwrap();
            let appended = branch.append_stream(&ME, &stream, Expected::Any, vec![event(9_999)]);
            world.pool.run_until(appended).unwrap();
            let broker = world.broker.clone();
            let (store, topic) = (world.store_of(&broker), world.topic_of(&broker));
            assert_eq!(
                (store, topic),
                (world.now.store.clone(), world.now.topic.clone())
            );
        }
    }
    assert!(exact > 20 && later > 20, "{exact} exact, {later} later");
}
