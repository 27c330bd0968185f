//! Whom an alternative would reach: the subscriptions of the store are the ways in which an event of a stream
//! has an effect outside. What would have been sent to them is told, and nothing is sent.

use mente_engine::{Event, limits};

use super::WhatIf;
use crate::access::Principal;
use crate::broker::{Broker, StreamEvent, unexpected};
use crate::error::Result;
use crate::name::{EntityName, StreamName};
use crate::shard::{Command, Reply, SubscriptionInfo};
use crate::store::keyed;
use crate::structured::tell_stream;

/// An event that a subscription would have been given, or would not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Of the store.
    pub subscription: EntityName,
    /// Where Mente itself sends it, if it does.
    pub url: Option<String>,
    /// It was not sent, and would have been; or it was, or will be, and would not have been.
    pub would_be_sent: bool,
    pub revision: u64,
    pub id: String,
    pub kind: String,
}

/// Of one alternative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// In the order of revisions.
    pub told: Vec<Effect>,
    /// There are no more: at most [`limits::EFFECTS`] events are looked at.
    pub is_all: bool,
}

impl Broker {
    /// Compares whom events were sent to with whom they would have been, the last one being at `revision`.
    pub(super) async fn effects(
        &self,
        who: &Principal,
        stream: &StreamName,
        revision: u64,
        what_if: &WhatIf,
    ) -> Result<Effects> {
        let mut subscriptions = self.subscriptions_of_store().await?;
        subscriptions.sort_by(|a, b| a.name.cmp(&b.name));
        let mut effects = Effects {
            told: Vec::new(),
            is_all: true,
        };
        if subscriptions.is_empty() {
            return Ok(effects);
        }
        let named = what_if.drop.iter().chain(what_if.replace.keys());
        let named: std::collections::BTreeSet<u64> = named.copied().collect();
        let schemas = self.schemas().await?;
        let mut looks = limits::EFFECTS;
        for at in named {
            if looks == 0 || effects.are_enough() {
                return Ok(effects.cut_off());
            }
            looks -= 1;
            let happened = self.read_stream(who, stream, at, 1).await?;
            for StreamEvent { event, place, .. } in happened {
                if place.revision == at {
                    effects.take(&subscriptions, stream, at, &event, false);
                }
            }
            if let Some(other) = what_if.replace.get(&at) {
                for other in self.teller.all(&schemas, vec![other.clone()]).await? {
                    effects.take(&subscriptions, stream, at, &other, true);
                }
            }
        }
        for (ahead, event) in (1..).zip(&what_if.append) {
            if looks == 0 || effects.are_enough() {
                return Ok(effects.cut_off());
            }
            looks -= 1;
            for event in self.teller.all(&schemas, vec![event.clone()]).await? {
                effects.take(&subscriptions, stream, revision + ahead, &event, true);
            }
        }
        match effects.are_enough() {
            true => Ok(effects.cut_off()),
            false => Ok(effects),
        }
    }

    async fn subscriptions_of_store(&self) -> Result<Vec<SubscriptionInfo>> {
        let store = EntityName::store();
        let command = Command::ListSubscriptions {
            topic: Some(store.clone()),
            bounds: Vec::new(),
        };
        match self.ask(self.shard_of(&store), command).await? {
            Reply::Subscriptions(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }
}

impl Effects {
    /// Whether there are more than are told.
    fn are_enough(&self) -> bool {
        self.told.len() > limits::EFFECTS
    }

    fn cut_off(mut self) -> Self {
        self.told.truncate(limits::EFFECTS);
        self.is_all = false;
        self
    }

    fn take(
        &mut self,
        subscriptions: &[SubscriptionInfo],
        stream: &StreamName,
        revision: u64,
        event: &Event,
        would_be_sent: bool,
    ) {
        let mut seen = keyed(stream, event);
        tell_stream(&mut seen);
        let matching = subscriptions.iter().filter(|subscription| {
            let filter = subscription.settings.filter.as_ref();
            filter.is_none_or(|filter| filter.matches(&seen))
        });
        self.told.extend(matching.map(|subscription| {
            Effect {
                subscription: subscription.name.name.clone(),
                url: subscription
                    .settings
                    .push
                    .as_ref()
                    .map(|push| push.url.clone()),
                would_be_sent,
                revision,
                id: event.id.clone(),
                kind: event.kind.clone(),
            }
        }));
    }
}
