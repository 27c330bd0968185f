//! Deliveries beside what is only done with, in a round that is lost.

use futures::FutureExt;
use futures::future::join;
use futures::task::LocalSpawnExt;
use mente_engine::memory::Fault;

use super::*;

const MANY: usize = 20;

/// Ends the locks on the first half of the messages, and takes the other in the same round, whose append is lost. What
/// came of the second call.
fn lost_round(
    properties: QueueProperties,
    ending: Ending,
) -> (World, mente_broker::Result<Vec<usize>>) {
    let mut world = World::with_queue(17, properties.clone());
    world.send((0..2 * MANY).map(|id| of_session(id, "s")));
    let session = properties.receiving.requires_session.then(|| {
        let accepted = world.accept(WantedSession::Next);
        accepted.unwrap().unwrap()
    });
    let taking = Taking {
        session,
        ..Taking::locked(MANY, Duration::ZERO)
    };
    let first = world.take_from(&queue(), taking.clone());
    assert_eq!(ids(&first), (0..MANY).collect::<Vec<_>>());
    let journal = world.journal_of("work");
    world.engine.inject(journal, Fault::UnknownAndLost);
    let tokens = first.iter().map(|held| held.lock.unwrap().token).collect();
    let broker = world.broker.clone();
    let both = async move {
        let view = queue();
        let ended = broker.end_locks(&ME, &view, tokens, ending);
        let taken = broker.take(&ME, &view, taking);
        join(ended, taken).await
    };
    let both = world.pool.spawner().spawn_local_with_handle(both).unwrap();
    world.pool.run_until_stalled();
    let (ended, taken) = both.now_or_never().expect("both are answered");
    assert_eq!(ended.unwrap_err().kind, Kind::Unknown);
    world.pass(Duration::from_secs(1));
    (world, taken.map(|held| ids(&held)))
}

#[test]
fn a_delivery_beside_what_is_only_done_with_does_not_wait_for_the_disk() {
    let (mut world, taken) = lost_round(plain(), Ending::Complete);
    assert_eq!(taken, Ok((MANY..2 * MANY).collect()));
    // The round is lost, and with it all leases: nothing was done with, and nobody was told that it was.
    assert_eq!(ids(&world.take(100)), (0..2 * MANY).collect::<Vec<_>>());
}

#[test]
fn a_delivery_that_may_rest_on_what_is_decided_beside_it_waits() {
    let (mut world, taken) = lost_round(plain(), abandoned(None));
    assert_eq!(taken.unwrap_err().kind, Kind::Unknown);
    let again = world.take(100);
    assert_eq!(again.len(), 2 * MANY);
    assert!(again.iter().all(|held| held.failed == 0));
}

#[test]
fn in_a_session_a_delivery_waits_for_what_is_done_with_before_it() {
    let (_, taken) = lost_round(with_sessions(), Ending::Complete);
    assert_eq!(taken.unwrap_err().kind, Kind::Unknown);
}
