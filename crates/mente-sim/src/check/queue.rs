//! The queue laws, for each subscription, pulled or pushed: what was settled never comes again, one
//! live lock at a time, deliveries are counted, delays are kept, and every record comes to one end
//! (`ends.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::revival::Revivals;
use super::wall::Wall;
use super::{Findings, Law};
use crate::history::{Call, Delivered, How, Letter, Op, Phase, Place, Placed, STORE, To};

const MS: u64 = 1_000_000;

/// A delivery and the call that brought it.
pub(super) struct Delivery<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) what: &'a Delivered,
}

pub(super) struct Settled<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) how: How,
    delay: u64,
    /// `None`: nobody knows.
    pub(super) held: Option<bool>,
}

#[derive(Default)]
pub(super) struct Subscription<'a> {
    pub(super) topic: &'a str,
    kind: Option<&'a str>,
    lock: u64,
    pub(super) max_deliveries: u32,
    pub(super) ttl: Option<u64>,
    ordered: bool,
    pub(super) deliveries: BTreeMap<&'a str, Vec<Delivery<'a>>>,
    /// By token.
    settles: BTreeMap<&'a str, Vec<Settled<'a>>>,
    /// What a webhook answered, by value.
    pub(super) heard: BTreeMap<&'a str, Vec<(&'a Call<'a>, u16)>>,
    /// Receives whose deliveries nobody saw.
    pub(super) unseen: Vec<usize>,
    /// The last ones that were read.
    pub(super) letters: Option<(&'a Call<'a>, &'a [Letter])>,
    pub(super) revivals: Revivals<'a>,
    drained: bool,
    /// Deleted, or its topic.
    gone: Option<usize>,
}

/// What is known of a value that was sent.
pub(super) struct Sent<'a> {
    kind: &'a str,
    key: &'a str,
    pub(super) call: &'a Call<'a>,
}

/// What the subscriptions of a topic share.
#[derive(Default)]
pub(super) struct Topic<'a> {
    pub(super) sent: BTreeMap<&'a str, Sent<'a>>,
    /// What was acknowledged or seen.
    pub(super) stored: BTreeMap<&'a str, Place>,
    /// Below it retention or a trim may have taken records, by partition.
    pub(super) trimmed: BTreeMap<u32, u64>,
}

#[derive(Default)]
struct Collected<'a> {
    topics: BTreeMap<&'a str, Topic<'a>>,
    subscriptions: BTreeMap<&'a str, Subscription<'a>>,
    /// When the server was away, from when to when at the most.
    restarts: Vec<(usize, usize)>,
}

pub(super) fn check<'a>(calls: &'a [Call<'a>], findings: &mut Findings) {
    let mut collected = Collected::default();
    for call in calls {
        collected.add(call);
    }
    let wall = Wall::new(calls);
    for (name, subscription) in &collected.subscriptions {
        let check = Check {
            name,
            subscription,
            topic: collected.topics.entry(subscription.topic).or_default(),
            restarts: &collected.restarts,
            wall: &wall,
        };
        check.deliveries(findings);
        check.settles(findings);
        if subscription.ordered {
            check.keys(findings);
        }
        if subscription.drained {
            check.ends(findings);
        }
    }
}

impl<'a> Collected<'a> {
    fn add(&mut self, call: &'a Call<'a>) {
        match call.op {
            Op::Publish {
                topic,
                values,
                placed,
                ..
            } => {
                let topic = self.topics.entry(topic).or_default();
                for (at, value) in values.iter().enumerate() {
                    let (kind, key) = (&value.kind, &value.key);
                    topic.sent.insert(&value.value, Sent { kind, key, call });
                    if let (Phase::Ok, Some(Placed::At(place))) = (call.phase, placed.get(at)) {
                        topic.stored.insert(&value.value, *place);
                    }
                }
            }
            Op::Trim {
                topic,
                partition,
                before,
            } => {
                let topic = self.topics.entry(topic).or_default();
                topic.trim(*partition, *before);
            }
            Op::Read {
                topic,
                partition,
                start,
                found,
                ..
            } if call.phase == Phase::Ok => {
                let topic = self.topics.entry(topic).or_default();
                topic.trim(*partition, *start);
                let stored = found.iter().map(|found| {
                    let (partition, offset) = (*partition, found.offset);
                    (found.value.as_str(), Place { partition, offset })
                });
                topic.stored.extend(stored);
            }
            Op::DeleteTopic { topic } if call.phase == Phase::Ok => {
                let subscriptions = self.subscriptions.values_mut();
                let of_topic = subscriptions.filter(|s| s.topic == topic.as_str());
                of_topic.for_each(|s| s.gone = Some(call.ended));
            }
            Op::Restart { .. } => self.restarts.push((call.invoked, call.ended)),
            Op::Append { .. }
            | Op::AppendStore { .. }
            | Op::ReadStream { .. }
            | Op::ReadStore { .. } => self.add_of_store(call),
            _ => self.add_to_subscription(call),
        }
    }

    /// What is appended and what is read of it is as sent to a topic, whose keys are the streams.
    fn add_of_store(&mut self, call: &'a Call<'a>) {
        let topic = self.topics.entry(STORE).or_default();
        let mut sent = |stream: &'a str, ids: &'a [String], to: Option<&To>| {
            for (id, back) in ids.iter().rev().zip(0..) {
                let (kind, key) = ("", stream);
                // The first one that was answered tells how long it is there.
                let known = topic.sent.get(&id[..]);
                if known.is_none_or(|known| known.call.phase != Phase::Ok) {
                    topic.sent.insert(id, Sent { kind, key, call });
                }
                if let Some(to) = to.filter(|_| call.phase == Phase::Ok) {
                    topic
                        .stored
                        .insert(id, in_store(to.last_position.saturating_sub(back)));
                }
            }
        };
        match call.op {
            Op::Append {
                stream, ids, to, ..
            } => sent(stream, ids, to.as_ref()),
            Op::AppendStore { parts, to, .. } => {
                for (at, part) in parts.iter().enumerate() {
                    sent(&part.stream, &part.ids, to.get(at));
                }
            }
            Op::ReadStream { events, .. } | Op::ReadStore { events } if call.phase == Phase::Ok => {
                let is_own = |stream: &Option<String>| {
                    stream
                        .as_ref()
                        .is_some_and(|stream| stream.starts_with("$$"))
                };
                for event in events.iter().filter(|event| !is_own(&event.stream)) {
                    topic.stored.insert(&event.id, in_store(event.position));
                }
            }
            _ => {}
        }
    }

    fn subscription(&mut self, name: &'a str) -> &mut Subscription<'a> {
        self.subscriptions.entry(name).or_default()
    }

    fn add_to_subscription(&mut self, call: &'a Call<'a>) {
        match call.op {
            Op::Subscribe {
                subscription,
                topic,
                kind,
                lock_ms,
                max_deliveries,
                ttl_ms,
                ordered,
            } => {
                let made = self.subscription(subscription);
                (made.topic, made.kind) = (topic, kind.as_deref());
                (made.lock, made.max_deliveries) = (lock_ms * MS, *max_deliveries);
                (made.ttl, made.ordered) = (ttl_ms.map(|ms| ms * MS), *ordered);
            }
            Op::Receive {
                subscription,
                deliveries,
            } => {
                let of = self.subscription(subscription);
                if call.phase == Phase::Info {
                    of.unseen.push(call.invoked);
                }
                for what in deliveries.iter().filter(|_| call.phase == Phase::Ok) {
                    let of_value = of.deliveries.entry(&what.value).or_default();
                    of_value.push(Delivery { call, what });
                }
            }
            Op::Settle {
                subscription,
                token,
                how,
                delay_ms,
                held,
                ..
            } => {
                let held = match call.phase {
                    Phase::Ok => Some(*held),
                    Phase::Fail | Phase::Unheard => Some(false),
                    Phase::Info | Phase::Invoke => None,
                };
                let settled = Settled {
                    call,
                    how: *how,
                    delay: delay_ms * MS,
                    held,
                };
                let settles = &mut self.subscription(subscription).settles;
                settles.entry(token).or_default().push(settled);
            }
            Op::Hear {
                subscription,
                value,
                status,
            } => {
                let heard = &mut self.subscription(subscription).heard;
                heard.entry(value).or_default().push((call, *status));
            }
            Op::DeadLetters {
                subscription,
                letters,
            } if call.phase == Phase::Ok => {
                let of = self.subscription(subscription);
                of.letters = Some((call, letters));
                of.revivals.seen(call, letters);
            }
            Op::Replay { subscription, done } if !call.phase.is_undone() => {
                let revivals = &mut self.subscription(subscription).revivals;
                revivals.called(call, done.filter(|_| call.phase == Phase::Ok));
            }
            Op::Drained { subscription } if call.phase == Phase::Ok => {
                self.subscription(subscription).drained = true;
            }
            Op::Unsubscribe { subscription } if call.phase == Phase::Ok => {
                self.subscription(subscription).gone = Some(call.ended);
            }
            _ => {}
        }
    }
}

/// The store is one log; where its offsets lie is nobody's business here.
fn in_store(position: u64) -> Place {
    Place {
        partition: 0,
        offset: position,
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

pub(super) struct Check<'a> {
    pub(super) name: &'a str,
    pub(super) subscription: &'a Subscription<'a>,
    pub(super) topic: &'a Topic<'a>,
    restarts: &'a [(usize, usize)],
    pub(super) wall: &'a Wall,
}

impl<'a> Check<'a> {
    /// Whether the server may have been away in between.
    fn may_have_restarted(&self, after: usize, before: usize) -> bool {
        let first = self.restarts.partition_point(|(_, up)| *up < after);
        self.restarts
            .get(first)
            .is_some_and(|(down, _)| *down < before)
    }

    /// Whether it certainly was, from its end to its beginning.
    fn has_restarted(&self, after: usize, before: usize) -> bool {
        let first = self.restarts.partition_point(|(down, _)| *down < after);
        self.restarts.get(first).is_some_and(|(_, up)| *up < before)
    }

    pub(super) fn settles_of(&self, token: &str) -> &[Settled<'a>] {
        self.subscription
            .settles
            .get(token)
            .map_or(&[], Vec::as_slice)
    }

    fn deliveries(&self, findings: &mut Findings) {
        for (value, heard) in &self.subscription.heard {
            if let Some((call, _)) = heard.first().filter(|_| !self.is_wanted(value)) {
                let detail = format!("{}: {value}: the filter does not want it", self.name);
                findings.add(Law::WrongDelivery, call.ended, detail);
            }
        }
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
                if !self.is_wanted(value) {
                    let why = "the filter does not want it";
                    self.add(findings, Law::WrongDelivery, delivery, why);
                }
                self.check_time_to_live(value, delivery, findings);
                self.check_count(all, delivery, findings);
                for earlier in all[..at].iter().chain(&all[at + 1..]) {
                    if earlier.call.ended < delivery.call.invoked {
                        self.check_after(earlier, delivery, findings);
                    }
                }
            }
        }
    }

    pub(super) fn add(
        &self,
        findings: &mut Findings,
        law: Law,
        delivery: &Delivery<'_>,
        why: &str,
    ) {
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

    /// Whether it may be for this subscription; that it was sent at all is the log's law.
    pub(super) fn is_wanted(&self, value: &str) -> bool {
        let kind = self.topic.sent.get(value).map(|sent| sent.kind);
        kind.is_none_or(|kind| self.subscription.kind.is_none_or(|wanted| wanted == kind))
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
        self.is_same_life(earlier, later).then_some(until)
    }

    fn is_same_life(&self, earlier: &Delivery<'_>, later: &Delivery<'_>) -> bool {
        // A shard that could not write takes up its journal again: its leases are of a new term then.
        !self.may_have_restarted(earlier.call.invoked, later.call.ended)
            && term(&earlier.what.token) == term(&later.what.token)
    }

    /// A delay runs on the monotone clock; after a restart, on the wall clock, as what is left of it.
    fn check_delay(
        &self,
        released: &Settled<'_>,
        later: &Delivery<'_>,
        is_same_life: bool,
        findings: &mut Findings,
    ) {
        let (from, until) = (released.call.invoked_at, later.call.ended_at);
        let least = match is_same_life {
            true => released.delay,
            false if self.wall.may_have_stepped(from, until) => 0,
            false => released.delay.saturating_sub(released.delay / 100 + MS),
        };
        if until < from + least {
            let (delay, after) = (released.delay / MS, (until - from) / MS);
            let why = format!("released for {delay} ms, and there after {after}");
            self.add(findings, Law::TooSoon, later, &why);
        }
    }

    /// `later` was asked for after `earlier` of the same record had arrived.
    fn check_after(&self, earlier: &Delivery<'_>, later: &Delivery<'_>, findings: &mut Findings) {
        let given_back = self
            .subscription
            .revivals
            .within(earlier.call.invoked, later.call.ended);
        let mut least = earlier.what.count;
        for settled in self.settles_of(&earlier.what.token) {
            let is_before = settled.call.ended < later.call.invoked;
            if settled.held != Some(true) || !is_before {
                continue;
            }
            match settled.how {
                How::Complete => self.add(findings, Law::SettledAgain, later, "it was completed"),
                How::Reject => {
                    let revivals = &self.subscription.revivals;
                    if !revivals.within(settled.call.invoked, later.call.ended) {
                        self.add(findings, Law::SettledAgain, later, "it was rejected");
                    }
                }
                // Of what died while it waited nobody waits for the delay.
                How::Release if given_back => {}
                How::Release => {
                    least = least.max(earlier.what.count + 1);
                    let is_same_life = self.is_same_life(earlier, later);
                    self.check_delay(settled, later, is_same_life, findings);
                }
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
        // What was given back comes as if for the first time.
        if later.what.count < least && !given_back {
            let why = format!("delivery {} was before it", earlier.what.count);
            self.add(findings, Law::DeliveryCount, later, &why);
        }
    }

    /// One record of a key at a time.
    fn keys(&self, findings: &mut Findings) {
        let mut by_key: BTreeMap<&str, Vec<&Delivery<'_>>> = BTreeMap::new();
        for delivery in self.subscription.deliveries.values().flatten() {
            if let Some(sent) = self.topic.sent.get(delivery.what.value.as_str()) {
                by_key.entry(sent.key).or_default().push(delivery);
            }
        }
        for later in by_key.values().flatten() {
            let key = self.topic.sent[later.what.value.as_str()].key;
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
                    let other_life = self.has_restarted(delivery.call.ended, call.invoked);
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
}
