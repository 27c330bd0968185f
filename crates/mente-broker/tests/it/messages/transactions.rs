//! Transactions: all of one or nothing, whatever dies.

use futures::FutureExt;
use futures::task::LocalSpawnExt;
use mente_broker::{Sent, Settled, Transaction, Written};

use super::dying::Dying;
use super::*;
use crate::queue_laws::world::Fuse;

const NAME: &str = "t";

pub(super) fn transaction(sent: &[usize], settled: Vec<Settled>) -> Transaction {
    Transaction {
        name: NAME.into(),
        sent: sent.iter().map(|id| sent_to(&queue(), *id)).collect(),
        settled,
        scheduled: Vec::new(),
    }
}

/// A message for the entity of a view.
pub(super) fn sent_to(view: &SubscriptionName, id: usize) -> Sent {
    Sent {
        who: ME,
        to: view.topic.clone(),
        message: message(id),
    }
}

pub(super) fn settled(held: &Held, ending: Ending) -> Settled {
    Settled {
        who: ME,
        view: queue(),
        token: held.lock.unwrap().token,
        ending,
    }
}

pub(super) fn dead() -> Ending {
    Ending::DeadLetter {
        reason: "Bad".into(),
        description: "why".into(),
        note: None,
    }
}

impl World {
    /// What is sent is on its way by then.
    pub(super) fn commit(&mut self, transaction: Transaction) -> mente_broker::Result<()> {
        let broker = self.broker.clone();
        let spawner = self.pool.spawner();
        let commit = async move { broker.commit(&queue().topic, transaction).await };
        let mut commit = spawner.spawn_local_with_handle(commit).unwrap();
        for _ in 0..9 {
            self.pool.run_until_stalled();
            if let Some(done) = (&mut commit).now_or_never() {
                return done;
            }
            self.pass(Duration::from_millis(3));
        }
        panic!("no answer to a commit");
    }

    pub(super) fn schedule_within(&mut self, messages: Vec<Message>) -> Vec<Written> {
        let to = queue().topic;
        call!(self, b => b.schedule_within(&ME, &to, messages, NAME)).unwrap()
    }
}

#[test]
fn what_is_sent_and_settled_in_a_transaction_is_all_done_and_stays_so() {
    let mut world = World::with_queue(20, plain());
    world.send((0..6).map(message));
    let out = world.take(5);
    let note = Some("noted".to_owned());
    let settled = vec![
        settled(&out[0], Ending::Complete),
        settled(&out[1], dead()),
        settled(&out[2], Ending::Defer { note }),
        settled(&out[3], abandoned(Some("tried"))),
    ];
    world.commit(transaction(&[10, 11], settled)).unwrap();
    for restarts in 0..2 {
        assert_eq!(ids(&world.letters_of_queue()), [1]);
        let deferred = world.peek(0).into_iter();
        let deferred = deferred.filter(|(_, standing)| *standing == Standing::Deferred);
        assert_eq!(deferred.count(), 1);
        // The lock that is in no transaction ends with the owner.
        let came = world.take(9);
        match restarts {
            0 => assert_eq!(ids(&came), [3, 5, 10, 11]),
            _ => assert_eq!(ids(&came), [3, 4, 5, 10, 11]),
        }
        assert_eq!(
            (came[0].failed, came[0].note.as_deref()),
            (1, Some("tried"))
        );
        world = world.crash();
        world.pass(Duration::from_millis(1));
    }
    // Behind what the transaction sent.
    world.send([message(12)]);
    assert_eq!(ids(&world.take(9)), [3, 4, 5, 10, 11, 12]);
}

#[test]
fn one_lost_lock_and_nothing_of_the_transaction_is_done() {
    for restarts in [false, true] {
        let mut world = World::with_queue(21, plain());
        world.send((0..2).map(message));
        let lost = world.take(1);
        world.pass(LOCK);
        let out = world.take(2);
        let ends = |held: &[Held]| {
            let ends = held.iter().map(|held| settled(held, Ending::Complete));
            ends.collect::<Vec<_>>()
        };
        let with_lost = [ends(&out), ends(&lost)].concat();
        let refused = world.commit(transaction(&[10], with_lost)).unwrap_err();
        assert_eq!(refused.kind, Kind::LockLost);
        // Twice the same lock is once too often.
        let twice = [ends(&out), ends(&out[..1])].concat();
        let refused = world.commit(transaction(&[10], twice)).unwrap_err();
        assert_eq!(refused.kind, Kind::LockLost);
        // And so are two parts of what it locks.
        let part = |held, number, ending| {
            let whole = settled(held, ending);
            let token = format!("{}-{number}-2", whole.token).parse().unwrap();
            Settled { token, ..whole }
        };
        let parts = vec![part(&out[0], 0, dead()), part(&out[0], 1, Ending::Complete)];
        let refused = world.commit(transaction(&[10], parts)).unwrap_err();
        assert_eq!(refused.kind, Kind::LockLost);
        assert_eq!(world.counts().active, 2);
        if restarts {
            world = world.crash();
            let again = world.take(9);
            assert_eq!(ids(&again), [0, 1]);
            world.end(&again, Ending::Complete);
        } else {
            // The locks that held hold on.
            world.commit(transaction(&[], ends(&out))).unwrap();
        }
        for _ in 0..3 {
            world.pass(Duration::from_secs(200));
            assert!(world.take(9).is_empty());
            assert_eq!(world.counts(), MessageCounts::default());
        }
    }
}

#[test]
fn what_is_scheduled_in_a_transaction_is_seen_by_nobody_before_it_is_committed() {
    let later = |id, due| Message {
        due: Some(Timestamp(due)),
        ..message(id)
    };
    for commits in [true, false] {
        let mut world = World::with_queue(22, plain());
        let scheduled = world.schedule_within(vec![later(0, 60_000), later(1, 10)]);
        world.pass(Duration::from_secs(1));
        assert!(world.peek(0).is_empty() && world.take(9).is_empty());
        assert_eq!(world.counts(), MessageCounts::default());
        let numbers: Vec<_> = scheduled.iter().map(|written| written.number()).collect();
        let cancelled = call!(world, b => b.cancel_scheduled(&ME, &queue().topic, numbers.clone()));
        assert_eq!(cancelled.unwrap(), [false, false]);
        if commits {
            let all = Transaction {
                scheduled: scheduled.clone(),
                ..transaction(&[2], Vec::new())
            };
            world.commit(all).unwrap();
            let mut world = world.crash();
            world.pass(Duration::from_millis(1));
            assert_eq!(world.peek(1 << 48), [(numbers[0], Standing::Scheduled)]);
            let came = world.take(9);
            assert_eq!(ids(&came), [1, 2]);
            world.end(&came, Ending::Complete);
            world.pass(Duration::from_secs(60));
            assert_eq!(ids(&world.take(9)), [0]);
        } else {
            let to = queue().topic;
            call!(world, b => b.roll_back(&to, scheduled.clone())).unwrap();
            let late = Transaction {
                scheduled,
                ..transaction(&[2], Vec::new())
            };
            assert_eq!(world.commit(late).unwrap_err().kind, Kind::Refused);
            world.pass(Duration::from_secs(600));
            assert!(world.take(9).is_empty());
        }
    }
}

/// Whatever it is refused for, and whether that was before it wrote its messages or behind them.
#[test]
fn what_was_scheduled_for_a_transaction_that_is_refused_is_given_up_at_once() {
    for is_of_another in [true, false] {
        let mut world = World::with_queue(26, plain());
        world.send([message(0)]);
        let lost = world.take(1);
        world.pass(LOCK);
        let scheduled = world.schedule_within(vec![message(1)]);
        let mut end = settled(&lost[0], Ending::Complete);
        if is_of_another {
            end.view = SubscriptionName::queue(EntityName::new("other").unwrap());
        }
        let of = |settled| Transaction {
            scheduled: scheduled.clone(),
            ..transaction(&[2, 3], settled)
        };
        world.commit(of(vec![end])).unwrap_err();
        assert_eq!(
            world.commit(of(Vec::new())).unwrap_err().kind,
            Kind::Refused
        );
    }
}

#[test]
fn what_nobody_commits_goes_by_time_and_is_not_committed_later() {
    for restarts in [false, true] {
        let mut world = World::with_queue(23, plain());
        let scheduled = world.schedule_within(vec![message(0)]);
        world.pass(Duration::from_secs(200));
        if restarts {
            world = world.crash();
        }
        world.pass(Duration::from_secs(200));
        let late = Transaction {
            scheduled,
            ..transaction(&[1], Vec::new())
        };
        assert_eq!(world.commit(late).unwrap_err().kind, Kind::Refused);
        world.pass(Duration::from_secs(600));
        assert!(world.take(9).is_empty());
    }
}

/// In the log of the later queue of its name another one's message lies at the same place.
#[test]
fn a_transaction_ends_with_its_queue_and_not_what_lies_in_a_later_one() {
    // Whether the later queue has read that far makes no difference.
    for (later, is_read) in [(0, true), (2, false)] {
        let mut world = World::with_queue(25, plain());
        world.schedule_within((0..later).map(message).collect());
        let before = world.schedule_within(vec![message(10)]);
        call!(world, b => b.delete_entity(&ME, &queue().topic)).unwrap();
        call!(world, b => b.create_queue(&ME, "work", plain())).unwrap();
        let after = world.schedule_within(vec![message(11)]);
        assert_eq!(before[0].number() == after[0].number(), is_read);
        let of = |scheduled: &[Written]| Transaction {
            scheduled: scheduled.to_vec(),
            ..transaction(&[], Vec::new())
        };
        assert_eq!(world.commit(of(&before)).unwrap_err().kind, Kind::Refused);
        call!(world, b => b.roll_back(&queue().topic, before.clone())).unwrap();
        world.schedule_within((20..22).map(message).collect());
        assert!(world.take(9).is_empty());
        world.commit(of(&after)).unwrap();
        assert_eq!(ids(&world.take(9)), [11]);
    }
}

#[test]
fn a_topic_and_its_subscriptions_are_one_entity_and_others_are_none_of_it() {
    let mut world = World::with_queue(24, plain());
    call!(world, b => b.create_queue(&ME, "other", plain())).unwrap();
    world.send([message(0)]);
    let out = world.take(1);
    let stranger = Settled {
        view: SubscriptionName::queue(EntityName::new("other").unwrap()),
        ..settled(&out[0], Ending::Complete)
    };
    let refused = world.commit(transaction(&[1], vec![stranger]));
    assert_eq!(refused.unwrap_err().kind, Kind::Invalid);
    // Its dead letters are the queue's.
    world.end(&out, dead());
    let letter = world.letters_of_queue().remove(0);
    let again = Settled {
        view: queue().dead_letters(),
        ..settled(&letter, Ending::Complete)
    };
    world.commit(transaction(&[1], vec![again])).unwrap();
    assert_eq!(ids(&world.take(9)), [1]);
    assert!(world.letters_of_queue().is_empty());
}

#[test]
fn whatever_append_the_broker_dies_over_a_transaction_is_whole_or_not_there() {
    let (mut whole, mut nothing, mut unheard) = (0, 0, 0);
    for appends in 0..8 {
        for is_done in [false, true] {
            let (mut world, out) = Dying::with_queue(3, 2);
            assert_eq!(ids(&out), [0, 1]);
            *world.engine.fuse.lock().unwrap() = Some(Fuse { appends, is_done });
            let ends = vec![settled(&out[0], Ending::Complete), settled(&out[1], dead())];
            let answer = world.commit(transaction(&[10, 11], ends));
            let mut world = world.crash();
            let (left, letters) = (world.all(&queue()), world.all(&queue().dead_letters()));
            match (&left[..], &letters[..]) {
                ([2, 10, 11], [1]) => whole += 1,
                ([0, 1, 2], []) => {
                    assert!(answer.is_none(), "{answer:?}, and nothing is there");
                    nothing += 1;
                }
                half => panic!("{half:?} when it died over append {appends}, done: {is_done}"),
            }
            assert!(!matches!(answer, Some(Err(_))), "{answer:?}");
            unheard += u32::from(answer.is_none());
            // And it stays so.
            let mut world = world.crash();
            world.clock.pass(Duration::from_secs(1_000));
            world.pool.run_until_stalled();
            assert_eq!(
                (world.all(&queue()), world.all(&queue().dead_letters())),
                (left, letters)
            );
        }
    }
    assert!(
        whole > 4 && nothing > 2 && unheard > 4,
        "{whole} {nothing} {unheard}"
    );
}

/// Two of one round, which has more to say than one batch of a journal holds.
#[test]
fn no_batch_of_a_journal_ends_within_a_transaction() {
    let (mut halves, mut both) = (0, 0);
    for appends in 0..5 {
        for is_done in [false, true] {
            let (mut world, out) = Dying::with_queue(8, 8);
            assert_eq!(out.len(), 8);
            *world.engine.fuse.lock().unwrap() = Some(Fuse { appends, is_done });
            // As JSON says it, six times as long.
            let note = "\u{1}".repeat(mente_broker::NOTE_BYTES);
            for held in out.chunks(4) {
                let noted = |held| settled(held, abandoned(Some(&note)));
                let transaction = transaction(&[], held.iter().map(noted).collect());
                let broker = world.broker.clone();
                let commit = async move { drop(broker.commit(&queue().topic, transaction).await) };
                world.pool.spawner().spawn_local(commit).unwrap();
            }
            world.pool.run_until_stalled();
            let mut world = world.crash();
            let taking = Taking::locked(9, Duration::ZERO);
            let (broker, view) = (world.broker.clone(), queue());
            let taken = world
                .pool
                .run_until(broker.take(&ME, &view, taking))
                .unwrap();
            let failed: Vec<_> = taken
                .iter()
                .map(|held| (held.failed, held.note.is_some()))
                .collect();
            match (&failed[..4], &failed[4..]) {
                ([(1, true), ..], [(1, true), ..]) => both += 1,
                ([(0, false), ..], [(0, false), ..]) => {}
                _ => halves += 1,
            }
            for half in failed.chunks(4) {
                assert!(
                    half.iter().all(|one| *one == half[0]),
                    "{appends} {is_done}: {failed:?}"
                );
            }
        }
    }
    assert!(
        halves > 0 && both > 0,
        "{halves} {both}: each was to be seen"
    );
}
