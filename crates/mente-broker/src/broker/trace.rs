//! What caused what: the events that lead to one event and those that came of it, wherever they lie.
//!
//! An event names what caused it by the id of that event (`causationid`), and what all of it belongs to
//! (`correlationid`). In the store both are looked up in the index. Topics have no index: of them so many events
//! are read ([`limits::TRACE_EVENTS`]), from the time on that is known of the store's part, else the newest. The
//! answer says how much was looked at, and what it is not sure of.
//!
//! Ids are taken as they are: two events of one id are one event at two places, as when a role appends and
//! publishes it.

mod deliveries;
mod scan;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use mente_engine::{Attribute, Data, Event, Offset, Timestamp, limits};

use super::{Broker, StreamEvent};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::name::{EntityName, StreamName, SubscriptionName};
use crate::schema::Needs;
use crate::store::{CAUSATION, CORRELATION, Direction, Place, Query, QueryItem};
use scan::Scanned;

/// How far up it is followed what caused an event.
const ANCESTORS: usize = 100;
/// Ids whose effects are looked for in one query of the store: each is two of its items.
const IDS_AT_ONCE: usize = limits::QUERY_ITEMS / 2;
/// Events that are read of the store at a time.
const PAGE: usize = 250;

/// The tree of an event, each before what it caused.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub id: String,
    pub places: Vec<Traced>,
    pub looked: Looked,
    /// What may be missing, in words; empty where nothing is.
    pub incomplete: Vec<String>,
}

/// An event at one of the places where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    pub place: EventPlace,
    pub time: Timestamp,
    /// Who published or appended it, by the name of the key that was shown.
    pub actor: Option<String>,
    /// Without its data.
    pub event: Event,
    /// How many causes of it are known.
    pub depth: usize,
    /// The id of the event that it stands below.
    pub parent: Option<String>,
    pub subscriptions: Vec<Told>,
}

/// Where an event lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventPlace {
    Stream(StreamName, StreamPlace),
    Topic(EntityName, u32, Offset),
}

/// In a stream, and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamPlace {
    pub position: u64,
    pub revision: u64,
    pub offset: Offset,
}

/// What became of an event in a subscription that wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub subscription: SubscriptionName,
    /// Where its webhook is, if it has one.
    pub webhook: Option<String>,
    pub state: Delivery,
    /// Failed deliveries, the one that is out included, where that is known.
    pub attempts: Option<u32>,
    /// Of a dead letter.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Waiting,
    /// Out under a lock.
    Delivered,
    /// It failed and will be tried again.
    Retrying,
    Settled,
    DeadLettered,
}

/// Events that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    pub store: u64,
    pub topics: u64,
    pub dead_letters: u64,
}

impl Broker {
    /// The tree of what caused the event of this id and what came of it; or of all events of a correlation. Topics
    /// are read from `since` on, if it is given. Told of events as they were written, which nothing can fail to
    /// tell and whose ids stay. An error if nothing is known of the id.
    pub async fn trace(
        &self,
        who: &Principal,
        id: &str,
        since: Option<Timestamp>,
    ) -> Result<Trace> {
        authorize(self.options.access, who, Action::Listen, &"all events")?;
        let _turn = self.traces.turn().await?;
        let broker = self.as_written();
        let mut search = Search::new(&broker, who, id);
        search.of_id().await?;
        search.climb(&Scanned::default()).await?;
        let known = search.found.iter().map(|traced| traced.time).min();
        let mut scanned = broker.scan_topics(who, since.or(known)).await?;
        search.take(&scanned).await?;
        if since.is_none() && known.is_some() && search.lost().is_some() {
            // A handler may be late: what caused the store's part may lie further back than it.
            scanned = broker.scan_topics(who, None).await?;
            search.take(&scanned).await?;
        }
        let effects_of = search.effects_of();
        search.descend(&scanned, effects_of).await?;
        if search.found.is_empty() {
            return Err(search.unknown());
        }
        if let Some(lost) = search.lost() {
            search.miss(format!(
                "{lost} was not found: it is gone, from elsewhere, or before what was read of topics (say a time)"
            ));
        }
        search.tell_of_schemas().await?;
        let mut trace = Trace {
            id: id.to_owned(),
            places: tree::arranged(id, search.found),
            looked: search.looked,
            incomplete: search.incomplete,
        };
        broker.tell_deliveries(&mut trace).await?;
        Ok(trace)
    }
}

/// What was found so far.
struct Search<'a> {
    broker: &'a Broker,
    who: &'a Principal,
    id: &'a str,
    found: Vec<Traced>,
    places: BTreeSet<EventPlace>,
    /// What each event of these says to have been caused by; the first of its places that says so counts.
    causes: BTreeMap<String, Option<String>>,
    looked: Looked,
    incomplete: Vec<String>,
}

impl<'a> Search<'a> {
    fn new(broker: &'a Broker, who: &'a Principal, id: &'a str) -> Self {
        Self {
            broker,
            who,
            id,
            found: Vec::new(),
            places: BTreeSet::new(),
            causes: BTreeMap::new(),
            looked: Looked::default(),
            incomplete: Vec::new(),
        }
    }

    /// The event itself, and those of the correlation, in the store.
    async fn of_id(&mut self) -> Result<()> {
        let id = || Some(self.id.to_owned());
        let items = vec![
            of(|item| item.id = id()),
            of(|item| item.correlation = id()),
        ];
        self.find(items).await.map(drop)
    }

    /// Takes in what was read of topics, and what caused it.
    async fn take(&mut self, scanned: &Scanned) -> Result<()> {
        self.looked.topics += scanned.events;
        for what in &scanned.incomplete {
            self.miss(what.clone());
        }
        for traced in scanned
            .of_id(self.id)
            .chain(scanned.of_correlation(self.id))
        {
            self.add(traced);
        }
        self.climb(scanned).await
    }

    /// The first event on the way up that is named and was not found.
    fn lost(&self) -> Option<String> {
        let there: BTreeSet<&str> = self.found.iter().map(|t| t.event.id.as_str()).collect();
        let is_correlation = self.found.iter().any(|t| t.correlation() == Some(self.id));
        if !there.contains(self.id) && !is_correlation {
            return Some(format!("the event {:?} itself", self.id));
        }
        let mut at = self.id;
        for _ in 0..=ANCESTORS {
            let cause = self.causes.get(at)?.as_deref()?;
            if !there.contains(cause) {
                return Some(format!("{cause:?}, the cause of {at:?},"));
            }
            at = cause;
        }
        None
    }

    /// Filters see what is told, deliveries here are judged by what was written.
    async fn tell_of_schemas(&mut self) -> Result<()> {
        let schemas = self.broker.teller.schemas().await?;
        let is_told_otherwise = |traced: &Traced| schemas.needs(&traced.event) != Needs::Nothing;
        if self.found.iter().any(is_told_otherwise) {
            let message = "of events whose schema tells them otherwise, deliveries are told by what was written";
            self.miss(message.to_owned());
        }
        Ok(())
    }

    /// All that are to be found with their effects: what was asked for, and not what caused it. Of an id whose
    /// event is gone, or is no event, the effects are there all the same.
    fn effects_of(&self) -> BTreeSet<String> {
        let is_asked = |traced: &&Traced| {
            traced.event.id == self.id || traced.attribute(CORRELATION) == Some(self.id)
        };
        let asked = self.found.iter().filter(is_asked);
        let asked = asked.map(|traced| traced.event.id.clone());
        asked.chain([self.id.to_owned()]).collect()
    }

    /// What caused the event, what caused that, and so on.
    async fn climb(&mut self, scanned: &Scanned) -> Result<()> {
        let mut at = self.id.to_owned();
        let mut seen = BTreeSet::from([at.clone()]);
        while let Some(cause) = self.causes.get(&at).cloned().flatten() {
            if !seen.insert(cause.clone()) {
                return Ok(());
            }
            if seen.len() > ANCESTORS {
                self.miss(format!("no more than {ANCESTORS} causes were followed up"));
                return Ok(());
            }
            if !self.causes.contains_key(&cause) {
                let id = || Some(cause.clone());
                self.find(vec![of(|item| item.id = id())]).await?;
            }
            scanned.of_id(&cause).for_each(|traced| self.add(traced));
            at = cause;
        }
        Ok(())
    }

    /// What came of these, and of that, and so on.
    async fn descend(&mut self, scanned: &Scanned, of_these: BTreeSet<String>) -> Result<()> {
        let mut seen = of_these.clone();
        let mut next: Vec<String> = of_these.into_iter().collect();
        while !next.is_empty() && !self.is_full() {
            let some: Vec<_> = next.drain(..next.len().min(IDS_AT_ONCE)).collect();
            let items = some.iter().flat_map(|id| {
                let id = || Some(id.clone());
                [of(|item| item.causation = id()), of(|item| item.id = id())]
            });
            let mut new = self.find(items.collect()).await?;
            for id in &some {
                for traced in scanned.of_cause(id).chain(scanned.of_id(id)) {
                    new.push(traced.event.id.clone());
                    self.add(traced);
                }
            }
            next.extend(new.into_iter().filter(|id| seen.insert(id.clone())));
        }
        Ok(())
    }

    /// Looks for events in the store; tells their ids.
    async fn find(&mut self, items: Vec<QueryItem>) -> Result<Vec<String>> {
        let query = Query { items };
        let (mut ids, mut from) = (Vec::new(), 0);
        while !self.is_full() {
            let found = self
                .broker
                .find_events(self.who, &query, from, Direction::Forwards, PAGE)
                .await;
            let found = match found {
                Err(error) if error.kind == Kind::TooLarge => {
                    self.miss(format!("of the store not all was looked at: {error}"));
                    break;
                }
                found => found?,
            };
            self.looked.store += found.events.len() as u64;
            for event in found.events {
                ids.push(event.event.id.clone());
                self.add(&Traced::of_store(event));
            }
            match found.next {
                Some(next) if next < found.end => from = next,
                _ => break,
            }
        }
        Ok(ids)
    }

    fn add(&mut self, traced: &Traced) {
        if self.places.contains(&traced.place) {
            return;
        }
        if self.places.len() >= limits::TRACE_PLACES {
            self.miss(too_many());
            return;
        }
        self.places.insert(traced.place.clone());
        let cause = traced.cause().map(str::to_owned);
        let known = self.causes.entry(traced.event.id.clone()).or_default();
        *known = known.take().or(cause);
        self.found.push(traced.clone());
    }

    /// There was one more place than may be told.
    fn is_full(&self) -> bool {
        self.incomplete.contains(&too_many())
    }

    fn miss(&mut self, what: String) {
        if !self.incomplete.contains(&what) {
            self.incomplete.push(what);
        }
    }

    fn unknown(self) -> Error {
        let Looked { topics, .. } = self.looked;
        let unsure = match self.incomplete.is_empty() {
            true => String::new(),
            false => format!(" ({})", self.incomplete.join("; ")),
        };
        let message = format!(
            "no event and no correlation {:?}: it is not in the store, nor among the {topics} events of topics that were read{unsure}",
            self.id
        );
        Error::new(Kind::NotFound, message)
    }
}

fn too_many() -> String {
    let most = limits::TRACE_PLACES;
    format!("there are more than {most} places: ask for an event further down")
}

fn of(say: impl FnOnce(&mut QueryItem)) -> QueryItem {
    let mut item = QueryItem::default();
    say(&mut item);
    item
}

impl Traced {
    fn of_store(found: StreamEvent) -> Self {
        let StreamEvent {
            stream,
            place,
            time,
            actor,
            event,
        } = found;
        let Place {
            revision,
            position,
            offset,
        } = place;
        let place = StreamPlace {
            position,
            revision,
            offset,
        };
        Self::new(EventPlace::Stream(stream, place), time, actor, event)
    }

    fn new(place: EventPlace, time: Timestamp, actor: Option<String>, event: Event) -> Self {
        Self {
            place,
            time,
            actor,
            event: Event {
                data: Data::None,
                ..event
            },
            depth: 0,
            parent: None,
            subscriptions: Vec::new(),
        }
    }

    /// The id of the event that caused it, as it says itself.
    pub fn cause(&self) -> Option<&str> {
        self.attribute(CAUSATION)
    }

    /// What it belongs to, as it says itself.
    pub fn correlation(&self) -> Option<&str> {
        self.attribute(CORRELATION)
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        match self.event.extension(name) {
            Some(Attribute::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}
