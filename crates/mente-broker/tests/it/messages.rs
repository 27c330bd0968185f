//! Queues as their clients know them, on the memory engine, over crashes.

use std::time::Duration;

use bytes::Bytes;
use mente_broker::entity::{QueueProperties, Receiving, Sending};
use mente_broker::{
    Ending, EntityName, Held, Kind, Message, MessageCounts, Mode, SessionLock, Standing,
    SubscriptionName, Taking, WantedSession,
};
use mente_engine::{Attribute, Engine, LogConfig, LogId, Offset, SetName, Timestamp};

use crate::rounds::{ME, World, event};

const LOCK: Duration = Duration::from_secs(5);

fn queue() -> SubscriptionName {
    SubscriptionName::queue(EntityName::new("work").unwrap())
}

fn message(id: usize) -> Message {
    Message {
        event: event(id),
        ..Message::default()
    }
}

fn of_session(id: usize, session: &'static str) -> Message {
    let mut message = message(id);
    message.event.key = Some(Bytes::from_static(session.as_bytes()));
    message
}

fn properties(receiving: Receiving, sending: Sending) -> QueueProperties {
    let lock_duration_ms = LOCK.as_millis() as u64;
    QueueProperties {
        receiving: Receiving {
            lock_duration_ms,
            ..receiving
        },
        sending,
    }
}

fn plain() -> QueueProperties {
    properties(Receiving::default(), Sending::default())
}

fn with_sessions() -> QueueProperties {
    let receiving = Receiving {
        requires_session: true,
        ..Receiving::default()
    };
    properties(receiving, Sending::default())
}

/// Runs one call of the broker's to its end.
macro_rules! call {
    ($world:expr, $broker:ident => $call:expr) => {{
        let $broker = $world.broker.clone();
        let done = $world.pool.run_until($call);
        $world.pool.run_until_stalled();
        done
    }};
}

mod across;
mod ahead;
mod dying;
mod idle;
mod large;
mod lingering;
mod long_names;
mod moving;
mod quota;
mod rules;
mod shelved;
mod transactions;
mod ways;

impl World {
    fn with_queue(seed: u64, properties: QueueProperties) -> Self {
        let mut world = Self::new(seed);
        call!(world, b => b.create_queue(&ME, "work", properties)).unwrap();
        world
    }

    fn send(&mut self, messages: impl IntoIterator<Item = Message>) {
        let messages = messages.into_iter().collect();
        call!(self, b => b.send(&ME, &queue().topic, messages)).unwrap();
    }

    fn take_from(&mut self, view: &SubscriptionName, taking: Taking) -> Vec<Held> {
        call!(self, b => b.take(&ME, view, taking)).unwrap()
    }

    fn take(&mut self, max: usize) -> Vec<Held> {
        self.take_from(&queue(), Taking::locked(max, Duration::ZERO))
    }

    fn letters_of_queue(&mut self) -> Vec<Held> {
        let taking = Taking::locked(100, Duration::ZERO);
        self.take_from(&queue().dead_letters(), taking)
    }

    fn end(&mut self, held: &[Held], ending: Ending) -> Vec<bool> {
        let tokens = held.iter().map(|h| h.lock.unwrap().token).collect();
        call!(self, b => b.end_locks(&ME, &queue(), tokens, ending)).unwrap()
    }

    fn peek(&mut self, from: u64) -> Vec<(u64, Standing)> {
        let held = call!(self, b => b.peek(&ME, &queue(), from, 100, None)).unwrap();
        held.iter().map(|h| (h.number, h.standing)).collect()
    }

    fn log_of(&mut self, set: &str) -> LogId {
        let found = self.pool.run_until(self.engine.list(set)).unwrap();
        let found = found.iter().find(|info| info.name.as_str() == set);
        found.unwrap().id.log(0)
    }

    fn counts(&mut self) -> MessageCounts {
        call!(self, b => b.message_counts(&ME, &queue())).unwrap()
    }

    fn accept(&mut self, wanted: WantedSession) -> mente_broker::Result<Option<SessionLock>> {
        let accepted = call!(self, b => b.accept_session(&ME, &queue(), wanted, Duration::ZERO));
        accepted.map(|accepted| accepted.map(|(lock, _)| lock))
    }

    fn take_of(&mut self, lock: &SessionLock, max: usize) -> mente_broker::Result<Vec<usize>> {
        let taking = Taking {
            session: Some(lock.clone()),
            ..Taking::locked(max, Duration::ZERO)
        };
        call!(self, b => b.take(&ME, &queue(), taking)).map(|held| ids(&held))
    }
}

fn ids(held: &[Held]) -> Vec<usize> {
    held.iter()
        .map(|h| h.stored.event.id.parse().unwrap())
        .collect()
}

fn numbers(held: &[Held]) -> Vec<u64> {
    held.iter().map(|h| h.number).collect()
}

fn abandoned(note: Option<&str>) -> Ending {
    let note = note.map(str::to_owned);
    Ending::Abandon { note }
}

#[test]
fn numbers_are_dense_whatever_is_settled_and_over_crashes() {
    for seed in 0..8 {
        let mut world = World::with_queue(seed, plain());
        world.send((0..10).map(message));
        let out = world.take(6);
        assert_eq!(numbers(&out), [1, 2, 3, 4, 5, 6]);
        assert_eq!(world.end(&out[..2], Ending::Complete), [true, true]);
        assert_eq!(world.end(&out[3..5], Ending::Complete), [true, true]);
        let mut world = world.crash();
        world.send((10..12).map(message));
        let out = world.take(100);
        assert_eq!(numbers(&out), [3, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(ids(&out), [2, 5, 6, 7, 8, 9, 10, 11]);
        world.end(&out, Ending::Complete);
        let mut world = world.crash();
        world.send([message(12)]);
        assert_eq!(numbers(&world.take(1)), [13]);
    }
}

#[test]
fn what_is_abandoned_comes_again_in_its_place_with_what_was_said_of_it() {
    let mut world = World::with_queue(1, plain());
    world.send((0..3).map(message));
    let out = world.take(2);
    world.end(&out[..1], abandoned(Some("seen")));
    let out = world.take(1);
    assert_eq!((ids(&out), out[0].failed), (vec![0], 1));
    assert_eq!(out[0].note.as_deref(), Some("seen"));
    world.end(&out, Ending::Return);
    let mut world = world.crash();
    let out = world.take(1);
    assert_eq!((ids(&out), out[0].failed), (vec![0], 1));
    assert_eq!(out[0].note.as_deref(), Some("seen"));
}

#[test]
fn after_too_many_failures_and_at_a_receivers_word_it_is_a_dead_letter_and_stays_one() {
    let receiving = Receiving {
        max_delivery_count: 2,
        ..Receiving::default()
    };
    let mut world = World::with_queue(1, properties(receiving, Sending::default()));
    world.send((0..2).map(message));
    for _ in 0..2 {
        let out = world.take(1);
        world.end(&out, abandoned(Some("no")));
    }
    let out = world.take(1);
    let ending = Ending::DeadLetter {
        reason: "Bad".into(),
        description: "very".into(),
        note: Some("why".into()),
    };
    assert_eq!(world.end(&out, ending), [true]);
    assert_eq!(world.counts().dead_letters, 2);
    for _ in 0..3 {
        let letters = world.letters_of_queue();
        assert_eq!(ids(&letters), [0, 1]);
        let notes: Vec<_> = letters.iter().map(|held| held.note.as_deref()).collect();
        assert_eq!(notes, [Some("no"), Some("why")]);
        let event = &letters[1].stored.event;
        let reason = event.extension(mente_broker::dead_letter::REASON).unwrap();
        assert_eq!(reason.to_text(), "Bad");
        // Its failures count, and bury it no deeper.
        world.pass(LOCK);
    }
    let letters = world.letters_of_queue();
    let tokens = letters.iter().map(|h| h.lock.unwrap().token).collect();
    let view = queue().dead_letters();
    call!(world, b => b.end_locks(&ME, &view, tokens, Ending::Complete)).unwrap();
    assert_eq!(world.counts(), MessageCounts::default());
}

#[test]
fn what_is_put_aside_comes_by_its_number_alone() {
    let mut world = World::with_queue(2, plain());
    world.send((0..3).map(message));
    let out = world.take(2);
    let note = Some("later".to_owned());
    world.end(&out[..1], Ending::Defer { note });
    world.end(&out[1..], Ending::Complete);
    let mut world = world.crash();
    assert_eq!(ids(&world.take(10)), [2]);
    assert_eq!(world.peek(0)[0], (1, Standing::Deferred));
    let deferred = |world: &mut World, number, mode| {
        call!(world, b => b.take_deferred(&ME, &queue(), vec![number], mode, None)).unwrap()
    };
    assert!(deferred(&mut world, 2, Mode::Lock).is_empty());
    let held = deferred(&mut world, 1, Mode::Lock);
    assert_eq!(held[0].note.as_deref(), Some("later"));
    assert!(deferred(&mut world, 1, Mode::Lock).is_empty(), "it is out");
    // It goes back to where it was put, not to the others.
    world.end(&held, abandoned(None));
    assert!(world.take(10).is_empty());
    assert_eq!(world.counts().active, 2);
    assert_eq!(ids(&deferred(&mut world, 1, Mode::Delete)), [0]);
    assert_eq!(world.counts().active, 1);
}

#[test]
fn what_is_taken_at_once_is_gone() {
    let mut world = World::with_queue(3, plain());
    world.send((0..3).map(message));
    let taking = Taking {
        mode: Mode::Delete,
        ..Taking::locked(2, Duration::ZERO)
    };
    let held = world.take_from(&queue(), taking);
    assert_eq!(ids(&held), [0, 1]);
    assert!(held[0].lock.is_none());
    assert_eq!(ids(&world.crash().take(9)), [2]);
}

#[test]
fn what_is_scheduled_waits_unseen_and_gets_a_number_of_its_own_when_it_is_due() {
    let mut world = World::with_queue(4, plain());
    let due = |id, seconds: i64| Message {
        due: Some(Timestamp(seconds * 1_000)),
        ..message(id)
    };
    let to = queue().topic;
    let messages = vec![due(0, 30), due(1, 20), due(2, 30)];
    let numbers = call!(world, b => b.schedule(&ME, &to, messages)).unwrap();
    world.send([due(3, 25), message(4)]);
    assert_eq!(ids(&world.take(9)), [4]);
    assert_eq!(world.counts().scheduled, 4);
    assert_eq!(world.peek(0).len(), 5);
    let cancel = |world: &mut World, numbers| {
        call!(world, b => b.cancel_scheduled(&ME, &queue().topic, numbers)).unwrap()
    };
    assert_eq!(cancel(&mut world, vec![numbers[2], 17]), [true, false]);
    let mut world = world.crash();
    assert_eq!(cancel(&mut world, vec![numbers[2]]), [false]);
    world.pass(Duration::from_secs(26));
    let out = world.take(9);
    // The lock on 4 went with the crash.
    let got = ids(&out);
    assert!(got == [4, 1, 3], "{got:?}");
    assert!(out.iter().all(|held| held.number < 10));
    assert_eq!(
        cancel(&mut world, vec![numbers[1]]),
        [false],
        "it is enqueued"
    );
    let mut world = world.crash();
    world.pass(Duration::from_secs(5));
    assert_eq!(ids(&world.take(9)), [4, 1, 3, 0]);
    assert_eq!(world.counts().scheduled, 0);
}

#[test]
fn an_id_that_came_before_is_dropped_as_long_as_the_window_is() {
    let sending = Sending {
        requires_duplicate_detection: true,
        duplicate_window_ms: 20_000,
        ..Sending::default()
    };
    let mut world = World::with_queue(5, properties(Receiving::default(), sending));
    world.send([message(1), message(2), message(1)]);
    let out = world.take(9);
    assert_eq!((ids(&out), numbers(&out)), (vec![1, 2], vec![1, 2]));
    world.end(&out, Ending::Complete);
    let mut world = world.crash();
    world.pass(Duration::from_secs(19));
    world.send([message(2), message(3)]);
    let out = world.take(9);
    assert_eq!((ids(&out), numbers(&out)), (vec![3], vec![3]));
    world.pass(Duration::from_secs(3));
    world.send([message(1)]);
    assert_eq!(ids(&world.take(9)), [1]);
}

#[test]
fn what_is_too_late_goes_or_is_a_dead_letter_even_if_nobody_looks() {
    for dead_letter_on_expiry in [false, true] {
        let receiving = Receiving {
            dead_letter_on_expiry,
            ..Receiving::default()
        };
        let sending = Sending {
            default_time_to_live_ms: Some(60_000),
            ..Sending::default()
        };
        let mut world = World::with_queue(6, properties(receiving, sending));
        let short = Message {
            time_to_live: Some(Duration::from_secs(2)),
            ..message(1)
        };
        let long = Message {
            time_to_live: Some(Duration::from_secs(600)),
            ..message(2)
        };
        world.send([message(0), short, long]);
        let out = world.take(1);
        world.pass(Duration::from_secs(3));
        let dead = u64::from(dead_letter_on_expiry);
        let MessageCounts {
            active,
            dead_letters,
            ..
        } = world.counts();
        assert_eq!((active, dead_letters), (2, dead));
        // Who has it may settle it.
        world.end(&out, Ending::Complete);
        world.pass(Duration::from_secs(60));
        assert!(world.take(9).is_empty());
        assert_eq!(world.letters_of_queue().len() as u64, 2 * dead);
    }
}

#[test]
fn one_receiver_at_a_time_has_a_session_in_its_order() {
    let mut world = World::with_queue(7, with_sessions());
    let refused = call!(world, b => b.send(&ME, &queue().topic, vec![message(9)]));
    assert_eq!(refused.unwrap_err().kind, Kind::Invalid);
    let sent = [(0, "a"), (1, "b"), (2, "a"), (3, "b"), (4, "a")];
    world.send(sent.map(|(id, session)| of_session(id, session)));
    let taking = Taking::locked(1, Duration::ZERO);
    let refused = call!(world, b => b.take(&ME, &queue(), taking));
    assert_eq!(refused.unwrap_err().kind, Kind::Invalid);
    let a = world.accept(WantedSession::Next).unwrap().unwrap();
    assert_eq!(a.session, "a");
    let named = WantedSession::Named("a".into());
    let held = world.accept(named.clone()).unwrap_err();
    assert_eq!(held.kind, Kind::Conflict);
    let b = world.accept(WantedSession::Next).unwrap().unwrap();
    assert_eq!(b.session, "b");
    assert_eq!(world.accept(WantedSession::Next), Ok(None));
    assert_eq!(world.take_of(&a, 2), Ok(vec![0, 2]));
    assert_eq!(world.take_of(&b, 9), Ok(vec![1, 3]));
    // Given up: what was out is first again, and did not fail.
    call!(world, x => x.release_session(&ME, &queue(), &a)).unwrap();
    let lost = world.take_of(&a, 1).unwrap_err();
    assert_eq!(lost.kind, Kind::LockLost);
    let again = world.accept(named).unwrap().unwrap();
    let taking = Taking {
        session: Some(again),
        ..Taking::locked(9, Duration::ZERO)
    };
    let out = world.take_from(&queue(), taking);
    assert_eq!((ids(&out), out[0].failed), (vec![0, 2, 4], 0));
    world.end(&out[..1], Ending::Complete);
    // It runs out, and what was out with it counts as failed.
    world.pass(LOCK + Duration::from_millis(1));
    assert_eq!(world.end(&out[1..2], Ending::Complete), [false]);
    let a = world.accept(WantedSession::Named("a".into())).unwrap();
    let taking = Taking {
        session: a,
        ..Taking::locked(9, Duration::ZERO)
    };
    let out = world.take_from(&queue(), taking);
    assert_eq!((ids(&out), out[0].failed), (vec![2, 4], 1));
}

#[test]
fn the_state_of_a_session_outlives_its_messages_and_its_receivers() {
    let mut world = World::with_queue(8, with_sessions());
    world.send([of_session(0, "a"), of_session(1, "b")]);
    let a = world.accept(WantedSession::Named("a".into()));
    let a = a.unwrap().unwrap();
    let state = Some(Bytes::from_static(b"\x00half"));
    let kept = state.clone();
    call!(world, b => b.set_session_state(&ME, &queue(), &a, kept)).unwrap();
    assert_eq!(world.take_of(&a, 9), Ok(vec![0]));
    let mut world = world.crash();
    let lost = call!(world, b => b.session_state(&ME, &queue(), &a)).unwrap_err();
    assert_eq!(lost.kind, Kind::LockLost, "locks go with their owner");
    let a = world.accept(WantedSession::Named("a".into()));
    let a = a.unwrap().unwrap();
    let read = call!(world, b => b.session_state(&ME, &queue(), &a));
    assert_eq!(read, Ok(state));
    let names = |world: &mut World, since: Option<i64>| {
        let since = since.map(Timestamp);
        call!(world, b => b.sessions(&ME, &queue(), since, 0, 10)).unwrap()
    };
    assert_eq!(names(&mut world, None), ["a", "b"]);
    assert_eq!(names(&mut world, Some(-1)), ["a"]);
    assert!(names(&mut world, Some(0)).is_empty());
    call!(world, b => b.set_session_state(&ME, &queue(), &a, None)).unwrap();
    let read = call!(world, b => b.session_state(&ME, &queue(), &a));
    assert_eq!(read, Ok(None));
}

#[test]
fn what_is_forwarded_arrives_once_and_not_in_a_circle() {
    for seed in 0..8 {
        let mut world = World::with_queue(seed, plain());
        let forward_to = Some(queue().topic);
        let receiving = Receiving {
            forward_to: forward_to.clone(),
            ..Receiving::default()
        };
        let first = properties(receiving, Sending::default());
        call!(world, b => b.create_queue(&ME, "first", first)).unwrap();
        let name = EntityName::new("first").unwrap();
        for id in 0..5 {
            call!(world, b => b.send(&ME, &name, vec![message(id)])).unwrap();
        }
        let mut world = world.crash();
        for id in 5..8 {
            call!(world, b => b.send(&ME, &name, vec![message(id)])).unwrap();
        }
        let out = world.take(99);
        assert_eq!(ids(&out), [0, 1, 2, 3, 4, 5, 6, 7]);
        world.end(&out, Ending::Complete);
        // To itself: it goes round until that is enough.
        let receiving = Receiving {
            forward_to,
            ..Receiving::default()
        };
        let circle = properties(receiving, Sending::default());
        call!(world, b => b.update_queue(&ME, &queue().topic, circle)).unwrap();
        world.send([message(9)]);
        let letters = world.letters_of_queue();
        assert_eq!(ids(&letters), [9]);
    }
}

#[test]
fn dead_letters_may_be_sent_on_and_find_a_place_when_their_topic_is_gone() {
    let mut world = World::with_queue(9, plain());
    let elsewhere = EntityName::new("elsewhere").unwrap();
    call!(world, b => b.create_queue(&ME, "elsewhere", plain())).unwrap();
    let receiving = Receiving {
        forward_dead_letters_to: Some(elsewhere.clone()),
        ..Receiving::default()
    };
    let changed = properties(receiving, Sending::default());
    call!(world, b => b.update_queue(&ME, &queue().topic, changed)).unwrap();
    world.send((0..2).map(message));
    let out = world.take(2);
    let bad = || Ending::DeadLetter {
        reason: "Bad".into(),
        description: String::new(),
        note: None,
    };
    world.end(&out[..1], bad());
    let view = SubscriptionName::queue(elsewhere.clone());
    let taking = Taking::locked(9, Duration::ZERO);
    let there = world.take_from(&view, taking);
    assert_eq!(ids(&there), [0]);
    call!(world, b => b.delete_entity(&ME, &elsewhere)).unwrap();
    world.end(&out[1..], bad());
    assert_eq!(ids(&world.letters_of_queue()), [1]);
}

#[test]
fn messages_are_deleted_unless_somebody_has_them() {
    let mut world = World::with_queue(10, plain());
    for id in 0..10 {
        world.send([message(id)]);
        world.pass(Duration::from_millis(100));
    }
    let out = world.take(2);
    let before = Timestamp(500);
    let deleted = call!(world, b => b.delete_messages(&ME, &queue(), 100, before, None));
    assert_eq!(deleted, Ok(4));
    world.end(&out, Ending::Return);
    assert_eq!(ids(&world.crash().take(99)), [0, 1, 6, 7, 8, 9]);
}

#[test]
fn an_entity_is_made_once_changed_where_it_may_and_deleted_with_all_it_has() {
    let mut world = World::with_queue(11, plain());
    let again = call!(world, b => b.create_queue(&ME, "Work", plain()));
    assert_eq!(again.unwrap_err().kind, Kind::Exists);
    let fixed = call!(world, b => b.update_queue(&ME, &queue().topic, with_sessions()));
    assert_eq!(fixed.unwrap_err().kind, Kind::Invalid);
    world.send([message(0), message(1)]);
    let out = world.take(1);
    world.end(
        &out,
        Ending::DeadLetter {
            reason: "Bad".into(),
            description: String::new(),
            note: None,
        },
    );
    assert_eq!(world.counts().dead_letters, 1);
    call!(world, b => b.delete_entity(&ME, &queue().topic)).unwrap();
    let listed = call!(world, b => b.entities(&ME)).unwrap();
    assert!(listed.is_empty());
    call!(world, b => b.create_queue(&ME, "WORK", plain())).unwrap();
    let mut world = world.crash();
    let listed = call!(world, b => b.entities(&ME)).unwrap();
    assert_eq!(listed[0].1.title, "WORK");
    assert_eq!(world.counts(), MessageCounts::default());
    assert!(world.letters_of_queue().is_empty());
}

#[test]
fn what_is_settled_leaves_the_log_of_a_queue_and_numbers_go_on() {
    let mut world = World::with_queue(12, plain());
    for page in 0..150 {
        world.send((page * 100..page * 100 + 100).map(message));
        let out = world.take(100);
        assert_eq!(out.len(), 100);
        // The last one stays open.
        let done = if page == 149 { &out[..99] } else { &out[..] };
        world.end(done, Ending::Complete);
    }
    let sets = world.pool.run_until(world.engine.list("")).unwrap();
    let topic = sets.iter().find(|s| s.name.as_str().ends_with("/work"));
    let log = topic.unwrap().id.log(0);
    let bounds = world.pool.run_until(world.engine.bounds(log)).unwrap();
    assert!(bounds.start.0 >= 10_000, "{bounds:?}");
    let mut world = world.crash();
    let out = world.take(9);
    assert_eq!((ids(&out), numbers(&out)), (vec![14_999], vec![15_000]));
}
