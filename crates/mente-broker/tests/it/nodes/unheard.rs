//! What an answer brings that nobody hears is there for the next call, at once: no lock has to run out.

use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mente_broker::queue::Settlement;
use mente_broker::{Broker, Received, Result};

use super::clients::ME;
use super::world::World;
use super::{begin, turn_until};
use crate::rounds::{event, shipping, topic};

const EVENTS: usize = 6;
const TAKEN: usize = 2;
const PAUSE: Duration = Duration::from_millis(10);

async fn receive(broker: Broker, max: usize) -> Result<Vec<Received>> {
    broker.receive(&ME, &shipping(), max, Duration::ZERO).await
}

/// Lets so many calls and messages go their way, while as good as no time passes; what the work came to, if it came to its end.
fn go_on<T>(world: &mut World, work: impl Future<Output = T>, steps: usize) -> Option<T> {
    let mut work = Box::pin(work);
    for _ in 0..steps {
        let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(done) = polled {
            return Some(done);
        }
        world.settle_down();
        if !world.wire.go_on() {
            // Whoever was not let in asks again soon: far sooner than a lock runs out.
            world.pass(PAUSE);
        }
        world.settle_down();
    }
    None
}

#[test]
fn a_receive_call_that_is_dropped_anywhere_locks_nothing() {
    let mut dropped = 0;
    for seed in 0..200 {
        let mut world = World::new(seed, false);
        begin(&mut world);
        let broker = world.nodes[world.rng.usize(..2)].broker.clone();
        let filled = async {
            let events = (0..EVENTS).map(event).collect();
            broker.publish(&ME, &topic(), events).await?;
            // Its owner has read them then.
            let received = receive(broker.clone(), EVENTS).await?;
            let tokens = received.iter().map(|received| received.token).collect();
            broker
                .settle(&ME, &shipping(), tokens, Settlement::Return)
                .await
        };
        turn_until(&mut world, filled)
            .expect("filled within some time")
            .unwrap();
        world.wire.storm();
        for _ in 0..3 {
            let steps = world.rng.usize(..12);
            let heard = go_on(&mut world, receive(broker.clone(), TAKEN), steps);
            if let Some(Ok(heard)) = heard {
                let tokens: Vec<_> = heard.iter().map(|received| received.token).collect();
                let back = async || {
                    broker
                        .settle(&ME, &shipping(), tokens.clone(), Settlement::Return)
                        .await
                };
                // A question or its answer may be lost on its way.
                while go_on(&mut world, back(), 10_000).is_none_or(|back| back.is_err()) {}
            } else {
                dropped += 1;
            }
        }
        let all = loop {
            let all = go_on(&mut world, receive(broker.clone(), EVENTS), 10_000);
            // An answer may be lost on its way.
            if let Ok(all) = all.expect("everything arrives in the end") {
                break all;
            }
        };
        assert_eq!(all.len(), EVENTS, "seed {seed}");
    }
    assert!(dropped > 100, "only {dropped} were dropped");
}
