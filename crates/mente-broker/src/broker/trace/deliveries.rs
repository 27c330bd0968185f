//! Which subscriptions an event of a trace was for, and what became of it there.

use std::collections::BTreeMap;

use mente_engine::{Attribute, Bounds, Event, Offset, limits};

use super::scan::is_of_the_log;
use super::{Delivery, EventPlace, Told, Trace, Traced};
use crate::broker::{Broker, unexpected};
use crate::dead_letter::{ORIGIN, REASON};
use crate::error::Result;
use crate::name::{EntityName, SubscriptionName};
use crate::queue::Whereabouts;
use crate::shard::{Command, Heard, Reply};
use crate::structured::{ACTOR, tell_stream};

/// Places that are asked for at a time: each is looked for in every subscription of its topic.
const PLACES_AT_ONCE: usize = 100;
/// Dead letters of one subscription that are looked through, the newest.
const LETTERS: u64 = 1_000;
/// Subscriptions whose dead letters are looked through.
const LETTER_LOGS: usize = 100;

/// Why, by the partition and offset of what was given up on.
type Reasons = BTreeMap<String, String>;

/// Where records lie, for who asks a shard.
type Records = Vec<(u32, Offset)>;

impl Broker {
    pub(super) async fn tell_deliveries(&self, trace: &mut Trace) -> Result<()> {
        let mut by_topic: BTreeMap<EntityName, Vec<usize>> = BTreeMap::new();
        for (at, traced) in trace.places.iter().enumerate() {
            by_topic.entry(topic(traced)).or_default().push(at);
        }
        let mut letters: BTreeMap<SubscriptionName, Reasons> = BTreeMap::new();
        let mut told = 0;
        for (topic, places) in by_topic {
            for some in places.chunks(PLACES_AT_ONCE) {
                let records: Records = some.iter().map(|at| record(&trace.places[*at])).collect();
                let command = Command::Whereabouts {
                    topic: topic.clone(),
                    places: records.clone(),
                };
                let mut heard = match self.ask(self.shard_of(&topic), command).await? {
                    Reply::Whereabouts(heard) => heard,
                    other => return Err(unexpected(&other)),
                };
                heard.sort_by(|a, b| a.name.cmp(&b.name));
                for heard in heard {
                    for (index, at) in some.iter().enumerate() {
                        let Some(mut one) = of_place(&heard, index, &trace.places[*at]) else {
                            continue;
                        };
                        if told == limits::TRACE_DELIVERIES {
                            let message = format!("no more than {told} deliveries are told");
                            trace.incomplete.push(message);
                            return Ok(());
                        }
                        if one.state == Delivery::Settled {
                            let reasons = self.reasons(&heard.name, &mut letters, trace).await?;
                            let (partition, offset) = records[index];
                            one.reason = reasons.get(&format!("{partition}-{offset}")).cloned();
                            if one.reason.is_some() {
                                one.state = Delivery::DeadLettered;
                            }
                        }
                        told += 1;
                        trace.places[*at].subscriptions.push(one);
                    }
                }
            }
        }
        Ok(())
    }

    /// Of the newest dead letters of a subscription, which are read once.
    async fn reasons<'a>(
        &self,
        name: &SubscriptionName,
        letters: &'a mut BTreeMap<SubscriptionName, Reasons>,
        trace: &mut Trace,
    ) -> Result<&'a Reasons> {
        if !letters.contains_key(name) {
            let reasons = match letters.len() < LETTER_LOGS {
                true => self.read_reasons(name, trace).await?,
                false => {
                    let message = format!(
                        "the dead letters of more than {LETTER_LOGS} subscriptions were not looked at: what they gave up on is told as settled"
                    );
                    if !trace.incomplete.contains(&message) {
                        trace.incomplete.push(message);
                    }
                    Reasons::new()
                }
            };
            letters.insert(name.clone(), reasons);
        }
        Ok(letters.entry(name.clone()).or_default())
    }

    async fn read_reasons(&self, name: &SubscriptionName, trace: &mut Trace) -> Result<Reasons> {
        let mut reasons = Reasons::new();
        let Some(log) = self.dead_letter_log(name).await? else {
            return Ok(reasons);
        };
        let Bounds { start, end, .. } = self.engine.bounds(log).await?;
        let mut next = start.max(Offset(end.0.saturating_sub(LETTERS)));
        if next > start {
            let message = format!(
                "of the dead letters of {name} the newest {LETTERS} were looked at: what was given up on before is told as settled"
            );
            trace.incomplete.push(message);
        }
        while next < end {
            let read = self.read_log(log, "", next, LETTERS as usize).await;
            let (found, behind) = match read {
                Err(error) if is_of_the_log(error.kind) => {
                    let message = format!("the dead letters of {name} could not be read: {error}");
                    trace.incomplete.push(message);
                    break;
                }
                read => read?,
            };
            trace.looked.dead_letters += found.len() as u64;
            for letter in found {
                let text = |name| letter.event.extension(name).map(Attribute::to_text);
                if let (Some(origin), Some(reason)) = (text(ORIGIN), text(REASON)) {
                    reasons.insert(origin, reason);
                }
            }
            if behind <= next {
                break;
            }
            next = behind;
        }
        Ok(reasons)
    }
}

fn topic(traced: &Traced) -> EntityName {
    match &traced.place {
        EventPlace::Stream(..) => EntityName::store(),
        EventPlace::Topic(topic, ..) => topic.clone(),
    }
}

fn record(traced: &Traced) -> (u32, Offset) {
    match &traced.place {
        EventPlace::Stream(_, place) => (0, place.offset),
        EventPlace::Topic(_, partition, offset) => (*partition, *offset),
    }
}

/// As the subscription knows it; `None` where it does not want the event, or began behind it.
fn of_place(heard: &Heard, index: usize, traced: &Traced) -> Option<Told> {
    let whereabouts = heard.whereabouts.get(index)?.as_ref()?;
    let is_wanted = heard.filter.as_ref();
    if !is_wanted.is_none_or(|filter| filter.matches(&as_filtered(traced))) {
        return None;
    }
    let (state, attempts, reason) = match whereabouts {
        Whereabouts::Waiting { attempts } => (Delivery::Waiting, Some(*attempts), None),
        Whereabouts::Out { attempt } => (Delivery::Delivered, Some(*attempt), None),
        Whereabouts::Delayed { attempts } => (Delivery::Retrying, Some(*attempts), None),
        Whereabouts::Dying { attempts, reason } => (
            Delivery::DeadLettered,
            Some(*attempts),
            Some(reason.clone()),
        ),
        Whereabouts::AtItsEnd => (Delivery::Settled, None, None),
    };
    Some(Told {
        subscription: heard.name.clone(),
        webhook: heard.url.clone(),
        state,
        attempts,
        reason,
    })
}

/// The event as filters see it.
fn as_filtered(traced: &Traced) -> Event {
    let mut event = traced.event.clone();
    if let Some(actor) = &traced.actor {
        let actor = Attribute::Text(actor.clone());
        event.extensions.push((ACTOR.to_owned(), actor));
    }
    if let EventPlace::Stream(..) = traced.place {
        tell_stream(&mut event);
    }
    event
}
