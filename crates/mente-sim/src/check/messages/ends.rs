//! The laws of the end, now that nothing is left: each message came to one, a batch is there as a whole, and what
//! nobody saw go is no more than what takes without an answer may have deleted.

use std::collections::BTreeSet;

use super::{Check, Queue, Sent};
use crate::check::{Findings, Law};
use crate::history::{Call, Ending, Phase, Way};

impl Queue<'_> {
    /// How many messages may have been deleted as they came, and nobody heard of it.
    fn deleted_unseen(&self) -> u64 {
        let takes = self.unseen.iter().filter(|(_, way, _)| *way == Way::Delete);
        takes.fold(0, |sum, (.., most)| sum.saturating_add(*most))
    }
}

impl Check<'_, '_> {
    pub(super) fn ends(&self, emptied: &Call<'_>, findings: &mut Findings) {
        let deleted_unseen = self.queue.deleted_unseen();
        let numbers = self.queue.deliveries.keys();
        let numbers: BTreeSet<u64> = numbers.filter_map(|v| self.queue.number(v)).collect();
        let last = numbers.last().copied().unwrap_or(0);
        let missing = last.checked_sub(numbers.len() as u64);
        if missing.is_none_or(|missing| missing > deleted_unseen) {
            let seen = numbers.len();
            let detail = format!("{}: of the numbers to {last} only {seen} came", self.name);
            findings.add(Law::RevisionGap, emptied.ended, detail);
        }
        for value in self.queue.sent.keys() {
            if self.ends_of(value) > 1 {
                let detail = format!("{}: {value} came to two ends", self.name);
                findings.add(Law::TwoEnds, emptied.ended, detail);
            }
        }
        let excused = usize::try_from(deleted_unseen).unwrap_or(usize::MAX);
        for (law, value, why) in self.gone().into_iter().skip(excused) {
            let detail = format!("{}: {value} {why}", self.name);
            findings.add(law, emptied.ended, detail);
        }
    }

    /// To how many it certainly came.
    fn ends_of(&self, value: &str) -> usize {
        let ended = self.queue.said_of(value).filter(|ended| ended.has_ended());
        let (mut completed, mut given_up) = (0, 0);
        for ended in ended {
            match ended.ending {
                Ending::Complete => completed += 1,
                Ending::DeadLetter { .. } => given_up += 1,
                Ending::Abandon | Ending::Defer => {}
            }
        }
        let deliveries = self.queue.deliveries.get(value).into_iter().flatten();
        let deleted = deliveries.filter(|d| d.way == Way::Delete).count();
        completed + deleted + given_up.max(usize::from(self.is_dead_letter(value)))
    }

    fn is_dead_letter(&self, value: &str) -> bool {
        self.dead
            .is_some_and(|dead| dead.deliveries.contains_key(value))
    }

    /// What was there, by the word of the server or by what came, and came to no end that anybody knows of.
    fn gone(&self) -> Vec<(Law, &str, &'static str)> {
        let mut gone = Vec::new();
        for (value, sent) in &self.queue.sent {
            let is_accepted = sent.iter().any(|sent| sent.call.phase == Phase::Ok);
            match self.vanished(value) {
                Some(why) if is_accepted => gone.push((Law::Vanished, *value, why)),
                Some(_) if self.has_come_in_part(value, sent) => {
                    let why = "is not there, and others of its batch are";
                    gone.push((Law::NotWhole, *value, why));
                }
                _ => {}
            }
        }
        gone
    }

    /// Whether it did not come, and others did that it was sent with.
    fn has_come_in_part(&self, value: &str, sent: &[Sent<'_>]) -> bool {
        let came =
            |value: &str| self.queue.deliveries.contains_key(value) || self.is_dead_letter(value);
        let mut others = sent.iter().flat_map(|sent| sent.batch);
        !came(value) && others.any(|other| came(other))
    }

    /// Why it came to no end that anybody knows of.
    fn vanished(&self, value: &str) -> Option<&'static str> {
        let cancels = self.queue.cancels.get(value).into_iter().flatten();
        if cancels.into_iter().any(|cancel| !cancel.phase.is_undone()) || self.is_dead_letter(value)
        {
            return None;
        }
        let Some(deliveries) = self.queue.deliveries.get(value) else {
            return Some("was accepted and never came");
        };
        let (mut is_completed, mut is_given_up) = (false, false);
        for ended in self.queue.said_of(value) {
            is_completed |= *ended.ending == Ending::Complete;
            is_given_up |= ended.has_ended() && matches!(ended.ending, Ending::DeadLetter { .. });
        }
        match deliveries.iter().any(|d| d.way == Way::Delete) {
            true => None,
            false if is_given_up => Some("was given up, and is no dead letter"),
            false if is_completed => None,
            false => Some("was accepted, and nobody is done with it"),
        }
    }
}
