//! Bugs planted in log and broker: a checker that does not find them proves nothing.

use mente_broker::Planted as InBroker;
use mente_log::Planted as InLog;

use crate::check::{Law, Violation};
use crate::scenario::Scenario;
use crate::{sweep, world};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    Log(InLog),
    Broker(InBroker),
}

/// Each with the laws that must show it.
pub const CLAIMS: [(Planted, &[Law]); 23] = [
    (Planted::Log(InLog::AckBeforeSync), &[Law::Lost]),
    (Planted::Log(InLog::SkipDirectorySync), &[Law::Lost]),
    (
        Planted::Log(InLog::RetryFailedSync),
        &[Law::DamageWithoutRot],
    ),
    (Planted::Log(InLog::ShowUndurable), &[Law::Lost]),
    (Planted::Log(InLog::NoResync), &[Law::DamageWithoutRot]),
    (Planted::Log(InLog::TruncateMiddle), &[Law::RotNotNamed]),
    (Planted::Log(InLog::BelieveBatches), &[Law::RotNotNamed]),
    (Planted::Log(InLog::ForgetClosing), &[Law::RotNotNamed]),
    (Planted::Log(InLog::IgnoreSalt), &[Law::Invented]),
    (
        Planted::Log(InLog::ReuseOffset),
        &[Law::OutOfOrder, Law::OffsetReused],
    ),
    (
        Planted::Log(InLog::RemoveBeforeMove),
        &[Law::DamageWithoutRot],
    ),
    (
        Planted::Broker(InBroker::SettleNotJournaled),
        &[Law::FoldDiffers, Law::SettledAgain],
    ),
    (
        Planted::Broker(InBroker::ForgetSealed),
        &[Law::RevisionGap, Law::RetryAnsweredOtherwise],
    ),
    (Planted::Broker(InBroker::IgnoreKeys), &[Law::KeyOutTwice]),
    (Planted::Broker(InBroker::LeaseWhileLive), &[Law::TwoLocks]),
    (Planted::Broker(InBroker::IgnoreQuery), &[Law::WonTwice]),
    (
        Planted::Broker(InBroker::ShowTruncated),
        &[Law::Resurrected],
    ),
    (
        Planted::Broker(InBroker::StateOneBehind),
        &[Law::FoldDiffers],
    ),
    (Planted::Broker(InBroker::ReviveAgain), &[Law::SettledAgain]),
    (Planted::Broker(InBroker::ReviveNothing), &[Law::Vanished]),
    (Planted::Broker(InBroker::TearAppends), &[Law::NotWhole]),
    (Planted::Broker(InBroker::SkipFirst), &[Law::Vanished]),
    (Planted::Broker(InBroker::DecideAgain), &[Law::Duplicated]),
];

/// Each with what must be told of a run in which one call of the disk fails.
pub const FAULTS: [(InLog, &str); 2] = [
    (InLog::SwallowShortWrite, "lost"),
    (InLog::RetryFailedSync, "a failed sync was done again"),
];

/// The first run with a fault that shows the bug.
pub fn hunt_faults(bug: InLog, told: &str, threads: usize) -> Option<String> {
    crate::faults::first(told, threads, |is_planted| {
        mente_log::plant(is_planted.then_some(bug));
    })
}

/// The first seed whose world breaks this law under the bug, with the violation, and how many were run.
pub fn hunt(bug: Planted, law: Law, seeds: u64, threads: usize) -> (Option<(u64, Violation)>, u64) {
    sweep::first(threads, 0..seeds, |seed| {
        match bug {
            Planted::Log(bug) => mente_log::plant(Some(bug)),
            Planted::Broker(bug) => mente_broker::plant(Some(bug)),
        }
        let outcome = world::run(&Scenario::of_seed(seed));
        mente_log::plant(None);
        mente_broker::plant(None);
        outcome
            .violations
            .into_iter()
            .find(|violation| violation.law == law)
    })
}
