//! Dead letters given back, over the memory engine: what retention and damage took, unknown outcomes, crashes.

use mente_broker::queue::Settlement;
use mente_broker::{Kind, Replayed};
use mente_engine::Engine;
use mente_engine::memory::Fault;

use crate::rounds::{ME, World, ids, shipping};

fn reject() -> Settlement {
    Settlement::Reject {
        reason: "Rejected".into(),
        detail: String::new(),
    }
}

impl World {
    fn replay(&mut self, limit: usize) -> mente_broker::Result<Replayed> {
        let broker = self.broker.clone();
        let done = self.pool.run_until(broker.replay(&ME, &shipping(), limit));
        self.pool.run_until_stalled();
        done
    }

    /// So many events, each in a batch of its own, all of them parked.
    fn parked(seed: u64, events: usize) -> Self {
        let mut world = Self::new(seed);
        (0..events).for_each(|id| world.publish(id..id + 1));
        let out = world.receive(events);
        assert_eq!(out.len(), events);
        world.settle(&out, reject()).unwrap();
        world.pool.run_until_stalled();
        assert_eq!(world.dead_letters().len(), events);
        world
    }

    fn letters(&mut self) -> Vec<usize> {
        let dead = self.dead_letters();
        dead.iter().map(|event| event.id.parse().unwrap()).collect()
    }
}

fn told(replayed: u64, passed: u64, remaining: u64) -> Replayed {
    Replayed {
        replayed,
        passed,
        remaining,
        exact: true,
    }
}

#[test]
fn what_retention_took_is_passed_over_and_its_letter_stays() {
    let mut world = World::parked(3, 5);
    let (log, third) = (world.log_of_orders(), world.places()[2]);
    world.pool.run_until(world.engine.trim(log, third)).unwrap();
    assert_eq!(world.replay(10), Ok(told(3, 2, 0)));
    assert_eq!(
        world.letters(),
        [0, 1, 2, 3, 4],
        "for who reads from the start"
    );
    assert_eq!(world.replay(10), Ok(told(0, 0, 0)));
    let out = world.receive(10);
    assert_eq!((ids(&out), out[0].count), (vec![2, 3, 4], 1));
    // The same subscription goes on, and lets go of none of the letters that stayed.
    world.settle(&out, reject()).unwrap();
    world.pool.run_until_stalled();
    let mut world = world.crash();
    assert_eq!(world.replay(2), Ok(told(2, 0, 1)));
    assert_eq!(world.letters().len(), 8);
    assert_eq!(ids(&world.receive(10)), [2, 3]);
}

#[test]
fn letters_that_were_given_back_go() {
    let mut world = World::parked(3, 5);
    assert_eq!(world.replay(2), Ok(told(2, 0, 3)));
    assert_eq!(world.letters(), [2, 3, 4]);
    assert_eq!(world.replay(9), Ok(told(3, 0, 0)));
    assert_eq!(world.letters(), [] as [usize; 0]);
}

/// The caller does not know, asks again, and each comes back once.
#[test]
fn an_unknown_outcome_is_asked_again() {
    for (fault, again) in [(Fault::UnknownButDone, 1), (Fault::UnknownAndLost, 4)] {
        let mut world = World::parked(5, 4);
        let journal = world.journal_of_shipping();
        world.engine.inject(journal, fault);
        let unknown = world.replay(3).unwrap_err();
        assert_eq!(unknown.kind, Kind::Unknown, "{unknown}");
        world.pass(std::time::Duration::from_secs(1));
        let mut world = world.crash();
        assert_eq!(world.replay(9), Ok(told(again, 0, 0)), "{fault:?}");
        let out = world.receive(9);
        assert_eq!(ids(&out), [0, 1, 2, 3], "{fault:?}");
        assert!(out.iter().all(|received| received.count == 1));
        world.settle(&out, Settlement::Complete).unwrap();
        assert!(world.crash().receive(9).is_empty());
    }
}

/// Their second letters say so.
#[test]
fn what_cannot_be_read_any_more_is_parked_again() {
    let mut world = World::parked(7, 3);
    let (log, second) = (world.log_of_orders(), world.places()[1]);
    world.engine.rot(log, second);
    assert_eq!(world.replay(9), Ok(told(3, 0, 2)));
    let dead = world.dead_letters();
    let kinds: Vec<_> = dead.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["Mente.UnreadableRecord"; 2]);
    assert_eq!(world.dying(), 0);
    assert_eq!(ids(&world.receive(9)), [0]);
    // Those letters name nothing that could be given back.
    assert_eq!(world.replay(9), Ok(told(0, 2, 0)));
}

/// It is looked for again and again; what comes is delivered meanwhile.
#[test]
fn a_place_that_cannot_be_read_now_holds_up_no_other_events() {
    let mut world = World::parked(7, 2);
    let (log, first) = (world.log_of_orders(), world.places()[0]);
    world.engine.fail_reads(log, Some(first));
    assert_eq!(world.replay(1), Ok(told(1, 0, 1)));
    world.publish(2..4);
    assert_eq!(ids(&world.receive(9)), [2, 3]);
    world.engine.fail_reads(log, None);
    world.pass(std::time::Duration::from_millis(700));
    let out = world.receive(9);
    assert_eq!((ids(&out), out[0].count), (vec![0], 1));
}

/// Dying a second time, its copy is looked for behind the first one after a crash.
#[test]
fn every_death_has_its_own_letter_over_crashes() {
    for seed in 1..20 {
        let mut world = World::parked(seed, 2);
        for _ in 0..3 {
            assert_eq!(world.replay(9), Ok(told(2, 0, 0)), "seed {seed}");
            world = world.crash();
            let out = world.receive(9);
            assert_eq!(ids(&out), [0, 1]);
            // Its verdict is durable, and the process dies before or behind the copy.
            assert_eq!(world.settle(&out, reject()), Ok(vec![true, true]));
            world = world.crash();
            world.pool.run_until_stalled();
            assert_eq!(world.dying(), 0);
            assert_eq!(world.letters(), [0, 1], "seed {seed}");
        }
    }
}
