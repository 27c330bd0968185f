//! Dead letters that were given back: they come again when that was called, and only then.

use super::Law;
use super::queue::Check;
use crate::history::{Call, How, Letter, Replayed};

/// What is known of the letters of one subscription while it went on.
#[derive(Default)]
pub(super) struct Revivals<'a> {
    /// With what was answered, if that is known.
    calls: Vec<(&'a Call<'a>, Option<Replayed>)>,
    reads: Vec<(&'a Call<'a>, &'a [Letter])>,
}

impl<'a> Revivals<'a> {
    pub(super) fn called(&mut self, call: &'a Call<'a>, done: Option<Replayed>) {
        self.calls.push((call, done));
    }

    pub(super) fn seen(&mut self, call: &'a Call<'a>, letters: &'a [Letter]) {
        self.reads.push((call, letters));
    }

    /// Whether letters may have been given back between these entries.
    pub(super) fn within(&self, after: usize, before: usize) -> bool {
        let mut calls = self.calls.iter();
        calls.any(|(call, _)| call.ended > after && call.invoked < before)
    }

    /// How often they may have been given back until this call ended.
    pub(super) fn before(&self, call: &Call<'_>) -> usize {
        let calls = self.calls.iter();
        calls
            .filter(|(given, _)| given.invoked < call.ended)
            .count()
    }

    /// When a letter of this value was certainly given back with all others, after it was seen.
    fn all_given_back(&self, value: &str) -> Option<usize> {
        let seen = |(_, letters): &&(_, &[Letter])| letters.iter().any(|l| l.value == value);
        let (read, _) = self.reads.iter().find(seen)?;
        let mut calls = self.calls.iter();
        let all = calls
            .find(|(call, done)| call.invoked > read.ended && done.is_some_and(|done| done.all));
        all.map(|(call, _)| call.invoked)
    }
}

impl Check<'_> {
    /// Whether its letter may have been given back, and it came again: one of its deliveries did.
    pub(super) fn is_given_back(&self, value: &str) -> bool {
        let deliveries = self.subscription.deliveries.get(value);
        let last = deliveries.into_iter().flatten().map(|d| d.call.ended).max();
        last.is_some_and(|last| self.subscription.revivals.within(0, last))
    }

    /// It was rejected once, its letter was seen and then all letters were given back: it must come again.
    pub(super) fn never_came(&self, value: &str) -> Option<(Law, &'static str)> {
        let subscription = self.subscription;
        // It may have waited until its time was over.
        if subscription.ttl.is_some() {
            return None;
        }
        let deliveries = subscription.deliveries.get(value);
        let deliveries = || deliveries.into_iter().flatten();
        let ends = deliveries().flat_map(|d| self.settles_of(&d.what.token));
        let mut rejected = ends.filter(|s| s.how == How::Reject && s.held != Some(false));
        let (Some(death), None) = (rejected.next(), rejected.next()) else {
            return None;
        };
        let given_back = subscription.revivals.all_given_back(value)?;
        let is_certain = death.held == Some(true) && death.call.ended < given_back;
        let came = deliveries().any(|d| d.call.ended > death.call.ended);
        let may_have_come = subscription
            .unseen
            .iter()
            .any(|at| *at > death.call.invoked);
        let is_lost = is_certain && !came && !may_have_come;
        is_lost.then_some((
            Law::Vanished,
            "its letter was given back, and it never came",
        ))
    }
}
