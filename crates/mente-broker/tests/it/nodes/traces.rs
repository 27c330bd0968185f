//! A trace is the same at every node, whoever owns the store and the subscriptions.

use std::time::Duration;

use mente_broker::queue::Settlement;
use mente_broker::{CAUSATION, Delivery, Expected, StreamName, Trace};
use mente_engine::{Attribute, Event};

use super::clients::ME;
use super::world::World;
use super::{begin, turn_until};
use crate::rounds::{self, shipping, topic};

const EVENTS: usize = 12;
const SETTLED: usize = 5;

/// Each caused by the one before, at two places.
fn event(id: usize) -> Event {
    let mut event = rounds::event(id);
    let cause = id.checked_sub(1).map(|cause| cause.to_string());
    let cause = cause.map(|cause| (CAUSATION.to_owned(), Attribute::Text(cause)));
    event.extensions.extend(cause);
    event
}

fn traced(world: &mut World, node: usize, id: &str) -> Trace {
    let broker = world.nodes[node].broker.clone();
    let trace = turn_until(world, async { broker.trace(&ME, id, None).await });
    trace.expect("told within some time").unwrap()
}

fn check(world: &mut World) {
    let first = traced(world, 0, "0");
    let depths: Vec<_> = first.places.iter().map(|place| place.depth).collect();
    let expected: Vec<_> = (0..2 * EVENTS).map(|place| place / 2).collect();
    assert_eq!(depths, expected, "{first:?}");
    let told = first.places.iter().flat_map(|place| &place.subscriptions);
    let states: Vec<_> = told.map(|told| told.state).collect();
    let settled = states.iter().filter(|state| **state == Delivery::Settled);
    assert_eq!(
        (states.len(), settled.count()),
        (EVENTS, SETTLED),
        "{states:?}"
    );
    for node in 0..world.nodes.len() {
        for id in ["0", "7"] {
            assert_eq!(
                traced(world, node, id).places,
                first.places,
                "{id} at {node}"
            );
        }
    }
}

#[test]
fn any_node_traces_what_any_node_took() {
    for seed in 0..10 {
        let mut world = World::new(seed, false);
        begin(&mut world);
        for id in 0..EVENTS {
            let node = world.random_node();
            let broker = world.nodes[node].broker.clone();
            let stream = StreamName::new(format!("s-{}", id % 3)).unwrap();
            let taken = async {
                let events = vec![event(id)];
                broker
                    .append_stream(&ME, &stream, Expected::Any, events)
                    .await?;
                broker.publish(&ME, &topic(), vec![event(id)]).await
            };
            let taken = turn_until(&mut world, taken).expect("taken within some time");
            assert!(taken.unwrap().iter().all(Result::is_ok));
        }
        let broker = world.nodes[1].broker.clone();
        let name = shipping();
        let settled = async {
            let (mut left, wait) = (SETTLED, Duration::from_secs(1));
            while left > 0 {
                let received = broker.receive(&ME, &name, left, wait).await?;
                left -= received.len();
                let tokens = received.iter().map(|received| received.token).collect();
                broker
                    .settle(&ME, &name, tokens, Settlement::Complete)
                    .await?;
            }
            Ok::<_, mente_broker::Error>(())
        };
        turn_until(&mut world, settled)
            .expect("settled within some time")
            .unwrap();
        check(&mut world);
        world.crash();
        world.heal();
        check(&mut world);
    }
}
