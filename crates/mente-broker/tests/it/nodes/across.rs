//! Transactions across entities whose shards belong to whatever nodes: the home's owner hands messages over, and the
//! next one goes on where it ended.

use mente_broker::{Ending, Message, Sent, Settled, SubscriptionName, Taking, Transaction};

use super::*;
use crate::rounds::event;

const ROUNDS: usize = 8;

fn queue(name: &str) -> SubscriptionName {
    SubscriptionName::queue(EntityName::new(name).unwrap())
}

fn sent(to: &SubscriptionName, id: usize) -> Sent {
    Sent {
        who: ME,
        to: to.topic.clone(),
        message: Message {
            event: event(id),
            ..Message::default()
        },
    }
}

/// Takes the one message that there is, and replaces it by the next one and one for each of the others.
async fn replace(broker: &Broker, round: usize) -> mente_broker::Result<()> {
    let home = queue("work");
    let taking = Taking::locked(1, Duration::from_secs(20));
    let held = broker.take(&ME, &home, taking).await?;
    let [held] = &held[..] else {
        panic!("{} messages in round {round}", held.len());
    };
    assert_eq!(held.stored.event.id, round.to_string());
    let settled = Settled {
        who: ME,
        view: home.clone(),
        token: held.lock.unwrap().token,
        ending: Ending::Complete,
    };
    let to = [home.clone(), queue("b"), queue("c"), queue("b")];
    let transaction = Transaction {
        name: format!("round {round}"),
        sent: (0..)
            .zip(&to)
            .map(|(at, to)| sent(to, round + 1 + 100 * at))
            .collect(),
        settled: vec![settled],
        scheduled: Vec::new(),
    };
    broker.commit(&home.topic, transaction).await
}

#[test]
fn messages_for_other_entities_arrive_once_whichever_nodes_own_what() {
    for seed in 0..12 {
        let mut world = World::new(seed, false);
        let broker = world.nodes[0].broker.clone();
        let made = async {
            for name in ["work", "b", "c"] {
                broker.create_queue(&ME, name, Default::default()).await?;
            }
            broker
                .send(
                    &ME,
                    &queue("work").topic,
                    vec![sent(&queue("work"), 0).message],
                )
                .await
        };
        turn_until(&mut world, made).expect("made in time").unwrap();
        drop(broker);
        for round in 0..ROUNDS {
            let node = world.random_node();
            let broker = world.nodes[node].broker.clone();
            let replaced = turn_until(&mut world, replace(&broker, round));
            replaced.expect("replaced in time").unwrap();
            drop(broker);
            match world.rng.u32(..3) {
                0 => world.crash(),
                1 => world.move_out_of_order(),
                _ => world.move_in_order(),
            }
            world.heal();
        }
        let broker = world.nodes[0].broker.clone();
        let looked = async {
            let mut there = Vec::new();
            for view in ["work", "b", "c"].map(queue) {
                let taking = Taking::locked(100, Duration::from_secs(1));
                let held = broker.take(&ME, &view, taking).await?;
                let ids = held
                    .iter()
                    .map(|held| held.stored.event.id.parse().unwrap());
                there.push(ids.collect::<Vec<usize>>());
            }
            Ok::<_, mente_broker::Error>(there)
        };
        let there = turn_until(&mut world, looked).expect("looked in time");
        let to_b = (1..=ROUNDS).flat_map(|round| [100 + round, 300 + round]);
        let to_c = (1..=ROUNDS).map(|round| 200 + round);
        let expected = vec![vec![ROUNDS], to_b.collect(), to_c.collect()];
        assert_eq!(there.unwrap(), expected, "seed {seed}");
    }
}
