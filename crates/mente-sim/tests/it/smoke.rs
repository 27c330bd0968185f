use mente_sim::history::{How, Op, Phase};
use mente_sim::{Scenario, run, world};

#[test]
fn seeds_keep_every_law_and_touch_everything() {
    let (mut packs, mut seen) = (0, [0; 9]);
    for seed in 0..60 {
        let outcome = run(&Scenario::of_seed(seed));
        assert_eq!(outcome.violations, [], "mente-sim replay --seed {seed}");
        packs += outcome.packs;
        for entry in outcome
            .history
            .iter()
            .filter(|entry| entry.phase == Phase::Ok)
        {
            let count = match &entry.op {
                Op::Publish { .. } => 1,
                Op::Receive { deliveries, .. } if deliveries.iter().any(|d| d.count > 1) => 2,
                Op::Settle {
                    held: true,
                    how: How::Complete,
                    ..
                } => 3,
                Op::Settle {
                    held: true,
                    how: How::Reject,
                    ..
                } => 4,
                Op::Settle { held: false, .. } => 5,
                Op::Append { to: Some(to), .. } if to.repeated => 6,
                Op::DeadLetters { letters, .. } if !letters.is_empty() => 7,
                Op::Read { start, .. } if *start > 0 => 8,
                _ => 0,
            };
            seen[count] += 1;
        }
    }
    assert!(
        packs > 60 && seen.iter().all(|count| *count > 20),
        "{packs} {seen:?}"
    );
}

#[test]
fn a_crash_at_some_operations_under_every_policy() {
    let scenario = Scenario {
        seed: 3,
        clients: 3,
        calls: 30,
        ends: Vec::new(),
        rots: 0,
        is_scarce: false,
    };
    for at in (0..70).step_by(9) {
        for (end, violations) in world::run_policies(&scenario, at) {
            assert_eq!(violations, [], "{end:?}");
        }
    }
}
