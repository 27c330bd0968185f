//! What differs between `default` and a branch since they parted: events, states of streams, rows of views.
//!
//! Two events are the same if everything in them is; where they lie does not count.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mente_broker::fold::difference::between;
use mente_broker::{AsOf, Broker, EntityName, Kind, Principal, Result, StreamName, Topic};
use mente_engine::fork::Fork;
use mente_engine::{Bounds, Event, Offset, Timestamp, limits};
use ring::digest::{Context, SHA256};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::http::told_change;
use crate::projection::{Projections, TableDigest};

/// Events that are read at a time.
const AT_ONCE: usize = 1_000;
/// What an event that was seen takes beside its words, about.
const SEEN_BYTES: usize = 200;

/// The two that are compared.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) default: (&'a Broker, &'a Projections),
    pub(super) branch: (&'a Broker, &'a Projections),
    pub(super) fork: &'a Fork,
}

/// A number of each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Both<T> {
    pub default: T,
    pub branch: T,
}

/// What differs; what is the same is left out.
#[derive(Debug, Serialize)]
pub struct Difference {
    pub topics: Vec<TopicDifference>,
    pub streams: Vec<StreamDifference>,
    pub projections: Vec<ProjectionDifference>,
    /// Events that were looked at, of both sides.
    pub looked: u64,
    /// What was not looked at or not told, if anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct TopicDifference {
    pub topic: String,
    /// Events since they parted that the other side does not have.
    pub events: Both<u64>,
    pub only: Vec<Told>,
}

#[derive(Debug, Serialize)]
pub struct StreamDifference {
    pub stream: String,
    /// Events since they parted that the other side does not have.
    pub events: Both<u64>,
    /// Of the last event.
    pub revision: Both<Option<u64>>,
    pub only: Vec<Told>,
    /// Between the state in `default` and that in the branch; none if no fold is declared for the category, or
    /// one cannot be folded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Value>>,
}

#[derive(Debug, Serialize)]
pub struct ProjectionDifference {
    pub projection: String,
    /// Offsets that each is behind its events: rows may differ for that alone.
    pub lag: Both<Option<u64>>,
    pub tables: Vec<TableDifference>,
}

#[derive(Debug, Serialize)]
pub struct TableDifference {
    pub table: String,
    pub rows: Both<Option<u64>>,
    pub digest: Both<Option<String>>,
}

/// An event that only one side has.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// `default` or `branch`.
    pub side: &'static str,
    pub id: String,
    pub source: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Partition and offset in a topic, revision in a stream.
    pub at: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Default,
    Branch,
}

/// What is kept of an event: enough to tell and compare it, without its data.
#[derive(Clone, Debug)]
struct Seen {
    at: String,
    id: String,
    source: String,
    kind: String,
    digest: [u8; 32],
}

/// Events of one side since they parted.
type Since = Vec<Seen>;

/// Looks at one thing after the other, within bounds.
struct Look<'a> {
    who: &'a Principal,
    sides: Sides<'a>,
    limit: usize,
    looked: u64,
    /// That is kept of events.
    bytes: usize,
    incomplete: BTreeSet<String>,
}

pub(super) async fn difference(
    who: &Principal,
    sides: Sides<'_>,
    limit: usize,
) -> Result<Difference> {
    let mut look = Look {
        who,
        sides,
        limit,
        looked: 0,
        bytes: 0,
        incomplete: BTreeSet::new(),
    };
    let topics = look.topics().await?;
    let streams = look.streams().await?;
    let projections = look.projections().await?;
    Ok(Difference {
        topics,
        streams,
        projections,
        looked: look.looked,
        incomplete: look.incomplete.into_iter().collect(),
    })
}

impl Look<'_> {
    fn broker(&self, side: Side) -> &Broker {
        match side {
            Side::Default => self.sides.default.0,
            Side::Branch => self.sides.branch.0,
        }
    }

    async fn topics(&mut self) -> Result<Vec<TopicDifference>> {
        let default = self.broker(Side::Default).catalogue(self.who)?;
        let branch = self.broker(Side::Branch).catalogue(self.who)?;
        let names: BTreeSet<_> = default.topics.keys().chain(branch.topics.keys()).collect();
        let mut found = Vec::new();
        for name in names {
            let topics = [
                (Side::Default, default.topics.get(name)),
                (Side::Branch, branch.topics.get(name)),
            ];
            let is_shared = topics[0].1.map(|t| t.set) == topics[1].1.map(|t| t.set);
            let [mut ours, mut theirs] = [Some(Since::new()), Some(Since::new())];
            for (side, topic) in topics {
                let Some(topic) = topic else { continue };
                let since = self.topic_since(side, name, topic, is_shared).await?;
                match side {
                    Side::Default => ours = since,
                    Side::Branch => theirs = since,
                }
            }
            let (Some(ours), Some(theirs)) = (ours, theirs) else {
                let message = format!("topic {name}: it has more events than are looked at");
                self.incomplete.insert(message);
                continue;
            };
            let (events, only) = apart(&ours, &theirs, self.limit);
            if events == Both::default() && topics[0].1.is_some() == topics[1].1.is_some() {
                continue;
            }
            if !self.is_full(found.len(), "topics") {
                let topic = name.to_string();
                found.push(TopicDifference {
                    topic,
                    events,
                    only,
                });
            }
        }
        Ok(found)
    }

    /// None if it is more than is looked at.
    async fn topic_since(
        &mut self,
        side: Side,
        name: &EntityName,
        topic: &Topic,
        is_shared: bool,
    ) -> Result<Option<Since>> {
        let written = self.broker(side).as_written();
        let mut since = Since::new();
        for partition in 0..topic.partitions {
            let cut = self.sides.fork.cut(topic.set.log(partition));
            let bounds = written.bounds(self.who, name, partition).await?;
            let mut from = since_when(side, cut.filter(|_| is_shared), bounds);
            while from < bounds.end {
                if !self.has_room() {
                    return Ok(None);
                }
                let read = written.read(self.who, name, partition, from, AT_ONCE).await;
                let (events, next) = match read {
                    // Retention was faster.
                    Err(error) if error.kind == Kind::OutOfRange => {
                        let start = written.bounds(self.who, name, partition).await?.start;
                        if start <= from {
                            return Err(error);
                        }
                        from = start;
                        continue;
                    }
                    read => read?,
                };
                for stored in events {
                    let at = stored.position;
                    let at = format!("{}:{}", at.partition, at.offset);
                    since.push(self.see(at, stored.event));
                }
                if next <= from {
                    break;
                }
                from = next;
            }
        }
        Ok(Some(since))
    }

    fn see(&mut self, at: String, event: Event) -> Seen {
        let digest = digest(&event);
        self.looked += 1;
        self.bytes += event.id.len() + event.source.len() + event.kind.len() + SEEN_BYTES;
        Seen {
            at,
            id: event.id,
            source: event.source,
            kind: event.kind,
            digest,
        }
    }

    /// None if it is more than is looked at.
    async fn store_since(&mut self, side: Side) -> Result<Option<BTreeMap<StreamName, Since>>> {
        let written = self.broker(side).as_written();
        let cut = self.sides.fork.cut(written.store_log());
        let bounds = written.store_bounds(self.who).await?;
        let (mut from, mut streams) = (since_when(side, cut, bounds), BTreeMap::new());
        while from < bounds.end {
            if !self.has_room() {
                return Ok(None);
            }
            let (events, next) = written.read_store(self.who, from).await?;
            for event in events {
                let seen = self.see(event.place.revision.to_string(), event.event);
                let since: &mut Since = streams.entry(event.stream).or_default();
                since.push(seen);
            }
            if next <= from {
                break;
            }
            from = next;
        }
        Ok(Some(streams))
    }

    async fn streams(&mut self) -> Result<Vec<StreamDifference>> {
        let ours = self.store_since(Side::Default).await?;
        let theirs = match ours {
            Some(_) => self.store_since(Side::Branch).await?,
            None => None,
        };
        let (Some(mut ours), Some(mut theirs)) = (ours, theirs) else {
            let message = "streams: there are more events than are looked at";
            self.incomplete.insert(message.to_owned());
            return Ok(Vec::new());
        };
        let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).cloned().collect();
        let mut found = Vec::new();
        for stream in names {
            let ours = ours.remove(&stream).unwrap_or_default();
            let theirs = theirs.remove(&stream).unwrap_or_default();
            let (events, only) = apart(&ours, &theirs, self.limit);
            if events == Both::default() {
                continue;
            }
            if self.is_full(found.len(), "streams") {
                break;
            }
            found.push(StreamDifference {
                events,
                revision: last_revisions(&ours, &theirs),
                only,
                changes: self.changes(&stream).await?,
                stream: stream.as_str().to_owned(),
            });
        }
        Ok(found)
    }

    async fn changes(&mut self, stream: &StreamName) -> Result<Option<Vec<Value>>> {
        let (Some(default), Some(branch)) = (
            self.state(Side::Default, stream).await?,
            self.state(Side::Branch, stream).await?,
        ) else {
            return Ok(None);
        };
        let changes = between(&default, &branch).into_iter();
        let told: Vec<_> = changes.take(self.limit).map(told_change).collect();
        if told.len() == self.limit {
            let message = format!("of a state the first {} changes are told", self.limit);
            self.incomplete.insert(message);
        }
        Ok(Some(told))
    }

    /// None if it cannot be told; that of a stream that is not there has no fields.
    async fn state(&self, side: Side, stream: &StreamName) -> Result<Option<Map<String, Value>>> {
        let broker = self.broker(side);
        let fold = EntityName::new(stream.category()).ok();
        let catalogue = broker.catalogue(self.who)?;
        let kind = mente_broker::Definition::Fold;
        if !fold.is_some_and(|fold| catalogue.definitions.contains_key(&(kind, fold))) {
            return Ok(None);
        }
        match broker.stream_state(self.who, stream, AsOf::Now).await {
            Ok(told) => Ok(told.state.as_object().cloned()),
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::Deleted) => {
                Ok(Some(Map::new()))
            }
            // Its fold fails there: the events are told all the same.
            Err(error) if error.kind == Kind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn projections(&mut self) -> Result<Vec<ProjectionDifference>> {
        let who = self.who;
        let (default, branch) = (self.sides.default.1, self.sides.branch.1);
        let names = default.list(who)?.into_iter().chain(branch.list(who)?);
        let names: BTreeSet<_> = names.map(|(name, _)| name).collect();
        let mut found = Vec::new();
        for name in names {
            let (Some(ours), Some(theirs)) = (
                self.tables(&name, default.digest(who, &name).await),
                self.tables(&name, branch.digest(who, &name).await),
            ) else {
                continue;
            };
            let lag = |status: Result<crate::projection::Status>| status.ok().map(|s| s.lag);
            let lag = Both {
                default: lag(default.status(who, &name).await),
                branch: lag(branch.status(who, &name).await),
            };
            let tables: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            let differ = tables
                .into_iter()
                .filter(|t| ours.get(*t) != theirs.get(*t));
            let told = |table: &String| TableDifference {
                table: table.clone(),
                rows: Both {
                    default: ours.get(table).map(|t| t.rows),
                    branch: theirs.get(table).map(|t| t.rows),
                },
                digest: Both {
                    default: ours.get(table).map(|t| t.digest.clone()),
                    branch: theirs.get(table).map(|t| t.digest.clone()),
                },
            };
            let tables: Vec<_> = differ.map(told).collect();
            if !tables.is_empty() && !self.is_full(found.len(), "projections") {
                let projection = name.to_string();
                found.push(ProjectionDifference {
                    projection,
                    lag,
                    tables,
                });
            }
        }
        Ok(found)
    }

    fn has_room(&self) -> bool {
        self.looked < limits::DIFFERENCE_EVENTS && self.bytes < limits::DIFFERENCE_BYTES
    }

    /// Those that there are; one that is not there has none.
    fn tables(
        &mut self,
        name: &EntityName,
        told: Result<Vec<TableDigest>>,
    ) -> Option<BTreeMap<String, TableDigest>> {
        match told {
            Ok(tables) => {
                let tables = tables.into_iter();
                Some(tables.map(|table| (table.table.clone(), table)).collect())
            }
            Err(error) if error.kind == Kind::NotFound => Some(BTreeMap::new()),
            Err(error) => {
                self.incomplete
                    .insert(format!("projection {name}: {error}"));
                None
            }
        }
    }

    fn is_full(&mut self, told: usize, what: &str) -> bool {
        let is_full = told >= self.limit;
        if is_full {
            let message = format!("more {what} differ than the {} that are told", self.limit);
            self.incomplete.insert(message);
        }
        is_full
    }
}

/// Where one side of a shared log goes on alone; of one that is not shared, where it begins.
fn since_when(side: Side, cut: Option<Bounds>, bounds: Bounds) -> Offset {
    let parted = cut.map_or(bounds.start, |cut| match side {
        Side::Default => cut.start,
        Side::Branch => cut.end,
    });
    parted.max(bounds.start)
}

/// Of the last event of each side. One that has none since they parted ends where the other goes on.
fn last_revisions(ours: &Since, theirs: &Since) -> Both<Option<u64>> {
    let revision = |seen: &Seen| seen.at.parse::<u64>().ok();
    let parted = ours.iter().chain(theirs).filter_map(revision).min();
    let last = |since: &Since| match since.last() {
        Some(seen) => revision(seen),
        None => parted.and_then(|at| at.checked_sub(1)),
    };
    Both {
        default: last(ours),
        branch: last(theirs),
    }
}

/// Of everything in it.
fn digest(event: &Event) -> [u8; 32] {
    let record = event.to_record(Timestamp(0));
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    part(record.key.as_deref().unwrap_or_default());
    part(record.value.as_deref().unwrap_or_default());
    part(&[record.key.is_some().into(), record.value.is_some().into()]);
    for (name, value) in &record.headers {
        part(name);
        part(value.as_deref().unwrap_or_default());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// How many events only one side has, and the first of them.
fn apart(ours: &Since, theirs: &Since, limit: usize) -> (Both<u64>, Vec<Told>) {
    let (mut events, mut only) = (Both::default(), Vec::new());
    let sides = [
        ("default", ours, theirs, &mut events.default),
        ("branch", theirs, ours, &mut events.branch),
    ];
    for (side, here, there, count) in sides {
        let others: HashSet<_> = there.iter().map(|seen| seen.digest).collect();
        for seen in here.iter().filter(|seen| !others.contains(&seen.digest)) {
            *count += 1;
            if only.len() < limit {
                only.push(Told {
                    side,
                    id: seen.id.clone(),
                    source: seen.source.clone(),
                    kind: seen.kind.clone(),
                    at: seen.at.clone(),
                });
            }
        }
    }
    (events, only)
}
