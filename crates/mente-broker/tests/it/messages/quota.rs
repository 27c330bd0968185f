//! A queue that holds what it may takes nothing more, through no door, until something of it is settled.

use super::*;

/// A fifth of a megabyte.
const PART: usize = (1 << 20) / 5;

fn large(id: usize) -> Message {
    let mut message = message(id);
    let data = format!("\"{}\"", "x".repeat(PART));
    message.event.data = mente_engine::Data::Json(Bytes::from(data));
    message
}

fn one_megabyte() -> QueueProperties {
    let sending = Sending {
        max_size_megabytes: 1,
        ..Sending::default()
    };
    properties(Receiving::default(), sending)
}

impl World {
    fn try_send(&mut self, message: Message) -> mente_broker::Result<()> {
        call!(self, b => b.send(&ME, &queue().topic, vec![message]))
    }

    fn bytes(&mut self) -> u64 {
        let usage = call!(self, b => b.usage(&ME, &queue().topic)).unwrap();
        usage.bytes.unwrap()
    }
}

#[test]
fn a_full_queue_refuses_by_name_until_something_is_settled() {
    let mut world = World::with_queue(5, one_megabyte());
    assert_eq!(world.bytes(), 0);
    for id in 0..5 {
        world.try_send(large(id)).unwrap();
    }
    assert!(world.bytes() >= 1 << 20);
    let refused = world.try_send(message(9)).unwrap_err();
    assert_eq!(refused.kind, Kind::Full);
    assert!(refused.message.contains("queue \"work\""), "{refused}");
    let topic = queue().topic;
    let published = call!(world, b => b.publish(&ME, &topic, vec![event(9)]));
    assert_eq!(published.unwrap_err().kind, Kind::Full);
    let later = Message {
        due: Some(Timestamp(3_600_000)),
        ..message(9)
    };
    let scheduled = call!(world, b => b.schedule(&ME, &topic, vec![later.clone()]));
    assert_eq!(scheduled.unwrap_err().kind, Kind::Full);
    assert_eq!(world.counts().active, 5, "nothing of it is there");

    let held = world.take(5);
    world.end(&held, Ending::Complete);
    assert_eq!(world.bytes(), 0);
    world.try_send(large(10)).unwrap();
    world = world.crash();
    assert!((PART as u64..2 * PART as u64).contains(&world.bytes()));
    call!(world, b => b.schedule(&ME, &topic, vec![later])).unwrap();
}

#[test]
fn what_is_settled_behind_one_that_is_put_aside_is_not_of_the_size() {
    let mut world = World::with_queue(10, one_megabyte());
    world.try_send(message(0)).unwrap();
    let held = world.take(1);
    world.end(&held, Ending::Defer { note: None });
    let aside = world.bytes();
    assert!((1..1_000).contains(&aside), "{aside}");
    for id in 1..=20 {
        world.try_send(large(id)).unwrap();
        let held = world.take(1);
        world.end(&held, Ending::Complete);
        assert_eq!(world.bytes(), aside);
    }
    // The same with what is not settled.
    for id in 21..=25 {
        world.try_send(large(id)).unwrap();
    }
    let full = world.bytes();
    let refused = world.try_send(message(9)).unwrap_err();
    assert_eq!(refused.kind, Kind::Full);
    let told = format!("it holds {full} bytes");
    assert!(refused.message.contains(&told), "{refused}");
    let mut world = world.crash();
    assert_eq!(world.bytes(), full);
    assert_eq!(world.try_send(message(9)).unwrap_err().kind, Kind::Full);
    // Any one of them: here one in the middle.
    let held = world.take(5);
    world.end(&held[2..3], Ending::Complete);
    world.try_send(message(9)).unwrap();
    let mut world = world.crash();
    let less = full - world.bytes();
    assert!((PART as u64 - 1_000..PART as u64 + 1_000).contains(&less));
}

#[test]
fn what_is_settled_here_and_there_is_not_of_the_size() {
    let mut world = World::with_queue(11, one_megabyte());
    // More ranges than are told one by one; each is one of a batch of three.
    for id in 0..90 {
        let batch = (0..3).map(|part| message(id * 3 + part)).collect();
        call!(world, b => b.send(&ME, &queue().topic, batch)).unwrap();
    }
    let all = world.bytes();
    let mut held = world.take(270);
    held.extend(world.take(270));
    assert_eq!(held.len(), 270);
    let every_third: Vec<_> = held.iter().step_by(3).cloned().collect();
    world.end(&every_third, Ending::Complete);
    // All are of one size; a third of them went. Holes between offsets, which this engine leaves, count as messages do.
    let left = world.bytes();
    assert!(
        (all * 65 / 100..all * 3 / 4).contains(&left),
        "{left} of {all}"
    );
    assert_eq!(world.crash().bytes(), left);
}

#[test]
fn what_waits_until_it_is_due_and_what_is_dead_is_of_the_size() {
    let mut world = World::with_queue(6, one_megabyte());
    for id in 0..5 {
        let due = Some(Timestamp(3_600_000));
        world.try_send(Message { due, ..large(id) }).unwrap();
    }
    assert_eq!(world.counts().scheduled, 5);
    assert!(world.bytes() >= 1 << 20);
    let another = Message {
        due: Some(Timestamp(3_600_000)),
        ..message(9)
    };
    assert_eq!(world.try_send(another).unwrap_err().kind, Kind::Full);
    // One size of one queue, also for what is sent now.
    assert_eq!(world.try_send(message(6)).unwrap_err().kind, Kind::Full);
    let mut world = World::with_queue(6, one_megabyte());
    for id in 0..5 {
        world.try_send(large(id)).unwrap();
    }
    let before = world.bytes();
    let held = world.take(1);
    let ending = Ending::DeadLetter {
        reason: "Bad".to_owned(),
        description: String::new(),
        note: None,
    };
    world.end(&held, ending);
    assert_eq!(world.letters_of_queue().len(), 1);
    let grown = world.bytes().abs_diff(before);
    assert!(
        grown < 1_000,
        "a letter is as large as its message: {grown}"
    );
    assert_eq!(world.try_send(message(9)).unwrap_err().kind, Kind::Full);
}

#[test]
fn the_data_of_large_messages_is_of_the_size_for_as_long_as_one_claims_it() {
    let sending = Sending {
        max_size_megabytes: 5,
        max_message_kilobytes: 100 << 10,
        ..Sending::default()
    };
    let mut world = World::with_queue(9, properties(Receiving::default(), sending));
    let topic = queue().topic;
    let due = Some(Timestamp(3_600_000));
    for (id, due) in [(0, None), (1, due)] {
        world.send_large(&topic, id, due);
    }
    assert!(world.bytes() >= 5 << 20);
    let full = |world: &mut World| {
        assert_eq!(world.try_send(message(9)).unwrap_err().kind, Kind::Full);
        let kept = world.try_keep(&EntityName::new("work").unwrap(), b"data");
        assert_eq!(kept.unwrap_err().kind, Kind::Full);
    };
    full(&mut world);
    let held = world.take(1);
    let ending = Ending::DeadLetter {
        reason: "Bad".to_owned(),
        description: String::new(),
        note: None,
    };
    world.end(&held, ending);
    let letters = world.letters_of_queue();
    full(&mut world);
    let tokens = letters.iter().map(|h| h.lock.unwrap().token).collect();
    let dead = queue().dead_letters();
    let ended = call!(world, b => b.end_locks(&ME, &dead, tokens, Ending::Complete));
    assert_eq!(ended.unwrap(), [true]);
    // The pieces lie there still, and nobody claims them.
    let bytes = world.bytes();
    assert!(((5 << 20) / 2..3 << 20).contains(&bytes), "{bytes}");
    world.send_large(&topic, 2, None);
}

#[test]
fn the_data_of_large_messages_that_went_is_not_of_the_size_behind_one_that_is_put_aside() {
    let sending = Sending {
        max_size_megabytes: 5,
        max_message_kilobytes: 100 << 10,
        ..Sending::default()
    };
    let mut world = World::with_queue(13, properties(Receiving::default(), sending));
    let topic = queue().topic;
    world.try_send(message(0)).unwrap();
    let held = world.take(1);
    world.end(&held, Ending::Defer { note: None });
    for id in 1..4 {
        world.send_large(&topic, id, None);
        let held = world.take(1);
        world.end(&held, Ending::Complete);
    }
    let bytes = world.bytes();
    assert!((1..1_000).contains(&bytes), "{bytes}");
    world.send_large(&topic, 4, None);
    let bytes = world.bytes();
    assert!(((5 << 20) / 2..3 << 20).contains(&bytes), "{bytes}");
}

#[test]
fn a_topic_that_was_there_before_it_was_a_queue_keeps_what_it_keeps() {
    let mut world = World::new(7);
    let topic = queue().topic;
    call!(world, b => b.create_topic(&ME, &topic, 1)).unwrap();
    call!(world, b => b.create_queue(&ME, "work", one_megabyte())).unwrap();
    for id in 0..7 {
        world.try_send(large(id)).unwrap();
    }
    assert!(world.bytes() >= 1 << 20);
}

#[test]
fn who_used_it_last_is_told() {
    let mut world = World::with_queue(8, plain());
    let accessed = |world: &mut World| {
        let usage = call!(world, b => b.usage(&ME, &queue().topic)).unwrap();
        usage.accessed_ms.unwrap()
    };
    world.pass(LOCK);
    world.send([message(1)]);
    let sent = accessed(&mut world);
    assert_eq!(sent, world.broker.now().wall.0);
    world.pass(2 * LOCK);
    assert_eq!(accessed(&mut world), sent);
    let of = queue();
    let viewed = call!(world, b => b.accessed_ms(&ME, &of)).unwrap();
    assert_eq!(viewed, Some(sent));
    world.take(1);
    assert_eq!(accessed(&mut world), world.broker.now().wall.0);
}
