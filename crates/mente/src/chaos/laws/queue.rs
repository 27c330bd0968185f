//! The queue laws, for each subscription, pulled or pushed: what was settled never comes again, and
//! every record that it is for comes to one end: done, or a dead letter.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Law};
use crate::chaos::history::{Call, Delivered, How, Letter, Op, Phase};

#[derive(Default)]
struct Subscription<'a> {
    topic: &'a str,
    kind: Option<&'a str>,
    max_deliveries: u32,
    deliveries: Vec<(&'a Call<'a>, &'a Delivered)>,
    settles: Vec<Settled<'a>>,
    /// Posts that a webhook answered.
    heard: Vec<(&'a Call<'a>, &'a str, u16)>,
    /// Receives whose deliveries nobody saw.
    unseen: u32,
    letters: Option<(&'a Call<'a>, &'a [Letter])>,
    drained: bool,
}

struct Settled<'a> {
    call: &'a Call<'a>,
    value: &'a str,
    how: How,
    /// `None`: nobody knows.
    held: Option<bool>,
}

/// What there is in a topic: place and kind of each value.
type Stored<'a> = BTreeMap<&'a str, (u32, u64)>;

pub(super) fn check<'a>(calls: &'a [Call<'a>], findings: &mut Findings) {
    let mut kinds: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut stored: BTreeMap<&str, Stored<'a>> = BTreeMap::new();
    let mut subscriptions: BTreeMap<&str, Subscription<'a>> = BTreeMap::new();
    for call in calls {
        match call.op {
            Op::Publish { topic, values, .. } => {
                let kind = |sent: &'a crate::chaos::history::Sent| {
                    (sent.value.as_str(), (topic.as_str(), sent.kind.as_str()))
                };
                kinds.extend(values.iter().map(kind));
            }
            Op::Read {
                topic,
                partition,
                found,
                ..
            } => {
                let place = |f: &'a crate::chaos::history::Found| {
                    (f.value.as_str(), (*partition, f.offset))
                };
                stored
                    .entry(topic)
                    .or_default()
                    .extend(found.iter().map(place));
            }
            _ => collect(call, &mut subscriptions),
        }
    }
    for (name, subscription) in &subscriptions {
        let check = Check {
            name,
            subscription,
            kinds: &kinds,
            stored: stored.entry(subscription.topic).or_default(),
        };
        check.deliveries(findings);
        check.ends(calls, findings);
    }
}

fn collect<'a>(call: &'a Call<'a>, subscriptions: &mut BTreeMap<&'a str, Subscription<'a>>) {
    match call.op {
        Op::Subscribe {
            subscription,
            topic,
            kind,
            max_deliveries,
            ..
        } => {
            let made = subscriptions.entry(subscription).or_default();
            (made.topic, made.kind) = (topic, kind.as_deref());
            made.max_deliveries = *max_deliveries;
        }
        Op::Receive {
            subscription,
            deliveries,
        } => {
            let of = subscriptions.entry(subscription).or_default();
            of.unseen += u32::from(call.phase == Phase::Info);
            let seen = deliveries.iter().filter(|_| call.phase == Phase::Ok);
            of.deliveries.extend(seen.map(|what| (call, what)));
        }
        Op::Settle {
            subscription,
            value,
            how,
            held,
            ..
        } => {
            let held = match call.phase {
                Phase::Ok => Some(*held),
                Phase::Fail => Some(false),
                Phase::Info | Phase::Invoke => None,
            };
            let how = *how;
            subscriptions
                .entry(subscription)
                .or_default()
                .settles
                .push(Settled {
                    call,
                    value,
                    how,
                    held,
                });
        }
        Op::Hear {
            subscription,
            value,
            status,
        } => {
            let of = subscriptions.entry(subscription).or_default();
            of.heard.push((call, value, *status));
        }
        Op::DeadLetters {
            subscription,
            letters,
        } if call.phase == Phase::Ok => {
            subscriptions.entry(subscription).or_default().letters = Some((call, letters));
        }
        Op::Drained { subscription } if call.phase == Phase::Ok => {
            subscriptions.entry(subscription).or_default().drained = true;
        }
        _ => {}
    }
}

struct Check<'a, 'h> {
    name: &'a str,
    subscription: &'h Subscription<'a>,
    kinds: &'h BTreeMap<&'a str, (&'a str, &'a str)>,
    stored: &'h Stored<'a>,
}

impl Check<'_, '_> {
    fn is_for_it(&self, value: &str) -> bool {
        let wanted = |kind: &str| self.subscription.kind.is_none_or(|wanted| wanted == kind);
        let sent = self.kinds.get(value);
        sent.is_some_and(|(topic, kind)| *topic == self.subscription.topic && wanted(kind))
    }

    fn deliveries(&self, findings: &mut Findings) {
        let mut over: BTreeMap<&str, (usize, How)> = BTreeMap::new();
        for settled in &self.subscription.settles {
            if settled.held == Some(true) && settled.how != How::Release {
                over.insert(settled.value, (settled.call.ended, settled.how));
            }
        }
        for (call, what) in &self.subscription.deliveries {
            self.came(call, &what.value, findings);
            if let Some((ended, how)) = over.get(what.value.as_str())
                && *ended < call.invoked
            {
                let detail = format!("{}: {} came after {how:?}", self.name, what.value);
                findings.add(Law::SettledAgain, call, detail);
            }
        }
        for (call, value, _) in &self.subscription.heard {
            self.came(call, value, findings);
        }
    }

    fn came(&self, call: &Call<'_>, value: &str, findings: &mut Findings) {
        let (law, why) = if !self.kinds.contains_key(value) {
            (Law::Invented, "was never sent")
        } else if !self.is_for_it(value) {
            (Law::WrongDelivery, "is not for it")
        } else if !self.stored.contains_key(value) {
            (Law::Lost, "was delivered and is not in the topic")
        } else {
            return;
        };
        findings.add(law, call, format!("{}: {value} {why}", self.name));
    }

    /// Stored = done + dead-lettered, now that nothing is left.
    fn ends(&self, calls: &[Call<'_>], findings: &mut Findings) {
        let (true, Some((call, letters))) = (self.subscription.drained, self.subscription.letters)
        else {
            if let Some(last) = calls.last() {
                let detail = format!("{}: something is left, or was not looked at", self.name);
                findings.add(Law::NotJudged, last, detail);
            }
            return;
        };
        let (done, given_up) = (self.done(), self.given_up());
        let (mut dead, mut origins) = (BTreeSet::new(), BTreeSet::new());
        for letter in letters {
            let value = letter.value.as_str();
            let place = self.stored.get(value).map(|(p, at)| format!("{p}-{at}"));
            let fault = if !origins.insert(&letter.origin) || !dead.insert(value) {
                Some((Law::TwoEnds, "has two dead letters"))
            } else if !self.is_for_it(value) || place.as_ref() != Some(&letter.origin) {
                Some((Law::Invented, "is a dead letter of nothing"))
            } else if !given_up.contains(value) && !self.was_delivered_too_often(value) {
                Some((Law::WrongDelivery, "is dead, and nobody gave it up"))
            } else if done.get(value) == Some(&true) {
                Some((Law::TwoEnds, "was done, and is dead"))
            } else {
                None
            };
            if let Some((law, why)) = fault {
                findings.add(law, call, format!("{}: {value} {why}", self.name));
            }
        }
        for (value, place) in self
            .stored
            .iter()
            .filter(|(value, _)| self.is_for_it(value))
        {
            if !done.contains_key(value) && !dead.contains(value) {
                let detail = format!(
                    "{}: {value} at {place:?} is neither done nor dead",
                    self.name
                );
                findings.add(Law::Vanished, call, detail);
            }
        }
    }

    /// What its receivers finished; `true` where that is certain and Mente knows it.
    fn done(&self) -> BTreeMap<&str, bool> {
        let mut done = BTreeMap::new();
        for settled in &self.subscription.settles {
            if settled.how == How::Complete && settled.held != Some(false) {
                *done.entry(settled.value).or_default() |= settled.held == Some(true);
            }
        }
        // That Mente has the webhook's answer is never certain.
        for (_, value, status) in &self.subscription.heard {
            if (200..300).contains(status) {
                done.entry(*value).or_default();
            }
        }
        done
    }

    fn given_up(&self) -> BTreeSet<&str> {
        let settles = self.subscription.settles.iter();
        let rejected = settles.filter(|s| s.how == How::Reject && s.held != Some(false));
        let refused = self
            .subscription
            .heard
            .iter()
            .filter(|(.., status)| *status == 400);
        let refused = refused.map(|(_, value, _)| *value);
        rejected
            .map(|settled| settled.value)
            .chain(refused)
            .collect()
    }

    fn was_delivered_too_often(&self, value: &str) -> bool {
        let counts = self.subscription.deliveries.iter();
        let counts = counts.filter(|(_, what)| what.value == value);
        let most = counts.map(|(_, what)| what.count).max().unwrap_or(0);
        most + self.subscription.unseen >= self.subscription.max_deliveries
    }
}
