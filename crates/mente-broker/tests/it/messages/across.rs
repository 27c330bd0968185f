//! Transactions that send to other entities: those have all of it once and in order, or nothing ever.

use futures::FutureExt;
use futures::task::LocalSpawnExt;
use mente_broker::rule::{Rule, RuleFilter};
use mente_broker::{Broker, Sent, Transaction};
use mente_engine::memory::Fault;

use super::dying::Dying;
use super::transactions::{dead, sent_to, settled, transaction};
use super::*;
use crate::queue_laws::world::Fuse;

const NAMES: [&str; 2] = ["b", "c"];

fn of(name: &str) -> SubscriptionName {
    SubscriptionName::queue(EntityName::new(name).unwrap())
}

/// Of the topic `news`.
fn subscription() -> SubscriptionName {
    SubscriptionName {
        topic: EntityName::new("news").unwrap(),
        name: EntityName::new("mine").unwrap(),
    }
}

fn letters() -> SubscriptionName {
    SubscriptionName::transfer_letters(queue().topic)
}

async fn make_others(broker: Broker) {
    for name in NAMES {
        broker.create_queue(&ME, name, plain()).await.unwrap();
    }
    let made = broker.create_message_topic(&ME, "news", Default::default());
    made.await.unwrap();
    let all = Rule {
        name: "all".to_owned(),
        filter: RuleFilter::True,
        action: None,
        created_ms: 0,
    };
    let view = subscription();
    let made =
        broker.create_message_subscription(&ME, &view.topic, "mine", Default::default(), all);
    made.await.unwrap();
}

/// Two for each of the others and one for the home, in turn.
fn to_all(first: usize) -> Vec<Sent> {
    let views = [of("b"), subscription(), queue(), of("c"), of("b"), of("c")];
    let sent = (first..).zip(views);
    sent.map(|(id, view)| sent_to(&view, id)).collect()
}

fn sending(sent: Vec<Sent>, settled: Vec<mente_broker::Settled>) -> Transaction {
    Transaction {
        sent,
        ..transaction(&[], settled)
    }
}

impl World {
    fn with_others(seed: u64) -> Self {
        let mut world = Self::with_queue(seed, plain());
        let made = make_others(world.broker.clone());
        world.pool.run_until(made);
        world
    }

    fn all_of(&mut self, view: &SubscriptionName) -> Vec<usize> {
        ids(&self.take_from(view, Taking::locked(100, Duration::ZERO)))
    }
}

#[test]
fn what_a_transaction_sends_elsewhere_is_there_once_it_is_committed_and_stays_so() {
    let mut world = World::with_others(30);
    world.send([message(0), message(1)]);
    let out = world.take(1);
    let ends = vec![settled(&out[0], Ending::Complete)];
    world.commit(sending(to_all(10), ends)).unwrap();
    // It is gone on when the answer comes: what is sent now lies behind it.
    call!(world, b => b.send(&ME, &of("b").topic, vec![message(2)])).unwrap();
    for _ in 0..3 {
        assert_eq!(world.take(9).len(), 2, "1 and 12");
        assert_eq!(world.all_of(&of("b")), [10, 14, 2]);
        assert_eq!(world.all_of(&of("c")), [13, 15]);
        assert_eq!(world.all_of(&subscription()), [11]);
        assert!(world.all_of(&letters()).is_empty());
        world = world.crash();
        world.pass(LOCK);
    }
}

#[test]
fn of_a_transaction_that_is_not_committed_nothing_is_seen_elsewhere() {
    let mut world = World::with_others(31);
    world.send([message(0)]);
    let lost = world.take(1);
    world.pass(LOCK);
    for restarts in [false, true] {
        let ends = vec![settled(&lost[0], Ending::Complete)];
        let refused = world.commit(sending(to_all(10), ends));
        assert_eq!(refused.unwrap_err().kind, Kind::LockLost);
        if restarts {
            world = world.crash();
        }
        for _ in 0..3 {
            for view in [of("b"), of("c"), subscription(), letters()] {
                assert!(world.all_of(&view).is_empty());
            }
            world.pass(Duration::from_secs(200));
        }
    }
    assert_eq!(ids(&world.take(9)), [0]);
}

/// The first of them is the home where nothing is settled.
#[test]
fn messages_alone_are_all_there_or_none_of_them() {
    let mut world = World::with_others(32);
    let to_b = vec![sent_to(&of("b"), 1), sent_to(&of("b"), 2)];
    // One append to its log, and no word of it at the home.
    world.commit(sending(to_b, Vec::new())).unwrap();
    assert_eq!(world.all_of(&of("b")), [1, 2]);
    let sets = world.pool.run_until(world.engine.list("")).unwrap();
    assert!(sets.iter().all(|set| !set.name.as_str().ends_with("$hold")));
    world.commit(sending(to_all(10), Vec::new())).unwrap();
    assert_eq!(world.all_of(&of("b")), [10, 14]);
    let mut some = to_all(20);
    some.push(sent_to(&of("nowhere"), 30));
    // Where it is not made at first use.
    call!(world, b => b.create_queue(&ME, "nowhere", plain())).unwrap();
    let disabled = QueueProperties {
        sending: Sending {
            status: mente_broker::entity::Status::SendDisabled,
            ..Sending::default()
        },
        ..plain()
    };
    call!(world, b => b.update_queue(&ME, &of("nowhere").topic, disabled)).unwrap();
    let refused = world.commit(sending(some, Vec::new()));
    assert_eq!(refused.unwrap_err().kind, Kind::Refused);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.all_of(&of("c")), [13, 15]);
}

#[test]
fn what_is_not_done_across_entities_is_refused_before_anything_is() {
    let mut world = World::with_others(33);
    world.send([message(0)]);
    let out = world.take(1);
    let later = Sent {
        message: Message {
            due: Some(Timestamp(60_000)),
            ..message(1)
        },
        ..sent_to(&of("b"), 1)
    };
    let ends = vec![settled(&out[0], Ending::Complete)];
    let refused = world.commit(sending(vec![later], ends)).unwrap_err();
    assert_eq!(refused.kind, Kind::Invalid);
    assert!(refused.message.contains("is scheduled"), "{refused}");
    assert_eq!(world.counts().active, 1);
    assert_eq!(world.counts().scheduled, 0);
}

#[test]
fn a_message_whose_target_goes_before_it_does_is_found_among_what_was_not_handed_over() {
    for is_made_anew in [false, true] {
        let mut world = World::with_others(34);
        world.send([message(0), message(1)]);
        let out = world.take(2);
        // So that there is a log that cannot be read for a while.
        let ends = vec![settled(&out[0], Ending::Complete)];
        world.commit(sending(to_all(10), ends)).unwrap();
        let hold = world.log_of("default/work/$hold");
        world.engine.set_away(hold, true);
        let ends = vec![settled(&out[1], dead())];
        let broker = world.broker.clone();
        let all = sending(to_all(20), ends);
        let commit = async move { broker.commit(&queue().topic, all).await };
        let spawner = world.pool.spawner();
        let mut commit = spawner.spawn_local_with_handle(commit).unwrap();
        world.pool.run_until_stalled();
        world.pass(Duration::from_secs(3));
        assert_eq!((&mut commit).now_or_never(), Some(Ok(())));
        call!(world, b => b.delete_entity(&ME, &of("b").topic)).unwrap();
        if is_made_anew {
            call!(world, b => b.create_queue(&ME, "b", plain())).unwrap();
        }
        world.engine.set_away(hold, false);
        for _ in 0..3 {
            world.pass(Duration::from_secs(60));
            assert_eq!(world.all_of(&of("c")), [13, 15, 23, 25]);
            assert_eq!(world.all_of(&subscription()), [11, 21]);
            let found = world.take_from(&letters(), Taking::locked(9, Duration::ZERO));
            match is_made_anew {
                true => assert_eq!(world.all_of(&of("b")), [20, 24]),
                false => assert_eq!(ids(&found), [20, 24]),
            }
            for letter in &found {
                let reason = letter.stored.event.extension("deadletterreason").unwrap();
                assert_eq!(reason.to_text(), "ForwardTargetMissing");
            }
            assert_eq!(world.counts().transfer_dead_letters, found.len() as u64);
            // The queue's own are others.
            assert_eq!(ids(&world.letters_of_queue()), [1]);
            world = world.crash();
        }
        // They go with the entity.
        call!(world, b => b.delete_entity(&ME, &queue().topic)).unwrap();
        call!(world, b => b.create_queue(&ME, "work", plain())).unwrap();
        let making = world.broker.clone();
        let made = async move { making.open_transfer_letters(&ME, &queue().topic).await };
        world.pool.run_until(made).unwrap();
        assert!(world.all_of(&letters()).is_empty());
    }
}

/// What there is everywhere: at home, its dead letters, and at each of the others.
type Found = [Vec<usize>; 6];

impl Dying {
    fn with_others(messages: usize, out: usize) -> (Self, Vec<Held>) {
        let (mut world, held) = Self::with_queue(messages, out);
        let made = make_others(world.broker.clone());
        world.pool.run_until(made);
        (world, held)
    }

    fn found(&mut self) -> Found {
        let own = [queue(), queue().dead_letters()];
        let [home, dead] = own.map(|view| self.all(&view));
        let made = self.broker.clone();
        let made = async move { made.open_transfer_letters(&ME, &queue().topic).await };
        self.pool.run_until(made).unwrap();
        let [b, c, news, lost] =
            [of("b"), of("c"), subscription(), letters()].map(|view| self.all(&view));
        [home, dead, b, c, news, lost]
    }
}

/// By whatever append the broker dies, and by whatever one the next does that finds what was left.
#[test]
fn whatever_appends_brokers_die_over_each_target_has_all_once_or_nothing() {
    let whole: Found = [
        vec![2, 12],
        vec![1],
        vec![10, 14],
        vec![13, 15],
        vec![11],
        vec![],
    ];
    let nothing: Found = [vec![0, 1, 2], vec![], vec![], vec![], vec![], vec![]];
    let (mut wholes, mut nothings, mut unheard, mut again) = (0, 0, 0, 0);
    for appends in 0.. {
        let mut has_died = false;
        for (is_done, then) in [(false, None), (true, None)]
            .into_iter()
            .chain((0..9).map(|at| (at % 2 == 0, Some(at))))
        {
            let (mut world, out) = Dying::with_others(3, 2);
            *world.engine.fuse.lock().unwrap() = Some(Fuse { appends, is_done });
            let ends = vec![settled(&out[0], Ending::Complete), settled(&out[1], dead())];
            let answer = world.commit(sending(to_all(10), ends));
            world.pass();
            has_died |= *world.engine.is_dead.lock().unwrap();
            if let Some(at) = then {
                let (appends, is_done) = (at, at % 3 > 0);
                let is_dead;
                (world, is_dead) = world.crash_into(Fuse { appends, is_done });
                again += u32::from(is_dead);
            }
            let mut world = world.crash();
            world.pass();
            let found = world.found();
            match () {
                () if found == whole => wholes += 1,
                () if found == nothing => {
                    assert!(answer.is_none(), "{answer:?}, and nothing is there");
                    nothings += 1;
                }
                () => panic!(
                    "{found:?} when it died over append {appends}, done: {is_done}, then {then:?}"
                ),
            }
            assert!(!matches!(answer, Some(Err(_))), "{answer:?}");
            unheard += u32::from(answer.is_none());
            // And it stays so.
            let mut world = world.crash();
            world.clock.pass(Duration::from_secs(1_000));
            world.pool.run_until_stalled();
            assert_eq!(world.found(), found);
        }
        if !has_died {
            break;
        }
    }
    assert!(
        wholes > 20 && nothings > 8 && unheard > 20 && again > 20,
        "{wholes} {nothings} {unheard} {again}"
    );
}

/// However often the brokers die that find the target gone.
#[test]
fn what_was_not_handed_over_is_one_letter_whatever_appends_brokers_die_over() {
    let mut died = 0;
    for appends in 0..12 {
        for is_done in [false, true] {
            let (mut world, out) = Dying::with_others(3, 2);
            // Places there say nothing of where letters lie.
            let broker = world.broker.clone();
            for to in [of("b").topic, of("c").topic] {
                let sent = broker.send(&ME, &to, (100..150).map(message).collect());
                world.pool.run_until(sent).unwrap();
            }
            let ends = |at: usize| vec![settled(&out[at], Ending::Complete)];
            let first = world.commit(sending(vec![sent_to(&of("c"), 9)], ends(0)));
            assert_eq!(first, Some(Ok(())));
            let sets = world.pool.run_until(world.engine.list("")).unwrap();
            let hold = sets.iter().find(|set| set.name.as_str().ends_with("$hold"));
            let hold = hold.unwrap().id.log(0);
            world.engine.engine.set_away(hold, true);
            let all = (10..).zip([of("b"), of("c"), of("b"), queue()]);
            let all = all.map(|(id, to)| sent_to(&to, id)).collect();
            let unheard = world.commit(sending(all, ends(1)));
            assert_eq!(unheard, None, "it waits for what is not there yet");
            let to = of("b").topic;
            let deleted = broker.delete_entity(&ME, &to);
            world.pool.run_until(deleted).unwrap();
            drop(broker);
            world.engine.engine.set_away(hold, false);
            let is_dead;
            (world, is_dead) = world.crash_into(Fuse { appends, is_done });
            died += u32::from(is_dead);
            for _ in 0..2 {
                world = world.crash();
                world.clock.pass(Duration::from_secs(1));
                world.pass();
                let lost = world.all(&letters());
                assert_eq!(lost, [10, 12], "{appends} {is_done}");
                assert_eq!(world.all(&of("c"))[50..], [9, 11]);
                assert_eq!(world.all(&queue()), [2, 13]);
            }
        }
    }
    assert!(died > 8, "{died}");
}

/// A small generator, so that each run is the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Many, one after the other, each with some of the entities, some of which are refused; brokers die over any append,
/// and appends to targets have outcomes that nobody knows.
#[test]
fn each_target_has_what_was_committed_in_its_order_over_many_deaths() {
    let (mut unknown, mut refused, mut died) = (0, 0, 0);
    for seed in 1..25 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        let (mut world, _) = Dying::with_others(1, 1);
        let views = [of("b"), of("c"), subscription(), queue()];
        let mut expected: [Vec<usize>; 4] = Default::default();
        for round in 0..12 {
            let first = 100 * (round + 1);
            let input = vec![message(first)];
            let broker = world.broker.clone();
            let to = queue().topic;
            world.pool.run_until(broker.send(&ME, &to, input)).unwrap();
            world.pool.run_until_stalled();
            let (home, taking) = (queue(), Taking::locked(100, Duration::ZERO));
            let out = world.pool.run_until(broker.take(&ME, &home, taking));
            let out = out.unwrap();
            let input = out
                .iter()
                .find(|held| held.stored.event.id == first.to_string());
            assert!(
                input.is_some(),
                "seed {seed}, round {round}: {:?}",
                ids(&out)
            );
            let mut sent = Vec::new();
            for id in 0..1 + dice.roll(5) as usize {
                let to = &views[dice.roll(4) as usize];
                sent.push(sent_to(to, first + 1 + id));
            }
            // The second end of a lock is of one that is lost.
            let is_refused = dice.roll(4) == 0;
            let mut ends = vec![settled(input.unwrap(), Ending::Complete)];
            if is_refused {
                ends.push(ends[0].clone());
            }
            if dice.roll(3) > 0 {
                let (appends, is_done) = (dice.roll(7) as u32, dice.roll(2) == 0);
                *world.engine.fuse.lock().unwrap() = Some(Fuse { appends, is_done });
            } else if dice.roll(2) == 0 {
                let sets = world.pool.run_until(world.engine.list("")).unwrap();
                let name = format!("default/{}", NAMES[dice.roll(2) as usize]);
                let set = sets.iter().find(|set| set.name.as_str() == name).unwrap();
                let fault = match dice.roll(2) {
                    0 => Fault::UnknownButDone,
                    _ => Fault::UnknownAndLost,
                };
                world.engine.engine.inject(set.id.log(0), fault);
            }
            let answer = world.commit(sending(sent.clone(), ends));
            died += u32::from(*world.engine.is_dead.lock().unwrap());
            world = world.crash();
            // Longer than an append of which nobody knows rests.
            world.clock.pass(Duration::from_secs(2));
            world.pass();
            let is_there = !world.all(&queue()).contains(&first);
            match answer {
                Some(Ok(())) => assert!(is_there),
                Some(Err(error)) => {
                    assert!(is_refused && !is_there, "{error}");
                    refused += 1;
                }
                None => unknown += 1,
            }
            if is_there {
                assert!(!is_refused);
                for one in sent {
                    let at = views.iter().position(|view| view.topic == one.to).unwrap();
                    expected[at].push(one.message.event.id.parse().unwrap());
                }
            }
            for (view, expected) in views[..3].iter().zip(&expected) {
                assert_eq!(world.all(view), *expected, "seed {seed}, round {round}");
            }
            world = world.crash();
        }
        let home: Vec<_> = world
            .all(&queue())
            .into_iter()
            .filter(|id| id % 100 > 0)
            .collect();
        assert_eq!(home, expected[3], "seed {seed}");
    }
    assert!(
        unknown > 40 && refused > 20 && died > 80,
        "{unknown} {refused} {died}"
    );
}
