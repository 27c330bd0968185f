//! The laws of deliveries that fail and of what comes of that: they are counted, and a message is dead for the reason
//! for which it was given up, or since it failed as often as it may.

use super::{Check, Delivery, Queue};
use crate::check::{Findings, Law};
use crate::history::{Call, Ending, Phase, TOO_OFTEN, Way};

/// How many deliveries of a message failed: certainly, and at the most.
struct Failed {
    least: u32,
    most: u32,
}

impl<'a> Check<'a, '_> {
    /// At most as many deliveries failed as may have, at least as many as certainly did; one more fails only while
    /// that is not too many.
    pub(super) fn check_failed(
        &self,
        value: &str,
        delivery: &Delivery<'_>,
        findings: &mut Findings,
    ) {
        if self.is_dead {
            return;
        }
        let Failed { least, most } = self.failed_before(self.queue, value, delivery);
        let failed = delivery.what.failed;
        if !(least..=most).contains(&failed) {
            let why = format!("from {least} to {most} deliveries of {value} failed before");
            self.add(findings, Law::DeliveryCount, delivery, &why);
        }
        let mut too_many = self.queue.max_deliveries.into_iter();
        if too_many.any(|too_many| failed >= too_many) {
            let why = "it failed too often to come again";
            self.add(findings, Law::DeliveryCount, delivery, why);
        }
    }

    /// In this queue, before `delivery`, which may be of its dead letter.
    fn failed_before(&self, of: &Queue<'a>, value: &str, delivery: &Delivery<'_>) -> Failed {
        let call = delivery.call;
        let (mut least, mut most, mut run_out) = (0, 0_u64, self.unseen_locks(of, call));
        let mut is_in_session = delivery.session.is_some();
        for other in of.deliveries.get(value).into_iter().flatten() {
            if std::ptr::eq(other, delivery) || other.call.invoked >= call.ended {
                continue;
            }
            is_in_session |= other.session.is_some();
            let (mut may_have_failed, mut has_failed, mut is_over) = (false, false, false);
            for end in of.ends_of(&other.what.token) {
                is_over |= end.has_ended();
                match end.ending {
                    Ending::Abandon => {
                        may_have_failed |= end.may_have_ended() && end.call.invoked < call.ended;
                        has_failed |= end.has_ended() && end.call.ended < call.invoked;
                    }
                    // Whether putting aside counts, nobody says.
                    Ending::Defer => may_have_failed |= end.may_have_ended(),
                    Ending::Complete | Ending::DeadLetter { .. } => {}
                }
            }
            may_have_failed |= other.session.is_some() || other.way == Way::Deferred;
            most += u64::from(may_have_failed);
            let has_time = self.run_out_in_life(other.call, call) > 0;
            run_out += u64::from(!may_have_failed && !is_over && has_time);
            least += u32::from(has_failed);
        }
        if is_in_session {
            let unseen = of.unseen.iter();
            let unseen = unseen.filter(|(unseen, ..)| unseen.invoked < call.ended);
            most += unseen.count() as u64;
        }
        let sent = of.sent.get(value).and_then(|sent| sent.first());
        let has_time = sent.map_or(0, |sent| self.run_out(sent.call, call));
        // What stands in line is taken for late after a step, and is under its lock all the same.
        let may_have_stepped = sent.is_some_and(|sent| {
            self.wall
                .may_have_stepped(sent.call.invoked_at, call.ended_at)
        });
        most += match of.has_nodes || may_have_stepped {
            true => has_time,
            false => has_time.min(run_out),
        };
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        Failed { least, most }
    }

    /// How many locks that nobody saw may have run out on one message before this call: it stands in line for a
    /// take, whole times of a lock, or was sent to who broke off.
    fn unseen_locks(&self, of: &Queue<'a>, before: &Call<'_>) -> u64 {
        let takes = of.takes.iter().filter(|take| take.invoked < before.ended);
        takes.fold(0, |sum: u64, take| {
            let long = take.ended_at.saturating_sub(take.invoked_at) / of.lock.max(1);
            let is_broken_off = u64::from(take.phase == Phase::Info);
            let most = long.saturating_add(is_broken_off);
            sum.saturating_add(most.min(self.run_out_in_life(take, before)))
        })
    }

    /// How many locks of this take, one after the other, may have run out before this call: with the server they
    /// are void.
    fn run_out_in_life(&self, take: &Call<'_>, before: &Call<'_>) -> u64 {
        let next = self.restarts.partition_point(|c| c.invoked <= take.invoked);
        // What broke off while the server was away was of the one that went.
        let (past, coming) = self.restarts.split_at(next);
        let of_past = |c: &&&Call<'_>| take.phase == Phase::Info && take.ended < c.ended;
        let away = past.last().filter(of_past).or(coming.first());
        let away = away.map_or(u64::MAX, |c| c.ended_at);
        let until = away.min(before.ended_at);
        until.saturating_sub(take.invoked_at) / self.queue.lock.max(1)
    }

    /// How many locks on one message may have run out between these two calls, whoever had them: each takes its
    /// whole time, and where the server goes away in the middle it is void and counts for nothing.
    fn run_out(&self, from: &Call<'_>, until: &Call<'_>) -> u64 {
        let (mut begins, mut count) = (from.invoked_at, 0);
        for away in self.restarts.iter().filter(|c| c.ended > from.invoked) {
            let ends = away.ended_at.min(until.ended_at);
            count += ends.saturating_sub(begins) / self.queue.lock.max(1);
            begins = begins.max(away.invoked_at);
        }
        count + until.ended_at.saturating_sub(begins) / self.queue.lock.max(1)
    }

    /// Why a dead letter is none, or one for another reason than it says.
    pub(super) fn wrong_death(
        &self,
        value: &str,
        letter: &Delivery<'_>,
    ) -> Option<(Law, &'static str)> {
        let of = self.of?;
        let said = of.said_of(value);
        let mut given_up: Vec<(&str, bool)> = said
            .filter(|ended| ended.call.invoked < letter.call.ended)
            .filter_map(|ended| match ended.ending {
                Ending::DeadLetter { reason } => Some((reason.as_str(), ended.has_ended())),
                _ => None,
            })
            .collect();
        // Once it is known who gave it up, nobody else did.
        if given_up.iter().any(|(_, is_certain)| *is_certain) {
            given_up.retain(|(_, is_certain)| *is_certain);
        }
        let told = letter.what.reason.as_deref();
        let fault = match told {
            Some(told) if given_up.iter().any(|(reason, _)| *reason == told) => return None,
            Some(TOO_OFTEN) if !given_up.iter().any(|(_, is_certain)| *is_certain) => {
                let most = self.failed_before(of, value, letter).most;
                match of.max_deliveries.is_some_and(|too_many| most >= too_many) {
                    true => return None,
                    false => "it is dead, and did not fail too often",
                }
            }
            _ if given_up.is_empty() => "it is dead, and nobody gave it up",
            _ => "it is dead for another reason",
        };
        Some((Law::WrongDelivery, fault))
    }
}
