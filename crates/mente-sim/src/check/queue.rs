//! The queue laws, for each subscription: what was settled never comes again, one live lock at a time,
//! deliveries are counted, and every record comes to one end.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Law};
use crate::history::{Call, Delivered, How, Op, Phase, Placed};

/// A delivery and the call that brought it.
struct Delivery<'a> {
    call: &'a Call<'a>,
    what: &'a Delivered,
}

struct Settled<'a> {
    call: &'a Call<'a>,
    how: How,
    /// `None`: nobody knows.
    held: Option<bool>,
}

#[derive(Default)]
struct Subscription<'a> {
    topic: &'a str,
    kind: Option<&'a str>,
    lock: u64,
    max_deliveries: u32,
    expires: bool,
    ordered: bool,
    deliveries: BTreeMap<&'a str, Vec<Delivery<'a>>>,
    /// By token.
    settles: BTreeMap<&'a str, Vec<Settled<'a>>>,
    /// Receives whose deliveries nobody saw.
    unseen: Vec<usize>,
    letters: Option<&'a Call<'a>>,
    drained: Option<usize>,
    /// Deleted, or its topic.
    gone: Option<usize>,
}

/// What the subscriptions of a topic share.
#[derive(Default)]
struct Topic<'a> {
    /// Kind, place and entry of what was acknowledged.
    acked: BTreeMap<&'a str, (&'a str, u32, u64)>,
    /// Kind and key of whatever was sent.
    sent: BTreeMap<&'a str, (&'a str, &'a str)>,
    /// Below it retention or a trim may have taken records, by partition.
    trimmed: BTreeMap<u32, u64>,
}

pub(super) fn check<'a>(calls: &'a [Call<'a>], findings: &mut Findings) {
    let (mut topics, mut subscriptions) = (BTreeMap::new(), BTreeMap::new());
    let mut restarts = Vec::new();
    for call in calls {
        collect(call, &mut topics, &mut subscriptions, &mut restarts);
    }
    for (name, subscription) in &subscriptions {
        let topic = topics.entry(subscription.topic).or_default();
        let check = Check {
            name,
            subscription,
            topic,
            restarts: &restarts,
        };
        check.deliveries(findings);
        check.settles(findings);
        if subscription.ordered {
            check.keys(findings);
        }
        if subscription.drained.is_some() {
            check.ends(findings);
        }
    }
}

fn collect<'a>(
    call: &'a Call<'a>,
    topics: &mut BTreeMap<&'a str, Topic<'a>>,
    subscriptions: &mut BTreeMap<&'a str, Subscription<'a>>,
    restarts: &mut Vec<usize>,
) {
    match call.op {
        Op::Publish {
            topic,
            values,
            placed,
            ..
        } => {
            let topic = topics.entry(topic).or_default();
            for (at, value) in values.iter().enumerate() {
                topic.sent.insert(&value.value, (&value.kind, &value.key));
                if let (Phase::Ok, Some(Placed::At { partition, offset })) =
                    (call.phase, placed.get(at))
                {
                    topic
                        .acked
                        .insert(&value.value, (&value.kind, *partition, *offset));
                }
            }
        }
        Op::Trim {
            topic,
            partition,
            before,
        } => topics.entry(topic).or_default().trim(*partition, *before),
        Op::Read {
            topic,
            partition,
            start,
            ..
        } if call.phase == Phase::Ok => {
            topics.entry(topic).or_default().trim(*partition, *start);
        }
        Op::Subscribe {
            subscription,
            topic,
            kind,
            lock_ms,
            max_deliveries,
            expires,
            ordered,
        } => {
            let made = subscriptions.entry(subscription).or_default();
            (made.topic, made.kind) = (topic, kind.as_deref());
            (made.lock, made.max_deliveries) = (lock_ms * 1_000_000, *max_deliveries);
            (made.expires, made.ordered) = (*expires, *ordered);
        }
        Op::Receive {
            subscription,
            deliveries,
        } => {
            let of = subscriptions.entry(subscription).or_default();
            if call.phase == Phase::Info {
                of.unseen.push(call.invoked);
            }
            for what in deliveries.iter().filter(|_| call.phase == Phase::Ok) {
                of.deliveries
                    .entry(&what.value)
                    .or_default()
                    .push(Delivery { call, what });
            }
        }
        Op::Settle {
            subscription,
            token,
            how,
            held,
            ..
        } => {
            let held = match call.phase {
                Phase::Ok => Some(*held),
                Phase::Fail => Some(false),
                Phase::Info | Phase::Invoke => None,
            };
            let settles = &mut subscriptions.entry(subscription).or_default().settles;
            settles.entry(token).or_default().push(Settled {
                call,
                how: *how,
                held,
            });
        }
        Op::DeadLetters { subscription, .. } if call.phase == Phase::Ok => {
            subscriptions.entry(subscription).or_default().letters = Some(call);
        }
        Op::Drained { subscription } if call.phase == Phase::Ok => {
            subscriptions.entry(subscription).or_default().drained = Some(call.ended);
        }
        Op::Unsubscribe { subscription } if call.phase == Phase::Ok => {
            subscriptions.entry(subscription).or_default().gone = Some(call.ended);
        }
        Op::DeleteTopic { topic } if call.phase == Phase::Ok => {
            let of_topic = subscriptions
                .values_mut()
                .filter(|s| s.topic == topic.as_str());
            of_topic.for_each(|s| s.gone = Some(call.ended));
        }
        Op::Restart { .. } => restarts.push(call.invoked),
        _ => {}
    }
}

impl Topic<'_> {
    fn trim(&mut self, partition: u32, before: u64) {
        let trimmed = self.trimmed.entry(partition).or_default();
        *trimmed = before.max(*trimmed);
    }
}

/// Tokens are `term-number`.
fn term(token: &str) -> &str {
    token.split_once('-').map_or("", |(term, _)| term)
}

struct Check<'a> {
    name: &'a str,
    subscription: &'a Subscription<'a>,
    topic: &'a Topic<'a>,
    restarts: &'a [usize],
}

impl<'a> Check<'a> {
    fn restarted(&self, after: usize, before: usize) -> bool {
        let first = self.restarts.partition_point(|at| *at < after);
        self.restarts.get(first).is_some_and(|at| *at < before)
    }

    fn settles_of(&self, token: &str) -> &[Settled<'a>] {
        self.subscription
            .settles
            .get(token)
            .map_or(&[], Vec::as_slice)
    }

    fn deliveries(&self, findings: &mut Findings) {
        let mut tokens = BTreeSet::new();
        for (value, all) in &self.subscription.deliveries {
            for (at, delivery) in all.iter().enumerate() {
                if !tokens.insert(&delivery.what.token) {
                    self.add(
                        findings,
                        Law::TwoLocks,
                        delivery,
                        "a token that was given before",
                    );
                }
                if self
                    .subscription
                    .gone
                    .is_some_and(|at| at < delivery.call.invoked)
                {
                    self.add(findings, Law::Resurrected, delivery, "it was deleted");
                }
                self.check_wanted(value, delivery, findings);
                self.check_count(all, delivery, findings);
                for earlier in all[..at].iter().chain(&all[at + 1..]) {
                    if earlier.call.ended < delivery.call.invoked {
                        self.check_after(earlier, delivery, findings);
                    }
                }
            }
        }
    }

    fn add(&self, findings: &mut Findings, law: Law, delivery: &Delivery<'_>, why: &str) {
        let Delivered {
            value,
            token,
            count,
            ..
        } = delivery.what;
        let detail = format!(
            "{}: {value} under {token}, delivery {count}: {why}",
            self.name
        );
        findings.add(law, delivery.call.ended, detail);
    }

    fn check_wanted(&self, value: &str, delivery: &Delivery<'_>, findings: &mut Findings) {
        // Whether it was sent at all is the log's law.
        let kind = self.topic.sent.get(value).map(|(kind, _)| *kind);
        if kind.is_some_and(|kind| self.subscription.kind.is_some_and(|wanted| wanted != kind)) {
            self.add(
                findings,
                Law::WrongDelivery,
                delivery,
                "the filter does not want it",
            );
        }
    }

    fn check_count(&self, all: &[Delivery<'_>], delivery: &Delivery<'_>, findings: &mut Findings) {
        let (count, before) = (delivery.what.count, |invoked: usize| {
            invoked < delivery.call.ended
        });
        let others = all
            .iter()
            .filter(|d| !std::ptr::eq(*d, delivery) && before(d.call.invoked));
        let unseen = self.subscription.unseen.iter().filter(|at| before(**at));
        let most = 1 + others.count() + unseen.count();
        if count as usize > most || count == 0 || count > self.subscription.max_deliveries {
            let why = format!("at most {most} were made");
            self.add(findings, Law::DeliveryCount, delivery, &why);
        }
    }

    /// Until when the lease of `earlier` certainly lived while `later` came; `None` if something ended it or
    /// may have.
    fn live_until(&self, earlier: &Delivery<'_>, later: &Delivery<'_>) -> Option<u64> {
        let mut until = earlier.call.invoked_at + self.subscription.lock;
        for settled in self.settles_of(&earlier.what.token) {
            let call = settled.call;
            if settled.how != How::Renew && call.invoked < later.call.ended {
                return None;
            }
            if settled.held == Some(true) && call.ended < later.call.invoked {
                until = until.max(call.invoked_at + self.subscription.lock);
            }
        }
        let same_life = !self.restarted(earlier.call.invoked, later.call.ended);
        // A shard that could not write takes up its journal again: its leases are of a new term then.
        let same_life = same_life && term(&earlier.what.token) == term(&later.what.token);
        same_life.then_some(until)
    }

    /// `later` was asked for after `earlier` of the same record had arrived.
    fn check_after(&self, earlier: &Delivery<'_>, later: &Delivery<'_>, findings: &mut Findings) {
        let mut least = earlier.what.count;
        for settled in self.settles_of(&earlier.what.token) {
            let is_before = settled.call.ended < later.call.invoked;
            if settled.held != Some(true) || !is_before {
                continue;
            }
            match settled.how {
                How::Complete => self.add(findings, Law::SettledAgain, later, "it was completed"),
                How::Reject => self.add(findings, Law::SettledAgain, later, "it was rejected"),
                How::Release => least = least.max(earlier.what.count + 1),
                How::Renew => {}
            }
        }
        if let Some(until) = self.live_until(earlier, later) {
            // It came again, so its lock ran out, which is an attempt.
            least = least.max(earlier.what.count + 1);
            if later.call.ended_at < until {
                let why = format!("{} is live until {until}", earlier.what.token);
                self.add(findings, Law::TwoLocks, later, &why);
            }
        }
        if later.what.count < least {
            let why = format!("delivery {} was before it", earlier.what.count);
            self.add(findings, Law::DeliveryCount, later, &why);
        }
    }

    /// One record of a key at a time.
    fn keys(&self, findings: &mut Findings) {
        let mut by_key: BTreeMap<&str, Vec<&Delivery<'_>>> = BTreeMap::new();
        for delivery in self.subscription.deliveries.values().flatten() {
            if let Some((_, key)) = self.topic.sent.get(delivery.what.value.as_str()) {
                by_key.entry(key).or_default().push(delivery);
            }
        }
        for later in by_key.values().flatten() {
            let (_, key) = self.topic.sent[later.what.value.as_str()];
            for earlier in by_key[key]
                .iter()
                .filter(|d| d.what.value != later.what.value)
            {
                let together = earlier.call.invoked == later.call.invoked;
                let is_out = earlier.call.ended < later.call.invoked
                    && self
                        .live_until(earlier, later)
                        .is_some_and(|until| later.call.ended_at < until);
                if together || is_out {
                    let why = format!("{} of {key} is out", earlier.what.value);
                    self.add(findings, Law::KeyOutTwice, later, &why);
                }
            }
        }
    }

    fn settles(&self, findings: &mut Findings) {
        for delivery in self.subscription.deliveries.values().flatten() {
            let mut until = delivery.call.ended_at + self.subscription.lock;
            let mut ended: Option<usize> = None;
            for settled in self.settles_of(&delivery.what.token) {
                let call = settled.call;
                if settled.held == Some(true) {
                    let late = call.invoked_at > until;
                    let other_life = self.restarted(delivery.call.invoked, call.invoked);
                    if late || other_life || ended.is_some_and(|at| at < call.invoked) {
                        let Delivered { token, value, .. } = delivery.what;
                        let detail =
                            format!("{}: {value}: {token} was over and still held", self.name);
                        findings.add(Law::LockHeldTooLong, call.ended, detail);
                    }
                    if settled.how != How::Renew {
                        ended = Some(call.ended);
                    }
                }
                if settled.how == How::Renew && settled.held != Some(false) {
                    until = until.max(call.ended_at.saturating_add(self.subscription.lock));
                }
            }
        }
    }

    /// Sent = completed + dead-lettered, now that nothing is left.
    fn ends(&self, findings: &mut Findings) {
        let Some(letters) = self.subscription.letters else {
            return;
        };
        let Op::DeadLetters { letters: list, .. } = letters.op else {
            return;
        };
        let (mut dead, mut origins) = (BTreeSet::new(), BTreeSet::new());
        for letter in list {
            if !origins.insert(&letter.origin) || !dead.insert(letter.value.as_str()) {
                let detail = format!("{}: two dead letters of {}", self.name, letter.value);
                findings.add(Law::TwoEnds, letters.ended, detail);
            }
            if !self.may_die(&letter.value) {
                let detail = format!("{}: nobody gave up on {}", self.name, letter.value);
                findings.add(Law::WrongDelivery, letters.ended, detail);
            }
        }
        for (value, (kind, partition, offset)) in &self.topic.acked {
            let wanted = self.subscription.kind.is_none_or(|wanted| wanted == *kind);
            let trimmed = self
                .topic
                .trimmed
                .get(partition)
                .is_some_and(|before| offset < before);
            let completed = self.settled(value, How::Complete);
            let rejected = self.settled(value, How::Reject);
            let fault = match (completed, dead.contains(value)) {
                (Some(true), true) => Some((Law::TwoEnds, "completed and dead-lettered")),
                (None, false) if rejected != Some(true) => {
                    Some((Law::Vanished, "neither completed nor dead-lettered"))
                }
                (_, false) if rejected == Some(true) => {
                    Some((Law::Vanished, "rejected, and no dead letter"))
                }
                _ => None,
            };
            if let Some((law, why)) = fault.filter(|_| wanted && !trimmed) {
                let detail = format!("{}: {value} at {partition}-{offset}: {why}", self.name);
                findings.add(law, letters.ended, detail);
            }
        }
    }

    /// Whether somebody settled it so: certainly, perhaps, or not.
    fn settled(&self, value: &str, how: How) -> Option<bool> {
        let deliveries = self.subscription.deliveries.get(value)?;
        let settles = deliveries
            .iter()
            .flat_map(|d| self.settles_of(&d.what.token));
        let of_kind = settles.filter(|s| s.how == how && s.held != Some(false));
        of_kind.map(|s| s.held == Some(true)).max()
    }

    fn may_die(&self, value: &str) -> bool {
        let deliveries = self.subscription.deliveries.get(value);
        let most = deliveries.into_iter().flatten().map(|d| d.what.count).max();
        let unseen = self.subscription.unseen.len() as u32;
        self.subscription.expires
            || self.settled(value, How::Reject).is_some()
            || most.unwrap_or(0) + unseen >= self.subscription.max_deliveries
    }
}
