//! The checkers are worth as much as the worlds can be run again.

use std::collections::BTreeSet;

use mente_sim::{Scenario, history, run};

#[test]
fn one_seed_twice_is_one_world() {
    let mut traces = BTreeSet::new();
    for seed in 0..20 {
        let scenario = Scenario::of_seed(seed);
        let first = run(&scenario);
        // In another thread, whose hash keys and addresses are others.
        let second = std::thread::spawn(move || run(&scenario)).join().unwrap();
        assert_eq!(first.history, second.history, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        traces.insert(first.trace);
    }
    assert_eq!(traces.len(), 20, "and two seeds are two worlds");
}

#[test]
fn a_history_is_judged_the_same_from_its_lines() {
    let outcome = run(&Scenario::of_seed(7));
    let mut lines = Vec::new();
    history::write(&outcome.history, &mut lines).unwrap();
    let again = history::read(&lines[..]).unwrap();
    assert_eq!(again, outcome.history);
    assert_eq!(mente_sim::check(&again), []);
}
