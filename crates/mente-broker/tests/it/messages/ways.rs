//! What goes on, waits or comes back on less common ways.

use super::*;

#[test]
fn deferred_messages_come_in_whatever_order_they_are_asked_for() {
    for mode in [Mode::Lock, Mode::Delete] {
        let mut world = World::with_queue(14, plain());
        (0..3).for_each(|id| world.send([message(id)]));
        let out = world.take(3);
        world.end(&out, Ending::Defer { note: None });
        let wanted = vec![3, 1, 2];
        let held = call!(world, b => b.take_deferred(&ME, &queue(), wanted, mode, None)).unwrap();
        assert_eq!(ids(&held), [0, 1, 2]);
    }
}

#[test]
fn of_deferred_messages_come_all_or_none() {
    let mut world = World::with_queue(18, plain());
    (0..4).for_each(|id| world.send([message(id)]));
    let out = world.take(3);
    world.end(&out, Ending::Defer { note: None });
    let mut ask = |asked: &[u64]| -> Vec<usize> {
        let asked = asked.to_vec();
        let held = call!(world, b => b.take_all_deferred(&ME, &queue(), asked, None));
        ids(&held.unwrap())
    };
    // One that is only ready, and one that is not there.
    assert!(ask(&[1, 2, 4]).is_empty());
    assert!(ask(&[1, 9, 2]).is_empty());
    assert_eq!(ask(&[2, 1, 2]), [0, 1]);
    // Somebody has the second now, and the third waits still.
    assert!(ask(&[2, 3]).is_empty());
    assert_eq!(ask(&[3]), [2]);
}

/// Nobody is told that what is deferred is not there while it cannot be read.
#[test]
fn deferred_messages_that_cannot_be_read_now_wait_as_they_did() {
    let mut world = World::with_queue(18, plain());
    (0..3).for_each(|id| world.send([message(id)]));
    let out = world.take(3);
    world.end(&out, Ending::Defer { note: None });
    let log = world.log_of("default/work");
    world
        .engine
        .fail_reads(log, Some(out[1].stored.position.offset));
    for all in [true, false] {
        let wanted = vec![1, 2, 3];
        let refused = match all {
            true => call!(world, b => b.take_all_deferred(&ME, &queue(), wanted, None)),
            false => {
                call!(world, b => b.take_deferred(&ME, &queue(), wanted, Mode::Delete, None))
            }
        };
        assert_eq!(refused.unwrap_err().kind, Kind::Throttled);
    }
    world.engine.fail_reads(log, None);
    // No lock of theirs was left.
    let wanted = vec![1, 2, 3];
    let held = call!(world, b => b.take_all_deferred(&ME, &queue(), wanted, None));
    assert_eq!(ids(&held.unwrap()), [0, 1, 2]);
}

/// One that is damaged is not there any more, and those beside it are not kept from who asks for them alone.
#[test]
fn of_deferred_messages_one_of_which_is_damaged_comes_none() {
    let mut world = World::with_queue(18, plain());
    (0..3).for_each(|id| world.send([message(id)]));
    let out = world.take(3);
    world.end(&out, Ending::Defer { note: None });
    let log = world.log_of("default/work");
    world.engine.rot(log, out[2].stored.position.offset);
    for (wanted, come) in [(vec![1, 2, 3], vec![]), (vec![1, 2], vec![0, 1])] {
        let held = call!(world, b => b.take_all_deferred(&ME, &queue(), wanted, None));
        assert_eq!(ids(&held.unwrap()), come);
    }
}

#[test]
fn what_cannot_go_on_now_holds_up_nothing_behind_it() {
    let mut world = World::with_queue(18, plain());
    let to = queue().topic;
    for id in 0..3 {
        let due = Some(Timestamp(1_000));
        let later = vec![Message { due, ..message(id) }];
        call!(world, b => b.schedule(&ME, &to, later)).unwrap();
    }
    let log = world.log_of("default/work/$hold");
    world.engine.fail_reads(log, Some(Offset(0)));
    world.pass(Duration::from_secs(2));
    assert_eq!(ids(&world.take(9)), [1, 2]);
    world.engine.fail_reads(log, None);
    world.pass(Duration::from_secs(9));
    let mut came = ids(&world.take(9));
    came.sort_unstable();
    assert_eq!(came, [0, 1, 2], "once, though the locks ran out");
    assert_eq!(world.counts().scheduled, 0);
}

#[test]
fn what_was_to_be_forwarded_before_a_crash_is_and_once() {
    for seed in 0..30 {
        let mut world = World::with_queue(seed, plain());
        let names: Vec<_> = (0..6).map(|n| format!("source{n}")).collect();
        for name in &names {
            let receiving = Receiving {
                forward_to: Some(queue().topic),
                ..Receiving::default()
            };
            let from = properties(receiving, Sending::default());
            call!(world, b => b.create_queue(&ME, name, from)).unwrap();
        }
        // Appends that are cut off: what came of them is not known.
        let broker = world.broker.clone();
        for (id, name) in (0..).zip(&names) {
            let name = EntityName::new(name.as_str()).unwrap();
            let messages = (0..300).map(|n| message(id * 1_000 + n)).collect();
            let sent = broker.send(&ME, &name, messages);
            world.pool.run_until(sent).unwrap();
        }
        drop(broker);
        // Without a moment for what follows.
        let mut world = world.crash();
        world.pass(Duration::from_secs(1));
        let mut got = Vec::new();
        loop {
            let out = world.take(1_000);
            if out.is_empty() {
                break;
            }
            got.extend(ids(&out));
            world.end(&out, Ending::Complete);
        }
        got.sort_unstable();
        let expected = (0..6).flat_map(|id| (0..300).map(move |n| id * 1_000 + n));
        let expected: Vec<_> = expected.collect();
        assert_eq!(got, expected, "seed {seed}");
        assert!(world.letters_of_queue().is_empty());
    }
}

#[test]
fn a_queue_that_forwards_from_now_on_keeps_only_what_was_put_aside() {
    let mut world = World::with_queue(15, plain());
    call!(world, b => b.create_queue(&ME, "next", plain())).unwrap();
    world.send((0..4).map(message));
    let out = world.take(2);
    world.end(&out[..1], Ending::Defer { note: None });
    let receiving = Receiving {
        forward_to: Some(EntityName::new("next").unwrap()),
        ..Receiving::default()
    };
    let forwards = properties(receiving, Sending::default());
    call!(world, b => b.update_queue(&ME, &queue().topic, forwards)).unwrap();
    world.end(&out[1..], abandoned(None));
    let next = SubscriptionName::queue(EntityName::new("next").unwrap());
    let all = || Taking::locked(9, Duration::ZERO);
    let mut got = ids(&world.take_from(&next, all()));
    got.sort_unstable();
    assert_eq!(got, [1, 2, 3]);
    let mut world = world.crash();
    assert!(world.take(9).is_empty());
    assert_eq!(world.peek(0), [(1, Standing::Deferred)]);
    assert_eq!(world.take_from(&next, all()).len(), 3, "and not again");
}

#[test]
fn what_a_lock_outlived_is_too_late_when_it_is_given_back() {
    let sending = Sending {
        default_time_to_live_ms: Some(2_000),
        ..Sending::default()
    };
    let mut world = World::with_queue(16, properties(Receiving::default(), sending));
    world.send([message(0)]);
    let out = world.take(1);
    world.pass(Duration::from_secs(3));
    world.end(&out, abandoned(None));
    assert_eq!(world.counts(), MessageCounts::default());
}

#[test]
fn an_entity_that_is_made_anew_has_dead_letters_and_scheduled_messages_of_its_own() {
    let mut world = World::with_queue(17, plain());
    for round in 0..3 {
        let later = Message {
            due: Some(Timestamp(i64::from(round) * 100_000 + 5_000)),
            ..message(round as usize)
        };
        world.send([later, message(9)]);
        let out = world.take(1);
        let (reason, description) = ("Bad".to_owned(), String::new());
        let note = None;
        world.end(
            &out,
            Ending::DeadLetter {
                reason,
                description,
                note,
            },
        );
        assert_eq!(ids(&world.letters_of_queue()), [9]);
        assert_eq!(world.counts().scheduled, 1);
        world.pass(Duration::from_secs(100));
        assert_eq!(ids(&world.take(9)), [round as usize]);
        call!(world, b => b.delete_entity(&ME, &queue().topic)).unwrap();
        call!(world, b => b.create_queue(&ME, "work", plain())).unwrap();
    }
}

#[test]
fn a_dead_letter_tells_what_its_sender_said_of_its_time() {
    let mut world = World::with_queue(12, plain());
    let time_to_live = Some(Duration::from_secs(600));
    let due = Some(Timestamp(-5));
    world.send([Message {
        time_to_live,
        due,
        ..message(0)
    }]);
    let out = world.take(1);
    let ending = Ending::DeadLetter {
        reason: "Bad".into(),
        description: String::new(),
        note: None,
    };
    world.end(&out, ending);
    let letters = world.letters_of_queue();
    assert_eq!(
        (letters[0].time_to_live, letters[0].due),
        (time_to_live, due)
    );
}

/// Who first scheduled something died when the log was made and its view was not.
fn with_a_log_of_what_is_scheduled_alone() -> World {
    let mut world = World::with_queue(13, plain());
    let name = SetName::new("default/work/$hold").unwrap();
    let made = world.engine.create(&name, 1, LogConfig::default());
    world.pool.run_until(made).unwrap();
    world
}

#[test]
fn one_may_look_at_a_queue_where_nothing_could_be_scheduled_yet() {
    let mut world = with_a_log_of_what_is_scheduled_alone();
    world.send([message(0)]);
    assert_eq!(world.peek(0), [(1, Standing::Active)]);
    assert_eq!(world.counts().scheduled, 0);
}

#[test]
fn what_is_scheduled_comes_also_if_one_has_looked_before() {
    let mut world = with_a_log_of_what_is_scheduled_alone();
    assert!(world.peek(0).is_empty());
    world.send([Message {
        due: Some(Timestamp(1_000)),
        ..message(0)
    }]);
    assert_eq!(world.counts().scheduled, 1);
    world.pass(Duration::from_secs(1));
    assert_eq!(ids(&world.take(1)), [0]);
}

#[test]
fn what_became_too_late_while_it_was_out_goes_when_it_is_back_even_if_nobody_looks() {
    let returned = |world: &mut World, out: &[Held]| drop(world.end(out, Ending::Return));
    let forgotten = |world: &mut World, _: &[Held]| world.pass(LOCK);
    let ways: [fn(&mut World, &[Held]); 2] = [returned, forgotten];
    for back in ways {
        let receiving = Receiving {
            dead_letter_on_expiry: true,
            ..Receiving::default()
        };
        let mut world = World::with_queue(14, properties(receiving, Sending::default()));
        world.send([Message {
            time_to_live: Some(Duration::from_secs(2)),
            ..message(0)
        }]);
        let out = world.take(1);
        world.pass(Duration::from_secs(3));
        assert_eq!(world.counts().active, 1);
        back(&mut world, &out);
        let counts = world.counts();
        assert_eq!((counts.active, counts.dead_letters), (0, 1));
    }
}

/// Whatever happens between: nothing of it may depend on whether the server was started anew.
#[test]
fn what_waits_when_a_queue_begins_to_forward_goes_on_too_but_not_what_was_put_aside() {
    for crashes in [false, true] {
        let mut world = World::with_queue(15, plain());
        call!(world, b => b.create_queue(&ME, "next", plain())).unwrap();
        let next = EntityName::new("next").unwrap();
        world.send((0..4).map(message));
        let out = world.take(2);
        world.end(&out[..1], Ending::Defer { note: None });
        let receiving = Receiving {
            forward_to: Some(next.clone()),
            ..Receiving::default()
        };
        let changed = properties(receiving, Sending::default());
        call!(world, b => b.update_queue(&ME, &queue().topic, changed)).unwrap();
        assert_eq!(
            world.peek(0),
            [(1, Standing::Deferred), (2, Standing::Active)]
        );
        if crashes {
            world = world.crash();
        } else {
            world.end(&out[1..], Ending::Return);
        }
        world.pool.run_until_stalled();
        assert_eq!(world.peek(0), [(1, Standing::Deferred)]);
        let taking = Taking::locked(9, Duration::ZERO);
        let there = world.take_from(&SubscriptionName::queue(next), taking);
        assert_eq!(ids(&there), [2, 3, 1]);
    }
}

#[test]
fn what_was_put_aside_comes_in_whatever_order_it_is_asked_for() {
    for mode in [Mode::Lock, Mode::Delete] {
        let mut world = World::with_queue(16, plain());
        world.send((0..3).map(message));
        let out = world.take(3);
        world.end(&out, Ending::Defer { note: None });
        let asked = vec![3, 1, 3, 2, 9];
        let held = call!(world, b => b.take_deferred(&ME, &queue(), asked, mode, None)).unwrap();
        assert_eq!(numbers(&held), [1, 2, 3]);
    }
}
