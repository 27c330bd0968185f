//! Rounds over the memory engine: crashes, unknown outcomes, receivers that wait and leave.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::executor::{LocalPool, LocalSpawner};
use futures::task::{LocalSpawnExt, SpawnExt};
use mente_broker::queue::{Settings, Settlement};
use mente_broker::{
    AsOf, Broker, Definition, EntityName, Expected, Kind, Made, Options, Principal, Start,
    StreamName, SubscriptionName,
};
use mente_engine::memory::{Fault, MemoryEngine};
use mente_engine::{Data, Engine, Event, LogId, Offset};
use serde_json::json;

use crate::clock::HandClock;

/// The world of one test; dropping the pool is the crash.
pub(crate) struct World {
    pub(crate) engine: MemoryEngine,
    clock: HandClock,
    pub(crate) pool: LocalPool,
    pub(crate) broker: Broker,
}

pub(crate) const ME: Principal = Principal::Anonymous;

pub(crate) fn topic() -> EntityName {
    EntityName::new("orders").unwrap()
}

pub(crate) fn shipping() -> SubscriptionName {
    SubscriptionName {
        topic: topic(),
        name: EntityName::new("shipping").unwrap(),
    }
}

pub(crate) fn event(id: usize) -> Event {
    Event {
        id: id.to_string(),
        source: "/shop".into(),
        kind: "OrderPlaced".into(),
        data: Data::Json(Bytes::from(format!("{{\"order\": {id}}}"))),
        ..Event::default()
    }
}

fn open(engine: MemoryEngine, clock: HandClock) -> World {
    let mut world = start(engine, clock, World::options());
    world.pool.run_until(world.broker.ready()).unwrap();
    world
}

/// Its shards may not have come up.
fn start(engine: MemoryEngine, clock: HandClock, options: Options) -> World {
    let mut pool = LocalPool::new();
    let spawner: LocalSpawner = pool.spawner();
    let shared: Arc<dyn Engine> = Arc::new(engine.clone());
    let (broker, tasks) = pool
        .run_until(Broker::open(shared, Arc::new(clock.clone()), options))
        .unwrap();
    for task in tasks {
        spawner.spawn(async { drop(task.await) }).unwrap();
    }
    World {
        engine,
        clock,
        pool,
        broker,
    }
}

impl World {
    pub(crate) fn options() -> Options {
        Options {
            shards: 4,
            create_topics: true,
            ..Options::default()
        }
    }

    /// Without anything.
    pub(crate) fn opened(seed: u64, options: Options) -> Self {
        start(MemoryEngine::new(seed), HandClock::default(), options)
    }

    pub(crate) fn new(seed: u64) -> Self {
        let mut world = open(MemoryEngine::new(seed), HandClock::default());
        let settings = Settings {
            lock_duration_ms: 1_000,
            max_delivery_count: 2,
            ..Settings::default()
        };
        let broker = world.broker.clone();
        let name = shipping();
        let created = broker.create_subscription(&ME, &name, settings, Start::Earliest);
        world.pool.run_until(created).unwrap();
        world
    }

    pub(crate) fn crash(self) -> Self {
        let (engine, clock) = (self.engine.clone(), self.clock.clone());
        drop(self);
        open(engine, clock)
    }

    /// Whoever holds it lets go, its shards end, and another one is there.
    pub(crate) fn stop(self) -> Self {
        let Self {
            engine,
            clock,
            mut pool,
            broker,
        } = self;
        drop(broker);
        pool.run_until_stalled();
        drop(pool);
        open(engine, clock)
    }

    /// The same, and nobody waits until it is ready.
    pub(crate) fn crash_and_start(self) -> Self {
        let (engine, clock) = (self.engine.clone(), self.clock.clone());
        drop(self);
        start(engine, clock, Self::options())
    }

    pub(crate) fn publish(&mut self, ids: std::ops::Range<usize>) {
        let broker = self.broker.clone();
        let results = self
            .pool
            .run_until(broker.publish(&ME, &topic(), ids.map(event).collect()));
        results
            .unwrap()
            .into_iter()
            .for_each(|result| assert!(result.is_ok(), "{result:?}"));
        self.pool.run_until_stalled();
    }

    pub(crate) fn receive(&mut self, max: usize) -> Vec<mente_broker::Received> {
        let broker = self.broker.clone();
        self.pool
            .run_until(broker.receive(&ME, &shipping(), max, Duration::ZERO))
            .unwrap()
    }

    pub(crate) fn settle(
        &mut self,
        received: &[mente_broker::Received],
        how: Settlement,
    ) -> mente_broker::Result<Vec<bool>> {
        let broker = self.broker.clone();
        let tokens = received.iter().map(|r| r.token).collect();
        self.pool
            .run_until(broker.settle(&ME, &shipping(), tokens, how))
    }

    pub(crate) fn pass(&mut self, delay: Duration) {
        self.clock.pass(delay);
        self.pool.run_until_stalled();
    }

    pub(crate) fn log_of_orders(&mut self) -> LogId {
        let sets = self.pool.run_until(self.engine.list("")).unwrap();
        let topic = sets.iter().find(|s| s.name.as_str().ends_with("/orders"));
        topic.unwrap().id.log(0)
    }

    /// The offset of every event of the topic.
    pub(crate) fn places(&mut self) -> Vec<Offset> {
        let (broker, topic) = (self.broker.clone(), topic());
        let read = broker.read(&ME, &topic, 0, Offset(0), 1_000);
        let (events, _) = self.pool.run_until(read).unwrap();
        events.iter().map(|event| event.position.offset).collect()
    }

    pub(crate) fn dead_letters(&mut self) -> Vec<Event> {
        let (broker, name) = (self.broker.clone(), shipping());
        let read = broker.read_dead_letters(&ME, &name, Offset(0), 1_000);
        let (dead, _) = self.pool.run_until(read).unwrap();
        dead.into_iter().map(|stored| stored.event).collect()
    }

    /// Dead letters whose copy is not confirmed.
    pub(crate) fn dying(&mut self) -> u64 {
        let (broker, topic) = (self.broker.clone(), topic());
        let listed = self.pool.run_until(broker.subscriptions(&ME, &topic));
        listed.unwrap()[0].counts.dying
    }

    pub(crate) fn journal_of_shipping(&mut self) -> LogId {
        self.journal_of("orders")
    }

    /// Of the shard that decides for a topic or queue.
    pub(crate) fn journal_of(&mut self, topic: &str) -> LogId {
        let sets = self.pool.run_until(self.engine.list("")).unwrap();
        let journal = sets
            .iter()
            .find(|s| s.name.as_str().ends_with("$journal"))
            .unwrap()
            .id;
        journal.log(mente_broker::partition::for_key(topic.as_bytes(), 4))
    }
}

pub(crate) fn ids(received: &[mente_broker::Received]) -> Vec<usize> {
    received
        .iter()
        .map(|r| r.stored.event.id.parse().unwrap())
        .collect()
}

#[test]
fn what_is_settled_stays_settled_over_a_crash() {
    for seed in 1..10 {
        let mut world = World::new(seed);
        world.publish(0..5);
        let out = world.receive(3);
        assert_eq!(ids(&out), [0, 1, 2]);
        assert_eq!(
            out[0].stored.event.data,
            Data::Json(Bytes::from_static(b"{\"order\": 0}"))
        );
        assert_eq!(
            world.settle(&out[1..2], Settlement::Complete).unwrap(),
            [true]
        );
        let mut world = world.crash();
        world.pool.run_until_stalled();
        let again = world.receive(9);
        assert_eq!(ids(&again), [0, 2, 3, 4]);
        assert_eq!(
            again[0].count, 1,
            "a lease that the crash ended is no failed attempt"
        );
        assert_eq!(
            world.settle(&out[..1], Settlement::Complete).unwrap(),
            [false],
            "old tokens are void"
        );
    }
}

#[test]
fn a_lock_says_nothing_about_a_later_subscription_of_the_same_name() {
    let mut world = World::new(2);
    world.publish(0..2);
    let old = world.receive(2);
    let (broker, name) = (world.broker.clone(), shipping());
    let deleted = broker.delete_subscription(&ME, &name);
    world.pool.run_until(deleted).unwrap();
    let settings = Settings {
        lock_duration_ms: 1_000,
        ..Settings::default()
    };
    let made = broker.create_subscription(&ME, &name, settings, Start::Earliest);
    world.pool.run_until(made).unwrap();
    world.pool.run_until_stalled();
    assert_eq!(ids(&world.receive(2)), [0, 1]);
    let held = world.settle(&old, Settlement::Complete).unwrap();
    assert_eq!(held, [false, false]);
    world.pass(Duration::from_secs(1));
    let again = ids(&world.receive(2));
    assert_eq!(again, [0, 1], "whoever received them last settled nothing");
}

#[test]
fn settings_that_no_journal_holds_are_refused_and_end_no_lease() {
    let mut world = World::new(3);
    world.publish(0..1);
    let out = world.receive(1);
    let large = "x".repeat(mente_engine::limits::BATCH_BYTES);
    let settings = Settings {
        filter: serde_json::from_value(json!({"exact": {"type": large}})).unwrap(),
        ..Settings::default()
    };
    let broker = world.broker.clone();
    let name = SubscriptionName {
        name: EntityName::new("billing").unwrap(),
        ..shipping()
    };
    let made = broker.create_subscription(&ME, &name, settings, Start::Earliest);
    let error = world.pool.run_until(made).unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge, "{error}");
    assert_eq!(world.settle(&out, Settlement::Complete), Ok(vec![true]));
}

#[test]
fn an_unknown_outcome_is_told_as_unknown_and_the_journal_decides() {
    for fault in [Fault::UnknownButDone, Fault::UnknownAndLost] {
        let mut world = World::new(5);
        world.publish(0..2);
        let out = world.receive(1);
        let journal = world.journal_of_shipping();
        world.engine.inject(journal, fault);
        let error = world.settle(&out, Settlement::Complete).unwrap_err();
        assert_eq!(error.kind, Kind::Unknown);
        world.pass(Duration::from_secs(1));
        let left: &[usize] = if fault == Fault::UnknownButDone {
            &[1]
        } else {
            &[0, 1]
        };
        assert_eq!(ids(&world.receive(9)), left);
    }
}

#[test]
fn receivers_hear_of_a_subscription_whose_making_was_told_as_unknown() {
    let mut world = World::new(5);
    let journal = world.journal_of_shipping();
    world.engine.inject(journal, Fault::UnknownButDone);
    let broker = world.broker.clone();
    let name = SubscriptionName {
        name: EntityName::new("billing").unwrap(),
        ..shipping()
    };
    let make = || broker.create_subscription(&ME, &name, Settings::default(), Start::Earliest);
    let error = world.pool.run_until(make()).unwrap_err();
    assert_eq!(error.kind, Kind::Unknown);
    let seen = broker.subscription_bell().rings();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.pool.run_until(make()), Ok(Made::Before));
    assert!(broker.subscription_bell().rings() > seen);
}

#[test]
fn a_receiver_waits_for_the_first_event() {
    let mut world = World::new(2);
    let broker = world.broker.clone();
    let spawner = world.pool.spawner();
    let waiting = spawner
        .spawn_local_with_handle(async move {
            broker
                .receive(&ME, &shipping(), 5, Duration::from_secs(30))
                .await
        })
        .unwrap();
    world.pool.run_until_stalled();
    world.publish(0..1);
    assert_eq!(ids(&world.pool.run_until(waiting).unwrap()), [0]);
}

#[test]
fn a_receiver_that_left_takes_nothing_with_it() {
    let mut world = World::new(2);
    let broker = world.broker.clone();
    let name = shipping();
    let mut waiting = Box::pin(broker.receive(&ME, &name, 5, Duration::from_secs(30)));
    assert!(
        world
            .pool
            .run_until(async { futures::poll!(&mut waiting) })
            .is_pending()
    );
    world.pool.run_until_stalled();
    drop(waiting);
    // The next command finds out; an event published after it goes to who asks.
    assert!(world.receive(1).is_empty());
    world.publish(0..1);
    assert_eq!(ids(&world.receive(1)), [0]);
}

/// It leaves before it looks at its answer, after so many turns of the shard.
#[test]
fn what_never_reached_its_receiver_goes_to_the_next_one() {
    for turns in 0..4 {
        let mut world = World::new(2);
        world.publish(0..1);
        let broker = world.broker.clone();
        let name = shipping();
        let mut receiving = Box::pin(broker.receive(&ME, &name, 5, Duration::from_secs(30)));
        for _ in 0..turns {
            let _ = world
                .pool
                .run_until(async { futures::poll!(&mut receiving) });
        }
        world.pool.run_until_stalled();
        drop(receiving);
        let received = world.receive(1);
        assert_eq!(ids(&received), [0], "after {turns} turns");
        assert_eq!(received[0].count, 1, "not an attempt");
    }
}

#[test]
fn what_is_too_much_for_one_answer_comes_with_the_next() {
    let mut world = World::new(2);
    let broker = world.broker.clone();
    let big = |id| Event {
        data: Data::Binary(Bytes::from(vec![0; 1_000_000])),
        ..event(id)
    };
    for id in 0..20 {
        let topic = topic();
        let published = broker.publish(&ME, &topic, vec![big(id)]);
        world.pool.run_until(published).unwrap()[0]
            .as_ref()
            .unwrap();
    }
    world.pool.run_until_stalled();
    let mut all = Vec::new();
    for _ in 0..3 {
        let received = world.receive(100);
        assert!(received.len() <= 9, "{} MB", received.len());
        assert!(received.iter().all(|received| received.count == 1));
        all.extend(ids(&received));
    }
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

#[test]
fn what_is_damaged_holds_up_nothing_else() {
    let mut world = open(MemoryEngine::new(2), HandClock::default());
    let broker = world.broker.clone();
    let (topic, name) = (topic(), shipping());
    let made = world.pool.run_until(broker.create_topic(&ME, &topic, 2));
    let settings = Settings::default();
    let subscribed = broker.create_subscription(&ME, &name, settings, Start::Earliest);
    world.pool.run_until(subscribed).unwrap();
    // In turn: 0 and 2 in the first partition, 1 and 3 in the second.
    (0..4).for_each(|id| world.publish(id..id + 1));
    let first = broker.read(&ME, &topic, 0, Offset(0), 9);
    let (first, _) = world.pool.run_until(first).unwrap();
    let log = made.unwrap().0.set.log(0);
    world.engine.rot(log, first[1].position.offset);
    let received = world.receive(9);
    assert_eq!(ids(&received), [0, 1, 3]);
    let held = world.settle(&received, Settlement::Complete);
    assert_eq!(held.unwrap(), [true; 3]);
    world.publish(4..6);
    let lock = Settings::default().lock_duration_ms;
    world.pass(Duration::from_millis(lock));
    // One at a time, as webhooks receive: the damaged one is the first, but not for ever.
    let received: Vec<_> = (0..3).map(|_| ids(&world.receive(1))).collect();
    assert_eq!(received, [vec![], vec![5], vec![]]);
}

/// A disk that fails under one record is no reason to keep the others from whoever receives one at a time.
#[test]
fn what_cannot_be_read_now_holds_up_nothing_else() {
    let mut world = World::new(3);
    (0..3).for_each(|id| world.publish(id..id + 1));
    let log = world.log_of_orders();
    let places = world.places();
    world.engine.fail_reads(log, Some(places[0]));
    let (broker, name) = (world.broker.clone(), shipping());
    let refused = broker.receive(&ME, &name, 1, Duration::ZERO);
    let refused = world.pool.run_until(refused).unwrap_err();
    assert_eq!(refused.kind, Kind::Throttled, "{refused}");
    let received = world.receive(1);
    assert_eq!(ids(&received), [1]);
    assert_eq!(
        received[0].count, 1,
        "what was not looked at keeps its attempts"
    );
    world.engine.fail_reads(log, None);
    world.pass(Duration::from_secs(1));
    let received = world.receive(9);
    assert_eq!(ids(&received), [0, 1, 2]);
    assert_eq!(received[0].count, 2);
}

/// Who reads of a cluster whose broker is away takes no attempt from what he would have read.
#[test]
fn what_nobody_can_read_keeps_its_attempts() {
    let mut world = World::new(3);
    world.publish(0..2);
    let log = world.log_of_orders();
    let (broker, name) = (world.broker.clone(), shipping());
    for _ in 0..20 {
        world.engine.set_away(log, true);
        let refused = broker.receive(&ME, &name, 1, Duration::ZERO);
        let refused = world.pool.run_until(refused).unwrap_err();
        assert_eq!(refused.kind, Kind::Throttled, "{refused}");
        world.pool.run_until_stalled();
    }
    world.engine.set_away(log, false);
    let lock = Settings::default().lock_duration_ms;
    world.pass(Duration::from_millis(lock));
    let received = world.receive(9);
    assert_eq!(ids(&received), [0, 1]);
    assert!(received.iter().all(|r| r.count == 1), "{received:?}");
}

#[test]
fn a_dead_letter_says_that_its_record_was_damaged() {
    let mut world = World::new(3);
    world.publish(0..1);
    let received = world.receive(1);
    let (log, places) = (world.log_of_orders(), world.places());
    world.engine.rot(log, places[0]);
    let how = Settlement::Reject {
        reason: "Bad".into(),
        detail: "it is".into(),
    };
    assert_eq!(world.settle(&received, how).unwrap(), [true]);
    world.pool.run_until_stalled();
    let dead = world.dead_letters();
    assert_eq!(dead.len(), 1);
    let said = |name| dead[0].extension(name).unwrap().to_text();
    assert_eq!(dead[0].kind, mente_broker::dead_letter::UNREADABLE);
    assert_eq!(said(mente_broker::dead_letter::REASON), "Bad");
    let origin = format!("0-{}", places[0]);
    assert_eq!(said(mente_broker::dead_letter::ORIGIN), origin);
    assert_eq!(world.dying(), 0);
}

/// More than are copied at one time, and one behind them.
#[test]
fn dead_letters_that_cannot_be_copied_leave_their_places_to_others() {
    let mut world = World::new(3);
    world.publish(0..70);
    world.publish(70..71);
    let received = world.receive(100);
    assert_eq!(received.len(), 71);
    let (log, places) = (world.log_of_orders(), world.places());
    world.engine.fail_reads(log, Some(places[0]));
    let how = Settlement::Reject {
        reason: "Bad".into(),
        detail: "it is".into(),
    };
    world.settle(&received, how).unwrap();
    world.pool.run_until_stalled();
    let copied = |world: &mut World| {
        let mut copied: Vec<usize> = world
            .dead_letters()
            .iter()
            .map(|event| event.id.parse().unwrap())
            .collect();
        copied.sort_unstable();
        copied
    };
    assert_eq!(copied(&mut world), [70]);
    assert_eq!(world.dying(), 70);
    world.engine.fail_reads(log, None);
    world.pass(Duration::from_secs(1));
    assert_eq!(copied(&mut world), (0..71).collect::<Vec<_>>());
    assert_eq!(world.dying(), 0);
}

#[test]
fn what_fails_too_often_is_one_dead_letter_over_a_crash() {
    for crash in [false, true] {
        let mut world = World::new(8);
        world.publish(0..2);
        for _ in 0..2 {
            assert_eq!(ids(&world.receive(1)), [0]);
            world.pass(Duration::from_secs(1));
        }
        if crash {
            world = world.crash();
            world.pool.run_until_stalled();
        }
        assert_eq!(ids(&world.receive(9)), [1]);
        let broker = world.broker.clone();
        let name = shipping();
        let dead = broker.read_dead_letters(&ME, &name, Offset(0), 9);
        let (dead, _) = world.pool.run_until(dead).unwrap();
        assert_eq!(dead.len(), 1);
        let event = &dead[0].event;
        assert_eq!(event.id, "0");
        let reason = event
            .extension(mente_broker::dead_letter::REASON)
            .unwrap()
            .to_text();
        assert_eq!(reason, "MaxDeliveryAttemptsExceeded");
    }
}

#[test]
fn a_deleted_topic_takes_its_subscriptions_along() {
    let mut world = World::new(4);
    world.publish(0..1);
    let broker = world.broker.clone();
    world
        .pool
        .run_until(broker.delete_topic(&ME, &topic()))
        .unwrap();
    let gone = world
        .pool
        .run_until(broker.receive(&ME, &shipping(), 1, Duration::ZERO));
    assert_eq!(gone.unwrap_err().kind, Kind::NotFound);
    world.publish(5..6);
    let listed = world
        .pool
        .run_until(broker.subscriptions(&ME, &topic()))
        .unwrap();
    assert!(listed.is_empty());
}

#[test]
fn a_stream_keeps_its_order_and_a_retry_gets_the_first_answer_over_a_crash() {
    let mut world = World::new(6);
    let stream = StreamName::new("order-1").unwrap();
    let mut answers = Vec::new();
    for round in 0..2 {
        for (revision, id) in [(None, 0), (Some(0), 1), (Some(1), 2)] {
            let expected = revision.map_or(Expected::NoStream, Expected::Revision);
            let broker = world.broker.clone();
            let append = broker.append_stream(&ME, &stream, expected, vec![event(id)]);
            let to = world.pool.run_until(append).unwrap();
            assert_eq!(to.repeated, round == 1);
            answers.push((to.first_revision, to.last_position));
        }
        world = world.crash();
    }
    assert_eq!(answers[..3], answers[3..]);
    let broker = world.broker.clone();
    let late = broker.append_stream(&ME, &stream, Expected::Revision(0), vec![event(9)]);
    assert_eq!(world.pool.run_until(late).unwrap_err().kind, Kind::Conflict);
    let read = world
        .pool
        .run_until(broker.read_stream(&ME, &stream, 1, 10))
        .unwrap();
    let found: Vec<_> = read
        .iter()
        .map(|e| (e.place.revision, e.event.id.as_str()))
        .collect();
    assert_eq!(found, [(1, "1"), (2, "2")]);
}

#[test]
fn a_stream_has_a_state_at_each_revision() {
    let mut world = World::new(3);
    let broker = world.broker.clone();
    let stream = StreamName::new("order-1").unwrap();
    let at = |world: &mut World, revision: Option<u64>| {
        let as_of = revision.map_or(AsOf::Now, AsOf::Revision);
        let state = broker.stream_state(&ME, &stream, as_of);
        let state = world.pool.run_until(state);
        state.map(|s| (s.revision, s.state)).map_err(|e| e.kind)
    };
    assert_eq!(at(&mut world, None), Err(Kind::NotFound));
    let append = broker.append_stream(&ME, &stream, Expected::Any, vec![event(7), event(8)]);
    world.pool.run_until(append).unwrap();
    assert_eq!(at(&mut world, None), Ok((1, json!({"order": 8}))));
    assert_eq!(at(&mut world, Some(0)), Ok((0, json!({"order": 7}))));
    assert_eq!(at(&mut world, Some(2)), Err(Kind::OutOfRange));
    assert_eq!(at(&mut world, Some(u64::MAX)), Err(Kind::OutOfRange));
    let category = EntityName::new("order").unwrap();
    let body = json!({"OrderPlaced": [{"append": {"all": "$.data.order"}}]});
    let define = broker.define(&ME, Definition::Fold, &category, body);
    world.pool.run_until(define).unwrap();
    assert_eq!(at(&mut world, None), Ok((1, json!({"all": [7, 8]}))));
}

/// What waits in memory may be gone from the log by the time that somebody asks.
#[test]
fn what_retention_took_just_now_is_passed_over() {
    let mut world = World::new(3);
    world.publish(0..20);
    let broker = world.broker.clone();
    let topic = topic();
    let all = broker.read(&ME, &topic, 0, Offset(0), 20);
    let (all, _) = world.pool.run_until(all).unwrap();
    assert_eq!(ids(&world.receive(1)), [0], "the others are in memory");
    let log = world
        .pool
        .run_until(broker.topic(&ME, &topic))
        .unwrap()
        .set
        .log(0);
    let trimmed = world.engine.trim(log, all[10].position.offset);
    world.pool.run_until(trimmed).unwrap();
    assert_eq!(ids(&world.receive(3)), [10, 11, 12]);
}
