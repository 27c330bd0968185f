//! The laws of sessions: one receiver at a time, messages in the order of their numbers, and a state that is what
//! was written last.

use std::collections::BTreeMap;

use super::{Check, Delivery, Queue};
use crate::check::{Findings, Law};
use crate::history::{Call, Ending, Messages, Op, Phase, What};

#[derive(Default)]
pub(super) struct Sessions<'a> {
    /// Who got a session, in the order of the calls.
    accepted: Vec<(&'a Call<'a>, &'a str)>,
    /// What shows that somebody still had his: it was asked for behind it, and answered.
    shown: Vec<(&'a Call<'a>, &'a str)>,
    /// Given up, or nobody knows.
    left: Vec<(&'a Call<'a>, &'a str)>,
    written: BTreeMap<&'a str, Vec<(&'a Call<'a>, &'a str)>>,
    read: Vec<(&'a Call<'a>, &'a str, Option<&'a str>)>,
}

impl<'a> Sessions<'a> {
    pub(super) fn add(&mut self, call: &'a Call<'a>, what: &'a What) {
        let is_ok = call.phase == Phase::Ok;
        let of_session = match what {
            What::Accept { session } => {
                if let (true, Some(session)) = (is_ok, session) {
                    self.accepted.push((call, session));
                }
                return;
            }
            What::Leave { session } => Some(session),
            What::SetState { session, state } => {
                if !call.phase.is_undone() {
                    self.written.entry(session).or_default().push((call, state));
                }
                Some(session)
            }
            What::State { session, state } => {
                if is_ok {
                    self.read.push((call, session, state.as_deref()));
                }
                Some(session)
            }
            What::End {
                session,
                held: true,
                ..
            } => session.as_ref(),
            What::Take { session, .. } if !is_ok => session.as_ref(),
            _ => None,
        };
        let Some(session) = of_session else {
            return;
        };
        match (what, call.phase) {
            // Whoever is not answered goes away, and his session is others'.
            (What::Leave { .. }, _) | (_, Phase::Info) => self.left.push((call, session)),
            (_, Phase::Ok) => self.shown.push((call, session)),
            _ => {}
        }
    }
}

/// A session that somebody has, from its accept on.
struct Hold<'a, 'b> {
    session: &'b str,
    accept: &'b Call<'a>,
    /// When he gave it up or began to: beyond every index if he never did.
    left: usize,
    /// The next one that he got.
    next: usize,
}

impl<'a> Check<'a, '_> {
    pub(super) fn sessions(&self, findings: &mut Findings) {
        let holds = self.holds();
        for hold in &holds {
            for other in holds.iter().filter(|other| other.session == hold.session) {
                self.check_alone(hold, other, findings);
            }
        }
        self.check_states(findings);
        for delivery in self.queue.deliveries.values().flatten() {
            if let Some(session) = delivery.session {
                self.check_session(session, delivery, &holds, findings);
            }
        }
    }

    fn holds(&self) -> Vec<Hold<'a, '_>> {
        let sessions = &self.queue.sessions;
        let hold = |(accept, session): &(&'a Call<'a>, &'a str)| {
            let behind =
                |call: &Call<'_>| call.process == accept.process && call.invoked > accept.ended;
            let left = sessions.left.iter().find(|(call, _)| behind(call));
            let next = sessions.accepted.iter().find(|(call, _)| behind(call));
            Hold {
                session,
                accept,
                left: left.map_or(usize::MAX, |(call, _)| call.invoked),
                next: next.map_or(usize::MAX, |(call, _)| call.invoked),
            }
        };
        sessions.accepted.iter().map(hold).collect()
    }

    /// While one has a session nobody else gets it, and once somebody else has it the first one can do nothing.
    fn check_alone(&self, hold: &Hold<'_, '_>, other: &Hold<'_, '_>, findings: &mut Findings) {
        // Of accepts that went on at the same time nobody knows which was first: then neither may have been.
        let is_behind = other.accept.invoked > hold.accept.ended;
        let is_together = hold.accept.invoked < other.accept.invoked && !is_behind;
        let is_wrong = match is_together {
            true => self.keeps(hold, other) && self.keeps(other, hold),
            false => is_behind && self.keeps(hold, other),
        };
        if is_wrong {
            let detail = format!("{}: session {} is another's", self.name, hold.session);
            findings.add(Law::TwoLocks, other.accept.ended, detail);
        }
        if !is_behind {
            return;
        }
        let shown = self.queue.sessions.shown.iter().find(|(call, session)| {
            *session == hold.session
                && call.process == hold.accept.process
                && call.invoked > other.accept.ended
                && call.invoked < hold.next
                && call.process != other.accept.process
        });
        if let Some((call, _)) = shown {
            let detail = format!(
                "{}: session {} was another's, and this was done in it",
                self.name, hold.session
            );
            findings.add(Law::LockHeldTooLong, call.ended, detail);
        }
    }

    /// Whether he still has the session, from before the other one asks for it until that is answered.
    fn keeps(&self, hold: &Hold<'_, '_>, other: &Hold<'_, '_>) -> bool {
        let until = hold.accept.invoked_at + self.queue.lock;
        hold.left.min(hold.next) > other.accept.ended
            && other.accept.ended_at < until
            && !self.may_have_restarted(hold.accept.invoked, other.accept.ended)
    }

    fn check_states(&self, findings: &mut Findings) {
        for (call, session, told) in &self.queue.sessions.read {
            let written = self.queue.sessions.written.get(session);
            let written = written.map_or(&[][..], Vec::as_slice);
            let is_over = |from: usize| {
                let mut later = written.iter();
                later.any(|(write, _)| {
                    write.phase == Phase::Ok && write.invoked > from && write.ended < call.invoked
                })
            };
            let may_be = match told {
                None => !written
                    .iter()
                    .any(|(write, _)| write.phase == Phase::Ok && write.ended < call.invoked),
                Some(told) => written.iter().any(|(write, state)| {
                    state == told && write.invoked < call.ended && !is_over(write.ended)
                }),
            };
            if !may_be {
                let detail = format!("{}: session {session} has the state {told:?}", self.name);
                findings.add(Law::Lost, call.ended, detail);
            }
        }
    }

    /// What comes in a session is of it, and nothing before it is passed over.
    fn check_session(
        &self,
        session: &str,
        delivery: &Delivery<'_>,
        holds: &[Hold<'_, '_>],
        findings: &mut Findings,
    ) {
        let call = delivery.call;
        let sent = self.queue.sent.get(delivery.what.value.as_str());
        let mut sent = sent.into_iter().flatten();
        if !sent.any(|sent| sent.session == Some(session)) {
            let why = format!("it is not in session {session}");
            self.add(findings, Law::WrongDelivery, delivery, &why);
        }
        if let Op::Messages(Messages {
            what: What::Take { came, .. },
            ..
        }) = call.op
            && !came.is_sorted_by_key(|taken| taken.number)
        {
            let why = "a take in a session that is not in order";
            self.add(findings, Law::OutOfOrder, delivery, why);
        }
        let mut mine = holds.iter().filter(|hold| {
            hold.session == session
                && hold.accept.process == call.process
                && hold.accept.ended < call.invoked
        });
        let Some(hold) = mine.next_back() else {
            let why = format!("its receiver does not have session {session}");
            self.add(findings, Law::WrongDelivery, delivery, &why);
            return;
        };
        for (value, sent) in &self.queue.sent {
            let is_before = sent.iter().any(|sent| {
                let is_accepted = sent.call.phase == Phase::Ok && sent.call.ended < call.invoked;
                sent.session == Some(session) && is_accepted
            });
            let number = self.queue.number(value).filter(|_| is_before);
            let is_passed_over = number.is_some_and(|number| number < delivery.what.number)
                && !self.is_out_or_done(self.queue, value, hold.accept.ended, call);
            if is_passed_over {
                let why = format!("{value} is before it, and was passed over");
                self.add(findings, Law::OutOfOrder, delivery, &why);
            }
        }
    }

    /// Whether somebody may be done with it or have put it aside, or it came to this receiver already.
    fn is_out_or_done(
        &self,
        queue: &Queue<'_>,
        value: &str,
        accepted: usize,
        call: &Call<'_>,
    ) -> bool {
        let is_done = queue
            .said_of(value)
            .filter(|ended| *ended.ending != Ending::Abandon)
            .any(|ended| ended.call.invoked < call.ended);
        let deliveries = queue.deliveries.get(value).into_iter().flatten();
        let mut out = deliveries.filter(|d| {
            d.call.process == call.process && (accepted..=call.invoked).contains(&d.call.invoked)
        });
        is_done || out.any(|d| !self.is_abandoned_before(d, call))
    }

    /// Then it is the first in line again.
    fn is_abandoned_before(&self, delivery: &Delivery<'_>, call: &Call<'_>) -> bool {
        let ends = self.queue.ends_of(&delivery.what.token).iter();
        let mut ends = ends.filter(|ended| ended.has_ended());
        ends.any(|ended| *ended.ending == Ending::Abandon && ended.call.ended < call.invoked)
    }
}
