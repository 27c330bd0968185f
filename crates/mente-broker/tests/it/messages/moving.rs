//! Few messages that nobody is done with do not keep all that is settled behind them.

use mente_engine::{Bounds, Offset};

use super::*;

const DAY: Timestamp = Timestamp(86_400_000);

impl World {
    fn bounds_of(&mut self, set: &str) -> Bounds {
        let log = self.log_of(set);
        self.pool.run_until(self.engine.bounds(log)).unwrap()
    }

    /// So many hundreds of messages come and are settled.
    fn settle_hundreds(&mut self, hundreds: usize) {
        for page in 0..hundreds {
            self.send((page * 100..page * 100 + 100).map(message));
            let out = self.take(100);
            assert_eq!(out.len(), 100);
            self.end(&out, Ending::Complete);
        }
    }

    fn deferred(&mut self, numbers: &[u64]) -> Vec<Held> {
        let numbers = numbers.to_vec();
        call!(self, b => b.take_deferred(&ME, &queue(), numbers, Mode::Lock, None)).unwrap()
    }
}

fn dead() -> Ending {
    Ending::DeadLetter {
        reason: "Late".into(),
        description: String::new(),
        note: None,
    }
}

/// What is to be the same of a message, wherever it lies.
fn told(held: &[Held]) -> Vec<Held> {
    let told = held.iter().map(|held| Held {
        lock: None,
        ..held.clone()
    });
    told.collect()
}

#[test]
fn messages_that_are_put_aside_do_not_keep_what_is_settled_behind_them() {
    let mut world = World::with_queue(13, plain());
    world.send((0..4).map(message));
    let first = world.take(4);
    let note = Some("later".to_owned());
    world.end(&first[..1], Ending::Defer { note });
    world.end(&first[1..3], Ending::Defer { note: None });
    let delay = abandoned(None);
    world.end(&first[3..], delay);
    let fourth = world.take(1);
    world.end(&fourth, Ending::Defer { note: None });
    let before = call!(world, b => b.peek(&ME, &queue(), 0, 9, None)).unwrap();
    assert_eq!(before.len(), 4);
    world.settle_hundreds(220);
    let bounds = world.bounds_of("default/work");
    assert!(bounds.start.0 >= 10_000, "{bounds:?}");
    assert_eq!(world.bounds_of("default/work/$queue/$moved").end, Offset(4));
    let usage = call!(world, b => b.usage(&ME, &queue().topic)).unwrap();
    assert!((1..20_000).contains(&usage.bytes.unwrap()), "{usage:?}");

    for crash in [false, true] {
        if crash {
            world = world.crash();
        }
        let after = call!(world, b => b.peek(&ME, &queue(), 0, 9, None)).unwrap();
        assert_eq!(told(&after), told(&before));
        assert_eq!(world.counts().active, 4);
        let out = world.deferred(&[1, 2, 3, 4]);
        assert_eq!(numbers(&out), [1, 2, 3, 4]);
        let bodies = |held: &[Held]| -> Vec<_> {
            held.iter().map(|held| held.stored.event.clone()).collect()
        };
        assert_eq!(bodies(&out), bodies(&before));
        world.end(&out, Ending::Return);
    }
    // What comes has the next number.
    world.send([message(7)]);
    let out = world.take(1);
    assert_eq!(numbers(&out), [4 + 22_000 + 1]);
    world.end(&out, Ending::Complete);

    let out = world.deferred(&[1, 2, 3]);
    world.end(&out[..1], Ending::Complete);
    world.end(&out[1..2], dead());
    let letters = world.letters_of_queue();
    assert_eq!(ids(&letters), [1]);
    let mut world = world.crash();
    let left = call!(world, b => b.peek(&ME, &queue(), 0, 9, None)).unwrap();
    assert_eq!(numbers(&left), [3, 4]);
    assert_eq!(world.counts().dead_letters, 1);
    call!(world, b => b.delete_entity(&ME, &queue().topic)).unwrap();
    let sets = world.pool.run_until(world.engine.list("default/work"));
    assert!(sets.unwrap().is_empty());
}

#[test]
fn a_session_that_nobody_accepts_does_not_either_and_keeps_its_order() {
    let mut world = World::with_queue(14, with_sessions());
    world.send((0..3).map(|id| of_session(id, "stuck")));
    let accept = |world: &mut World, name: &str| {
        let wanted = WantedSession::Named(name.to_owned());
        world.accept(wanted).unwrap().unwrap()
    };
    let lock = accept(&mut world, "busy");
    for page in 0..220 {
        world.send((page * 100..page * 100 + 100).map(|id| of_session(id, "busy")));
        let taking = Taking {
            session: Some(lock.clone()),
            ..Taking::locked(100, Duration::ZERO)
        };
        let out = world.take_from(&queue(), taking);
        world.end(&out, Ending::Complete);
    }
    world.send((3..6).map(|id| of_session(id, "stuck")));
    let bounds = world.bounds_of("default/work");
    assert!(bounds.start.0 >= 10_000, "{bounds:?}");
    let mut world = world.crash();
    let lock = accept(&mut world, "stuck");
    assert_eq!(world.take_of(&lock, 9).unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_message_for_the_next_day_does_not_keep_those_of_this_minute() {
    let mut world = World::with_queue(15, plain());
    let topic = queue().topic;
    let schedule = |world: &mut World, ids: std::ops::Range<usize>, due| {
        let messages = ids.map(|id| Message {
            due: Some(due),
            ..message(id)
        });
        let messages = messages.collect();
        call!(world, b => b.schedule(&ME, &topic, messages)).unwrap()
    };
    let far = schedule(&mut world, 0..3, DAY);
    for page in 0..220 {
        let due = Timestamp(1_000 * (page as i64 + 1));
        schedule(&mut world, page * 100..page * 100 + 100, due);
        world.pass(Duration::from_secs(1));
        let out = world.take(100);
        assert_eq!(out.len(), 100);
        world.end(&out, Ending::Complete);
    }
    let bounds = world.bounds_of("default/work/$hold");
    assert!(bounds.start.0 >= 10_000, "{bounds:?}");
    let mut world = world.crash();
    assert_eq!(world.counts().scheduled, 3);
    let one = vec![far[1]];
    let cancelled = call!(world, b => b.cancel_scheduled(&ME, &topic, one));
    assert_eq!(cancelled.unwrap(), [true]);
    world.pass(Duration::from_secs(86_400));
    assert_eq!(ids(&world.take(9)), [0, 2]);
}

#[test]
fn what_was_moved_and_cannot_be_read_is_a_dead_letter() {
    let mut world = World::with_queue(16, plain());
    world.send([message(0), message(1)]);
    let out = world.take(2);
    world.end(&out, Ending::Defer { note: None });
    world.settle_hundreds(150);
    let log = world.log_of("default/work/$queue/$moved");
    let trim = world.engine.trim(log, Offset(1));
    world.pool.run_until(trim).unwrap();
    let mut world = world.crash();
    world.send([message(2)]);
    assert_eq!(ids(&world.take(9)), [2]);
    assert_eq!(numbers(&world.deferred(&[1, 2])), [2]);
    assert_eq!(world.counts().active, 2);
}
