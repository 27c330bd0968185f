//! The laws of queues of messages, as clients of Service Bus see them: what was accepted comes until somebody is
//! done with it, under one number and one lock at a time, and what was put aside, cancelled or given up stays so.
//! Those of locks are in `messages/locks.rs`, those of deliveries that fail in `messages/failures.rs`, those of the
//! end in `messages/ends.rs`, those of sessions in `messages/sessions.rs`.

mod ends;
mod failures;
mod locks;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};

use super::wall::Wall;
use super::{Findings, Law};
use crate::history::{Call, DEAD, Ending, Messages, Op, Phase, Taken, Way, What};

const MS: u64 = 1_000_000;

/// A delivery and the call that brought it.
struct Delivery<'a> {
    call: &'a Call<'a>,
    way: Way,
    session: Option<&'a str>,
    what: &'a Taken,
}

impl Delivery<'_> {
    fn is_beyond_most(&self) -> bool {
        let Op::Messages(Messages { what, .. }) = self.call.op else {
            return false;
        };
        matches!(what, What::Take { came, most: Some(most), .. } if came.len() > *most as usize)
    }
}

struct Ended<'a> {
    call: &'a Call<'a>,
    ending: &'a Ending,
    word: Word,
}

/// What was answered to who wanted to end a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Held,
    /// The lock was over by then; how, that does not say.
    Lost,
    /// It did nothing, and the lock is as it was.
    Undone,
    Unknown,
}

struct Sent<'a> {
    call: &'a Call<'a>,
    session: Option<&'a str>,
    /// Of what was scheduled.
    delay: Option<u64>,
    /// All that went with it.
    batch: &'a [String],
}

impl Ended<'_> {
    fn has_ended(&self) -> bool {
        self.word == Word::Held
    }

    /// By itself.
    fn may_have_ended(&self) -> bool {
        matches!(self.word, Word::Held | Word::Unknown)
    }
}

#[derive(Default)]
struct Queue<'a> {
    lock: u64,
    resends: bool,
    /// A message that failed so often is a dead letter.
    max_deliveries: Option<u32>,
    has_nodes: bool,
    /// By value, each with the calls that sent it.
    sent: BTreeMap<&'a str, Vec<Sent<'a>>>,
    /// Calls that sent, and their values.
    sends: Vec<(&'a Call<'a>, &'a [String])>,
    cancels: BTreeMap<&'a str, Vec<&'a Call<'a>>>,
    deliveries: BTreeMap<&'a str, Vec<Delivery<'a>>>,
    /// What is deleted as it comes is under a lock before.
    takes: Vec<&'a Call<'a>>,
    /// Takes that may have brought what nobody saw, and how many at the most.
    unseen: Vec<(&'a Call<'a>, Way, u64)>,
    /// By token.
    ends: BTreeMap<&'a str, Vec<Ended<'a>>>,
    sessions: sessions::Sessions<'a>,
    emptied: Option<&'a Call<'a>>,
}

#[derive(Default)]
struct Collected<'a> {
    queues: BTreeMap<&'a str, Queue<'a>>,
    /// When the server was away, from when to when at the most.
    restarts: Vec<&'a Call<'a>>,
}

pub(super) fn check<'a>(calls: &'a [Call<'a>], findings: &mut Findings) {
    let collected = Collected::of(calls);
    let wall = Wall::new(calls);
    for (name, queue) in &collected.queues {
        let check = Check {
            name,
            queue,
            of: collected.queues.get(name.trim_end_matches(DEAD)),
            dead: collected.queues.get(&*format!("{name}{DEAD}")),
            is_dead: name.ends_with(DEAD),
            restarts: &collected.restarts,
            wall: &wall,
        };
        check.numbers(findings);
        for (value, deliveries) in &queue.deliveries {
            check.deliveries(value, deliveries, findings);
        }
        check.ends_of_locks(findings);
        check.lost_locks(findings);
        check.order(findings);
        check.sessions(findings);
        if let Some(emptied) = queue.emptied {
            check.ends(emptied, findings);
        }
    }
}

/// That the end of a history shows that nothing is left in any queue.
pub(super) fn judged<'a>(calls: &'a [Call<'a>], findings: &mut Findings) {
    // By queue: the last look, and whether something was sent since.
    let mut seen: BTreeMap<&str, (Phase, bool)> = BTreeMap::new();
    for call in calls {
        let Op::Messages(Messages { queue, what }) = call.op else {
            continue;
        };
        let looked = seen.entry(queue).or_insert((Phase::Invoke, true));
        match what {
            What::Emptied => *looked = (call.phase, false),
            What::Send { .. } | What::Schedule { .. } | What::Make { .. } => looked.1 = true,
            _ => {}
        }
    }
    let last = calls.last().map_or(0, |call| call.invoked);
    for (name, (phase, is_stale)) in seen {
        if phase == Phase::Fail {
            findings.add(Law::Stuck, last, format!("{name}: something is left"));
        } else if phase != Phase::Ok || is_stale {
            let detail = format!("{name} was not emptied at the end");
            findings.add(Law::NotJudged, last, detail);
        }
    }
}

impl<'a> Collected<'a> {
    fn of(calls: &'a [Call<'a>]) -> Self {
        let mut collected = Self::default();
        for call in calls {
            match call.op {
                Op::Messages(Messages { queue, what }) => {
                    collected.queues.entry(queue).or_default().add(call, what);
                }
                Op::Restart { .. } => collected.restarts.push(call),
                _ => {}
            }
        }
        collected
    }
}

impl<'a> Queue<'a> {
    fn add(&mut self, call: &'a Call<'a>, what: &'a What) {
        let is_ok = call.phase == Phase::Ok;
        self.sessions.add(call, what);
        match what {
            What::Make {
                lock_ms,
                resends,
                max_deliveries,
                has_nodes,
            } => {
                (self.lock, self.resends) = (lock_ms * MS, *resends);
                (self.max_deliveries, self.has_nodes) = (*max_deliveries, *has_nodes);
            }
            What::Send { values, session } => self.send(call, values, session.as_deref(), None),
            What::Schedule {
                values, delay_ms, ..
            } => self.send(call, values, None, Some(delay_ms * MS)),
            What::Cancel { value } => self.cancels.entry(value).or_default().push(call),
            What::Take {
                way,
                session,
                came,
                most,
            } => {
                let most = most.map_or(u64::MAX, u64::from);
                self.takes.push(call);
                if call.phase == Phase::Info {
                    self.unseen.push((call, *way, most));
                }
                for what in came.iter().filter(|_| is_ok) {
                    self.deliveries
                        .entry(&what.value)
                        .or_default()
                        .push(Delivery {
                            call,
                            way: *way,
                            session: session.as_deref(),
                            what,
                        });
                }
            }
            What::End {
                token,
                ending,
                held,
                ..
            } => self.ends.entry(token).or_default().push(Ended {
                call,
                ending,
                word: match call.phase {
                    Phase::Ok if *held => Word::Held,
                    Phase::Ok => Word::Lost,
                    Phase::Fail | Phase::Unheard => Word::Undone,
                    Phase::Info | Phase::Invoke => Word::Unknown,
                },
            }),
            What::Emptied if is_ok => self.emptied = Some(call),
            What::Emptied
            | What::Accept { .. }
            | What::Leave { .. }
            | What::SetState { .. }
            | What::State { .. } => {}
        }
    }

    fn send(
        &mut self,
        call: &'a Call<'a>,
        values: &'a [String],
        session: Option<&'a str>,
        delay: Option<u64>,
    ) {
        for value in values {
            self.sent.entry(value).or_default().push(Sent {
                call,
                session,
                delay,
                batch: values,
            });
        }
        if delay.is_none() {
            self.sends.push((call, values));
        }
    }

    fn ends_of(&self, token: &str) -> &[Ended<'a>] {
        self.ends.get(token).map_or(&[], Vec::as_slice)
    }

    /// What was said of any delivery of it, and may have been done.
    fn said_of(&self, value: &str) -> impl Iterator<Item = &Ended<'a>> {
        let deliveries = self.deliveries.get(value).into_iter().flatten();
        let ends = deliveries.flat_map(|delivery| self.ends_of(&delivery.what.token));
        ends.filter(|ended| ended.may_have_ended())
    }

    /// The number under which it came.
    fn number(&self, value: &str) -> Option<u64> {
        let first = self.deliveries.get(value)?.first()?;
        Some(first.what.number)
    }
}

struct Check<'a, 'b> {
    name: &'b str,
    queue: &'b Queue<'a>,
    /// Itself, or the queue whose dead letters these are.
    of: Option<&'b Queue<'a>>,
    dead: Option<&'b Queue<'a>>,
    is_dead: bool,
    restarts: &'b [&'a Call<'a>],
    wall: &'b Wall,
}

impl<'a> Check<'a, '_> {
    fn add(&self, findings: &mut Findings, law: Law, delivery: &Delivery<'_>, why: &str) {
        let Taken {
            value,
            number,
            failed,
            token,
            ..
        } = delivery.what;
        let detail = format!(
            "{}: {value}, number {number}, failed {failed}, under {token:?}: {why}",
            self.name
        );
        findings.add(law, delivery.call.ended, detail);
    }

    /// Whether the server may have been away in between.
    fn may_have_restarted(&self, after: usize, before: usize) -> bool {
        let first = self.restarts.partition_point(|call| call.ended < after);
        let next = self.restarts.get(first);
        next.is_some_and(|call| call.invoked < before)
    }

    /// Whether it certainly was, from its end to its beginning.
    fn has_restarted(&self, after: usize, before: usize) -> bool {
        let first = self.restarts.partition_point(|call| call.invoked < after);
        let next = self.restarts.get(first);
        next.is_some_and(|call| call.ended < before)
    }

    /// Each value one number, each number one value.
    fn numbers(&self, findings: &mut Findings) {
        let mut by_number: BTreeMap<u64, &str> = BTreeMap::new();
        for (value, deliveries) in &self.queue.deliveries {
            let first = &deliveries[0];
            for delivery in deliveries {
                if delivery.what.number != first.what.number {
                    let why = format!("it was {} before", first.what.number);
                    self.add(findings, Law::Duplicated, delivery, &why);
                }
            }
            if let Some(other) = by_number.insert(first.what.number, value) {
                let why = format!("the number is that of {other}");
                self.add(findings, Law::OffsetReused, first, &why);
            }
        }
    }

    fn deliveries(&self, value: &str, all: &[Delivery<'_>], findings: &mut Findings) {
        let mut tokens = BTreeSet::new();
        for (at, delivery) in all.iter().enumerate() {
            let token = &delivery.what.token;
            if !token.is_empty() && !tokens.insert(token) {
                let why = "a token that was given before";
                self.add(findings, Law::TwoLocks, delivery, why);
            }
            if let Some((law, why)) = self.may_not_come(value, delivery) {
                self.add(findings, law, delivery, why);
            }
            if delivery.is_beyond_most() {
                let why = "more came with it than was asked for";
                self.add(findings, Law::WrongDelivery, delivery, why);
            }
            self.check_failed(value, delivery, findings);
            for earlier in all[..at].iter().chain(&all[at + 1..]) {
                if earlier.call.ended < delivery.call.invoked {
                    self.check_after(earlier, delivery, findings);
                }
            }
            for other in &all[..at] {
                self.check_locks(other, delivery, findings);
            }
        }
    }

    /// Why this delivery is none that may be, by what was done to the message at all.
    fn may_not_come(&self, value: &str, delivery: &Delivery<'_>) -> Option<(Law, &'static str)> {
        let call = delivery.call;
        let sent = self.of.and_then(|of| of.sent.get(value));
        let sent: Vec<&Sent<'_>> = sent
            .into_iter()
            .flatten()
            .filter(|sent| sent.call.invoked < call.ended && !sent.call.phase.is_undone())
            .collect();
        if sent.is_empty() {
            return Some((Law::Invented, "nobody sent it"));
        }
        let cancels = self.of.and_then(|of| of.cancels.get(value));
        let is_cancelled = |cancel: &Call<'_>| cancel.phase == Phase::Ok;
        if cancels.into_iter().flatten().any(|c| is_cancelled(c)) {
            return Some((Law::Resurrected, "it was cancelled"));
        }
        let is_early = |sent: &&Sent<'_>| {
            sent.delay.is_some_and(|delay| {
                // When it is due is an absolute time, by the sender's clock, which nobody steps. A server whose clock
                // is put back may go by what it had still to wait.
                let from = sent.call.invoked_at;
                let (_, latest) = self.wall.between(from, call.ended_at);
                latest.max(i128::from(call.ended_at)) < i128::from(from + delay)
            })
        };
        if sent.iter().all(is_early) {
            return Some((Law::TooSoon, "it is due later"));
        }
        if self.is_dead {
            return self.wrong_death(value, delivery);
        }
        let said = self.queue.said_of(value);
        let was_deferred = said
            .filter(|ended| *ended.ending == Ending::Defer)
            .any(|ended| ended.call.invoked < call.ended);
        if delivery.way == Way::Deferred && !was_deferred {
            return Some((Law::WrongDelivery, "nobody put it aside"));
        }
        None
    }

    /// `later` was asked for after `earlier` of the same message had arrived.
    fn check_after(&self, earlier: &Delivery<'_>, later: &Delivery<'_>, findings: &mut Findings) {
        if earlier.way == Way::Delete {
            let why = "it was received and deleted";
            self.add(findings, Law::SettledAgain, later, why);
        }
        for ended in self.queue.ends_of(&earlier.what.token) {
            if !ended.has_ended() || ended.call.ended >= later.call.invoked {
                continue;
            }
            match ended.ending {
                Ending::Complete => {
                    self.add(findings, Law::SettledAgain, later, "it was completed");
                }
                Ending::DeadLetter { .. } => {
                    self.add(findings, Law::SettledAgain, later, "it was given up");
                }
                Ending::Defer if later.way != Way::Deferred => {
                    let why = "it was put aside, and nobody asked for it";
                    self.add(findings, Law::WrongDelivery, later, why);
                }
                Ending::Defer | Ending::Abandon => {}
            }
        }
    }

    /// Numbers are in the order of sends of which one was answered before the other began.
    fn order(&self, findings: &mut Findings) {
        if self.queue.resends {
            return;
        }
        let mut numbered: Vec<(&Call<'_>, Vec<u64>)> = Vec::new();
        for (call, values) in &self.queue.sends {
            let numbers = values.iter().filter_map(|value| self.queue.number(value));
            let numbers: Vec<u64> = numbers.collect();
            if !numbers.is_sorted() {
                let detail = format!("{}: a batch has the numbers {numbers:?}", self.name);
                findings.add(Law::OutOfOrder, call.ended, detail);
            }
            if call.phase == Phase::Ok && !numbers.is_empty() {
                numbered.push((call, numbers));
            }
        }
        let mut by_end: Vec<(usize, u64)> = numbered
            .iter()
            .filter_map(|(call, numbers)| Some((call.ended, *numbers.iter().max()?)))
            .collect();
        by_end.sort_unstable();
        let mut answered = by_end.into_iter().peekable();
        let mut highest = 0;
        // In the order in which they began.
        for (call, numbers) in numbered {
            while let Some((_, number)) = answered.next_if(|(ended, _)| *ended < call.invoked) {
                highest = highest.max(number);
            }
            if numbers.iter().any(|number| *number <= highest) {
                let detail = format!(
                    "{}: {numbers:?} were sent behind number {highest}",
                    self.name
                );
                findings.add(Law::OutOfOrder, call.ended, detail);
            }
        }
    }
}
