use mente_sim::planted::{CLAIMS, FAULTS, hunt, hunt_faults};

/// Far more than any of them needed when it was planted.
const SEEDS: u64 = 3_000;

#[test]
fn every_planted_bug_breaks_the_laws_that_claim_it() {
    for (bug, laws) in CLAIMS {
        for law in laws {
            let (found, ran) = hunt(bug, *law, SEEDS, 2);
            assert!(
                found.is_some(),
                "{bug:?} does not break {law:?} in {ran} seeds"
            );
        }
    }
}

#[test]
fn every_bug_planted_under_faults_is_told() {
    for (bug, told) in FAULTS {
        let found = hunt_faults(bug, told, 2);
        assert!(found.is_some(), "{bug:?}: no fault shows {told:?}");
    }
}
