//! A queue's name has up to 260 bytes, and there are sets beside it that have it too.

use std::time::Duration;

use mente_broker::{Ending, EntityName, Kind, SubscriptionName, Taking};
use mente_engine::{Timestamp, limits};

use super::{message, plain};
use crate::rounds::{ME, World};

#[test]
fn a_queue_of_the_longest_name_has_all_that_others_have() {
    let mut world = World::new(21);
    let path = "x".repeat(limits::ENTITY_NAME_BYTES);
    let to = EntityName::of_path(&path).unwrap();
    call!(world, b => b.create_queue(&ME, &path, plain())).unwrap();
    let mut later = message(1);
    later.due = Some(Timestamp(3_600_000));
    call!(world, b => b.send(&ME, &to, vec![message(0), later])).unwrap();
    let view = SubscriptionName::queue(to.clone());
    let out = world.take_from(&view, Taking::locked(9, Duration::ZERO));
    assert_eq!(out.len(), 1);
    let tokens = vec![out[0].lock.unwrap().token];
    let ending = Ending::DeadLetter {
        reason: "Bad".to_owned(),
        description: String::new(),
        note: None,
    };
    call!(world, b => b.end_locks(&ME, &view, tokens, ending)).unwrap();
    let letters = world.take_from(&view.dead_letters(), Taking::locked(9, Duration::ZERO));
    assert_eq!(letters.len(), 1);
    world.pass(Duration::from_secs(3_601));
    let due = world.take_from(&view, Taking::locked(9, Duration::ZERO));
    assert_eq!(due.len(), 1);
    let longer = format!("{path}x");
    let refused = call!(world, b => b.create_queue(&ME, &longer, plain())).unwrap_err();
    assert_eq!(refused.kind, Kind::Invalid);
}

#[test]
fn a_subscription_or_a_fold_has_no_such_name() {
    let mut world = World::new(22);
    let topic = EntityName::new("orders").unwrap();
    call!(world, b => b.create_topic(&ME, &topic, 1)).unwrap();
    for (bytes, is_taken) in [
        (limits::DECLARED_NAME_BYTES, true),
        (limits::DECLARED_NAME_BYTES + 1, false),
    ] {
        let name = EntityName::new("x".repeat(bytes)).unwrap();
        let kind = mente_broker::Definition::Alternative;
        let defined = call!(world, b => b.define(&ME, kind, &name, serde_json::Value::Null));
        let subscription = SubscriptionName {
            topic: topic.clone(),
            name,
        };
        let settings = mente_broker::queue::Settings::default();
        let start = mente_broker::Start::Earliest;
        let made = call!(world, b => b.create_subscription(&ME, &subscription, settings, start));
        assert_eq!((defined.is_ok(), made.is_ok()), (is_taken, is_taken));
    }
}
