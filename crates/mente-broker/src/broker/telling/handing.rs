//! What a queue hands out, told: one record may be several events under one lease, or none.
//!
//! The filter of a subscription sees what is told, when a record arrives (`arriving.rs`) and again here, where
//! the schema may be another by now. What is dropped, or not let through any more, is settled by itself; what
//! cannot be told goes to the dead letters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mente_engine::Event;

use super::{Carrier, reason};
use crate::access::Principal;
use crate::broker::{Broker, Received};
use crate::error::{Kind, Result};
use crate::filter::Filter;
use crate::name::SubscriptionName;
use crate::queue::{LockToken, Settlement};
use crate::structured::tell_stream;

/// Why a record is a dead letter whose event could not be told.
const UPCAST_FAILED: &str = "UpcastFailed";

/// After so long an event is told again that could not be told in time.
const AGAIN: Duration = Duration::from_secs(1);

/// Subscriptions whose filters are kept; one more costs to ask for all again.
const FILTERS: usize = 1_000;

/// The filters of subscriptions by the number of the view, which no other one has; they never change.
#[derive(Default)]
pub(super) struct Filters(Mutex<BTreeMap<SubscriptionName, (u64, Kept)>>);

type Kept = Arc<Option<Filter>>;

impl Broker {
    async fn filter_of(&self, name: &SubscriptionName, token: LockToken) -> Result<Kept> {
        let lock = || {
            let kept = self.teller.filters.0.lock();
            kept.unwrap_or_else(PoisonError::into_inner)
        };
        if let Some((view, filter)) = lock().get(name)
            && *view == token.view()
        {
            return Ok(Arc::clone(filter));
        }
        let info = self.subscription(name).await?;
        let filter = Arc::new(info.settings.filter);
        let mut kept = lock();
        if kept.len() >= FILTERS {
            kept.clear();
        }
        kept.insert(name.clone(), (info.view, Arc::clone(&filter)));
        Ok(filter)
    }

    /// Tells what was received; the rest is settled.
    pub(in crate::broker) async fn tell_received(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        written: Vec<Received>,
    ) -> Result<Vec<Received>> {
        let schemas = self.teller.schemas().await?;
        if schemas.is_empty() || written.is_empty() {
            return Ok(written);
        }
        let tokens: Vec<LockToken> = written.iter().map(|received| received.token).collect();
        let each = match self.teller.leniently(&schemas, written).await {
            Ok(each) => each,
            Err(error) => {
                self.settle(who, name, tokens, Settlement::Return).await?;
                return Err(error);
            }
        };
        let untold = tokens[each.len()..].to_vec();
        let told = each.iter().find(|(_, told)| told.is_some());
        let filter = match told.map(|(received, _)| received.token) {
            Some(token) => self.filter_of(name, token).await?,
            None => Arc::default(),
        };
        let (mut out, mut done, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (received, told) in each {
            match told {
                None => out.push(received),
                Some(Ok(mut events)) => {
                    let is_store = name.topic.is_store();
                    events
                        .retain(|event| is_let_through(filter.as_ref().as_ref(), event, is_store));
                    if events.is_empty() {
                        done.push(received.token);
                    }
                    out.extend(parts(&received, events));
                }
                Some(Err(error)) => {
                    tracing::warn!(subscription = %name, place = received.place(), %error, "an event cannot be told");
                    failed.push((received.token, error));
                }
            }
        }
        if !untold.is_empty() {
            self.settle(who, name, untold, Settlement::Return).await?;
        }
        if !done.is_empty() {
            self.settle(who, name, done, Settlement::Complete).await?;
        }
        for (token, error) in failed {
            let detail = reason(&error);
            let how = match error.kind {
                // An attempt all the same, so that it comes to an end.
                Kind::Throttled => Settlement::Release {
                    delay: AGAIN,
                    detail,
                },
                _ => Settlement::Reject {
                    reason: UPCAST_FAILED.to_owned(),
                    detail,
                },
            };
            self.settle(who, name, vec![token], how).await?;
        }
        Ok(out)
    }
}

fn parts(received: &Received, events: Vec<Event>) -> impl Iterator<Item = Received> {
    let of = events.len();
    let events = events.into_iter().enumerate();
    events.map(move |(number, event)| Received {
        token: received.token.of_part(number, of),
        ..received.with(event)
    })
}

/// Of the store a filter sees the stream too.
fn is_let_through(filter: Option<&Filter>, event: &Event, is_store: bool) -> bool {
    filter.is_none_or(|filter| match is_store {
        false => filter.matches(event),
        true => {
            let mut seen = event.clone();
            tell_stream(&mut seen);
            filter.matches(&seen)
        }
    })
}

impl Carrier for Received {
    fn event(&self) -> &Event {
        &self.stored.event
    }

    fn place(&self) -> String {
        self.stored.place()
    }

    fn with(&self, event: Event) -> Self {
        Self {
            stored: self.stored.with(event),
            of_stream: self.of_stream.clone(),
            ..*self
        }
    }
}
