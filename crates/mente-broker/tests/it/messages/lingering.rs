//! What is done with for who waits for no word of it.

use super::*;

/// Longer than anything lingers.
const LONG_ENOUGH: Duration = Duration::from_millis(10);

fn soon(world: &mut World, held: &[Held]) -> Vec<bool> {
    let tokens = held.iter().map(|held| held.lock.unwrap().token).collect();
    call!(world, b => b.complete_soon(&ME, &queue(), tokens)).unwrap()
}

fn journal_end(world: &mut World) -> Offset {
    let journal = world.journal_of("work");
    let bounds = world.pool.run_until(world.engine.bounds(journal));
    bounds.unwrap().end
}

/// Three messages, the first of which is done with for who does not wait.
fn one_done_with(properties: QueueProperties) -> (World, Option<SessionLock>) {
    let mut world = World::with_queue(3, properties.clone());
    world.send((0..3).map(|id| of_session(id, "s")));
    let session = properties.receiving.requires_session.then(|| {
        let accepted = world.accept(WantedSession::Next);
        accepted.unwrap().unwrap()
    });
    let taking = Taking {
        session: session.clone(),
        ..Taking::locked(1, Duration::ZERO)
    };
    let first = world.take_from(&queue(), taking);
    let before = journal_end(&mut world);
    assert_eq!(soon(&mut world, &first), [true]);
    assert_eq!(journal_end(&mut world), before);
    (world, session)
}

#[test]
fn it_is_written_a_moment_later() {
    let (mut world, _) = one_done_with(plain());
    world.pass(LONG_ENOUGH);
    let mut world = world.crash();
    assert_eq!(ids(&world.take(100)), [1, 2]);
}

#[test]
fn a_death_before_brings_it_again() {
    let (world, _) = one_done_with(plain());
    let mut world = world.crash();
    assert_eq!(ids(&world.take(100)), [0, 1, 2]);
}

#[test]
fn a_broker_that_stops_writes_it() {
    let (world, _) = one_done_with(plain());
    let mut world = world.stop();
    assert_eq!(ids(&world.take(100)), [1, 2]);
}

#[test]
fn deliveries_in_any_order_do_not_wait_for_it() {
    let (mut world, _) = one_done_with(plain());
    let before = journal_end(&mut world);
    assert_eq!(ids(&world.take(1)), [1]);
    assert_eq!(journal_end(&mut world), before);
    world.pass(LONG_ENOUGH);
    assert!(journal_end(&mut world) > before);
}

#[test]
fn in_a_session_a_delivery_waits_for_it() {
    let (mut world, session) = one_done_with(with_sessions());
    let before = journal_end(&mut world);
    let taken = world.take_of(&session.unwrap(), 1);
    assert_eq!(taken.unwrap(), [1]);
    assert!(journal_end(&mut world) > before);
}

/// Whether it stays done with, once others have heard that it is.
fn holds_what_was_told() -> bool {
    let (mut world, _) = one_done_with(plain());
    let told = world.counts().active;
    assert_eq!(told, 2);
    world.crash().counts().active == told
}

#[test]
fn whoever_hears_of_it_hears_what_is_written() {
    assert!(holds_what_was_told());
}

#[cfg(feature = "planted")]
#[test]
fn an_answer_that_rests_on_what_may_be_lost_is_seen() {
    mente_broker::plant(Some(mente_broker::Planted::TellWhatLingers));
    let holds = holds_what_was_told();
    mente_broker::plant(None);
    assert!(!holds);
}
