//! A full disk, as the broker sees it: an engine that takes decisions only, or nothing.

use std::time::Duration;

use futures::task::LocalSpawnExt;
use mente_broker::queue::{Settings, Settlement};
use mente_broker::{Expected, Kind, Start, StreamName};
use mente_engine::{Engine, Offset, Takes};
use mente_log::MemDisk;

use crate::crank::{self, Crank};
use crate::rounds::{ME, World, event, ids, shipping, topic};

/// Well below the disk of the cranked log, so that it fills soon.
const FILE: usize = 256 << 10;

#[test]
fn below_the_reserve_producers_wait_and_consumers_go_on() {
    let mut world = World::new(4);
    let broker = world.broker.clone();
    let (name, stream) = (shipping(), StreamName::new("order-1").unwrap());
    world.publish(0..3);
    world.engine.set_takes(Takes::Decisions);
    let refused = world
        .pool
        .run_until(broker.publish(&ME, &topic(), vec![event(9)]));
    let refused = refused.unwrap().remove(0).unwrap_err();
    assert_eq!(refused.kind, Kind::Throttled);
    assert!(refused.message.contains("give it more room"), "{refused}");
    for _ in 0..3 {
        // Refused before it is decided: a refusal by the engine would end the leases of its shard.
        let append = broker.append_stream(&ME, &stream, Expected::NoStream, vec![event(1)]);
        let refused = world.pool.run_until(append).unwrap_err();
        assert_eq!(refused.kind, Kind::Throttled);
    }
    assert!(broker.room().refused >= 3);
    let out = world.receive(3);
    assert_eq!(ids(&out), [0, 1, 2]);
    let held = world.settle(&out[..1], Settlement::Complete);
    assert_eq!(held, Ok(vec![true]));
    // Its copy is data: it waits, and is made once there is room.
    let reject = Settlement::Reject {
        reason: "no".into(),
        detail: String::new(),
    };
    assert_eq!(world.settle(&out[1..2], reject), Ok(vec![true]));
    let dead = broker.read_dead_letters(&ME, &name, Offset(0), 9);
    assert!(
        world
            .pool
            .run_until(dead)
            .is_ok_and(|(dead, _)| dead.is_empty())
    );
    world.engine.set_takes(Takes::Everything);
    let held = world.settle(&out[2..], Settlement::Complete);
    assert_eq!(held, Ok(vec![true]), "the lease outlived the full disk");
    let append = broker.append_stream(&ME, &stream, Expected::NoStream, vec![event(1)]);
    world.pool.run_until(append).unwrap();
    world.pass(Duration::from_secs(1));
    let dead = broker.read_dead_letters(&ME, &name, Offset(0), 9);
    assert_eq!(world.pool.run_until(dead).unwrap().0.len(), 1);
}

#[test]
fn without_any_room_nothing_is_decided_and_no_lease_is_lost() {
    let mut world = World::new(4);
    let broker = world.broker.clone();
    world.publish(0..2);
    let out = world.receive(2);
    let waits = Duration::from_secs(30);
    let spawner = world.pool.spawner();
    let waiting = {
        let broker = broker.clone();
        let name = shipping();
        spawner.spawn_local_with_handle(async move { broker.receive(&ME, &name, 1, waits).await })
    };
    world.pool.run_until_stalled();
    world.engine.set_takes(Takes::Nothing);
    for _ in 0..3 {
        let refused = world.settle(&out[..1], Settlement::Complete).unwrap_err();
        assert_eq!(refused.kind, Kind::Throttled);
    }
    // Who waits for an event is told now: a delivery is a decision.
    let told = world.pool.run_until(waiting.unwrap()).unwrap_err();
    assert_eq!(told.kind, Kind::Throttled);
    world.pool.run_until(broker.ready()).unwrap();
    let listed = world.pool.run_until(broker.subscriptions(&ME, &topic()));
    assert_eq!(listed.unwrap()[0].counts.leased, 2);
    // Both fall due. Who settled late, but before anything was decided about it, settled it.
    world.pass(Duration::from_secs(2));
    let listed = world.pool.run_until(broker.subscriptions(&ME, &topic()));
    assert_eq!(listed.unwrap()[0].counts.leased, 2, "nothing is decided");
    world.engine.set_takes(Takes::Everything);
    world.pass(Duration::from_millis(500));
    let again = world.receive(9);
    assert_eq!(ids(&again), [0, 1]);
    let held = world.settle(&again, Settlement::Complete);
    assert_eq!(held, Ok(vec![true, true]));
}

#[test]
fn a_server_that_comes_up_without_room_says_so_and_goes_on_once_there_is_some() {
    let mut world = World::new(4);
    world.publish(0..1);
    world.engine.set_takes(Takes::Nothing);
    let mut world = world.crash_and_start();
    let (broker, name) = (world.broker.clone(), shipping());
    for _ in 0..3 {
        // Nobody waits for ever.
        let refused = world.pool.run_until(broker.ready()).unwrap_err();
        assert_eq!(refused.kind, Kind::Throttled);
        let found = world.pool.run_until(broker.subscriptions(&ME, &topic()));
        assert_eq!(found.unwrap_err().kind, Kind::Throttled);
        let known = world.pool.run_until(broker.topic(&ME, &topic()));
        assert!(known.is_ok(), "it is known all the same");
        let receive = broker.receive(&ME, &name, 1, Duration::from_secs(9));
        let refused = world.pool.run_until(receive).unwrap_err();
        assert_eq!(refused.kind, Kind::Throttled);
        world.pass(Duration::from_secs(1));
    }
    world.engine.set_takes(Takes::Decisions);
    for _ in 0..3 {
        world.pass(Duration::from_millis(600));
    }
    assert_eq!(ids(&world.receive(9)), [0]);
}

#[test]
fn a_topic_goes_without_any_room_its_events_first() {
    let mut world = World::new(4);
    let broker = world.broker.clone();
    world.publish(0..3);
    world.engine.set_takes(Takes::Nothing);
    let spawner = world.pool.spawner();
    let deleting = {
        let broker = broker.clone();
        spawner.spawn_local_with_handle(async move { broker.delete_topic(&ME, &topic()).await })
    };
    for _ in 0..30 {
        world.pool.run_until_stalled();
        world.pass(Duration::from_millis(100));
    }
    let half = world.pool.run_until(deleting.unwrap()).unwrap_err();
    assert_eq!(half.kind, Kind::Unknown, "{half}");
    let left = world.pool.run_until(world.engine.list("")).unwrap();
    let left: Vec<_> = left.iter().map(|set| set.name.as_str()).collect();
    assert!(!left.iter().any(|name| name.contains("orders")), "{left:?}");
    world.engine.set_takes(Takes::Everything);
    world.pass(Duration::from_secs(1));
    let deleted = world.pool.run_until(broker.delete_topic(&ME, &topic()));
    assert_eq!(deleted, Ok(()));
    world.publish(0..1);
    let subscriptions = world.pool.run_until(broker.subscriptions(&ME, &topic()));
    assert_eq!(subscriptions, Ok(Vec::new()));
}

/// A dead letter that waits for room is none any more once its subscription is deleted.
#[test]
fn dead_letters_do_not_come_back_with_the_room() {
    let mut world = World::new(4);
    let broker = world.broker.clone();
    world.publish(0..1);
    let out = world.receive(1);
    world.engine.set_takes(Takes::Decisions);
    let reject = Settlement::Reject {
        reason: "no".into(),
        detail: String::new(),
    };
    assert_eq!(world.settle(&out, reject), Ok(vec![true]));
    let name = shipping();
    let deleted = broker.delete_subscription(&ME, &name);
    world.pool.run_until(deleted).unwrap();
    world.engine.set_takes(Takes::Everything);
    for _ in 0..5 {
        world.pass(Duration::from_secs(1));
    }
    let sets = world.pool.run_until(world.engine.list("")).unwrap();
    let sets: Vec<_> = sets.iter().map(|set| set.name.as_str()).collect();
    assert!(
        !sets.iter().any(|name| name.contains("shipping")),
        "{sets:?}"
    );
}

#[test]
fn a_look_at_counts_decides_nothing_without_room_and_keeps_leases() {
    let mut world = World::new(4);
    let broker = world.broker.clone();
    world.publish(0..3);
    let out = world.receive(3);
    world.engine.set_takes(Takes::Nothing);
    let sets = world.pool.run_until(world.engine.list("")).unwrap();
    let orders = sets
        .iter()
        .find(|set| set.name.as_str().ends_with("/orders"));
    let trim = world.engine.trim(orders.unwrap().id.log(0), Offset(1));
    world.pool.run_until(trim).unwrap();
    let listed = world.pool.run_until(broker.subscriptions(&ME, &topic()));
    let listed = listed.unwrap();
    assert_eq!((listed[0].counts.leased, listed[0].exact), (3, true));
    // A lock is renewed in memory.
    assert_eq!(world.settle(&out[1..2], Settlement::Renew), Ok(vec![true]));
    world.engine.set_takes(Takes::Everything);
    world.pass(Duration::from_millis(600));
    let held = world.settle(&out[1..2], Settlement::Complete);
    assert_eq!(held, Ok(vec![true]), "the lease outlived the full disk");
}

/// The real log under the real broker: twenty times full, and who consumes does not notice.
#[test]
fn a_subscription_is_worked_through_on_a_full_disk() {
    let disk = MemDisk::default();
    let mut crank = Crank::open_with(&disk, 4 * FILE as u64).unwrap();
    let broker = crank.broker.clone();
    let (name, stream) = (crank::name(), crank::stream());
    let made = broker.create_subscription(&ME, &name, Settings::default(), Start::Earliest);
    crank.run(made).unwrap();
    let (mut published, mut completed) = (0, 0);
    for round in 0..20 {
        disk.set_capacity(Some(disk.used_bytes() + (6 + round % 3) * FILE));
        let full = loop {
            let mut event = crank::event(published.to_string());
            event.subject = Some("x".repeat(3_000));
            let result = crank.run(broker.publish(&ME, &name.topic, vec![event]));
            match result.expect("an answer").remove(0) {
                Ok(_) => published += 1,
                Err(full) => break full,
            }
        };
        assert_eq!(full.kind, Kind::Throttled, "{full}");
        let append =
            broker.append_stream(&ME, &stream, Expected::Any, vec![crank::event("1".into())]);
        assert!(crank.run(append).is_none(), "round {round}");
        while completed < published {
            let wait = Duration::from_secs(1);
            let received = crank
                .run(broker.receive(&ME, &name, 1, wait))
                .expect("received");
            assert_eq!(
                received[0].count, 1,
                "an attempt for each: no lease is lost"
            );
            assert_eq!(received[0].stored.event.id, completed.to_string());
            let tokens = vec![received[0].token];
            let held = crank.run(broker.settle(&ME, &name, tokens, Settlement::Complete));
            assert_eq!(held, Some(vec![true]), "round {round}");
            completed += 1;
        }
        assert_eq!(broker.room().takes, Takes::Decisions);
        disk.set_capacity(Some(disk.used_bytes() + 20 * FILE));
        let resumed = crank::event(published.to_string());
        let resumed = crank.run(broker.publish(&ME, &name.topic, vec![resumed]));
        assert!(resumed.unwrap()[0].is_ok(), "round {round}");
        published += 1;
    }
    assert!(published > 2_000, "{published}");
    for part in crank.run(broker.verify(&ME)).expect("verify") {
        assert!(part.equal, "{part:?}");
    }
}
