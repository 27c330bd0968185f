use mente_sim::faults::{Actor, Operation, Subject};
use mente_sim::history::{How, Op, Phase};
use mente_sim::{Scenario, faults, rot, run, world};

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

#[test]
fn some_injuries_of_closed_logs_break_no_law() {
    let tally = rot::many(100, 1, 2);
    assert!(tally.broken.is_empty(), "{tally}");
}

/// Few of the calls fail, but the run comes by every place that is worth one.
#[test]
fn some_failing_calls_break_no_promise() {
    let report = faults::all(41, 2);
    assert!(report.broken.is_empty(), "{report}");
    let sites: Vec<_> = report.sites().collect();
    let places = [
        (Actor::Opening, Operation::Write, Subject::Rest),
        (Actor::Opening, Operation::Read, Subject::Closed),
        (Actor::Writer, Operation::Remove, Subject::Wal),
        (Actor::Writer, Operation::Rename, Subject::WalInTheMaking),
        (Actor::Preparer, Operation::Sync, Subject::WalInTheMaking),
        (Actor::Packer, Operation::Rename, Subject::PackInTheMaking),
        (Actor::Packer, Operation::Remove, Subject::Pack),
        (Actor::Reader, Operation::Read, Subject::Pack),
        (Actor::Backup, Operation::Read, Subject::Pack),
        (Actor::Closing, Operation::Rename, Subject::Closed),
    ];
    for (actor, operation, subject) in places {
        let site = faults::Site {
            actor,
            operation,
            subject,
        };
        assert!(sites.contains(&site), "{site}: {report}");
    }
}
