use mente_sim::planted::{CLAIMS, hunt};

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
